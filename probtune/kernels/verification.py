"""How far the gradients that training uses are from autograd through full logits."""

from __future__ import annotations

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from . import linear_objective_loss, reference

__all__ = ["gradient_error"]

_ROWS, _CLASSES = 600, 13


def gradient_error(objective: Objective) -> float:
    """Largest relative error of the logit gradients in float64, over targets from about p = 1e-8 to
    1 - 1e-9.

    The fused head's gradient, formed from `token_weight`, is compared row by row with what autograd
    makes of the objective's formula on full logits. Below p = 1e-8 autograd itself loses digits
    (the derivative of 1 - p comes from 1 + expm1(log p)), so exactness there is tested against
    arbitrary-precision arithmetic instead. Rows within 1e-9 of a threshold are left out, since
    rounding decides their side, and so are entropies below 1e-6 nats for what needs them, since a
    sum of that size has lost its digits on either path.
    """
    logits = _logits()
    labels = torch.arange(_ROWS) % _CLASSES
    plain = logits.clone().requires_grad_()
    # Every other row is special. The head binds the other signals itself; here they are bound from
    # full logits.
    special = torch.arange(_ROWS) % 2 == 0
    objective = objective.bind(Signals(special=special))
    logp, entropy, _ = reference.statistics_of_logits(plain, labels, entropy=True)
    collision = logits.softmax(1).square().sum(1)
    bound = objective.bind(Signals(entropy=entropy.detach(), collision=collision))
    (expected,) = torch.autograd.grad(bound._f(logp).sum(), plain)
    fused = logits.clone().requires_grad_()
    head = torch.eye(_CLASSES, dtype=torch.float64)
    loss = linear_objective_loss(fused, head, labels, objective, normalizer=1.0, impl="chunked")
    (found,) = torch.autograd.grad(loss, fused)
    p = logp.detach().exp()
    kept = torch.ones(_ROWS, dtype=torch.bool)
    for q in objective.thresholds:
        kept &= (p - q).abs() > 1e-9
    if "entropy" in objective.needs:
        kept &= entropy > 1e-6
    size = torch.maximum(expected.abs().amax(1), found.abs().amax(1))
    kept &= size > 1e-9  # below, autograd's own error of 1e-16 is no longer small beside it
    if not bool(kept.any()):
        return float("nan")
    return float(((found - expected).abs().amax(1)[kept] / size[kept]).max())


def _logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(_ROWS, _CLASSES, dtype=torch.float64, generator=generator)
    labels = torch.arange(_ROWS) % _CLASSES
    logits[torch.arange(_ROWS), labels] += torch.linspace(-12.0, 22.0, _ROWS, dtype=torch.float64)
    return logits
