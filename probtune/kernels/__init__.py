"""The language-model head fused with a probability objective.

`linear_target_logprobs` is `log_softmax(hidden @ weight.T)[range(N), labels]` without the logits,
and `linear_objective_loss` is the objective's mean over it. The kernels never see an objective's
formula: they meet it in one number per token, the logit gradient W_f(p), because the gradient of
every objective with respect to the logits is

    dz_y = -W_f(p)        dz_v = W_f(p) * exp(z_v) / sum of exp(z_u) over u != y        (v != y).

Implementations (`impl=`):
    "reference"  plain PyTorch with full logits, float32 or wider: the definition, for tests and
    small vocabularies
    "chunked"    a block of tokens at a time, gradients formed in the forward pass; any device
    "auto"       the fastest that serves the inputs: "chunked"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..objectives import HEAD_SIGNALS, Objective, Signals, unbound
from . import chunked, reference

__all__ = [
    "IGNORE_INDEX",
    "HeadResult",
    "Impl",
    "TargetStatistics",
    "linear_objective",
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
]

IGNORE_INDEX = -100
"""The label of a token that is excluded from every sum."""

Impl = Literal["reference", "chunked", "auto"]

_IMPLEMENTATIONS = {"reference": reference, "chunked": chunked, "auto": chunked}


class TargetStatistics(NamedTuple):
    """Per-token statistics of the target under the softmax of the logits; every field is (N,), 0 at
    ignored rows.
    """

    logp: Tensor
    """log p of the target, differentiable. Natural logarithm."""
    entropy: Tensor
    """Shannon entropy of the distribution in nats, differentiable."""
    is_top1: Tensor
    """Whether no token is more probable than the target."""


def linear_target_logprobs(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    *,
    bias: Tensor | None = None,  # (V,)
    softcap: float | None = None,
    logit_scale: float = 1.0,
    impl: Impl = "auto",
) -> Tensor:
    """The log-probability of each target token, differentiable with any upstream gradient.

    Equals `-F.cross_entropy((hidden @ weight.T).float(), labels, reduction="none")` without storing
    the logits, but accurate also near p = 1, where the difference of logit and log-sum-exp cancels
    (at 1 - p = 1e-6 it has lost all digits in float32; this one keeps seven). The backward pass
    recomputes a block of logits at a time, and only for rows whose upstream gradient is not 0.

    Args:
        hidden: last hidden states, (N, D).
        weight: the head's matrix, (V, D).
        labels: target tokens, (N,), already shifted; -100 is ignored.
        bias: the head's bias, (V,).
        softcap: logits become `softcap * tanh(logits / softcap)`, as in Gemma 2.
        logit_scale: factor on the logits, before the softcap.
        impl: see the module.

    Returns:
        (N,) in float32, or float64 for float64 inputs. Ignored rows hold 0, as in
        `F.cross_entropy`, and receive no gradient: take `logp[labels != -100]` before applying a
        function of p, since 0 would read as p = 1.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or a label is outside the vocabulary.

    Example:
        >>> hidden, weight = torch.eye(2), torch.zeros(4, 2)
        >>> linear_target_logprobs(hidden, weight, torch.tensor([3, -100])).exp()
        tensor([0.2500, 1.0000])
    """
    return _statistics(hidden, weight, labels, bias, softcap, logit_scale, impl, entropy=False).logp


def linear_target_statistics(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    *,
    bias: Tensor | None = None,  # (V,)
    softcap: float | None = None,
    logit_scale: float = 1.0,
    impl: Impl = "auto",
) -> TargetStatistics:
    """Log-probability of the target, entropy of the distribution and top-1 hit, from one pass over
    the logits.

    Arguments, dtypes and errors as in `linear_target_logprobs`. `logp` and `entropy` are
    differentiable.
    """
    return _statistics(hidden, weight, labels, bias, softcap, logit_scale, impl, entropy=True)


class HeadResult(NamedTuple):
    """What one pass over the logits gives; all but the loss is (N,), 0 at ignored rows, and not
    differentiable.
    """

    loss: Tensor
    """Sum of the objective over the supervised tokens, divided by the normalizer."""
    statistics: TargetStatistics
    value: Tensor
    """The objective per token."""
    weight: Tensor
    """Its token weight, w(p)."""
    kept: Tensor
    """Whether no threshold drops the token."""


def linear_objective_loss(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    objective: Objective,
    *,
    normalizer: float | Tensor | None = None,
    bias: Tensor | None = None,  # (V,)
    softcap: float | None = None,
    logit_scale: float = 1.0,
    signals: Mapping[str, Any] | None = None,
    reference: tuple[Tensor, Tensor, Tensor | None] | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Sum of the objective over the supervised tokens, divided by `normalizer`.

    For an objective of p alone it equals
    `objective.value(linear_target_logprobs(...)[labels != -100]).sum() / normalizer`. With
    `impl="chunked"` the gradients are formed in the forward pass, so the logits are computed once
    and never recomputed, and rows without a gradient (a threshold, p = 1) cost no backward work.

    Args:
        objective: the function to minimise. What it needs of the distribution (entropy, collision
            probability, ...) comes from the same pass, and only what it needs.
        normalizer: the denominator; default: the number of supervised tokens here. Under gradient
            accumulation or data parallelism give the number of the whole optimizer step
            (`num_items_in_batch` in transformers).
        bias, softcap, logit_scale, impl: as in `linear_target_logprobs`.
        signals: what it needs besides, by the names of `objectives.Signals`: tensors of shape (N,),
            or what holds for all tokens.
        reference: (hidden, weight, bias) of the reference model's head, (N, D'), (V, D') and (V,)
            or None, for `kl_anchor` and `reverse_kl_anchor`; same softcap and scale.

    Returns:
        A scalar in float32, or float64 for float64 inputs. Without supervised tokens it is 0,
        connected to `hidden` and `weight`, so that a distributed backward pass does not wait for
        it.

    Raises:
        ValueError: as `linear_target_logprobs`; also when `normalizer` is a number that is not
            positive.
        ObjectiveError: the objective needs a signal that is not given.

    Example:
        >>> from probtune.objectives import p
        >>> hidden, weight = torch.eye(2), torch.zeros(4, 2)
        >>> linear_objective_loss(hidden, weight, torch.tensor([3, -100]), p())
        tensor(0.7500)
    """
    head = (weight, bias, softcap, logit_scale)
    return _objective(
        hidden, head, labels, objective, normalizer, signals, reference, impl, False
    ).loss


