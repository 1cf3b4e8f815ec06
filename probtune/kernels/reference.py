"""The definition: plain PyTorch on full logits, in float32 or wider. Slow and large; every other
path is tested against it. Called by the package's functions, with supervised rows only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..objectives import Objective, Signals

__all__ = ["objective_loss", "statistics_of_logits", "target_statistics"]


def target_statistics(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    bias: Tensor | None,  # (V,)
    softcap: float | None,
    logit_scale: float,
    entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, entropy, is_top1) per row."""
    logits = _logits(hidden, weight, bias, softcap, logit_scale)
    return statistics_of_logits(logits, labels, entropy)


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, logit_scale: float
) -> Tensor:
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logits = (
        F.linear(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
        * logit_scale
    )
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def statistics_of_logits(
    logits: Tensor,  # (N, V), float32 or wider
    labels: Tensor,  # (N,)
    entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, entropy, is_top1) per row. log p = log sigmoid(u), where u = z_y - log sum of
    exp(z_v) over v != y.

    That is log softmax with the target left out of its own denominator: u is the logit of p, and
    log sigmoid keeps all digits at both ends, where z_y - logsumexp(z) loses them near p = 1.
    """
    target = labels.long().unsqueeze(1)
    others = logits.scatter(1, target, float("-inf"))
    target_logit = logits.gather(1, target).squeeze(1)
    logp = F.logsigmoid(target_logit - others.logsumexp(1))
    is_top1 = target_logit >= others.amax(1)
    if not entropy:
        return logp, torch.zeros_like(logp), is_top1
    log_probs = logits.log_softmax(1)
    return logp, -(log_probs.exp() * log_probs).sum(1), is_top1


def objective_loss(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    objective: Objective,
    normalizer: float | Tensor,
    bias: Tensor | None,  # (V,)
    softcap: float | None,
    logit_scale: float,
) -> Tensor:
    """Sum of f(p) over the rows, divided by `normalizer`, by autograd through the logits."""
    logits = _logits(hidden, weight, bias, softcap, logit_scale)
    needs = objective.needs
    logp, entropy, _ = statistics_of_logits(logits, labels, entropy="entropy" in needs)
    collision = logits.detach().softmax(1).square().sum(1) if "collision" in needs else None
    f = objective.bind(Signals(entropy=entropy.detach(), collision=collision))
    return f.value(logp).sum() / normalizer
