"""The head as autograd sees it. Called by the package's functions, with supervised rows only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import chunked, slices
from .linear import Head, LinearHead
from .matmuls import half_precision_matmuls
from .rows import Rows, coefficients
from .tokens import Task
from .torch_rows import TorchRows

__all__ = [
    "objective_gradients",
    "objective_loss",
    "refuse_second_derivatives",
    "target_statistics",
]


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
    """((loss, skipped, *PER_TOKEN), gradients of `linear.tensors`)."""
    passes = slices if task.two_pass else chunked
    with half_precision_matmuls(linear.hidden.dtype, linear.hidden.device):
        return passes.objective_gradients(linear, labels, task, rows, needed)


class _ObjectiveLoss(torch.autograd.Function):
    """Sum of f(p) / normalizer. The gradients are formed in the forward pass, while a block's
    logits are at hand.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, asked):
        linear, labels, task, rows, recorded = asked
        linear = linear.with_tensors(hidden, weight, bias, low, up)
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
    autograd: Any = getattr(torch._C, "_autograd")  # noqa: B009
    asked = getattr(autograd, "_get_current_graph_task_keep_graph", None)
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


class _TargetStatistics(torch.autograd.Function):
    """(log p, entropy, is_top1) per row. The backward pass recomputes the logits, of rows with a
    gradient only.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, low, up, asked):
        linear, labels, entropy, rows = asked
        linear = linear.with_tensors(hidden, weight, bias, low, up)
        with half_precision_matmuls(hidden.dtype, hidden.device):
            found = chunked.statistics_of_all(
                Head(linear), labels, {"entropy"} if entropy else set(), rows
            )
        logp, is_top1 = found.logp, found.is_top1
        ctx.save_for_backward(hidden, weight, bias, low, up, labels, *found)
        ctx.linear, ctx.rows = linear.with_tensors(*(None,) * 5), rows
        ctx.mark_non_differentiable(is_top1)
        ctx.set_materialize_grads(False)
        return logp, found.entropy if entropy else torch.zeros_like(logp), is_top1

    @staticmethod
    def backward(ctx, of_logp, of_entropy, _):  # type: ignore[override]
        refuse_second_derivatives()
        linear = ctx.linear.with_tensors(*ctx.saved_tensors[:5])
        labels, found = ctx.saved_tensors[5], Rows(*ctx.saved_tensors[6:])
        if found.logit_other is None:
            of_entropy = None
        active = torch.zeros(labels.shape[0], dtype=torch.bool, device=labels.device)
        for upstream in (of_logp, of_entropy):
            if upstream is not None:
                active |= upstream != 0
        where = active.nonzero().squeeze(1)
        found = found.select(where)
        size = torch.zeros_like(found.target_logit)
        if of_logp is not None:
            # W = w (1 - p) with w = -of_logp
            size = -of_logp[where] * torch.sigmoid(-found.logit_of_p)
        factors = {} if of_entropy is None else {"entropy": of_entropy[where]}
        of = coefficients(found, size, factors, None, linear.logit_scale)
        with half_precision_matmuls(linear.hidden.dtype, linear.hidden.device):
            made = slices.gradients(
                linear, labels, where, found, of, ctx.rows, ctx.needs_input_grad[:5]
            )
        return (*made, None)
