"""Error of the gradients that training uses, against autograd through full logits."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor

from ..objectives import SIGNALS, Objective, Signals, StepStatistics, kind_of
from .distribution import statistic
from .head import Head
from .linear import linear_objective_loss
from .reference import statistics_of_logits

__all__ = ["gradient_error"]

_ROWS, _CLASSES = 600, 13


def gradient_error(objective: Objective) -> float:
    """Return the largest relative error of the logit gradients in float64.

    Targets range from about p = 1e-8 to 1 - 1e-9.

    The fused head's gradient, formed from `token_weight`, is compared row by row with what autograd
    makes of the objective's formula on full logits. Below p = 1e-8 autograd itself loses digits
    (the derivative of 1 - p comes from 1 + expm1(log p)), so exactness there is tested against
    arbitrary-precision arithmetic instead. Rows within 1e-9 of a threshold are left out, since
    rounding decides their side, and so are entropies below 1e-6 nats for what needs them, since a
    sum of that size has lost its digits on either path.
    """
    logits, other = _logits(0), _logits(1)
    labels = torch.arange(_ROWS) % _CLASSES
    signals = _signals(objective.needs, logits)
    identity = torch.eye(_CLASSES, dtype=torch.float64)
    plain = logits.clone().requires_grad_()
    log_probs, reference = plain.log_softmax(1), other.log_softmax(1)
    logp, _, _ = statistics_of_logits(plain, labels, entropy=False)
    values = {
        name: statistic(name, log_probs, labels, reference) for name in objective.distribution_needs
    }
    fixed = {name: value.detach() for name, value in values.items()}
    bound = objective.bind(Signals({**signals, **fixed}))
    total = bound._f(logp).sum()
    for name, factor in bound.coefficients(logp.detach()).items():
        total = total + (factor * values[name]).sum()
    (expected,) = torch.autograd.grad(total, plain)
    fused = logits.clone().requires_grad_()
    loss = linear_objective_loss(
        fused,
        identity,
        labels,
        objective,
        num_items_in_batch=1.0,
        signals=signals,
        reference=Head(other, identity),
        impl="chunked",
    )
    (gradient,) = torch.autograd.grad(loss, fused)
    p = logp.detach().exp()
    judged = torch.ones(_ROWS, dtype=torch.bool)
    for q in bound.thresholds:
        judged &= (p - q).abs() > 1e-9
    if "entropy" in objective.needs:
        judged &= fixed["entropy"] > 1e-6
    size = torch.maximum(expected.abs().amax(1), gradient.abs().amax(1))
    judged &= size > 1e-9  # below, autograd's own error of 1e-16 is no longer small beside it
    if not bool(judged.any()):
        return float("nan")
    return float(((gradient - expected).abs().amax(1)[judged] / size[judged]).max())


def _logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(_ROWS, _CLASSES, dtype=torch.float64, generator=generator)
    labels = torch.arange(_ROWS) % _CLASSES
    logits[torch.arange(_ROWS), labels] += torch.linspace(-12.0, 22.0, _ROWS, dtype=torch.float64)
    return logits


def _signals(needs: Set[str], logits: Tensor) -> Signals:
    """Return a value of the right kind for every signal that does not come from the logits."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(_ROWS) % _CLASSES
    logp = logits.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)

    def near() -> Tensor:
        noise = torch.randn(_ROWS, dtype=torch.float64, generator=generator)
        return (logp + 0.3 * noise).clamp(max=-1e-3)

    makers: dict[str, Callable[[], Any]] = {
        "mask": lambda: torch.arange(_ROWS) % 2 == 0,
        "logp": near,
        "weight": lambda: torch.arange(_ROWS, dtype=torch.float64) / _ROWS,
        "number": lambda: near() - logp,
        "scalar": lambda: torch.tensor(0.1, dtype=torch.float64),
        "share": lambda: 0.5,
        "statistics": lambda: StepStatistics(logp, -logp, near()),
    }
    rows = {name: SIGNALS[kind_of(name)] for name in needs}
    return Signals({n: makers[row.kind]() for n, row in rows.items() if row.source != "head"})
