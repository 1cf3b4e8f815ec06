"""The head as functions of autograd, on supervised rows only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import chunked, slices
from .engine import Engine
from .head import Head
from .matmuls import half_precision_matmuls
from .projection import Projection
from .rows import RowStatistics, coefficients
from .tokens import Task

__all__ = [
    "backward_of_scalar",
    "objective_gradients",
    "objective_loss",
    "refuse_second_derivatives",
    "target_statistics",
]


def target_statistics(
    head: Head, labels: Tensor, entropy: bool, engine: type[Engine]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (log p, entropy, is_top1) per row; equals `reference.target_statistics` without
    storing the logits.
    """
    request = (head, labels, entropy, engine)
    return _TargetStatistics.apply(*head.tensors, request)  # type: ignore[return-value]


def objective_loss(
    head: Head, labels: Tensor, task: Task, engine: type[Engine]
) -> tuple[Tensor, ...]:
    """Return (loss, skipped, *PER_TOKEN); equals `reference.objective_loss` without the logits.

    Only the loss is differentiable; the columns are empty unless `task.statistics`.
    """
    # Autograd says what needs a gradient even where none is recorded.
    request = (head, labels, task, engine, torch.is_grad_enabled())
    return _ObjectiveLoss.apply(*head.tensors, request)  # type: ignore[return-value]


def objective_gradients(
    head: Head, labels: Tensor, task: Task, engine: type[Engine], needed: tuple[bool, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Return (loss, skipped, *PER_TOKEN) and the gradients of `head.tensors`."""
    passes = slices if head.two_pass else chunked
    with half_precision_matmuls(head.hidden.dtype, head.hidden.device):
        return passes.objective_gradients(head, labels, task, engine, needed)


class _ObjectiveLoss(torch.autograd.Function):
    """Sum of f(p) / num_items. The gradients are formed in the forward pass, while a block's logits
    are in memory.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, request):
        head, labels, task, engine, recorded = request
        head = head.with_tensors(hidden, weight, bias, low, up)
        needed = tuple(recorded and x for x in ctx.needs_input_grad[:5])
        out, gradients = objective_gradients(head, labels, task, engine, needed)
        ctx.save_for_backward(*gradients)
        ctx.in_buffer, ctx.engine = head.weight_grad is not None, engine
        ctx.mark_non_differentiable(*out[1:])
        return out

    @staticmethod
    def backward(ctx, upstream, *_):  # type: ignore[override]
        return (*backward_of_scalar(ctx, upstream), None)


def backward_of_scalar(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients that the forward pass saved, times the upstream gradient of the loss.

    `ctx.engine` multiplies them; with `ctx.in_buffer` no factor is accepted.
    """
    refuse_second_derivatives()
    gradients = ctx.saved_tensors
    if _graph_is_retained():
        gradients = tuple(None if x is None else x.clone() for x in gradients)
    if ctx.in_buffer:
        _refuse_factor(upstream)
    elif upstream.device.type != "cpu" or upstream != 1:
        # In place: the gradient of a head is large.
        for gradient in gradients:
            if gradient is not None:
                ctx.engine.scale(gradient, upstream)
    return gradients


def refuse_second_derivatives() -> None:
    """Raise RuntimeError if the backward pass is recorded: what was formed in the forward pass
    would silently count as constant.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fused head has no second derivatives: take the gradient without create_graph=True,"
            " or use impl='reference'."
        )


def _graph_is_retained() -> bool:
    """True if the backward pass that is running may run again (retain_graph=True)."""
    autograd: Any = getattr(torch._C, "_autograd")  # noqa: B009
    keeps_graph = getattr(autograd, "_get_current_graph_task_keep_graph", None)
    return keeps_graph is None or keeps_graph()


def _refuse_factor(upstream: Tensor) -> None:
    """Raise RuntimeError for a factor on the loss: the weight's gradient is in the buffer already.

    On an accelerator this does not synchronise.
    """
    torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]
        upstream == 1,
        "weight_grad= holds the gradient of the loss itself: call backward() on it alone, and"
        " put every factor into num_items_in_batch=.",
    )


class _TargetStatistics(torch.autograd.Function):
    """(log p, entropy, is_top1) per row. The backward pass recomputes the logits, of rows with a
    gradient only.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, request):
        head, labels, entropy, engine = request
        head = head.with_tensors(hidden, weight, bias, low, up)
        with half_precision_matmuls(hidden.dtype, hidden.device):
            rows = chunked.statistics_of_all(
                Projection(head), labels, {"entropy"} if entropy else set(), engine
            )
        logp, is_top1 = rows.logp, rows.is_top1
        ctx.save_for_backward(hidden, weight, bias, low, up, labels, *rows)
        ctx.head, ctx.engine = head.options(), engine
        ctx.mark_non_differentiable(is_top1)
        ctx.set_materialize_grads(False)
        return logp, rows.entropy if entropy else torch.zeros_like(logp), is_top1

    @staticmethod
    def backward(ctx, of_logp, of_entropy, _):  # type: ignore[override]
        refuse_second_derivatives()
        head = ctx.head.with_tensors(*ctx.saved_tensors[:5])
        labels, rows = ctx.saved_tensors[5], RowStatistics(*ctx.saved_tensors[6:])
        if rows.logit_other is None:
            of_entropy = None
        active = torch.zeros(labels.shape[0], dtype=torch.bool, device=labels.device)
        for upstream in (of_logp, of_entropy):
            if upstream is not None:
                active |= upstream != 0
        where = active.nonzero().squeeze(1)
        rows = rows.select(where)
        size = torch.zeros_like(rows.target_logit)
        if of_logp is not None:
            # W = w (1 - p) with w = -of_logp
            size = -of_logp[where] * torch.sigmoid(-rows.logit_of_p)
        factors = {} if of_entropy is None else {"entropy": of_entropy[where]}
        of = coefficients(rows, size, factors, None, head.logit_scale)
        with half_precision_matmuls(head.hidden.dtype, head.hidden.device):
            of_tensors = slices.gradients(
                head, labels, where, rows, of, ctx.engine, ctx.needs_input_grad[:5]
            )
        return (*of_tensors, None)
