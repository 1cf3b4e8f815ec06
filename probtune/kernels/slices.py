"""Gradients in a second pass over the logits, a slice of the vocabulary at a time.

For gradients that cannot be formed with the statistics, because the upstream gradient is not known
yet (`linear_target_statistics`), and where memory matters more than time (`two_pass=True`): once
the statistics of every row are known, a slice of the weight is all that its own gradient needs, so
that gradient is written once, with no float32 copy of the whole beside it. The logits of K rows
with a gradient are computed twice: 2 N + 6 K instead of 2 N + 4 K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chunked import measured_signals, statistics_of_all
from .engine import Engine
from .head import Head
from .matmuls import add_outer, add_times, narrow_dtype, slices_of
from .projection import Projection
from .rows import Coefficients, RowStatistics
from .tokens import Task, Tokens

__all__ = ["gradients", "objective_gradients"]

_CPU_BYTES = 64 * 2**20
_BYTES = 256 * 2**20
"""Size of the logits that are in memory at once, in float32."""


def objective_gradients(
    head: Head, labels: Tensor, task: Task, engine: type[Engine], needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Return (loss, skipped, *PER_TOKEN) and the gradients of `head.tensors` from two passes, for
    objectives that need no more than the statistics of rows.
    """
    assert not task.whole
    source = Projection(head)
    tokens, every = Tokens(task, source), slice(0, source.num_rows)
    capacity = _share(source.device, source.block_vocabulary)
    rows = statistics_of_all(source, labels, task.signals_of_logits, engine, capacity)
    f = tokens.add(every, rows, measured_signals(rows, task.signals_of_logits))
    if not any(needed):
        return tokens.result(), (None,) * len(needed)
    active = tokens.active(f, rows)
    where = every if active.where is None else active.where
    of_tensors = gradients(head, labels, where, active.rows, active.of, engine, needed)
    return tokens.result(), of_tensors


def gradients(
    head: Head,
    labels: Tensor,
    where: slice | Tensor,
    rows: RowStatistics,
    of: Coefficients,
    engine: type[Engine],
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `head.tensors`. The weight's is added to `head.weight_grad`, if that
    is set.

    Args:
        head: on all rows.
        labels: of all rows, (N,).
        where: the rows that have a gradient.
        rows: statistics of these rows over the whole vocabulary.
        of: coefficients of these rows.
        engine: the implementation.
        needed: of each tensor, True if it has a gradient.
    """
    of_tensors = [
        torch.zeros_like(x, memory_format=torch.contiguous_format)
        if needs and x is not None else None
        for x, needs in zip(head.tensors, needed, strict=True)
    ]  # fmt: skip
    buffer = head.weight_grad if needed[1] else None
    if buffer is not None:
        of_tensors[1] = None
    of_hidden, of_weight, of_bias, of_low, of_up = of_tensors
    chosen = head if isinstance(where, slice) else head.rows(where)
    labels = labels[where]
    num_rows, dtype, device = chosen.hidden.shape[0], head.dtype, head.hidden.device
    sums = [
        None if target is None or x is None else torch.zeros_like(x, dtype=dtype)
        for target, x in ((of_hidden, chosen.hidden), (of_low, chosen.tensors[3]))
    ]
    narrow_to = narrow_dtype(head.hidden.dtype, device)
    signals = {"entropy"} if of.of_logit is not None else set()
    parts = slices_of(head.weight.shape[0], _share(device, num_rows)) if num_rows else ()
    for part in parts:
        source = Projection(chosen, part)
        memory = engine(source, signals, False, num_rows, num_rows)
        memory.statistics(slice(0, num_rows), labels)
        dz = memory.filled(memory.gradients(None, rows, of))
        if of_bias is not None:
            of_bias[part] = dz.sum(0, dtype=dtype).to(of_bias.dtype)
        narrow = dz.to(narrow_to)
        if buffer is not None:
            add_outer(buffer[part], dz, source.parts[0].inputs, first=False)
        for matmul, total, target in zip(source.parts, sums, (of_weight, of_up), strict=False):
            if total is not None:
                add_times(total, narrow, matmul.weight, first=False)
            if target is not None:
                _outer(narrow, matmul.inputs, target[part])
    for total, target in zip(sums, (of_hidden, of_low), strict=True):
        if total is None or target is None:
            continue
        if head.parallel is not None:
            head.parallel.sum_in_place(total)
        target[where] = total.to(target.dtype)
    return tuple(of_tensors)


def _outer(dz: Tensor, x: Tensor, out: Tensor) -> None:
    """out = dz.T @ x, rounded once."""
    if out.dtype == dz.dtype:
        torch.mm(dz.t(), x, out=out)
    else:
        out.copy_(torch.mm(dz.t(), x.to(dz.dtype)))


def _share(device: torch.device, size: int) -> int:
    """Return the number of rows of `size` logits, or of slices of as many tokens, that fit: a
    multiple of 128 where it is more.
    """
    number = max(1, (_CPU_BYTES if device.type == "cpu" else _BYTES) // (4 * size))
    return number // 128 * 128 or number