def linear_objective(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    objective: Objective,
    *,
    normalizer: float | Tensor | None = None,
    bias: Tensor | None = None,  # (V,)
    softcap: float | None = None,
    logit_scale: float = 1.0,
    signals: Mapping[str, Any] | None = None,
    reference: tuple[Tensor, Tensor, Tensor | None] | None = None,
    impl: Impl = "auto",
) -> HeadResult:
    """`linear_objective_loss` with the statistics of every token, from the same pass. Arguments
    and errors as there.
    """
    head = (weight, bias, softcap, logit_scale)
    return _objective(hidden, head, labels, objective, normalizer, signals, reference, impl, True)


def _objective(
    hidden: Tensor,
    head: tuple[Tensor, Tensor | None, float | None, float],
    labels: Tensor,
    objective: Objective,
    normalizer: float | Tensor | None,
    signals: Mapping[str, Any] | None,
    reference: tuple[Tensor, Tensor, Tensor | None] | None,
    impl: Impl,
    statistics: bool,
) -> HeadResult:
    module = _choose(impl)
    if not isinstance(objective, Objective):
        raise ValueError(
            f"objective must be an Objective, got {objective!r}; read a text with"
            " probtune.objective(...)."
        )
    weight, bias, softcap, _ = head
    _check(hidden, weight, labels, bias, softcap)
    signals = Signals(signals or {})
    _check_signals(objective, signals, reference, labels)
    shape = labels.shape
    hidden, labels, where = _supervised(hidden, labels)
    if where is not None:
        chosen = {n: x[where] if _per_token(x) else x for n, x in signals.items()}
        signals = Signals(chosen)
        if reference is not None:
            reference = (reference[0][where], *reference[1:])
    if normalizer is None:
        normalizer = float(max(labels.numel(), 1))
    elif not isinstance(normalizer, Tensor) and not normalizer > 0:
        raise ValueError(
            f"normalizer must be positive, got {normalizer}; leave it out for the supervised"
            " tokens."
        )
    with torch.autocast(hidden.device.type, enabled=False):
        loss, *columns = module.objective_loss(
            hidden, head, labels, objective, normalizer, signals, reference, statistics
        )
    if where is not None and statistics:
        columns = [x.new_zeros(shape).index_put((where,), x) for x in columns]
    return HeadResult(loss, TargetStatistics(*columns[:3]), *columns[3:])


