"""The loss of logits that are stored anyway, for loops and trainers that have no fused head."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..objectives import Objective, Signals
from ..objectives import objective as read_objective
from .autograd import backward_of_scalar
from .checks import (
    IGNORE_INDEX,
    check_labels,
    check_num_items,
    check_signals,
    check_signals_shapes,
    map_per_token,
    refuse_dtensor,
    supervised,
)
from .choice import automatic_engine
from .chunked import run_blocks
from .engine import Engine
from .parallel import VocabParallel
from .preparation import denominator, shifted
from .tokens import Task, Tokens

__all__ = ["compute_loss_func", "loss", "loss_and_gradient", "loss_of_outputs"]


def loss(
    logits: Tensor,  # (..., T, V)
    labels: Tensor,  # (..., T)
    objective: Objective | str,
    *,
    num_items_in_batch: float | Tensor | None = None,
    shift: bool = True,
    ignore_index: int = IGNORE_INDEX,
    signals: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the sum of the objective over the supervised tokens, divided by `num_items_in_batch`.

    With p the softmax probability of the target, f the objective and w(p) = -p f'(p):

        loss = sum of f(p) / n        d loss / d logits = w(p) (softmax(logits) - onehot) / n

    For `nll()` it equals `F.cross_entropy(logits.float(), labels)`. It is exact from p -> 0 to
    p -> 1 also for bfloat16 logits: log p comes from float32 (float64 for float64) sums that leave
    the target out, and the gradient from w(p), not from autograd through f. A float32 copy exists
    of one block of rows at a time; the gradient, in the dtype of the logits, is formed in the
    forward pass. Where the hidden states are at hand, `linear_objective_loss` does not need the
    logits at all.

    Args:
        logits: any leading shape, any strides.
        labels: the leading shape of the logits.
        objective: the function to minimise, or its text. Statistics of the distribution that it
            needs (entropy, collision probability, ...) are computed from the logits.
        num_items_in_batch: the denominator n; default: the supervised tokens of this call. Under
            gradient accumulation or data parallelism give the count of the whole optimizer step.
        shift: True: the labels are those of the input, as `transformers` has them, and
            `labels[..., t + 1]` is the target of `logits[..., t, :]`. False: `labels[..., t]` is.
        ignore_index: label of tokens that do not count.
        signals: what else the objective needs, by the names of `objectives.Signals`: tensors of the
            shape of the labels, shifted with them, or numbers.

    Returns:
        A scalar in float32, or float64 for float64 logits. Without supervised tokens it is 0, with
        gradients of 0.

    Raises:
        ValueError: shapes or dtypes do not fit, a label is outside the vocabulary, or the
            denominator is not positive.
        ObjectiveError: the text names no objective, or the objective needs a signal that is not
            given and does not follow from the logits.

    Example:
        >>> logits = torch.zeros(1, 3, 4)
        >>> loss(logits, torch.tensor([[0, 3, -100]]), "p")
        tensor(0.7500)

    References:
        Li, Qiu, Chen, Ji, Tong, "Beyond Log Likelihood: Probability-Based Objectives for Supervised
        Fine-Tuning across the Model Capability Continuum", 2025, https://arxiv.org/abs/2510.00526
        (Lemma 3.1: the gradient).
    """
    refuse_dtensor(logits)
    if logits.dim() < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be (..., T, V) of a floating dtype, got {tuple(logits.shape)} of"
            f" {logits.dtype}."
        )
    check_labels(labels, logits.shape[:-1], "logits")
    check_num_items(num_items_in_batch)
    if ignore_index != IGNORE_INDEX:
        labels = torch.where(labels == ignore_index, IGNORE_INDEX, labels)
    if shift:
        labels = shifted(labels)
    if torch.compiler.is_compiling():
        from .operator import loss_in_graph

        if signals:
            raise ValueError(
                "under torch.compile the loss of logits takes no signals; leave it out of the"
                " compiled part with torch.compiler.disable, or use linear_objective_loss."
            )
        return loss_in_graph(logits, labels.flatten(), objective, num_items_in_batch)
    signals = signals or {}
    check_signals_shapes(signals, labels)
    if shift:
        signals = map_per_token(signals, lambda x: x.roll(-1, -1))
    bound = Signals(map_per_token(signals, Tensor.flatten))
    f, needed = read_objective(objective), torch.is_grad_enabled()
    request = (labels.flatten(), f, num_items_in_batch, needed, bound)
    return _Loss.apply(logits, request)  # type: ignore[return-value]


