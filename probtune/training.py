"""`ProbTuneTrainer`: TRL's `SFTTrainer` with any probability objective.

Everything around the loss is TRL's: data preparation, packing, LoRA, mixed precision, sharding,
checkpoints. The loss is

    sum of f(p) over the supervised tokens of the optimizer step / normalizer

over all its micro-batches and all ranks, so that it does not depend on how the step is split. This
is the only module that knows TRL's trainer.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import time
from collections.abc import Set
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from .errors import TrainingError, UsageError
from .objectives import Signals
from .objectives import objective as read_objective

__all__ = ["CheckpointClock", "ProbTuneConfig", "ProbTuneTrainer"]

NORMALIZERS = ("supervised", "kept")

_NAMES = {item.name for item in fields(SFTConfig)}
CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in _NAMES
)
"""What transformers calls the recomputation of activations; the old name warns where both exist."""

_TRL = tuple(int(part) for part in importlib.metadata.version("trl").split(".")[:2])
"""TRL's version; before 1.16 its fused head is written in Triton alone."""

_LOW_WEIGHT = 0.01


@dataclass
class ProbTuneConfig(SFTConfig):
    """`SFTConfig` with the objective and its normalizer. All other fields are TRL's and
    transformers'.

    Example:
        >>> ProbTuneConfig("out", objective="power(0.5)", bf16=False, use_cpu=True).objective
        'power(0.5)'
    """

    objective: str = field(
        default="nll()",
        metadata={
            "help": (
                "Function of the target probability to minimise, as `probtune objectives` lists"
                " them."
            )
        },
    )
    normalizer: str = field(
        default="supervised",
        metadata={
            "help": (
                "Denominator of the loss. 'supervised': the supervised tokens of the whole"
                " optimizer step, all micro-batches and ranks. 'kept': those a threshold keeps, as"
                " the paper's code divides (it counts per micro-batch; here, per optimizer step)."
                " The two differ for above(q, f) and below(q, f) only."
            ),
            "choices": list(NORMALIZERS),
        },
    )

    gradient_checkpointing: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": (
                "Recompute activations in the backward pass to save memory (default: on, as in"
                " TRL). Newer transformers call it activation_checkpointing."
            )
        },
    )

    def __post_init__(self):
        # TRL's default stands under the old name, for which transformers 5.23 warns every user.
        if self.gradient_checkpointing is None and getattr(self, CHECKPOINTING) is None:
            setattr(self, CHECKPOINTING, True)
        super().__post_init__()
        if _TRL < (1, 16) and self.device.type == "cpu":
            raise UsageError(
                f"TRL {'.'.join(map(str, _TRL))} computes log-probabilities on GPUs only; install"
                " trl>=1.16 to train on a CPU."
            )
        self.objective = repr(read_objective(self.objective))
        if self.normalizer not in NORMALIZERS:
            raise UsageError(
                f"normalizer must be one of {', '.join(NORMALIZERS)}, got {self.normalizer!r}."
            )
        if self.loss_type != "nll":
            raise UsageError(
                f"loss_type={self.loss_type!r} would replace the objective {self.objective}; leave"
                " loss_type out and write"
                f" objective='{'dft()' if self.loss_type == 'dft' else self.objective}'."
            )
        if self.label_smoothing_factor != 0:
            raise UsageError(
                f"label_smoothing_factor={self.label_smoothing_factor} would replace the objective"
                f" {self.objective}; set it to 0."
            )


