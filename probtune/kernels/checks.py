"""What the head is given, checked at the door."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..objectives import Objective, Signals, unbound
from .linear import LinearHead
from .tokens import Task

__all__ = [
    "IGNORE_INDEX",
    "check_head",
    "check_objective",
    "check_passes",
    "check_signals",
    "per_token",
    "supervised",
]

IGNORE_INDEX = -100
"""The label of a token that is excluded from every sum."""


def per_token(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0


def supervised(linear: LinearHead, labels: Tensor) -> Tensor | None:
    """The positions of the tokens that count; None when all of them do. Waits for the device once.

    Raises:
        ValueError: a label is outside the vocabulary.
    """
    parallel = linear.parallel
    vocabulary = linear.weight.shape[0] if parallel is None else parallel.vocabulary
    counts = labels != IGNORE_INDEX
    outside = counts & ((labels < 0) | (labels >= vocabulary))
    num_rows, num_wrong = torch.stack([counts.sum(), outside.sum()]).tolist()
    if num_wrong:
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"label {int(labels[row])} in row {row} is outside the vocabulary of {vocabulary}"
            f" tokens; use {IGNORE_INDEX} to ignore a token, or the tokenizer that belongs to the"
            " model."
        )
    if num_rows == labels.numel():
        return None
    # Not `nonzero`, which would wait again: every ignored row writes to one place too many.
    place = torch.where(counts, counts.cumsum(0) - 1, num_rows)
    found = torch.empty(num_rows + 1, dtype=torch.int64, device=labels.device)
    return found.index_copy_(0, place, torch.arange(labels.numel(), device=labels.device))[:-1]


def check_objective(
    linear: LinearHead,
    objective: Objective,
    normalizer: float | Tensor | None,
    row_eps: float,
    weight_grad: Tensor | None,
) -> None:
    if not isinstance(objective, Objective):
        raise ValueError(
            f"objective must be an Objective, got {objective!r}; read a text with"
            " probtune.objective(...)."
        )
    if normalizer is not None and not isinstance(normalizer, Tensor) and not normalizer > 0:
        raise ValueError(
            f"normalizer must be positive, got {normalizer}; leave it out for the supervised"
            " tokens."
        )
    if not 0.0 <= row_eps < 1.0:
        raise ValueError(
            f"row_eps must be in [0, 1), got {row_eps}; 2**-10 leaves out little, 0 nothing."
        )
    if weight_grad is not None and (
        weight_grad.shape != linear.weight.shape or weight_grad.dtype != linear.dtype
    ):
        raise ValueError(
            f"weight_grad must be {tuple(linear.weight.shape)} in {linear.dtype}, got"
            f" {tuple(weight_grad.shape)} in {weight_grad.dtype}."
        )


def check_passes(task: Task, *, reference: bool) -> None:
    asked = {
        "two_pass=": task.two_pass,
        "weight_grad=": task.weight_grad is not None,
        "row_eps=": task.row_eps,
    }
    named = [name for name, value in asked.items() if value]
    if reference and named:
        raise ValueError(
            f"impl='reference' leaves its gradients to autograd and takes no {', '.join(named)};"
            " use another impl."
        )
    if task.two_pass and task.whole:
        raise ValueError(
            f"two_pass=True sees a slice of the vocabulary at a time, and {task.objective} needs"
            " the whole distribution at once; leave it out."
        )


def check_signals(objective: Objective, signals: Signals, reference: Any, labels: Tensor) -> None:
    for name in sorted(objective.needs - signals.keys()):
        if name not in objective.distribution_needs:
            raise unbound(objective, name)
        if name in ("kl", "reverse_kl") and reference is None:
            raise unbound(objective, name)
    for name, x in signals.items():
        if per_token(x) and x.shape != labels.shape:
            raise ValueError(
                f"the signal {name!r} must be (N,) as the labels, {tuple(labels.shape)}, got"
                f" {tuple(x.shape)}."
            )


def check_head(linear: LinearHead, labels: Tensor) -> None:
    hidden, weight, bias, low, up = linear.tensors
    assert hidden is not None and weight is not None
    if "DTensor" in {type(x).__name__ for x in (hidden, weight, weight.data)}:
        raise ValueError(
            "weight and hidden states must be plain tensors, got a DTensor, whose gathering decides"
            " what its gradient means: use full_tensor(grad_placements=[Partial()]) and divide by"
            " the ranks, as probtune.models.head does, or give the local slice and parallel=."
        )
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden must be (N, D) and weight (V, D), got {tuple(hidden.shape)} and"
            f" {tuple(weight.shape)}."
        )
    if labels.shape != hidden.shape[:1]:
        raise ValueError(
            f"labels must be (N,) with N = {hidden.shape[0]}, got {tuple(labels.shape)}."
        )
    if labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels must be int64 or int32, got {labels.dtype}.")
    if not hidden.is_floating_point() or weight.dtype != hidden.dtype:
        raise ValueError(
            f"hidden and weight must share one floating dtype, got {hidden.dtype} and"
            f" {weight.dtype}."
        )
    _check_adapter(hidden, weight, low, up)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be (V,) with V = {weight.shape[0]}, got {tuple(bias.shape)}.")
    if (softcap := linear.softcap) is not None and not softcap > 0:
        raise ValueError(f"softcap must be positive, got {softcap}; leave it out for none.")
    if (parallel := linear.parallel) is not None:
        vocabulary = parallel.vocabulary
        if not 0 <= parallel.start <= vocabulary - weight.shape[0]:
            raise ValueError(
                f"the slice of {weight.shape[0]} tokens from {parallel.start} on is not inside the"
                f" vocabulary of {vocabulary}."
            )


def _check_adapter(hidden: Tensor, weight: Tensor, low: Tensor | None, up: Tensor | None) -> None:
    if low is None and up is None:
        return
    assert low is not None and up is not None
    expected = (hidden.shape[0], weight.shape[0], low.shape[-1])
    if (*low.shape[:-1], *up.shape) != expected or low.dim() != 2:
        raise ValueError(
            f"adapter must be (N, R) and (V, R) with N = {hidden.shape[0]} and V ="
            f" {weight.shape[0]}, got {tuple(low.shape)} and {tuple(up.shape)}."
        )
    if {low.dtype, up.dtype} != {hidden.dtype}:
        raise ValueError(
            f"adapter must be {hidden.dtype} as the hidden states, got {low.dtype} and {up.dtype}."
        )
