"""The whole head as one operator, so that torch.compile sees a single node.

`torch.ops.probtune.linear_objective` takes the objective as its text and returns the loss, the
columns per token and the gradients, which its own backward pass multiplies by that of the loss.
Rows are chosen inside, by value: a graph around it has no sizes that depend on the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from ..objectives import objective as read_objective
from .autograd import objective_gradients, refuse_second_derivatives
from .checks import (
    check_head,
    check_objective,
    check_passes,
    check_signals,
    per_token,
    supervised,
)
from .choice import rows_for
from .linear import LinearHead
from .tokens import PER_TOKEN, Task

__all__ = ["in_graph"]

_NUM_RESULTS = 2 + len(PER_TOKEN)


def in_graph(
    linear: LinearHead,
    labels: Tensor,
    objective: Objective,
    normalizer: float | Tensor | None,
    signals: Mapping[str, Any],
    reference: LinearHead | None,
    z_loss: float,
    row_eps: float,
    two_pass: bool,
    impl: str,
    statistics: bool,
) -> tuple[Tensor, ...]:
    """(loss, skipped, *PER_TOKEN) by the operator; the columns are (N,), 0 at ignored rows."""
    hidden, weight, bias, low, up = linear.tensors
    assert hidden is not None and weight is not None
    if normalizer is None:
        normalizer = (labels != -100).sum().clamp(min=1)
    names, tensors = sorted(signals), []
    for name in names:
        if not isinstance(signals[name], Tensor):
            raise ValueError(
                f"under torch.compile signals are tensors, and {name!r} is a"
                f" {type(signals[name]).__name__}; leave the loss out of the compiled part."
            )
        tensors.append(signals[name])
    others = [] if reference is None else [x for x in reference.tensors if x is not None]
    found = torch.ops.probtune.linear_objective(
        hidden, weight, bias, low, up, labels, torch.as_tensor(normalizer, device=hidden.device),
        repr(objective), "\n".join(names), tensors, others, linear.softcap, linear.logit_scale,
        z_loss, row_eps, two_pass, impl, statistics,
        [torch.is_grad_enabled() and x is not None and x.requires_grad for x in linear.tensors],
    )  # fmt: skip
    return found[0], *(x.detach() for x in found[1:_NUM_RESULTS])


_SCHEMA = (
    "(Tensor hidden, Tensor weight, Tensor? bias, Tensor? low, Tensor? up, Tensor labels,"
    " Tensor normalizer, str objective, str signal_names, Tensor[] signals, Tensor[] reference,"
    " float? softcap, float logit_scale, float z_loss, float row_eps, bool two_pass, str impl,"
    " bool statistics, bool[] needed) -> Tensor[]"
)


@torch.library.custom_op("probtune::linear_objective", mutates_args=(), schema=_SCHEMA)
def _linear_objective(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    up: Tensor | None,
    labels: Tensor,
    normalizer: Tensor,
    objective: str,
    signal_names: str,
    signals: list[Tensor],
    reference: list[Tensor],
    softcap: float | None,
    logit_scale: float,
    z_loss: float,
    row_eps: float,
    two_pass: bool,
    impl: str,
    statistics: bool,
    needed: list[bool],
) -> list[Tensor]:
    f = read_objective(objective)
    linear = LinearHead(hidden, weight, bias, low, up, softcap, logit_scale)
    named = Signals(zip(signal_names.splitlines(), signals, strict=True))
    other = LinearHead(*reference, softcap=softcap, logit_scale=logit_scale) if reference else None
    check_head(linear, labels)
    check_objective(linear, f, None, row_eps, None)
    check_signals(f, named, other, labels)
    where = supervised(linear, labels)
    if where is None:
        where = torch.arange(labels.shape[0], device=labels.device)
    chosen = Signals({n: x[where] if per_token(x) else x for n, x in named.items()})
    task = Task(
        f, normalizer, chosen, None if other is None else other.rows(where), statistics, z_loss,
        row_eps, two_pass=two_pass,
    )  # fmt: skip
    rows = rows_for(impl, linear, task.whole, f.terms)  # type: ignore[arg-type]
    check_passes(task, reference=rows is None)
    if rows is None:
        raise ValueError("impl='reference' is plain PyTorch, which needs no operator.")
    with torch.no_grad():
        out, gradients = objective_gradients(
            linear.rows(where), labels[where], task, rows, tuple(needed)
        )
    size = labels.shape if statistics else (0,)
    columns = [
        x.new_zeros(size).index_put_((where,), x) if statistics else x.new_zeros(0) for x in out[2:]
    ]
    whole = []
    for x, found in zip(linear.tensors, gradients, strict=True):
        if x is None or found is None:
            whole.append(hidden.new_zeros(0))
        elif x is hidden or x is low:
            whole.append(torch.zeros_like(x).index_copy_(0, where, found))
        else:
            whole.append(found)
    return [out[0], out[1], *columns, *whole]


@_linear_objective.register_fake
def _(
    hidden, weight, bias, low, up, labels, normalizer, objective, signal_names, signals, reference,
    softcap, logit_scale, z_loss, row_eps, two_pass, impl, statistics, needed,
):  # fmt: skip
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    size = labels.shape[0] if statistics else 0
    dtypes = (dtype, dtype, torch.bool, dtype, dtype, torch.bool)
    columns = [hidden.new_empty(size, dtype=d) for d in dtypes]
    tensors = (hidden, weight, bias, low, up)
    gradients = [
        torch.empty_like(x, memory_format=torch.contiguous_format)
        if x is not None and wanted
        else hidden.new_empty(0)
        for x, wanted in zip(tensors, needed, strict=True)
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
        g * upstream[0].to(g.dtype) if wanted else None
        for g, wanted in zip(ctx.saved_tensors, ctx.needed, strict=True)
    ]
    return (*gradients, *ctx.others, None)


_linear_objective.register_autograd(_backward, setup_context=_setup_context)
