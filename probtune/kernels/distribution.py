"""Statistics of the whole distribution at a token, and their gradients with respect to its logits.

The names are those of `objectives.Signals`; a number behind a colon is the statistic's parameter.
All work on blocks of log-probabilities, (n, V), in float32 or wider.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..objectives import kind_of, parameter_of

__all__ = ["statistic", "statistic_gradient"]


def statistic(
    name: str,
    log_probs: Tensor,  # (n, V)
    labels: Tensor,  # (n,)
    reference: Tensor | None,  # (n, V), log-probabilities of the reference model
) -> Tensor:
    """Return the statistic per row, (n,), differentiable where it has a gradient."""
    kind, parameter = kind_of(name), parameter_of(name)
    if kind == "entropy":
        return -(log_probs.exp() * log_probs).sum(1)
    if kind == "collision":
        return (2.0 * log_probs).exp().sum(1)
    if kind == "rank":
        return (log_probs >= log_probs.gather(1, labels.long().unsqueeze(1))).sum(1)
    if kind == "top_mass":
        return _top(log_probs, parameter).exp().sum(1)
    if kind == "top_entropy":
        top = _top(log_probs, parameter).log_softmax(1)
        return -(top.exp() * top).sum(1)
    if kind == "uniform":
        return -log_probs.mean(1)
    if kind == "sharpened":
        return (_sharpened(log_probs, parameter) * log_probs).sum(1)
    assert reference is not None, name
    if kind == "kl":
        return (reference.exp() * (reference - log_probs)).sum(1)
    if kind == "guided":
        target = _guided(log_probs, reference, parameter)
        return (target.exp() * (target - log_probs)).sum(1)
    assert kind == "reverse_kl", name
    return (log_probs.exp() * (log_probs - reference)).sum(1)


def statistic_gradient(
    name: str,
    log_probs: Tensor,  # (n, V)
    value: Tensor,  # (n,), the statistic
    reference: Tensor | None,  # (n, V)
) -> Tensor:
    """Return d statistic / d logits, (n, V)."""
    kind, parameter = kind_of(name), parameter_of(name)
    probs = log_probs.exp()
    if kind == "entropy":
        return -probs * (log_probs + value.unsqueeze(1))
    if kind == "collision":
        return 2.0 * probs * (probs - value.unsqueeze(1))
    if kind == "uniform":
        return probs - 1.0 / log_probs.shape[1]
    if kind == "sharpened":
        return _sharpened(log_probs, parameter) - probs
    assert reference is not None, name
    if kind == "kl":
        return probs - reference.exp()
    if kind == "guided":
        return probs - _guided(log_probs, reference, parameter).exp()
    assert kind == "reverse_kl", name
    return probs * (log_probs - reference - value.unsqueeze(1))


def _top(log_probs: Tensor, parameter: str) -> Tensor:
    """Return the log-probabilities of the most probable tokens: all, in a smaller vocabulary."""
    return log_probs.topk(min(int(parameter), log_probs.shape[1]), dim=1).values


def _sharpened(log_probs: Tensor, parameter: str) -> Tensor:
    """softmax(logits / beta), held fixed."""
    return torch.softmax(log_probs.detach() / float(parameter), 1)


def _guided(log_probs: Tensor, reference: Tensor, parameter: str) -> Tensor:
    """log of s^(1 - eta) r^eta, normalised; held fixed."""
    eta = float(parameter)
    return torch.log_softmax((1.0 - eta) * log_probs.detach() + eta * reference, 1)
