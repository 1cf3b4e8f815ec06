"""The fused head's functions: log-probabilities and losses from hidden states and a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from ..objectives import Objective
from ..objectives import objective as read_objective
from . import autograd, reference
from .checks import check_head, check_signals_shapes, map_per_token
from .head import Head, HeadOptions
from .preparation import prepare, prepare_statistics, shifted, spread

__all__ = [
    "HeadResult",
    "TargetStatistics",
    "head_objective",
    "head_statistics",
    "linear_objective",
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
]


class TargetStatistics(NamedTuple):
    """Per-token statistics of the target under the softmax of the logits.

    Every field has the shape of the labels, and is 0 at ignored tokens.
    """

    logp: Tensor
    """log p of the target, differentiable. Natural logarithm."""
    entropy: Tensor
    """Shannon entropy of the distribution in nats, differentiable."""
    is_top1: Tensor
    """True if no token is more probable than the target."""


class HeadResult(NamedTuple):
    """Results of one pass over the logits.

    All but the scalars have the shape of the labels and are 0 at ignored tokens; all but the loss
    are not differentiable.
    """

    loss: Tensor
    """Sum of the objective over the supervised tokens, divided by `num_items_in_batch`."""
    statistics: TargetStatistics
    value: Tensor
    """The objective per token."""
    weight: Tensor
    """Its token weight, w(p)."""
    kept: Tensor
    """True if no threshold drops the token."""
    skipped: Tensor
    """Sum of 2 |W_f(p)| / num_items_in_batch over the tokens that `row_eps` left out, a scalar: the
    sum of absolute errors in the gradient of the logits. Times the largest |hidden| (of the tokens)
    it bounds the error of every entry of the weight's gradient, times the largest |weight| that of
    a hidden state's.
    """


def linear_target_logprobs(
    hidden: Tensor,  # (N, D) or (B, T, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,) or (B, T)
    *,
    shift: bool = False,
    **options: Unpack[HeadOptions],
) -> Tensor:
    """Return the log-probability of each target token, differentiable with any upstream gradient.

    Equals `-F.cross_entropy((hidden @ weight.T).float(), labels, reduction="none")` without storing
    the logits, but accurate also near p = 1, where the difference of logit and log-sum-exp cancels
    (at 1 - p = 1e-6 it has lost all digits in float32; this one keeps seven). The backward pass
    recomputes a block of logits at a time, and only for rows whose upstream gradient is not 0.

    Args:
        hidden: last hidden states, (..., D).
        weight: the head's matrix, (V, D).
        labels: target tokens, with the leading shape of `hidden`; -100 is ignored.
        shift: False: `labels[..., t]` is the target of `hidden[..., t, :]`. True: the labels are
            those of the input, as `transformers` has them, and `labels[..., t + 1]` is the target;
            the last dimension of the labels is then the sequence. False is the default for every
            shape, so that a loop that has shifted by slicing (`hidden[:, :-1]`, `labels[:, 1:]`)
            is not shifted twice.
        options: `bias`, `softcap`, `logit_scale`, `adapter`, `parallel` and `impl` of `Head`.

    Returns:
        The shape of the labels (with `shift`, one column less), in float32, or float64 for float64
        inputs. Ignored tokens hold 0, as in `F.cross_entropy`, and receive no gradient: take
        `logp[labels != -100]` before applying a function of p, since 0 would read as p = 1.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, a label is outside the vocabulary, or
            `impl` does not serve the inputs.

    Example:
        >>> hidden, weight = torch.eye(2), torch.zeros(4, 2)
        >>> linear_target_logprobs(hidden, weight, torch.tensor([3, -100])).exp()
        tensor([0.2500, 1.0000])
    """
    head = Head(hidden, weight, **options)
    return head_statistics(head, labels, shift=shift, entropy=False).logp


def linear_target_statistics(
    hidden: Tensor,  # (N, D) or (B, T, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,) or (B, T)
    *,
    shift: bool = False,
    **options: Unpack[HeadOptions],
) -> TargetStatistics:
    """Return log-probability of the target, entropy of the distribution and top-1 hit, from one
    pass over the logits.

    Arguments, dtypes and errors are those of `linear_target_logprobs`.
    """
    return head_statistics(Head(hidden, weight, **options), labels, shift=shift)


def linear_objective_loss(
    hidden: Tensor,  # (N, D) or (B, T, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,) or (B, T)
    objective: Objective | str,
    *,
    num_items_in_batch: float | Tensor | None = None,
    shift: bool = False,
    signals: Mapping[str, Any] | None = None,
    reference: Head | None = None,
    **options: Unpack[HeadOptions],
) -> Tensor:
    """Return the sum of the objective over the supervised tokens, divided by `num_items_in_batch`.

    For an objective of p alone it equals
    `objective.value(linear_target_logprobs(...)[labels != -100]).sum() / num_items_in_batch`. The
    gradients are formed in the forward pass, so the logits are computed once and never recomputed,
    and rows without a gradient (a threshold, p = 1) cost no backward work. `probtune.loss` is the
    same for logits that are stored anyway.

    Args:
        hidden, weight, labels, shift: as in `linear_target_logprobs`.
        objective: the function to minimise, or its text. What it needs of the distribution
            (entropy, collision probability, ...) comes from the same pass, and only what it needs.
        num_items_in_batch: the denominator; default: the number of supervised tokens of this call.
            Under gradient accumulation or data parallelism give the number of the whole optimizer
            step, as `transformers.Trainer` counts it.
        signals: other signals that it needs, by the names of `objectives.Signals`: tensors of the
            labels' shape, shifted with them, or one value for all tokens.
        reference: the reference model's head on its own hidden states, for `kl_anchor`,
            `reverse_kl_anchor` and `q_target`.
        options: those of `Head`.

    Returns:
        A scalar in float32, or float64 for float64 inputs. Without supervised tokens it is 0,
        connected to `hidden` and `weight`, so that a distributed backward pass does not wait for
        it.

    Raises:
        ValueError: as `linear_target_logprobs`; also for a denominator that is not positive.
        ObjectiveError: the text names no objective, or the objective needs a signal that is
            missing.

    Example:
        >>> hidden, weight = torch.eye(2), torch.zeros(4, 2)
        >>> linear_objective_loss(hidden, weight, torch.tensor([3, -100]), "p")
        tensor(0.7500)
    """
    return head_objective(
        Head(hidden, weight, **options),
        labels,
        objective,
        num_items_in_batch=num_items_in_batch,
        shift=shift,
        signals=signals,
        reference=reference,
        statistics=False,
    ).loss


def linear_objective(
    hidden: Tensor,  # (N, D) or (B, T, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,) or (B, T)
    objective: Objective | str,
    *,
    num_items_in_batch: float | Tensor | None = None,
    shift: bool = False,
    signals: Mapping[str, Any] | None = None,
    reference: Head | None = None,
    **options: Unpack[HeadOptions],
) -> HeadResult:
    """Return `linear_objective_loss` with the statistics of every token, from the same pass."""
    return head_objective(
        Head(hidden, weight, **options),
        labels,
        objective,
        num_items_in_batch=num_items_in_batch,
        shift=shift,
        signals=signals,
        reference=reference,
    )


def head_objective(
    head: Head,
    labels: Tensor,  # the leading shape of the hidden states
    objective: Objective | str,
    *,
    num_items_in_batch: float | Tensor | None = None,
    shift: bool = False,
    signals: Mapping[str, Any] | None = None,
    reference: Head | None = None,
    statistics: bool = True,
) -> HeadResult:
    """Return `linear_objective` of a head. Without `statistics` only the loss and `skipped` are
    filled.
    """
    shape, signals = labels.shape, signals or {}
    if shift:
        labels = shifted(labels)
        signals = map_per_token(signals, lambda x: x.roll(-1, -1))
    if head.hidden.dim() > 2:
        if not torch.compiler.is_compiling():
            check_head(head, labels)
            check_signals_shapes(signals, labels)
        head, labels = head.flat(), labels.flatten()
        signals = map_per_token(signals, Tensor.flatten)
        reference = None if reference is None else reference.flat()
    if torch.compiler.is_compiling():
        from .operator import in_graph

        loss, skipped, *columns = in_graph(
            head, labels, objective, num_items_in_batch, signals, reference, statistics
        )
    else:
        loss, skipped, *columns = _objective(
            head, labels, read_objective(objective), num_items_in_batch, signals, reference,
            statistics,
        )  # fmt: skip
    if statistics:
        columns = [_shaped(x, shape, shift) for x in columns]
    return HeadResult(loss, TargetStatistics(*columns[:3]), *columns[3:], skipped=skipped)


def head_statistics(
    head: Head,
    labels: Tensor,  # the leading shape of the hidden states
    *,
    shift: bool = False,
    entropy: bool = True,
) -> TargetStatistics:
    """Return `linear_target_statistics` of a head. Without `entropy` that field is 0."""
    shape = labels.shape
    if shift:
        labels = shifted(labels)
    if head.hidden.dim() > 2:
        check_head(head, labels)
        head, labels = head.flat(), labels.flatten()
    flat = labels.shape
    head, labels, engine, where = prepare_statistics(head, labels)
    with torch.autocast(labels.device.type, enabled=False):
        if engine is None:
            columns = reference.target_statistics(head, labels, entropy)
        else:
            columns = autograd.target_statistics(head, labels, entropy, engine)
    return TargetStatistics(*(_shaped(x, shape, shift) for x in spread(columns, where, flat)))


def _objective(
    head: Head,
    labels: Tensor,
    objective: Objective,
    num_items: float | Tensor | None,
    signals: Mapping[str, Any],
    of_reference: Head | None,
    statistics: bool,
) -> tuple[Tensor, ...]:
    """Return (loss, skipped, *PER_TOKEN), the columns of all tokens."""
    shape = labels.shape
    head, labels, task, engine, where = prepare(
        head, labels, objective, num_items, signals, of_reference, statistics=statistics
    )
    with torch.autocast(labels.device.type, enabled=False):
        if engine is None:
            loss, skipped, *columns = reference.objective_loss(head, labels, task)
        else:
            loss, skipped, *columns = autograd.objective_loss(head, labels, task, engine)
    return loss, skipped, *(spread(columns, where, shape) if statistics else columns)


def _shaped(column: Tensor, shape: torch.Size, shift: bool) -> Tensor:
    """Return a column per flattened token in the shape of the labels."""
    column = column.view(shape)
    return column[..., :-1] if shift else column
