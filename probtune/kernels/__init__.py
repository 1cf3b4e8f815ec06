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
    "triton"     the same with one Triton kernel for the statistics of a block and one for its
                 gradients, between the vendor's matmuls
    "epilogue"   the same with the statistics in the first matmul's own kernel; meant for small
                 hidden sizes, and not measured yet
    "auto"       "triton" on a GPU where Triton is installed and the objective needs no more than p,
                 entropy and collision probability; "chunked" elsewhere
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..objectives import Objective, Signals
from . import autograd, reference
from .checks import (
    IGNORE_INDEX,
    check_head,
    check_objective,
    check_passes,
    check_signals,
    per_token,
    supervised,
)
from .choice import Impl, rows_for
from .linear import LinearHead
from .parallel import VocabParallel
from .tokens import KERNEL_SIGNALS, Task

__all__ = [
    "IGNORE_INDEX",
    "KERNEL_SIGNALS",
    "HeadResult",
    "Impl",
    "TargetStatistics",
    "VocabParallel",
    "linear_objective",
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
]


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
    adapter: tuple[Tensor, Tensor] | None = None,  # (N, R), (V, R)
    parallel: VocabParallel | None = None,
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
        logit_scale: factor on the logits, before the softcap; 1 / temperature for a temperature.
        adapter: (inputs, weight) of a second matmul, inputs @ weight.T, added to the first: a LoRA
            adapter on the head, with inputs = scaling * hidden @ A.T and weight = B.
        parallel: this rank holds a slice of the vocabulary only; `labels` are of the whole one.
        impl: see the module.

    Returns:
        (N,) in float32, or float64 for float64 inputs. Ignored rows hold 0, as in
        `F.cross_entropy`, and receive no gradient: take `logp[labels != -100]` before applying a
        function of p, since 0 would read as p = 1.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, a label is outside the vocabulary, or
            `impl` does not serve the inputs.

    Example:
        >>> hidden, weight = torch.eye(2), torch.zeros(4, 2)
        >>> linear_target_logprobs(hidden, weight, torch.tensor([3, -100])).exp()
        tensor([0.2500, 1.0000])
    """
    linear = _linear(hidden, weight, bias, adapter, softcap, logit_scale, parallel)
    return _statistics(linear, labels, impl, entropy=False).logp


def linear_target_statistics(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    *,
    bias: Tensor | None = None,  # (V,)
    softcap: float | None = None,
    logit_scale: float = 1.0,
    adapter: tuple[Tensor, Tensor] | None = None,  # (N, R), (V, R)
    parallel: VocabParallel | None = None,
    impl: Impl = "auto",
) -> TargetStatistics:
    """Log-probability of the target, entropy of the distribution and top-1 hit, from one pass over
    the logits.

    Arguments, dtypes and errors as in `linear_target_logprobs`. `logp` and `entropy` are
    differentiable.
    """
    linear = _linear(hidden, weight, bias, adapter, softcap, logit_scale, parallel)
    return _statistics(linear, labels, impl, entropy=True)


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
    skipped: Tensor
    """Sum of 2 |W_f(p)| / normalizer over the tokens that `row_eps` left out, a scalar: the sum of
    absolute errors in the gradient of the logits. Times the largest |hidden| (of the tokens) it
    bounds the error of every entry of the weight's gradient, times the largest |weight| that of a
    hidden state's.
    """


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
    adapter: tuple[Tensor, Tensor] | None = None,  # (N, R), (V, R)
    parallel: VocabParallel | None = None,
    signals: Mapping[str, Any] | None = None,
    reference: tuple[Tensor, Tensor, Tensor | None] | None = None,
    z_loss: float = 0.0,
    weight_grad: Tensor | None = None,  # (V, D)
    two_pass: bool = False,
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
        bias, softcap, logit_scale, adapter, parallel, impl: as in `linear_target_logprobs`.
        signals: what it needs besides, by the names of `objectives.Signals`: tensors of shape (N,),
            or what holds for all tokens.
        reference: (hidden, weight, bias) of the reference model's head, (N, D'), (V, D') and (V,)
            or None, for `kl_anchor` and `reverse_kl_anchor`; same softcap and scale.
        z_loss: adds z_loss * log-sum-exp^2 per token, which holds the logits near 0.
        weight_grad: float32 buffer (float64 for float64 inputs) to which the weight's gradient is
            added in this call, such as a `main_grad`; autograd then gives the weight none. It is
            the gradient of this loss itself: `backward` refuses any factor on it.
        two_pass: form the gradients in a second pass, a slice of the vocabulary at a time: at the
            cost of computing the logits of rows with a gradient once more it needs a quarter of a
            gibibyte besides inputs and gradients, where one pass sums half-precision weights'
            gradients in a float32 copy. For objectives of p, entropy and collision probability.

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
    linear = _linear(hidden, weight, bias, adapter, softcap, logit_scale, parallel)
    return _objective(
        linear, labels, objective, normalizer, signals, reference, z_loss, 0.0, weight_grad,
        two_pass, impl, statistics=False,
    ).loss  # fmt: skip


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
    adapter: tuple[Tensor, Tensor] | None = None,  # (N, R), (V, R)
    parallel: VocabParallel | None = None,
    signals: Mapping[str, Any] | None = None,
    reference: tuple[Tensor, Tensor, Tensor | None] | None = None,
    z_loss: float = 0.0,
    row_eps: float = 0.0,
    weight_grad: Tensor | None = None,  # (V, D)
    two_pass: bool = False,
    impl: Impl = "auto",
) -> HeadResult:
    """`linear_objective_loss` with the statistics of every token, from the same pass.

    Arguments and errors as there, and

    Args:
        row_eps: leave out the gradient of tokens whose logit gradient |W_f(p)| is below this share
            of the largest met so far; 0: of none but those where it is 0. `HeadResult.skipped` says
            how much was left out.
    """
    linear = _linear(hidden, weight, bias, adapter, softcap, logit_scale, parallel)
    return _objective(
        linear, labels, objective, normalizer, signals, reference, z_loss, row_eps, weight_grad,
        two_pass, impl, statistics=True,
    )  # fmt: skip


def _linear(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adapter: tuple[Tensor, Tensor] | None,
    softcap: float | None,
    logit_scale: float,
    parallel: VocabParallel | None,
) -> LinearHead:
    low, up = (None, None) if adapter is None else adapter
    return LinearHead(hidden, weight, bias, low, up, softcap, logit_scale, parallel)


def _objective(
    linear: LinearHead,
    labels: Tensor,
    objective: Objective,
    normalizer: float | Tensor | None,
    signals: Mapping[str, Any] | None,
    reference_head: tuple[Tensor, Tensor, Tensor | None] | None,
    z_loss: float,
    row_eps: float,
    weight_grad: Tensor | None,
    two_pass: bool,
    impl: Impl,
    *,
    statistics: bool,
) -> HeadResult:
    other = None
    if reference_head is not None:
        of_weight, of_bias = reference_head[1:]
        other = LinearHead(
            reference_head[0],
            of_weight,
            of_bias,
            softcap=linear.softcap,
            logit_scale=linear.logit_scale,
        )
    if torch.compiler.is_compiling():
        if weight_grad is not None or linear.parallel is not None:
            raise ValueError(
                "under torch.compile there is no weight_grad= and no parallel=; leave the loss out"
                " of the compiled part with torch.compiler.disable."
            )
        from .operator import in_graph

        loss, skipped, *columns = in_graph(
            linear, labels, objective, normalizer, signals or {}, other, z_loss, row_eps, two_pass,
            impl, statistics,
        )  # fmt: skip
        return HeadResult(loss, TargetStatistics(*columns[:3]), *columns[3:], skipped=skipped)
    check_head(linear, labels)
    check_objective(linear, objective, normalizer, row_eps, weight_grad)
    signals = Signals(signals or {})
    check_signals(objective, signals, other, labels)
    shape = labels.shape
    where = supervised(linear, labels)
    if where is not None:
        linear, labels = linear.rows(where), labels[where]
        signals = Signals({n: x[where] if per_token(x) else x for n, x in signals.items()})
        other = None if other is None else other.rows(where)
    if normalizer is None:
        normalizer = float(max(labels.numel(), 1))
    task = Task(
        objective, normalizer, signals, other, statistics, z_loss, row_eps, weight_grad, two_pass
    )
    rows = rows_for(impl, linear, task.whole, objective.terms)
    check_passes(task, reference=rows is None)
    with torch.autocast(labels.device.type, enabled=False):
        if rows is None:
            loss, skipped, *columns = reference.objective_loss(linear, labels, task)
        else:
            loss, skipped, *columns = autograd.objective_loss(linear, labels, task, rows)
    if where is not None and statistics:
        columns = [x.new_zeros(shape).index_put((where,), x) for x in columns]
    return HeadResult(loss, TargetStatistics(*columns[:3]), *columns[3:], skipped=skipped)


def _statistics(
    linear: LinearHead, labels: Tensor, impl: Impl, *, entropy: bool
) -> TargetStatistics:
    check_head(linear, labels)
    where = supervised(linear, labels)
    shape = labels.shape
    if where is not None:
        linear, labels = linear.rows(where), labels[where]
    rows = rows_for(impl, linear, whole=False)
    with torch.autocast(labels.device.type, enabled=False):
        if rows is None:
            found = reference.target_statistics(linear, labels, entropy)
        else:
            found = autograd.target_statistics(linear, labels, entropy, rows)
    if where is None:
        return TargetStatistics(*found)
    return TargetStatistics(*(x.new_zeros(shape).index_put((where,), x) for x in found))
