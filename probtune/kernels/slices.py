"""The gradients in a second pass over the logits, a slice of the vocabulary at a time.

For gradients that cannot be formed with the statistics, because what comes from above is not known
yet (`linear_target_statistics`), and where memory matters more than time (`two_pass=True`): once
the statistics of every row are there, a slice of the weight is all that its own gradient needs, so
that is written once, with no float32 copy of the whole beside it. The logits of K rows with a
gradient are computed twice: 2 N + 6 K instead of 2 N + 4 K.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .chunked import known_of, statistics_of_all
from .linear import Head, LinearHead
from .matmuls import add_outer, add_times, narrow_dtype, slices_of
from .rows import Coefficients, Rows
from .tokens import Task, Tokens

__all__ = ["gradients", "objective_gradients"]

_CPU_BYTES = 64 * 2**20
_BYTES = 256 * 2**20
"""Size of the logits that are there at once, in float32."""


def objective_gradients(
    linear: LinearHead, labels: Tensor, task: Task, rows: Any, needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """((loss, skipped, *PER_TOKEN), gradients of `linear.tensors`) from two passes; of objectives
    that need no more than the statistics of rows.
    """
    assert not task.whole
    head = Head(linear)
    tokens, every = Tokens(task, head), slice(0, head.num_rows)
    capacity = _share(head.device, head.block_vocabulary)
    found = statistics_of_all(head, labels, task.wanted, rows, capacity)
    f = tokens.add(every, found, known_of(found, task.wanted))
    if not any(needed):
        return tokens.result(), (None,) * len(needed)
    active = tokens.active(f, found)
    where = every if active.where is None else active.where
    made = gradients(linear, labels, where, active.rows, active.of, rows, needed, task.weight_grad)
    return tokens.result(), made


def gradients(
    linear: LinearHead,
    labels: Tensor,
    where: slice | Tensor,
    found: Rows,
    of: Coefficients,
    rows: Any,
    needed: tuple[bool, ...],
    weight_grad: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Those of `linear.tensors`. `where` are the rows that have one, `found` their statistics over
    the whole vocabulary, `of` their coefficients. The weight's is added to `weight_grad` if given.
    """
    made = [
        torch.zeros_like(x, memory_format=torch.contiguous_format)
        if wanted and x is not None else None
        for x, wanted in zip(linear.tensors, needed, strict=True)
    ]  # fmt: skip
    buffer = weight_grad if needed[1] else None
    if buffer is not None:
        made[1] = None
    of_hidden, of_weight, of_bias, of_low, of_up = made
    here = linear if isinstance(where, slice) else linear.rows(where)
    labels = labels[where]
    num_rows, dtype, device = here.hidden.shape[0], linear.dtype, linear.hidden.device
    sums = [
        None if target is None or x is None else torch.zeros_like(x, dtype=dtype)
        for target, x in ((of_hidden, here.hidden), (of_low, here.low))
    ]
    narrow_to = narrow_dtype(linear.hidden.dtype, device)
    wanted = {"entropy"} if of.of_logit is not None else set()
    parts = slices_of(linear.weight.shape[0], _share(device, num_rows)) if num_rows else ()
    for part in parts:
        head = Head(here.tokens(part))
        engine = rows(head, wanted, False, num_rows, num_rows)
        engine.statistics(slice(0, num_rows), labels)
        dz = engine.filled(engine.gradients(None, found, of))
        if of_bias is not None:
            of_bias[part] = dz.sum(0, dtype=dtype).to(of_bias.dtype)
        narrow = dz.to(narrow_to)
        if buffer is not None:
            add_outer(buffer[part], dz, head.parts[0].inputs, first=False)
        for matmul, total, target in zip(head.parts, sums, (of_weight, of_up), strict=False):
            if total is not None:
                add_times(total, narrow, matmul.weight, first=False)
            if target is not None:
                _outer(narrow, matmul.inputs, target[part])
    for total, target in zip(sums, (of_hidden, of_low), strict=True):
        if total is None or target is None:
            continue
        if linear.parallel is not None:
            linear.parallel.sum_in_place(total)
        target[where] = total.to(target.dtype)
    return tuple(made)


def _outer(dz: Tensor, x: Tensor, out: Tensor) -> None:
    """out = dz.T @ x, rounded once."""
    if out.dtype == dz.dtype:
        torch.mm(dz.t(), x, out=out)
    else:
        out.copy_(torch.mm(dz.t(), x.to(dz.dtype)))


def _share(device: torch.device, size: int) -> int:
    """How many rows of `size` logits, or slices of as many tokens, there is room for: a multiple of
    128 where it is more.
    """
    found = max(1, (_CPU_BYTES if device.type == "cpu" else _BYTES) // (4 * size))
    return found // 128 * 128 or found
