"""Gradients in the same pass over the logits as the loss, a block of tokens at a time.

The loop over blocks is the same for every engine (`engine.Engine`); `rows` has the algebra.

Statistics and the sums behind the gradients are float32, or float64 for float64 inputs, whatever
the inputs' dtype: logits rounded to bfloat16 make the weights of p^10 wrong by up to 31 %, and a
running sum of dW in bfloat16 loses digits with every block.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import torch
from torch import Tensor

from .engine import Distribution, Engine, LogitSource
from .head import Head
from .projection import Gradients, Projection
from .rows import RowStatistics
from .tokens import KERNEL_SIGNALS, Task, Tokens

__all__ = [
    "GradientSums",
    "measured_signals",
    "objective_gradients",
    "run_blocks",
    "statistics_of_all",
]


class GradientSums(Protocol):
    """Receiver of the gradients of the logits."""

    needed: bool
    """True if anything has a gradient."""

    def add(self, dz: Tensor, positions: slice | Tensor, *, alone: bool) -> None:
        """Add the gradients of the logits `dz`, (n, V), of the rows at `positions`.

        `alone`: there are no other rows.
        """
        ...


def statistics_of_all(
    source: LogitSource,
    labels: Tensor,
    signals: Set[str],
    engine: type[Engine],
    capacity: int | None = None,
) -> RowStatistics:
    """Return the statistics of every row over the whole vocabulary, computed in blocks of at most
    `capacity` rows; the logits are dropped.
    """
    memory = engine(source, signals, False, source.num_rows, capacity)
    blocks = []
    for start in range(0, source.num_rows, max(memory.capacity, 1)) or (0,):
        block = slice(start, min(start + memory.capacity, source.num_rows))
        blocks.append(_combined(memory.statistics(block, labels[block]), source))
    columns = (None if x[0] is None else torch.cat(x) for x in zip(*blocks, strict=True))
    return RowStatistics(*columns)  # type: ignore[arg-type]


def objective_gradients(
    head: Head, labels: Tensor, task: Task, engine: type[Engine], needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Return (loss, skipped, *PER_TOKEN) and the gradients of `head.tensors`, all from one pass
    over the logits.
    """
    source = Projection(head)
    tokens, gradients = Tokens(task, source), Gradients(source, head, needed)
    run_blocks(source, labels, task, engine, tokens, gradients)
    return tokens.result(), gradients.result()


def run_blocks(
    source: LogitSource,
    labels: Tensor,
    task: Task,
    engine: type[Engine],
    tokens: Tokens,
    gradients: GradientSums,
) -> None:
    """Fill `tokens` and `gradients`, block by block. The block's memory is free again on return."""
    num_rows = source.num_rows
    memory = engine(source, task.signals_of_logits, task.whole, num_rows)
    other = None if task.reference is None else Projection(task.reference)
    # The rows whose gradients are at the front of the buffer.
    waiting: list[slice | Tensor] = []
    start, pending, alone = 0, 0, True
    while start < num_rows:
        stop = min(start + memory.capacity - pending, num_rows)
        block, block_labels = slice(start, stop), labels[start:stop]
        rows = _combined(memory.statistics(block, block_labels, pending), source)
        whole = None
        if task.whole:
            reference = None if other is None else _log_probs(other, block)
            whole = memory.distribution(rows, block_labels, reference)
        f = tokens.add(block, rows, measured_signals(rows, task.signals_of_logits, whole))
        start = stop
        if not gradients.needed:
            continue
        active = tokens.active(f, rows)
        where = active.where
        if active.rows.target_logit.numel() == 0:
            continue
        if where is not None and whole is not None:
            whole = whole.select(where)
        pending += memory.gradients(where, active.rows, active.of, whole, active.factors)
        waiting.append(block if where is None else where + block.start)
        room = memory.capacity - pending
        if start < num_rows and room >= min(num_rows - start, memory.capacity / 2):
            continue  # the next block fits beside them
        alone = alone and start == num_rows
        gradients.add(memory.filled(pending), _positions(waiting, source.device), alone=alone)
        pending, waiting, alone = 0, [], False
    if waiting:
        gradients.add(memory.filled(pending), _positions(waiting, source.device), alone=alone)


def measured_signals(
    rows: RowStatistics, names: Set[str], whole: Distribution | None = None
) -> dict[str, Tensor]:
    """Return the statistics of the distribution with these names."""
    signals = {}
    for name in names:
        if name in KERNEL_SIGNALS:
            signals[name] = rows.entropy if name == "entropy" else rows.collision
        else:
            assert whole is not None, name
            signals[name] = whole.value(name)
    return signals


def _combined(rows: RowStatistics, source: LogitSource) -> RowStatistics:
    """Return the rows' statistics over the whole vocabulary."""
    return rows if source.parallel is None else source.parallel.combine(rows)


def _log_probs(source: LogitSource, block: slice) -> Tensor:
    """Return the log-probabilities of a block of rows, (n, V)."""
    shape = (block.stop - block.start, source.vocabulary)
    out = torch.empty(shape, dtype=source.dtype, device=source.device)
    return source.logits(block, out).log_softmax(1)


def _positions(waiting: list[slice | Tensor], device: torch.device) -> slice | Tensor:
    """Return the rows of several blocks, as a slice where they are one block."""
    if len(waiting) == 1:
        return waiting[0]
    return torch.cat(
        [
            torch.arange(x.start, x.stop, device=device) if isinstance(x, slice) else x
            for x in waiting
        ]
    )
