"""Inputs on their way to a pass over the logits: checked, and without the ignored rows.

The same steps, in the same order, for the functions and for the operator of a compiled graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from .checks import (
    IGNORE_INDEX,
    check_head,
    check_num_items,
    check_options,
    check_passes,
    check_signals,
    map_per_token,
    supervised,
)
from .choice import engine_for
from .engine import Engine
from .head import Head
from .tokens import Task

__all__ = ["Prepared", "denominator", "prepare", "prepare_statistics", "shifted", "spread"]


class Prepared(NamedTuple):
    """The supervised rows, and what to do with them."""

    head: Head
    labels: Tensor
    task: Task
    engine: type[Engine] | None
    """The implementation; None: the reference."""
    where: Tensor | None
    """Positions of the supervised rows; None: all."""


def prepare(
    head: Head,  # on (N, D)
    labels: Tensor,  # (N,)
    objective: Objective,
    num_items: float | Tensor | None,
    signals: Mapping[str, Any],
    reference: Head | None,
    *,
    statistics: bool,
) -> Prepared:
    """Check the inputs, drop the ignored rows and choose the engine.

    Raises:
        ValueError: the inputs do not fit together, or the implementation does not serve them.
        ObjectiveError: the objective needs a signal that is missing.
    """
    check_head(head, labels)
    check_num_items(num_items)
    check_options(head)
    signals = Signals(signals)
    check_signals(objective, signals, reference, labels)
    where = supervised(labels, head.vocabulary)
    if where is not None:
        head, labels = head.rows(where), labels[where]
        signals = Signals(map_per_token(signals, lambda x: x[where]))
        reference = None if reference is None else reference.rows(where)
    task = Task(
        objective, denominator(num_items, labels), signals, reference, statistics,
        head.z_loss, head.row_eps,
    )  # fmt: skip
    engine = engine_for(head, whole=task.whole, terms=objective.terms)
    check_passes(head, task)
    return Prepared(head, labels, task, engine, where)


def prepare_statistics(
    head: Head, labels: Tensor
) -> tuple[Head, Tensor, type[Engine] | None, Tensor | None]:
    """Return (head, labels, engine, where) as `prepare` does, for statistics per token."""
    check_head(head, labels)
    check_passes(head, None)
    where = supervised(labels, head.vocabulary)
    if where is not None:
        head, labels = head.rows(where), labels[where]
    return head, labels, engine_for(head, whole=False), where


def denominator(num_items: float | Tensor | None, labels: Tensor) -> float | Tensor:
    """Return the number that the sum is divided by: by default the supervised tokens, `labels`.

    A count of 0 on the device becomes 1: the sum of no tokens is 0 then, and not 0 / 0.
    """
    if num_items is None:
        return float(max(labels.numel(), 1))
    if isinstance(num_items, Tensor):
        return torch.where(num_items > 0, num_items, 1)
    return num_items


def shifted(labels: Tensor) -> Tensor:
    """Return the labels moved to the position that predicts them, (..., T); the last position
    predicts nothing and is ignored.
    """
    end = labels.new_full((*labels.shape[:-1], 1), IGNORE_INDEX)
    return torch.cat([labels[..., 1:], end], -1)


def spread(
    columns: Sequence[Tensor], where: Tensor | None, shape: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return columns per supervised row as columns per token, 0 at ignored ones."""
    if where is None:
        return tuple(columns)
    return tuple(x.new_zeros(shape).index_put((where,), x) for x in columns)
