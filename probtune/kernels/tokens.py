"""Sums of an objective over the statistics of rows, and the rows that have a gradient.

They are the same for every pass over the logits (`chunked`, `slices`) and every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from .engine import LogitSource
from .head import Head
from .rows import Coefficients, RowStatistics, coefficients, front_first

__all__ = ["KERNEL_SIGNALS", "PER_TOKEN", "Active", "Task", "Tokens"]

PER_TOKEN = ("logp", "entropy", "is_top1", "value", "weight", "kept")
"""The columns per token of a loss with statistics."""

KERNEL_SIGNALS = frozenset({"entropy", "collision"})
"""Statistics that follow from those of the rows; all others need the whole distribution."""


@dataclass(frozen=True, eq=False)
class Task:
    """Request to a pass over the logits."""

    objective: Objective
    num_items: float | Tensor
    """Denominator of the sum."""
    signals: Signals
    reference: Head | None = None
    """The head of the reference model, on its own hidden states."""
    statistics: bool = False
    """True if the columns `PER_TOKEN` are to be filled."""
    z_loss: float = 0.0
    row_eps: float = 0.0

    @property
    def signals_of_logits(self) -> frozenset[str]:
        """Statistics of the distribution that the pass must compute."""
        needs = self.objective.distribution_needs
        return frozenset(needs | {"entropy"} if self.statistics else needs)

    @property
    def whole(self) -> bool:
        """True if a block's distribution itself is needed."""
        return bool((self.signals_of_logits | self.objective.terms) - KERNEL_SIGNALS)


class Active(NamedTuple):
    """Rows that have a gradient."""

    where: Tensor | None
    """Their positions, in the order of `front_first`; None: all."""
    rows: RowStatistics
    of: Coefficients
    factors: dict[str, Tensor]
    """Factors of the terms that the coefficients do not hold, by name."""


class Tokens:
    """Sums over all rows, and the columns per token, filled block by block."""

    def __init__(self, task: Task, source: LogitSource):
        self._task, self._logit_scale = task, source.logit_scale
        self._total = torch.zeros((), dtype=source.dtype, device=source.device)
        self._largest, self._skipped = self._total.clone(), self._total.clone()
        dtypes = (source.dtype, source.dtype, torch.bool, source.dtype, source.dtype, torch.bool)
        num_rows = source.num_rows if task.statistics else 0
        self._columns = [torch.empty(num_rows, dtype=d, device=source.device) for d in dtypes]

    def add(self, block: slice, rows: RowStatistics, measured: Mapping[str, Tensor]) -> Objective:
        """Add the rows of a block to the sums; return the objective bound to their signals, among
        them the statistics that were `measured` of their logits.
        """
        task = self._task
        signals = {
            name: x[block] if isinstance(x, Tensor) and x.dim() else x
            for name, x in task.signals.items()
        }
        f = task.objective.bind(Signals({**signals, **measured}))
        logp = rows.logp
        value = f.value(logp)
        self._total += value.sum()
        if task.z_loss:
            self._total += task.z_loss * rows.log_sum_exp.square().sum()
        if task.statistics:
            columns = (logp, measured["entropy"], rows.is_top1, value, f.token_weight(logp))
            for column, x in zip(self._columns, (*columns, f.keeps(logp)), strict=True):
                column[block] = x
        return f

    def active(self, f: Objective, rows: RowStatistics) -> Active:
        """Return the rows of a block that have a gradient, or, with `row_eps`, one that is not
        negligible.
        """
        task, logp = self._task, rows.logp
        size = f.logit_gradient(logp) / task.num_items
        factors = {name: c / task.num_items for name, c in f.coefficients(logp).items()}
        of_lse = None
        if task.z_loss:
            of_lse = 2.0 * task.z_loss / task.num_items * rows.log_sum_exp
        where = self._where(size, [*factors.values(), *([] if of_lse is None else [of_lse])])
        chosen = where.numel() < size.numel()
        if chosen:
            rows, size = rows.select(where), size[where]
            factors = {name: factor[where] for name, factor in factors.items()}
            of_lse = None if of_lse is None else of_lse[where]
        in_rows = {n: factors.pop(n) for n in KERNEL_SIGNALS & factors.keys()}
        of = coefficients(rows, size, in_rows, of_lse, self._logit_scale)
        return Active(where if chosen else None, rows, of, factors)

    def _where(self, size: Tensor, others: list[Tensor]) -> Tensor:
        active, further = size != 0, torch.zeros_like(size, dtype=torch.bool)
        for factor in others:
            further |= factor != 0
        if self._task.row_eps and size.numel():
            mass = size.abs()
            self._largest = torch.maximum(self._largest, mass.amax())
            small = active & ~further & (mass < self._task.row_eps * self._largest)
            self._skipped += 2.0 * torch.where(small, mass, 0.0).sum()
            active &= ~small
        return front_first(active | further)

    def result(self) -> tuple[Tensor, ...]:
        """Return (loss, skipped, *PER_TOKEN)."""
        return self._total / self._task.num_items, self._skipped, *self._columns
