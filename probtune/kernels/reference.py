"""Definition of every path: plain PyTorch on full logits, in float32 or wider.

Slow and large; every other path is tested against it. Called by the package's functions, with
supervised rows only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..objectives import Signals
from .distribution import statistic
from .head import Head
from .tokens import Task

__all__ = ["objective_loss", "statistics_of_logits", "target_statistics"]


def target_statistics(head: Head, labels: Tensor, entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (log p, entropy, is_top1) per row."""
    return statistics_of_logits(head.logits(), labels, entropy)


def statistics_of_logits(
    logits: Tensor,  # (N, V), float32 or wider
    labels: Tensor,  # (N,)
    entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (log p, entropy, is_top1) per row. log p = log sigmoid(u), where u = z_y - log sum of
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


def objective_loss(head: Head, labels: Tensor, task: Task) -> tuple[Tensor, ...]:
    """Return (loss, skipped, log p, entropy, is_top1, value, weight, kept), the first by
    autograd.
    """
    objective = task.objective
    logits = head.logits()
    logp, entropy, is_top1 = statistics_of_logits(logits, labels, entropy=task.statistics)
    log_probs, reference = logits.log_softmax(1), None
    if task.reference is not None:
        reference = task.reference.logits().log_softmax(1)
    values = {
        name: statistic(name, log_probs, labels, reference)
        for name in sorted(objective.distribution_needs)
    }
    fixed = {name: value.detach() for name, value in values.items()}
    f = objective.bind(Signals({**task.signals, **fixed}))
    value = f.value(logp)
    total = value.sum()
    for name, factor in f.coefficients(logp.detach()).items():
        # The value is in f already.
        total = total + (factor * (values[name] - fixed[name])).sum()
    if task.z_loss:
        total = total + task.z_loss * logits.logsumexp(1).square().sum()
    logp = logp.detach()
    of_f = (value.detach(), f.token_weight(logp), f.keeps(logp))
    columns = (logp, entropy.detach(), is_top1, *of_f)
    return total / task.num_items, total.new_zeros(()), *columns