def loss_and_gradient(
    logits: Tensor,  # (..., V)
    labels: Tensor,  # (N,), the leading shape flattened
    objective: Objective,
    num_items: float | Tensor | None,
    needed: bool,
    signals: Signals | None = None,
) -> tuple[Tensor, Tensor | None, type[Engine]]:
    """Return the loss, its gradient if that is `needed`, and the engine that computed them."""
    signals = signals or Signals()
    check_signals(objective, signals, None, labels)
    where = supervised(labels, logits.shape[-1])
    if where is None:
        where = torch.arange(labels.numel(), device=labels.device)
    labels = labels[where]
    signals = Signals(map_per_token(signals, lambda x: x[where]))
    task = Task(objective, denominator(num_items, labels), signals)
    engine = automatic_engine(logits, whole=task.whole)
    with torch.no_grad(), torch.autocast(labels.device.type, enabled=False):
        rows = _Rows(logits, where, needed)
        tokens = Tokens(task, rows)
        run_blocks(rows, labels, task, engine, tokens, rows)
        return tokens.result()[0], rows.gradient, engine


def compute_loss_func(objective: Objective | str) -> Callable[..., Tensor]:
    """Return a loss for `transformers.Trainer(compute_loss_func=...)`.

    It is called with the model's outputs, which must hold logits, the labels, not shifted, and the
    supervised tokens of the whole optimizer step, and returns `loss` of them. One optimizer step is
    then the same however it is split into micro-batches and ranks.

    Ranks: `num_items_in_batch` counts the tokens of all ranks, and data parallelism averages their
    gradients. The trainer multiplies the loss by the number of ranks to make up for it, if
    `average_tokens_across_devices` is on, as it is by default. With it off every rank divides by
    its own tokens, so a token on a rank with few of them weighs more.

    The trainer counts the first token of each row too where it does not know the model's class as a
    causal one (`GPT2LMHeadModel`), as it does for the model's own loss; `use_objective` corrects
    it. It does not tell us of a `label_smoothing_factor`, which has no effect beside any function.

    Not for a model whose forward leaves the logits out (Liger's fused loss, cut cross-entropy), nor
    for sequence parallelism, where the trainer takes the model's own loss, nor for
    `trl.SFTTrainer`, for which `probtune.ProbTuneTrainer` is made. Context parallelism, and an
    objective of the share of the steps or of special tokens, need `use_objective`
    (docs/engines.md); one of numbers from the data, a reference or the step's statistics needs
    `ProbTuneTrainer`.

    Raises:
        ObjectiveError: the text names no objective, or the objective needs a signal that does not
            follow from the logits.
        UsageError (from the function): the rows are split over ranks, the model predicts its labels
            where they stand, or it returns a balancing loss of experts, which would be lost.

    Example:
        >>> function = compute_loss_func("power(0.5)")
        >>> function({"logits": torch.zeros(1, 2, 4)}, torch.tensor([[1, 2]]))
        tensor(1.)
    """
    f = read_objective(objective)
    check_signals(f, Signals(), None, torch.empty(0))

    def of_outputs(
        outputs: Any, labels: Tensor | None, num_items_in_batch: float | Tensor | None = None
    ) -> Tensor:
        _refuse_split_rows()
        return loss_of_outputs(outputs, labels, f, num_items_in_batch)

    return of_outputs


def _refuse_split_rows() -> None:
    """Refuse context parallelism: the trainer hands over labels that were cut into pieces before
    they are shifted, so that the last token of each piece would be missing.
    """
    state = sys.modules.get("accelerate.state")
    shared = {} if state is None else state.AcceleratorState._shared_state
    parallelism = shared.get("parallelism_config")
    if parallelism is not None and parallelism.cp_enabled:
        raise UsageError(
            "context parallelism splits rows before their labels are shifted, which a"
            " compute_loss_func cannot make up for; use ProbTuneTrainer, or use_objective(trainer,"
            " ...) as in docs/engines.md."
        )


