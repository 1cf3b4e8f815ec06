"""The whole head, and the loss of logits, as one operator each: single nodes for torch.compile.

They take the objective as its handle and return the loss, the columns per token and the gradients,
which their own backward passes multiply by that of the loss. Rows are chosen inside, by value: a
graph around them has no sizes that depend on the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..objectives import Objective, Signals, handle, of_handle
from .autograd import objective_gradients, refuse_second_derivatives
from .checks import IGNORE_INDEX
from .head import Head, Impl
from .logits import loss_and_gradient
from .preparation import prepare, spread
from .tokens import PER_TOKEN

__all__ = ["in_graph", "loss_in_graph"]

_NUM_RESULTS = 2 + len(PER_TOKEN)


def in_graph(
    head: Head,
    labels: Tensor,
    objective: Objective | str,
    num_items: float | Tensor | None,
    signals: Mapping[str, Any],
    reference: Head | None,
    statistics: bool,
) -> tuple[Tensor, ...]:
    """Return (loss, skipped, *PER_TOKEN) by the operator; columns are (N,), 0 at ignored rows."""
    if head.weight_grad is not None or head.parallel is not None:
        raise ValueError(
            "under torch.compile there is no weight_grad= and no parallel=; leave the loss out"
            " of the compiled part with torch.compiler.disable."
        )
    hidden, weight, bias, low, up = tensors = head.tensors
    assert hidden is not None and weight is not None
    names = sorted(signals)
    for name in names:
        if not isinstance(signals[name], Tensor):
            raise ValueError(
                f"under torch.compile signals are tensors, and {name!r} is a"
                f" {type(signals[name]).__name__}; leave the loss out of the compiled part."
            )
    others = [] if reference is None else [x for x in reference.tensors[:3] if x is not None]
    of_reference = reference or Head(hidden, weight)
    results = torch.ops.probtune.linear_objective(
        hidden, weight, bias, low, up, labels, _count(num_items, labels), _handle(objective),
        "\n".join(names), [signals[name] for name in names], others,
        of_reference.softcap, of_reference.logit_scale, head.softcap, head.logit_scale,
        head.z_loss, head.row_eps, head.two_pass, head.impl, statistics,
        [torch.is_grad_enabled() and x is not None and x.requires_grad for x in tensors],
    )  # fmt: skip
    return results[0], *(x.detach() for x in results[1:_NUM_RESULTS])


def loss_in_graph(
    logits: Tensor,  # (..., V)
    labels: Tensor,  # (N,), the leading shape flattened
    objective: Objective | str,
    num_items: float | Tensor | None,
) -> Tensor:
    """Return the loss of logits by the operator."""
    needed = torch.is_grad_enabled() and logits.requires_grad
    results = torch.ops.probtune.loss(
        logits, labels, _count(num_items, labels), _handle(objective), needed
    )
    return results[0]


def _count(num_items: float | Tensor | None, labels: Tensor) -> Tensor:
    if num_items is None:
        return (labels != IGNORE_INDEX).sum().clamp(min=1)
    return torch.as_tensor(num_items, device=labels.device)


def _handle(objective: Objective | str) -> str:
    return objective if isinstance(objective, str) else handle(objective)


_SCHEMA = (
    "(Tensor hidden, Tensor weight, Tensor? bias, Tensor? low, Tensor? up, Tensor labels,"
    " Tensor num_items, str objective, str signal_names, Tensor[] signals, Tensor[] reference,"
    " float? reference_softcap, float reference_scale, float? softcap, float logit_scale,"
    " float z_loss, float row_eps, bool two_pass, str impl, bool statistics, bool[] needed)"
    " -> Tensor[]"
)


@torch.library.custom_op("probtune::linear_objective", mutates_args=(), schema=_SCHEMA)
def _linear_objective(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    up: Tensor | None,
    labels: Tensor,
    num_items: Tensor,
    objective: str,
    signal_names: str,
    signals: list[Tensor],
    reference: list[Tensor],
    reference_softcap: float | None,
    reference_scale: float,
    softcap: float | None,
    logit_scale: float,
    z_loss: float,
    row_eps: float,
    two_pass: bool,
    impl: Impl,
    statistics: bool,
    needed: list[bool],
) -> list[Tensor]:
    adapter = None if low is None or up is None else (low, up)
    head = Head(
        hidden, weight, bias, softcap, logit_scale, adapter,
        z_loss=z_loss, row_eps=row_eps, two_pass=two_pass, impl=impl,
    )  # fmt: skip
    other = None
    if reference:
        other = Head(*reference, softcap=reference_softcap, logit_scale=reference_scale)
    named = Signals(zip(signal_names.splitlines(), signals, strict=True))
    chosen, chosen_labels, task, engine, where = prepare(
        head, labels, of_handle(objective), num_items, named, other, statistics=statistics
    )
    if engine is None:
        raise ValueError("impl='reference' is plain PyTorch, which needs no operator.")
    with torch.no_grad():
        out, gradients = objective_gradients(chosen, chosen_labels, task, engine, tuple(needed))
    columns = spread(out[2:], where, labels.shape) if statistics else out[2:]
    whole = []
    for x, gradient in zip(head.tensors, gradients, strict=True):
        if x is None or gradient is None:
            whole.append(hidden.new_zeros(0))
        elif where is not None and (x is hidden or x is low):
            zeros = torch.zeros_like(x, memory_format=torch.contiguous_format)
            whole.append(zeros.index_copy_(0, where, gradient))
        else:
            whole.append(gradient)
    return [out[0], out[1], *columns, *whole]


@_linear_objective.register_fake
def _(
    hidden, weight, bias, low, up, labels, num_items, objective, signal_names, signals, reference,
    reference_softcap, reference_scale, softcap, logit_scale, z_loss, row_eps, two_pass, impl,
    statistics, needed,
):  # fmt: skip
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    size = labels.shape[0] if statistics else 0
    dtypes = (dtype, dtype, torch.bool, dtype, dtype, torch.bool)
    columns = [hidden.new_empty(size, dtype=d) for d in dtypes]
    tensors = (hidden, weight, bias, low, up)
    gradients = [
        torch.empty_like(x, memory_format=torch.contiguous_format)
        if x is not None and needs
        else hidden.new_empty(0)
        for x, needs in zip(tensors, needed, strict=True)
    ]
    scalars = [hidden.new_empty((), dtype=dtype) for _ in range(2)]
    return [*scalars, *columns, *gradients]


def _setup_context(ctx, inputs, output) -> None:
    # Detached, or the outputs would hold the graph that holds them.
    ctx.save_for_backward(*(x.detach() for x in output[_NUM_RESULTS:]))
    ctx.needed = inputs[-1]
    ctx.others = tuple([None] * len(x) if isinstance(x, list) else None for x in inputs[5:-1])


def _backward(ctx, upstream):
    refuse_second_derivatives()
    gradients = [
        g * upstream[0].to(g.dtype) if needs else None
        for g, needs in zip(ctx.saved_tensors, ctx.needed, strict=True)
    ]
    return (*gradients, *ctx.others, None)


_linear_objective.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op(
    "probtune::loss",
    mutates_args=(),
    schema=(
        "(Tensor logits, Tensor labels, Tensor num_items, str objective, bool needed) -> Tensor[]"
    ),
)
def _loss(
    logits: Tensor, labels: Tensor, num_items: Tensor, objective: str, needed: bool
) -> list[Tensor]:
    f = of_handle(objective)
    total, gradient, _ = loss_and_gradient(logits, labels, f, num_items, needed)
    return [total, logits.new_zeros(0) if gradient is None else gradient]


@_loss.register_fake
def _(logits, labels, num_items, objective, needed):
    total = logits.new_empty((), dtype=torch.promote_types(logits.dtype, torch.float32))
    if not needed:
        return [total, logits.new_empty(0)]
    return [total, torch.empty_like(logits, memory_format=torch.contiguous_format)]


def _setup_loss(ctx, inputs, output) -> None:
    ctx.save_for_backward(output[1].detach())
    ctx.needed = inputs[-1]


def _backward_loss(ctx, upstream):
    refuse_second_derivatives()
    (gradient,) = ctx.saved_tensors
    of_logits = gradient * upstream[0].to(gradient.dtype) if ctx.needed else None
    return of_logits, None, None, None, None


_loss.register_autograd(_backward_loss, setup_context=_setup_loss)