def _per_token(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0


def _check_signals(objective: Objective, signals: Signals, reference: Any, labels: Tensor) -> None:
    for name in sorted(objective.needs - signals.keys()):
        if name.split(":")[0] not in HEAD_SIGNALS:
            raise unbound(objective, name)
        if name in ("kl", "reverse_kl") and reference is None:
            raise unbound(objective, name)
    for name, x in signals.items():
        if _per_token(x) and x.shape != labels.shape:
            raise ValueError(
                f"the signal {name!r} must be (N,) as the labels, {tuple(labels.shape)}, got"
                f" {tuple(x.shape)}."
            )


def _statistics(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    logit_scale: float,
    impl: Impl,
    entropy: bool,
) -> TargetStatistics:
    module = _choose(impl)
    _check(hidden, weight, labels, bias, softcap)
    rows, targets, where = _supervised(hidden, labels)
    with torch.autocast(hidden.device.type, enabled=False):
        of_rows = module.target_statistics(
            rows, weight, targets, bias, softcap, logit_scale, entropy
        )
    if where is None:
        return TargetStatistics(*of_rows)
    return TargetStatistics(*(x.new_zeros(labels.shape).index_put((where,), x) for x in of_rows))


def _choose(impl: str):
    if impl not in _IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(_IMPLEMENTATIONS)}, got {impl!r}.")
    return _IMPLEMENTATIONS[impl]


def _supervised(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows that count, their targets, and their positions (None when all of them count)."""
    valid = labels != IGNORE_INDEX
    if bool(valid.all()):
        return hidden, labels, None
    where = valid.nonzero().squeeze(1)
    return hidden.index_select(0, where), labels.index_select(0, where), where


def _check(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, softcap: float | None
) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden must be (N, D) and weight (V, D), got {tuple(hidden.shape)} and"
            f" {tuple(weight.shape)}."
        )
    if labels.shape != hidden.shape[:1]:
        raise ValueError(
            f"labels must be (N,) with N = {hidden.shape[0]}, got {tuple(labels.shape)}."
        )
    if labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels must be int64 or int32, got {labels.dtype}.")
    if not hidden.is_floating_point() or weight.dtype != hidden.dtype:
        raise ValueError(
            f"hidden and weight must share one floating dtype, got {hidden.dtype} and"
            f" {weight.dtype}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be (V,) with V = {weight.shape[0]}, got {tuple(bias.shape)}.")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap must be positive, got {softcap}; leave it out for none.")
    outside = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= weight.shape[0]))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"label {int(labels[row])} in row {row} is outside the vocabulary of {weight.shape[0]}"
            f" tokens; use {IGNORE_INDEX} to ignore a token, or the tokenizer that belongs to the"
            " model."
        )
