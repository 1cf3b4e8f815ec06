"""The same numbers in bounded memory: a block of tokens at a time.

The loops over blocks are the same for every implementation; what a block's logits become is the
business of the rows' module that is given: `torch_rows` on any device, `triton_rows` and
`triton_epilogue` where Triton runs. `rows` has the algebra.

Statistics and the sums behind the gradients are float32, or float64 for float64 inputs, whatever
the inputs' dtype: logits rounded to bfloat16 make the weights of p^10 wrong by up to 31 %, and a
running sum of dW in bfloat16 loses digits with every block.

Called by the package's functions, with supervised rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objectives import HEAD_SIGNALS, Objective, Signals
from .linear import Gradients, Head, LinearHead
from .matmuls import half_precision_matmuls
from .rows import Rows, coefficients, front_first
from .torch_rows import TorchRows

__all__ = [
    "PER_TOKEN",
    "Task",
    "objective_gradients",
    "objective_loss",
    "refuse_second_derivatives",
    "target_statistics",
]

PER_TOKEN = ("logp", "entropy", "is_top1", "value", "weight", "kept")
"""The columns per token of a loss with statistics."""

_KERNEL_SIGNALS = frozenset({"entropy", "collision"})
"""What the row statistics hold; everything else needs the whole distribution of a block."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of one pass over the logits."""

    objective: Objective
    normalizer: float | Tensor
    signals: Signals
    reference: LinearHead | None = None
    """The head of the reference model, on its own hidden states."""
    statistics: bool = False
    z_loss: float = 0.0
    row_eps: float = 0.0
    weight_grad: Tensor | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """The statistics of the distribution that are needed."""
        from_head = {n for n in self.objective.needs if n.split(":")[0] in HEAD_SIGNALS}
        return frozenset(from_head | ({"entropy"} if self.statistics else set()))

    @property
    def whole(self) -> bool:
        """Whether a block's distribution is needed itself."""
        return bool((self.wanted | self.objective.terms) - _KERNEL_SIGNALS)