class ProbTuneTrainer(SFTTrainer):
    """Fine-tunes a causal language model with the objective of its `ProbTuneConfig`.

    Arguments are those of `trl.SFTTrainer`, and so is everything it does, but for the loss.
    Per-token log-probabilities come from TRL's fused head, without materialising the logits.

    Logged at every logging step, weighted by token over micro-batches and ranks, for training and
    (with the prefix `eval_`) evaluation: `nll`, `mean_p`, `mean_token_accuracy`, `entropy`, and
    `low_weight_share`, the share of tokens whose weight is below 1 % of NLL's. They mean the same
    for every objective; `loss` is the objective itself, whose values must not be compared between
    objectives. `eval_loss` is per token too, not the mean of batch means. Of a scheduled objective,
    `anneal` says how far it has moved at that step.

    Raises:
        UsageError: the configuration is no `ProbTuneConfig`, or asks for something under which the
            objective would not be the one that is trained.
        TrainingError: the loss or the gradient is not finite; the message names step, micro-batch
            and rows, and earlier checkpoints are kept.
    """

    _tag_names = ["trl", "sft", "probtune"]
    _name = "probtune"
    _paper = {
        "title": (
            "Beyond Log Likelihood: Probability-Based Objectives for Supervised Fine-Tuning across"
            " the Model Capability Continuum"
        ),
        "id": "2510.00526",
    }

    loss_is_scaled_for_ga = True
    """The loss is divided by the tokens of the whole optimizer step, never by the number of micro-
    batches.
    """

    args: ProbTuneConfig
    model: Any
    accelerator: Any
    _tp_size: Any

    def __init__(
        self, model: Any, args: ProbTuneConfig | None = None, *others: Any, **options: Any
    ):
        if args is None:
            args = ProbTuneConfig("trainer_output")
        if not isinstance(args, ProbTuneConfig):
            raise UsageError(
                "args must be a ProbTuneConfig, which names the objective; got"
                f" {type(args).__name__}."
            )
        if options.get("compute_loss_func") is not None:
            raise UsageError(
                "compute_loss_func would replace the objective; subclass Objective instead."
            )
        self.objective = read_objective(args.objective)
        for cut in self.objective.open_cuts():
            raise cut.incomplete()
        self._special: Tensor | None = None
        self._sums = {"train": _TokenSums(), "eval": _TokenSums()}
        self._step = _StepCounts()
        super().__init__(model, args, *others, **options)
        if "collision" in self.objective.needs:
            # TRL's head has it, and SFTTrainer does not ask for it.
            inner = self.model.get_base_model() if is_peft_model(self.model) else self.model
            outputs = ("log_probs", "entropy", "is_top1", "log_sum_sq_probs")
            add_fused_lm_head(inner, outputs=outputs)
        parallelism = self.accelerator.parallelism_config
        if parallelism is not None and parallelism.sp_enabled:
            raise UsageError(
                "sequence parallelism takes the model's own loss, which is NLL, and would drop the"
                " objective; use FSDP, context parallelism or packing instead."
            )
        if args.normalizer == "kept":
            self._check_kept()
        # The trainer counts the step's tokens only for models whose forward takes the count. Our
        # loss takes it here, and always shifts the labels.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        training = self.model.training
        mode = "train" if training else "eval"
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        out = model(**inputs, fused_lm_head=True)
        # The head reports log p = 0, that is p = 1, at ignored positions: they must not reach the
        # objective.
        logp = out.log_probs[out.label_mask]
        in_force = self.objective.at(self._progress())
        signals = self._signals(in_force.needs, out, inputs)
        objective = in_force.bind(
            Signals(*(None if x is None else x[out.label_mask] for x in signals))
        )
        total = objective.value(logp).sum()
        if logp.numel() == 0:
            # Still 0, but connected to the model: other ranks wait for its gradient.
            total = out.log_probs.sum()
        loss = self._divide(total, out.label_mask, num_items_in_batch)
        with torch.no_grad():
            sums = _row_sums(in_force.bind(signals), out)
            if training:
                self._check_finite(loss, out.log_probs, inputs)
                self._sums["train"].add(sums)
                self._count_tokens(inputs)
                if self.args.normalizer == "kept":
                    self._step.kept += float(objective.keeps(logp).sum())
                    self._step.num_items = float(num_items_in_batch or 0)
            else:
                # Gathered row by row, so that rows repeated to fill the last batch count once.
                self._sums["eval"].add(self.accelerator.gather_for_metrics(sums))
        if self.aux_loss_enabled:
            # A mean per micro-batch; the trainer leaves its mean over accumulation steps to us.
            steps = self.current_gradient_accumulation_steps if training else 1
            loss = loss + self.router_aux_loss_coef * out.aux_loss / steps
            aux_loss = self.accelerator.gather_for_metrics(out.aux_loss.detach())
            self._metrics[mode]["aux_loss"].append(aux_loss.mean().item())
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**{k: v for k, v in inputs.items() if k != "labels"})

    def _signals(self, needs: Set[str], out: Any, inputs: dict[str, Any]) -> Signals:
        """What the objective needs besides p, in the shape of the log-probabilities."""
        special = None
        if "special" in needs:
            labels = inputs.get("shift_labels")
            labels = inputs["labels"][:, 1:] if labels is None else labels
            if self._special is None or self._special.device != labels.device:
                ids = self._tokenizer.all_special_ids
                self._special = torch.tensor(ids, dtype=labels.dtype, device=labels.device)
            special = torch.isin(labels, self._special)
        return Signals(
            special,
            out.entropy.detach() if "entropy" in needs else None,
            out.log_sum_sq_probs.detach().exp() if "collision" in needs else None,
        )

    def _progress(self) -> float:
        """The share of the optimizer steps that is done; exact when training is resumed."""
        return self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 0.0

    def _divide(self, total: Tensor, mask: Tensor, num_items_in_batch: Any) -> Tensor:
        """The sum over this micro-batch as its part of the loss of the whole optimizer step."""
        if num_items_in_batch is None:
            if self.model.training:
                raise TrainingError(
                    "the number of supervised tokens of the step is unknown: the batches have no"
                    " labels, so the loss has no scale."
                )
            return total / mask.sum().clamp(min=1)
        num_items = torch.as_tensor(num_items_in_batch, device=total.device).clamp(min=1)
        if not self.args.average_tokens_across_devices:
            return total / num_items
        # The count is over all ranks, and data parallelism averages the ranks' gradients.
        return total * (self.accelerator.num_processes // self.get_tp_size()) / num_items

    def _check_kept(self) -> None:
        """Refuse what `_divide_by_kept` would get wrong."""
        reason = None
        if self.is_deepspeed_enabled:
            reason = "DeepSpeed does not let us rescale gradients after the last micro-batch"
        elif self.aux_loss_enabled:
            reason = "the experts' balancing loss would be rescaled with the objective"
        elif not self.args.average_tokens_across_devices:
            reason = "it counts over all ranks, and average_tokens_across_devices is off"
        if reason is not None:
            raise UsageError(f"normalizer='kept' cannot be used: {reason}; use 'supervised'.")

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        last = self.accelerator.sync_gradients
        if self.args.normalizer == "kept":
            loss = self._divide_by_kept(loss, last)
        self._step = _StepCounts() if last else self._step.next()
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        self._sums["eval"] = _TokenSums()
        out = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", args[4] if len(args) > 4 else "eval")
        found = self._sums["eval"].means()
        if found and out.metrics is not None and f"{prefix}_loss" in out.metrics:
            out.metrics[f"{prefix}_loss"] = found["objective"]
        return out

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        found = self._sums[mode].means(self.accelerator if mode == "train" else None)
        found.pop("objective", None)
        if mode == "train":
            for index, moving in enumerate(self.objective.anneals()):
                name = f"anneal_{index + 1}" if index else "anneal"
                logs[name] = moving.share(self._progress())
        logs.update(
            {f"eval_{name}" if mode == "eval" else name: value for name, value in found.items()}
        )
        self._sums[mode] = _TokenSums()
        super().log(logs, start_time)

    def _get_grad_norm(self, *args: Any, **kwargs: Any):
        norm = super()._get_grad_norm(*args, **kwargs)
        # Before the optimizer step, so that the weights are still good. With fp16 an overflow is
        # part of the schedule: the scaler skips that step.
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise TrainingError(
                f"the gradient is not finite at step {self.state.global_step + 1}, although the"
                f" loss is. {self._last_checkpoint()} Lower the learning rate, or clip with"
                " max_grad_norm."
            )
        return norm

    def _divide_by_kept(self, loss: Tensor, last: bool) -> Tensor:
        """Rescale the finished step from its supervised tokens to those the threshold kept."""
        if not last:
            self._step.loss += loss.item()
            return loss
        kept = self.accelerator.reduce(torch.tensor(self._step.kept, device=loss.device), "sum")
        factor = self._step.num_items / max(float(kept) / self._tp_size, 1.0)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        # The logged loss is the sum over micro-batches; the earlier ones are in it already,
        # undivided.
        return (loss + self._step.loss) * factor - self._step.loss

    def _check_finite(self, loss: Tensor, log_probs: Tensor, inputs: dict[str, Any]) -> None:
        if bool(torch.isfinite(loss)):
            return
        bad = ~torch.isfinite(log_probs).reshape(log_probs.shape[0], -1)
        rows = bad.any(1).nonzero().flatten().tolist()
        shown = self._tokenizer.decode(inputs["input_ids"][rows[0] if rows else 0][:24])
        raise TrainingError(
            f"the loss is {float(loss)} at step {self.state.global_step + 1}, micro-batch"
            f" {self._step.micro_batch + 1} of {self.current_gradient_accumulation_steps},"
            f" row{'s' if len(rows) > 1 else ''} {', '.join(str(row + 1) for row in rows) or '?'}"
            f" (starting {shown!r}). {self._last_checkpoint()} Lower the learning rate, or look at"
            " that row."
        )

    def _last_checkpoint(self) -> str:
        from transformers.trainer_utils import get_last_checkpoint

        folder = self.args.output_dir
        last = get_last_checkpoint(folder) if folder and os.path.isdir(folder) else None
        return f"The last good checkpoint is {last}." if last else "No checkpoint was written yet."

    def _count_tokens(self, inputs: dict[str, Any]) -> None:
        """TRL's `num_tokens`: what the model has read so far, all ranks."""
        if "attention_mask" in inputs:
            here = inputs["attention_mask"].sum()
        else:
            ids = inputs["position_ids"]
            here = torch.tensor(ids.size(1), device=ids.device)
        self._total_train_tokens += int(self.accelerator.gather(here).sum()) // self._tp_size
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]