def loss_of_outputs(
    outputs: Any,
    labels: Tensor | None,
    objective: Objective,
    num_items: float | Tensor | None,
    signals: Mapping[str, Any] | None = None,
    *,
    shift: bool = True,
) -> Tensor:
    """Return `loss` of a model's outputs.

    Args:
        shift, signals: as in `loss`.

    Raises:
        ValueError: there are no labels, or the outputs have no logits.
        UsageError: the labels are not those of the input, or the model adds a loss of its own.
    """
    if labels is None:
        raise ValueError("the batch has no labels; the collator must provide 'labels'.")
    if shift:
        _refuse_aligned(outputs, labels)
    balancing = outputs.get("aux_loss") if isinstance(outputs, dict) else None
    if isinstance(balancing, Tensor) and balancing.requires_grad:
        raise UsageError(
            f"the balancing loss of the model's experts would not be trained beside {objective};"
            " set model.config.output_router_logits = False to go without it, or use"
            " ProbTuneTrainer, which adds it (router_aux_loss_coef)."
        )
    logits = outputs.get("logits") if isinstance(outputs, dict) else outputs[0]
    if logits is None:
        raise ValueError(
            "the model returned no logits, from which the objective is computed; switch off"
            " the fused loss that replaces them (use_liger_kernel=False)."
        )
    if num_items is not None:
        # A tensor also where it is a number: 0 of a step without labels is no error.
        num_items = torch.as_tensor(num_items, device=logits.device)
    labels = labels.to(logits.device)
    signals = map_per_token(signals or {}, lambda x: x.to(logits.device))
    options: dict[str, Any] = {"num_items_in_batch": num_items, "shift": shift}
    return loss(logits, labels, objective, signals=signals, **options)


def _refuse_aligned(outputs: Any, labels: Tensor) -> None:
    """Refuse a model whose labels are targets where they stand, or classes of whole rows."""
    kind = type(outputs).__name__
    encoded = isinstance(outputs, dict) and "encoder_last_hidden_state" in outputs
    if encoded or kind in _ALIGNED or labels.dim() < 2:
        raise UsageError(
            "an objective is trained on the next token, by labels (B, T) that are those of the"
            f" input; got {kind} with labels {tuple(labels.shape)}. For a model that predicts its"
            " labels where they stand (encoder-decoder, masked or classifying) call probtune.loss("
            "..., shift=False) in a loop or trainer of your own."
        )


_ALIGNED = frozenset({"MaskedLMOutput", "TokenClassifierOutput"})


class _Rows:
    """Some rows of logits, as an `engine.LogitSource`, and the receiver of their gradients."""

    bias: Tensor | None = None
    softcap: float | None = None
    logit_scale = 1.0
    start, partial = 0, False
    parallel: VocabParallel | None = None

    def __init__(self, logits: Tensor, where: Tensor, needed: bool):
        self._logits = logits
        # Of logits in any layout, so that no copy of them all is needed.
        self._where = torch.unravel_index(where, logits.shape[:-1])
        self.dtype = torch.promote_types(logits.dtype, torch.float32)
        self.input_dtype, self.device = logits.dtype, logits.device
        self.num_rows = where.numel()
        self.vocabulary = self.block_vocabulary = logits.shape[-1]
        self.needed = needed
        self.gradient: Tensor | None = None
        if needed:
            self.gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)

    def product(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """Copy the logits of some rows to `out`."""
        return out.copy_(self._logits[tuple(x[rows] for x in self._where)])

    logits = product

    def add(self, dz: Tensor, positions: slice | Tensor, *, alone: bool) -> None:
        """Store the gradients of the rows at `positions`."""
        assert self.gradient is not None
        self.gradient[tuple(x[positions] for x in self._where)] = dz.to(self.input_dtype)


class _Loss(torch.autograd.Function):
    """Sum of f(p) / n. The gradient is formed in the forward pass, block by block."""

    @staticmethod
    def forward(ctx, logits, request):
        labels, objective, num_items, recorded, signals = request
        needed = recorded and ctx.needs_input_grad[0]
        total, gradient, ctx.engine = loss_and_gradient(
            logits, labels, objective, num_items, needed, signals
        )
        ctx.in_buffer = False
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[override]
        return (*backward_of_scalar(ctx, upstream), None)