def target_statistics(
    linear: LinearHead, labels: Tensor, entropy: bool, rows: Any = TorchRows
) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, entropy, is_top1) per row; equals `reference.target_statistics` without storing the
    logits.
    """
    asked = (linear, labels, entropy, rows)
    return _TargetStatistics.apply(*linear.tensors, asked)  # type: ignore[return-value]


def objective_loss(
    linear: LinearHead, labels: Tensor, task: Task, rows: Any = TorchRows
) -> tuple[Tensor, ...]:
    """(loss, skipped, *PER_TOKEN); equals `reference.objective_loss` without the logits. Only the
    loss is differentiable; the columns are empty unless statistics are asked for.
    """
    # Autograd says what needs a gradient even where none is recorded.
    asked = (linear, labels, task, rows, torch.is_grad_enabled())
    return _ObjectiveLoss.apply(*linear.tensors, asked)  # type: ignore[return-value]


def objective_gradients(
    linear: LinearHead, labels: Tensor, task: Task, rows: Any, needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """((loss, skipped, *PER_TOKEN), gradients of `linear.tensors`), all from one pass over the
    logits.
    """
    head = Head(linear)
    num_rows, device = head.num_rows, head.device
    gradients = Gradients(head, linear, needed, task.weight_grad)
    engine = rows(head, task.wanted, task.whole, num_rows)
    other = None if task.reference is None else Head(task.reference)
    total = torch.zeros((), dtype=head.dtype, device=device)
    chooser = _Chooser(task.row_eps, total)
    columns = _PerToken(num_rows if task.statistics else 0, head.dtype, device)
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
        known = {name: _statistic(name, of_rows, whole) for name in task.wanted}
        f = task.objective.bind(Signals({**_of_block(task.signals, block), **known}))
        logp = of_rows.logp
        value = f.value(logp)
        total += value.sum()
        if task.z_loss:
            total += task.z_loss * of_rows.log_sum_exp.square().sum()
        if task.statistics:
            found = (logp, known["entropy"], of_rows.is_top1, value)
            columns.set(block, *found, f.token_weight(logp), f.keeps(logp))
        start = stop
        if not gradients.needed:
            continue
        size = f.logit_gradient(logp) / task.normalizer
        factors = {name: c / task.normalizer for name, c in f.coefficients(logp).items()}
        of_lse = None
        if task.z_loss:
            of_lse = 2.0 * task.z_loss / task.normalizer * of_rows.log_sum_exp
        others = [*factors.values(), *([] if of_lse is None else [of_lse])]
        where = chooser.rows(size, others)
        if where.numel() == 0:
            continue
        chosen = None
        if where.numel() < size.numel():
            chosen = where
            of_rows, size = of_rows.select(where), size[where]
            factors = {name: factor[where] for name, factor in factors.items()}
            of_lse = None if of_lse is None else of_lse[where]
            whole = None if whole is None else whole.select(where)
        in_rows = {n: factors.pop(n) for n in _KERNEL_SIGNALS & factors.keys()}
        of = coefficients(of_rows, size, in_rows, of_lse, head.logit_scale)
        pending += engine.gradients(chosen, of_rows, of, whole, factors)
        waiting.append(block if chosen is None else where + block.start)
        room = engine.capacity - pending
        if start < num_rows and room >= min(num_rows - start, engine.capacity / 2):
            continue  # the next block fits beside them
        alone = alone and start == num_rows
        gradients.add(engine.filled(pending), _positions(waiting, device), alone=alone)
        pending, waiting, alone = 0, [], False
    if waiting:
        gradients.add(engine.filled(pending), _positions(waiting, device), alone=alone)
    return (total / task.normalizer, chooser.skipped, *columns.all()), gradients.result()


class _Chooser:
    """Which rows have a gradient, or, with `row_eps`, one that is not negligible."""

    def __init__(self, row_eps: float, zero: Tensor):
        self._row_eps = row_eps
        self._largest, self.skipped = zero.clone(), zero.clone()

    def rows(self, size: Tensor, others: list[Tensor]) -> Tensor:
        """Their indices, in the order of `front_first`, from the logit gradients and the factors of
        other terms.
        """
        active, further = size != 0, torch.zeros_like(size, dtype=torch.bool)
        for factor in others:
            further |= factor != 0
        if self._row_eps:
            mass = size.abs()
            self._largest = torch.maximum(self._largest, mass.amax())
            small = active & ~further & (mass < self._row_eps * self._largest)
            self.skipped += 2.0 * torch.where(small, mass, 0.0).sum()
            active &= ~small
        return front_first(active | further)


def _combined(rows: Rows, head: Head) -> Rows:
    """The rows' statistics over the whole vocabulary."""
    return rows if head.parallel is None else head.parallel.combine(rows)


def _statistic(name: str, rows: Rows, whole: Any) -> Tensor:
    if name in _KERNEL_SIGNALS:
        return rows.entropy if name == "entropy" else rows.collision
    return whole.value(name)


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


class _ObjectiveLoss(torch.autograd.Function):
    """Sum of f(p) / normalizer. The gradients are formed in the forward pass, while a block's
    logits are at hand.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, asked):
        linear, labels, task, rows, recorded = asked
        linear = linear.with_tensors(hidden, weight, bias, low, up)
        with half_precision_matmuls(hidden.dtype, hidden.device):
            needed = tuple(recorded and x for x in ctx.needs_input_grad[:5])
            out, gradients = objective_gradients(linear, labels, task, rows, needed)
        ctx.save_for_backward(*gradients)
        ctx.in_buffer, ctx.rows = task.weight_grad is not None, rows
        ctx.mark_non_differentiable(*out[1:])
        return out

    @staticmethod
    def backward(ctx, upstream, *_):  # type: ignore[override]
        refuse_second_derivatives()
        gradients = ctx.saved_tensors
        if _is_kept():
            gradients = tuple(None if x is None else x.clone() for x in gradients)
        if ctx.in_buffer:
            _refuse_factor(upstream)
        elif upstream.device.type != "cpu" or upstream != 1:
            # In place: the gradient of a head is large.
            for gradient in gradients:
                if gradient is not None:
                    ctx.rows.scale(gradient, upstream)
        return (*gradients, None)


def refuse_second_derivatives() -> None:
    """What was formed in the forward pass would silently count as constant."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fused head has no second derivatives: take the gradient without create_graph=True,"
            " or use impl='reference'."
        )