@dataclass
class _StepCounts:
    """What is known of the optimizer step so far, on this rank."""

    micro_batch: int = 0
    kept: float = 0.0
    loss: float = 0.0
    num_items: float = 0.0

    def next(self) -> _StepCounts:
        return _StepCounts(self.micro_batch + 1, self.kept, self.loss, self.num_items)


class _TokenSums:
    """Sums over supervised tokens since the last log, kept on the device until they are read."""

    NAMES = ("objective", "nll", "mean_p", "mean_token_accuracy", "entropy", "low_weight_share")

    def __init__(self):
        self._sums: Tensor | None = None

    def add(self, row_sums: Tensor) -> None:
        sums = row_sums.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self, accelerator: Any = None) -> dict[str, float]:
        """The means per token, over all ranks if given an accelerator; empty when no token was
        seen.
        """
        if self._sums is None:
            return {}
        sums = self._sums if accelerator is None else accelerator.reduce(self._sums, "sum")
        *totals, count = sums.tolist()
        return (
            {name: total / count for name, total in zip(self.NAMES, totals, strict=True)}
            if count
            else {}
        )


def _row_sums(objective: Any, out: Any) -> Tensor:
    """(rows, 7): the sums of `_TokenSums.NAMES` over the supervised tokens of each row of a batch,
    and their number.
    """
    logp, mask = out.log_probs.detach().float(), out.label_mask
    low_weight = objective.token_weight(logp) < _LOW_WEIGHT
    terms = (
        objective.value(logp),
        -logp,
        logp.exp(),
        out.is_top1,
        out.entropy.detach(),
        low_weight,
    )
    # float64, where the device has it: over an epoch a float32 sum over tokens would lose digits
    dtype = torch.float32 if logp.device.type == "mps" else torch.float64
    return torch.stack(
        [
            torch.where(mask, term, 0).sum(-1, dtype=dtype)
            for term in (*terms, torch.ones_like(logp))
        ],
        -1,
    )


class CheckpointClock(TrainerCallback):
    """Writes a checkpoint whenever `minutes` have passed since the last one: little lost, little
    written.

    With `stop_after_save()` training ends at the next step with a checkpoint, for interruptions.
    """

    def __init__(self, minutes: float):
        self.minutes = minutes
        self.stopping = False
        self._last = time.monotonic()

    def stop_after_save(self) -> None:
        self.stopping = True

    def on_train_begin(self, args, state, control, **kwargs):
        self._last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        due = time.monotonic() - self._last >= 60.0 * self.minutes
        if self.stopping or (due and state.global_step < state.max_steps):
            control.should_save = True
            control.should_training_stop = control.should_training_stop or self.stopping

    def on_save(self, args, state, control, **kwargs):
        self._last = time.monotonic()
