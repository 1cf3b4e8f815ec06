"""What an objective makes of the statistics of rows: its sums, and which rows have which gradient.

The same for every pass over the logits (`chunked`, `slices`) and every implementation of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from .linear import Head, LinearHead
from .rows import Coefficients, Rows, coefficients, front_first

__all__ = ["KERNEL_SIGNALS", "PER_TOKEN", "Active", "Task", "Tokens"]

PER_TOKEN = ("logp", "entropy", "is_top1", "value", "weight", "kept")
"""The columns per token of a loss with statistics."""

KERNEL_SIGNALS = frozenset({"entropy", "collision"})
"""What the row statistics hold; everything else needs the whole distribution of a block."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of a pass over the logits."""

    objective: Objective
    normalizer: float | Tensor
    signals: Signals
    reference: LinearHead | None = None
    """The head of the reference model, on its own hidden states."""
    statistics: bool = False
    z_loss: float = 0.0
    row_eps: float = 0.0
    weight_grad: Tensor | None = None
    two_pass: bool = False

    @property
    def wanted(self) -> frozenset[str]:
        """The statistics of the distribution that are needed."""
        needs = self.objective.distribution_needs
        return frozenset(needs | {"entropy"} if self.statistics else needs)

    @property
    def whole(self) -> bool:
        """Whether a block's distribution is needed itself."""
        return bool((self.wanted | self.objective.terms) - KERNEL_SIGNALS)


class Active(NamedTuple):
    """The rows that have a gradient."""

    where: Tensor | None
    """Which, in the order of `front_first`; None: all."""
    rows: Rows
    of: Coefficients
    factors: dict[str, Tensor]
    """Of the terms that the coefficients do not hold, by name."""


class Tokens:
    """The sums over all rows, and the columns per token, filled block by block."""

    def __init__(self, task: Task, head: Head):
        self._task, self._logit_scale = task, head.logit_scale
        self._total = torch.zeros((), dtype=head.dtype, device=head.device)
        self._largest, self._skipped = self._total.clone(), self._total.clone()
        dtypes = (head.dtype, head.dtype, torch.bool, head.dtype, head.dtype, torch.bool)
        num_rows = head.num_rows if task.statistics else 0
        self._columns = [torch.empty(num_rows, dtype=d, device=head.device) for d in dtypes]

    def add(self, block: slice, rows: Rows, known: dict[str, Tensor]) -> Objective:
        """Count the rows of a block in; the objective with what is `known` of them."""
        task = self._task
        given = {
            name: x[block] if isinstance(x, Tensor) and x.dim() else x
            for name, x in task.signals.items()
        }
        f = task.objective.bind(Signals({**given, **known}))
        logp = rows.logp
        value = f.value(logp)
        self._total += value.sum()
        if task.z_loss:
            self._total += task.z_loss * rows.log_sum_exp.square().sum()
        if task.statistics:
            found = (logp, known["entropy"], rows.is_top1, value, f.token_weight(logp))
            for column, x in zip(self._columns, (*found, f.keeps(logp)), strict=True):
                column[block] = x
        return f

    def active(self, f: Objective, rows: Rows) -> Active:
        """Those of a block's rows that have a gradient, or, with `row_eps`, one that is not
        negligible.
        """
        task, logp = self._task, rows.logp
        size = f.logit_gradient(logp) / task.normalizer
        factors = {name: c / task.normalizer for name, c in f.coefficients(logp).items()}
        of_lse = None
        if task.z_loss:
            of_lse = 2.0 * task.z_loss / task.normalizer * rows.log_sum_exp
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
        if self._task.row_eps:
            mass = size.abs()
            self._largest = torch.maximum(self._largest, mass.amax())
            small = active & ~further & (mass < self._task.row_eps * self._largest)
            self._skipped += 2.0 * torch.where(small, mass, 0.0).sum()
            active &= ~small
        return front_first(active | further)

    def result(self) -> tuple[Tensor, ...]:
        """(loss, skipped, *PER_TOKEN)"""
        return self._total / self._task.normalizer, self._skipped, *self._columns