def _is_kept() -> bool:
    """Whether the backward pass that is running may run again (retain_graph=True)."""
    asked: Any = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return asked is None or asked()


def _refuse_factor(upstream: Tensor) -> None:
    """The weight's gradient is in the buffer already. On an accelerator this does not wait for the
    device.
    """
    torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]
        upstream == 1,
        "weight_grad= holds the gradient of the loss itself: call backward() on it alone, and"
        " put every factor into normalizer=.",
    )


class _PerToken:
    """The columns `PER_TOKEN` of all rows, filled block by block."""

    def __init__(self, num_rows: int, dtype: torch.dtype, device: torch.device):
        dtypes = (dtype, dtype, torch.bool, dtype, dtype, torch.bool)
        self._columns = tuple(torch.empty(num_rows, dtype=d, device=device) for d in dtypes)

    def set(self, block: slice, *values: Tensor) -> None:
        for column, value in zip(self._columns, values, strict=True):
            column[block] = value

    def all(self) -> tuple[Tensor, ...]:
        return self._columns


def _of_block(signals: Signals, block: slice) -> Signals:
    """The signals of a block's rows; what is not per token is the same for all."""
    return Signals(
        {name: x[block] if isinstance(x, Tensor) and x.dim() else x for name, x in signals.items()}
    )


class _TargetStatistics(torch.autograd.Function):
    """(log p, entropy, is_top1) per row. The backward pass recomputes the logits, of rows with a
    gradient only.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, asked):
        linear, labels, entropy, rows = asked
        linear = linear.with_tensors(hidden, weight, bias, low, up)
        head = Head(linear)
        engine = rows(head, {"entropy"} if entropy else set(), False, head.num_rows)
        logp = torch.empty(head.num_rows, dtype=head.dtype, device=head.device)
        entropies = torch.zeros_like(logp)
        is_top1 = torch.empty(head.num_rows, dtype=torch.bool, device=head.device)
        with half_precision_matmuls(hidden.dtype, hidden.device):
            for start in range(0, head.num_rows, engine.capacity):
                block = slice(start, min(start + engine.capacity, head.num_rows))
                found = _combined(engine.statistics(block, labels[block]), head)
                logp[block], is_top1[block] = found.logp, found.is_top1
                if entropy:
                    entropies[block] = found.entropy
        ctx.save_for_backward(hidden, weight, bias, low, up, labels)
        ctx.linear, ctx.entropy, ctx.rows = linear.with_tensors(*(None,) * 5), entropy, rows
        ctx.mark_non_differentiable(is_top1)
        ctx.set_materialize_grads(False)
        return logp, entropies, is_top1

    @staticmethod
    def backward(ctx, of_logp, of_entropy, _):  # type: ignore[override]
        refuse_second_derivatives()
        *tensors, labels = ctx.saved_tensors
        linear = ctx.linear.with_tensors(*tensors)
        of_entropy = of_entropy if ctx.entropy else None
        active = torch.zeros(labels.shape[0], dtype=torch.bool, device=labels.device)
        for upstream in (of_logp, of_entropy):
            if upstream is not None:
                active |= upstream != 0
        active = active.nonzero().squeeze(1)
        head = Head(linear)
        gradients = Gradients(head, linear, ctx.needs_input_grad[:5])
        wanted = set() if of_entropy is None else {"entropy"}
        engine = ctx.rows(head, wanted, False, active.numel())
        with half_precision_matmuls(linear.hidden.dtype, linear.hidden.device):
            for where in active.split(engine.capacity) if active.numel() else ():
                found = _combined(engine.statistics(where, labels[where]), head)
                size = torch.zeros_like(found.target_logit)
                if of_logp is not None:
                    # W = w (1 - p) with w = -of_logp
                    size = -of_logp[where] * torch.sigmoid(-found.logit_of_p)
                factors = {} if of_entropy is None else {"entropy": of_entropy[where]}
                of = coefficients(found, size, factors, None, head.logit_scale)
                dz = engine.filled(engine.gradients(None, found, of))
                gradients.add(dz, where, alone=where.numel() == active.numel())
        return (*gradients.result(), None)
