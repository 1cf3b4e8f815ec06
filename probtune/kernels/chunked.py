"""The same numbers in bounded memory: a block of tokens at a time, gradients in the same pass.

The loop over blocks is the same for every implementation; what a block's logits become is the
business of the rows' module that is given: `torch_rows` on any device, `triton_rows` and
`triton_epilogue` where Triton runs. `rows` has the algebra.

Statistics and the sums behind the gradients are float32, or float64 for float64 inputs, whatever
the inputs' dtype: logits rounded to bfloat16 make the weights of p^10 wrong by up to 31 %, and a
running sum of dW in bfloat16 loses digits with every block.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from .linear import Gradients, Head, LinearHead
from .rows import Rows
from .tokens import KERNEL_SIGNALS, Task, Tokens

__all__ = ["known_of", "objective_gradients", "statistics_of_all"]


def statistics_of_all(
    head: Head, labels: Tensor, wanted: Set[str], rows: Any, capacity: int | None = None
) -> Rows:
    """The statistics of every row over the whole vocabulary, in blocks of at most `capacity`; the
    logits are dropped.
    """
    engine = rows(head, wanted, False, head.num_rows, capacity)
    blocks = []
    for start in range(0, head.num_rows, max(engine.capacity, 1)) or (0,):
        block = slice(start, min(start + engine.capacity, head.num_rows))
        blocks.append(_combined(engine.statistics(block, labels[block]), head))
    columns = (None if x[0] is None else torch.cat(x) for x in zip(*blocks, strict=True))
    return Rows(*columns)  # type: ignore[arg-type]


def objective_gradients(
    linear: LinearHead, labels: Tensor, task: Task, rows: Any, needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """((loss, skipped, *PER_TOKEN), gradients of `linear.tensors`), all from one pass over the
    logits.
    """
    head = Head(linear)
    tokens, gradients = Tokens(task, head), Gradients(head, linear, needed, task.weight_grad)
    _fill(head, labels, task, rows, tokens, gradients)
    return tokens.result(), gradients.result()


def _fill(
    head: Head, labels: Tensor, task: Task, rows: Any, tokens: Tokens, gradients: Gradients
) -> None:
    """The loop; its buffer is free again when the gradients are made ready."""
    num_rows, device = head.num_rows, head.device
    engine = rows(head, task.wanted, task.whole, num_rows)
    other = None if task.reference is None else Head(task.reference)
    # The rows whose gradients are at the front of the buffer.
    waiting: list[slice | Tensor] = []
    start, pending, alone = 0, 0, True
    while start < num_rows:
        stop = min(start + engine.capacity - pending, num_rows)
        block, labels_here = slice(start, stop), labels[start:stop]
        of_rows = _combined(engine.statistics(block, labels_here, pending), head)
        whole = None
        if task.whole:
            ref = None if other is None else _log_probs(other, block)
            whole = engine.distribution(of_rows, labels_here, ref)
        f = tokens.add(block, of_rows, known_of(of_rows, task.wanted, whole))
        start = stop
        if not gradients.needed:
            continue
        active = tokens.active(f, of_rows)
        where = active.where
        if active.rows.target_logit.numel() == 0:
            continue
        if where is not None and whole is not None:
            whole = whole.select(where)
        pending += engine.gradients(where, active.rows, active.of, whole, active.factors)
        waiting.append(block if where is None else where + block.start)
        room = engine.capacity - pending
        if start < num_rows and room >= min(num_rows - start, engine.capacity / 2):
            continue  # the next block fits beside them
        alone = alone and start == num_rows
        gradients.add(engine.filled(pending), _positions(waiting, device), alone=alone)
        pending, waiting, alone = 0, [], False
    if waiting:
        gradients.add(engine.filled(pending), _positions(waiting, device), alone=alone)


def _combined(rows: Rows, head: Head) -> Rows:
    """The rows' statistics over the whole vocabulary."""
    return rows if head.parallel is None else head.parallel.combine(rows)


def known_of(rows: Rows, wanted: Set[str], whole: Any = None) -> dict[str, Tensor]:
    """The statistics of the distribution that are wanted, by name."""
    found = {}
    for name in wanted:
        if name in KERNEL_SIGNALS:
            found[name] = rows.entropy if name == "entropy" else rows.collision
        else:
            found[name] = whole.value(name)
    return found


def _log_probs(head: Head, block: slice) -> Tensor:
    """Of the reference model, (n, V)."""
    shape = (block.stop - block.start, head.vocabulary)
    out = torch.empty(shape, dtype=head.dtype, device=head.device)
    return head.logits(block, out).log_softmax(1)


def _positions(waiting: list[slice | Tensor], device: torch.device) -> slice | Tensor:
    """The rows of several blocks, as a slice where they are one block."""
    if len(waiting) == 1:
        return waiting[0]
    return torch.cat(
        [
            torch.arange(x.start, x.stop, device=device) if isinstance(x, slice) else x
            for x in waiting
        ]
    )
