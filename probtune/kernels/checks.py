"""Checks of the head's inputs, at the door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..objectives import REFERENCE_SIGNALS, Objective, Signals, kind_of, unbound
from .head import Head
from .tokens import Task

__all__ = [
    "IGNORE_INDEX",
    "check_head",
    "check_labels",
    "check_num_items",
    "check_options",
    "check_passes",
    "check_signals",
    "check_signals_shapes",
    "map_per_token",
    "per_token",
    "refuse_dtensor",
    "supervised",
]

IGNORE_INDEX = -100
"""The label of a token that is excluded from every sum."""


def per_token(x: Any) -> bool:
    """True if a signal has one value per token."""
    return isinstance(x, Tensor) and x.dim() > 0


def map_per_token(
    signals: Mapping[str, Any], function: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """Apply a function to the signals with one value per token; leave the others as they are."""
    return {name: function(x) if per_token(x) else x for name, x in signals.items()}


def supervised(labels: Tensor, vocabulary: int) -> Tensor | None:
    """Return the positions of the tokens that count; None if all of them do. Synchronises once.

    Raises:
        ValueError: a label is outside the vocabulary.
    """
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
    # `nonzero` would synchronise again. Every ignored row writes to one extra entry at the end.
    target = torch.where(counts, counts.cumsum(0) - 1, num_rows)
    positions = torch.empty(num_rows + 1, dtype=torch.int64, device=labels.device)
    return positions.index_copy_(0, target, torch.arange(labels.numel(), device=labels.device))[:-1]


def check_num_items(num_items: float | Tensor | None) -> None:
    """Raise ValueError for a denominator that is not positive, as far as that is seen without a
    synchronisation.
    """
    if num_items is not None and not isinstance(num_items, Tensor) and not num_items > 0:
        raise ValueError(
            f"num_items_in_batch must be positive, got {num_items}; leave it out for the supervised"
            " tokens."
        )


def check_options(head: Head) -> None:
    """Raise ValueError for options of the loss that are out of range."""
    if not 0.0 <= head.row_eps < 1.0:
        raise ValueError(
            f"row_eps must be in [0, 1), got {head.row_eps}; 2**-10 leaves out little, 0 nothing."
        )
    buffer = head.weight_grad
    if buffer is not None and (buffer.shape != head.weight.shape or buffer.dtype != head.dtype):
        raise ValueError(
            f"weight_grad must be {tuple(head.weight.shape)} in {head.dtype}, got"
            f" {tuple(buffer.shape)} in {buffer.dtype}."
        )


def check_passes(head: Head, task: Task | None) -> None:
    """Raise ValueError for an option that the passes over the logits would ignore, or cannot serve.

    Args:
        task: None: statistics per token, which have no loss.
    """
    options = {
        "two_pass=": head.two_pass,
        "weight_grad=": head.weight_grad is not None,
        "row_eps=": head.row_eps,
        "z_loss=": head.z_loss and task is None,
    }
    named = ", ".join(name for name, value in options.items() if value)
    if task is None and named:
        raise ValueError(f"statistics per token take no {named}, an option of the loss.")
    if head.impl == "reference" and named:
        raise ValueError(
            f"impl='reference' leaves its gradients to autograd and takes no {named}; use another"
            " impl."
        )
    if task is not None and head.two_pass and task.whole:
        raise ValueError(
            f"two_pass=True sees a slice of the vocabulary at a time, and {task.objective} needs"
            " the whole distribution at once; leave it out."
        )


def check_signals(
    objective: Objective, signals: Signals, reference: Head | None, labels: Tensor
) -> None:
    """Raise ObjectiveError for a signal that is missing, ValueError for one of another shape."""
    for name in sorted(objective.needs - signals.keys()):
        if name not in objective.distribution_needs:
            raise unbound(objective, name)
        if kind_of(name) in REFERENCE_SIGNALS and reference is None:
            raise unbound(objective, name)
    check_signals_shapes(signals, labels)


def check_signals_shapes(signals: Mapping[str, Any], labels: Tensor) -> None:
    """Raise ValueError for a signal per token that does not have the labels' shape."""
    for name, x in signals.items():
        if per_token(x) and x.shape != labels.shape:
            raise ValueError(
                f"the signal {name!r} must be (N,) as the labels, {tuple(labels.shape)}, got"
                f" {tuple(x.shape)}."
            )


def refuse_dtensor(*tensors: Tensor) -> None:
    """Raise ValueError for a tensor that is spread over ranks."""
    if "DTensor" in {type(x).__name__ for x in tensors}:
        raise ValueError(
            "weight and hidden states must be plain tensors, got a DTensor, whose gathering decides"
            " what its gradient means: use full_tensor(grad_placements=[Partial()]) and divide by"
            " the ranks, as probtune.models.head does, or give the local slice and parallel=."
        )


def check_labels(labels: Tensor, leading: torch.Size, of: str) -> None:
    """Raise ValueError for labels without the leading shape of `of`, or of another dtype."""
    if labels.shape != leading:
        raise ValueError(
            f"labels must be (N,) for (N, D) and (B, T) for (B, T, D), the leading shape of the"
            f" {of}, {tuple(leading)}; got {tuple(labels.shape)}."
        )
    if labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels must be int64 or int32, got {labels.dtype}.")


def check_head(head: Head, labels: Tensor) -> None:
    """Raise ValueError for shapes, dtypes and options that do not fit together."""
    hidden, weight, bias = head.hidden, head.weight, head.bias
    refuse_dtensor(hidden, weight, weight.data)
    if hidden.dim() < 2 or weight.dim() != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            "hidden must be (N, D) and weight (V, D), or hidden (..., D); got"
            f" {tuple(hidden.shape)} and {tuple(weight.shape)}."
        )
    check_labels(labels, hidden.shape[:-1], "hidden states")
    if not hidden.is_floating_point() or weight.dtype != hidden.dtype:
        raise ValueError(
            f"hidden and weight must share one floating dtype, got {hidden.dtype} and"
            f" {weight.dtype}."
        )
    if head.adapter is not None:
        _check_adapter(hidden, weight, *head.adapter)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be (V,) with V = {weight.shape[0]}, got {tuple(bias.shape)}.")
    if (softcap := head.softcap) is not None and not softcap > 0:
        raise ValueError(f"softcap must be positive, got {softcap}; leave it out for none.")
    if (parallel := head.parallel) is not None:
        vocabulary = parallel.vocabulary
        if not 0 <= parallel.start <= vocabulary - weight.shape[0]:
            raise ValueError(
                f"the slice of {weight.shape[0]} tokens from {parallel.start} on is not inside the"
                f" vocabulary of {vocabulary}."
            )


def _check_adapter(hidden: Tensor, weight: Tensor, low: Tensor, up: Tensor) -> None:
    if up.dim() != 2 or low.shape != (*hidden.shape[:-1], up.shape[1]) or len(up) != len(weight):
        raise ValueError(
            f"adapter must be (N, R) and (V, R) with N = {hidden.shape[0]} and V ="
            f" {weight.shape[0]}, got {tuple(low.shape)} and {tuple(up.shape)}."
        )
    if {low.dtype, up.dtype} != {hidden.dtype}:
        raise ValueError(
            f"adapter must be {hidden.dtype} as the hidden states, got {low.dtype} and {up.dtype}."
        )
