"""`ProbTuneTrainer`: TRL's `SFTTrainer` with any objective of the family.

Everything around the loss is TRL's: data preparation, packing, LoRA, mixed precision, sharding,
checkpoints. The loss is

    sum of the objective over the supervised tokens of the optimizer step / normalizer

over all its micro-batches and all ranks, so that it does not depend on how the step is split. But
for integrations/trl_trainer.py this package is the only part of ours that knows TRL's trainer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from ..errors import TrainingError, UsageError
from ..files import write_text
from ..models.adapters import is_adapted, without_adapters
from ..models.head import HeadCall, add_objective_head
from ..models.kinds import check_decoder, check_decoder_folder
from ..models.packaged import model_folder
from ..objectives import (
    REFERENCE_SIGNALS,
    Objective,
    Signals,
    anneal_shares,
    columns_of,
    kind_of,
    parameter_of,
)
from .card import card_of_trainer
from .checkpoints import check_checkpoint, newest_whole, save_checkpoint
from .columns import (
    GROUP,
    ColumnCollator,
    check_texts,
    excess_cut,
    packed,
    per_token,
    present_columns,
    with_sequence_weights,
)
from .config import ProbTuneConfig
from .counts import GroupSums, StepCounts, TokenSums, p_histogram, row_sums
from .frozen import frozen_copy, frozen_head
from .head_choice import (
    adapters_on_the_head,
    check_two_pass,
    choose_head,
    refuse_untrained_adapter,
)
from .isolation import check_isolated, measured_rows_padded
from .masking import mask_rows
from .opening import whole_models
from .origin import check_origin, write_origin
from .passes import OLD, STEP, Passes
from .progress import Resuming, save_progress
from .requests import check_parallelism
from .selfcheck import check_head, check_model
from .signals import refuse_unfixed, signals_of
from .stored import with_logprobs
from .trl_head import refuse_gathered_head, with_trl_head

__all__ = ["ProbTuneTrainer"]

_LOGGER = logging.getLogger(__name__)

TRUSTED_DEVICES = ("cpu",)
"""Devices on which the head need not prove itself: its tests have run there."""


class ProbTuneTrainer(SFTTrainer):
    """Fine-tunes a causal language model with the objective of its `ProbTuneConfig`.

    Arguments are those of `trl.SFTTrainer`, and so is everything it does, but for the loss.
    The logits are never materialised: loss and statistics come from a fused head, ours or TRL's
    (`ProbTuneConfig.head`; `trainer.head` says which, and `trainer.head_reason` why it is TRL's
    where ours would have been taken). On an accelerator ours proves itself first (`selfcheck`). A
    LoRA adapter on the output layer is trained like any other.

    What an objective needs besides the distribution comes from columns of the dataset, one number
    per row or a list aligned with `input_ids`: those of `weighted` by their names, `answer_mask`,
    `reference_logprobs` and `better_logprobs` (or the files `ProbTuneConfig.reference`, by default
    measured before training, and `.better`). Objectives that look at the whole optimizer step, at
    sequences or at an old state of the model cost a forward pass more, without dropout.

    Logged at every logging step, weighted by token over micro-batches and ranks, for training and
    (with the prefix of its loss, `eval_` or `eval_NAME_` of a dataset) evaluation: `nll`, `mean_p`,
    `mean_token_accuracy`, `entropy`, and `low_weight_share`, the share of tokens whose weight is
    below 1 % of NLL's. They mean the same for every objective; `loss` is the objective itself,
    whose values must not be compared between objectives. `eval_loss` is per token too, not the
    mean of batch means. Of a scheduled objective, `anneal` says how far it has moved at that step.

    Raises:
        UsageError: the configuration is no `ProbTuneConfig`, or asks for something under which the
            objective would not be the one that is trained, or an adapter would not be; or the head
            is wrong on this device.
        DataError: a column that the objective needs is missing or holds something else.
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
                "compute_loss_func would replace the objective; hand over one of your own instead:"
                " ProbTuneConfig(objective=probtune.from_function(...)) or a subclass of Objective."
            )
        self.objective = args.resolved_objective
        refuse_unfixed(self.objective)
        present = present_columns(
            *others[1:3], options.get("train_dataset"), options.get("eval_dataset")
        )
        how: Any = args.dataset_kwargs or {}
        formats = options.get("formatting_func") is not None or len(others) > 11  # the twelfth
        if not (formats or how.get("skip_prepare_dataset")):
            check_texts(present, args.dataset_text_field)
        self.columns = columns_of(self.objective.needs, present)
        self._special: Tensor | None = None
        self._frozen: Any = None
        self._cuts: dict[str, Tensor] = {}
        self._passes = Passes(self)
        self._isolated = False
        self._sums = {"train": TokenSums(), "eval": TokenSums()}
        self._histogram: Tensor | None = None
        self.p_histogram: list[int] | None = None
        """Counts of p of the training tokens between the last two log entries, in equal bins from 0
        to 1."""
        self._group_sums = {mode: GroupSums(args.groups or ()) for mode in ("train", "eval")}
        self.by_group: dict[str, dict[str, float]] = {}
        """`nll`, `mean_p` and `tokens` of each of `ProbTuneConfig.groups` between the last two log
        entries."""
        self.heldout_by_group: dict[str, dict[str, float]] = {}
        """The same of the last evaluation, where its rows have the column of groups."""
        self._step = StepCounts()
        self._resuming = Resuming(self)
        self._writing: str | None = None
        refuse_untrained_adapter(args.head, model, options.get("peft_config"))
        if isinstance(model, str):
            model = model_folder(model)
            check_decoder_folder(model)
        else:
            check_decoder(model)
        with adapters_on_the_head(), whole_models():
            super().__init__(model, args, *others, **options)
        self.add_callback(self._resuming)
        if self.is_deepspeed_enabled:  # accelerate would clip at 1, whatever was asked for
            config = self.accelerator.state.deepspeed_plugin.deepspeed_config
            config.setdefault("gradient_clipping", args.max_grad_norm)
        self._check_parallelism()
        self._fuse_head()
        if self.columns or args.groups:
            self._add_columns()
        if args.normalizer == "kept":
            self._check_kept()
        # The trainer counts the step's tokens only for models whose forward takes the count. Our
        # loss takes it here, and always shifts the labels.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any):
        """Train as `SFTTrainer`. True for `resume_from_checkpoint` takes the newest checkpoint that
        is whole; one that is named and damaged is refused, and one of another training.
        """
        if resume_from_checkpoint is True:
            folder = Path(self.args.output_dir or ".")
            with self.accelerator.main_process_first():
                newest = newest_whole(folder, _LOGGER.warning)
            if newest is None:
                raise UsageError(f"{folder} holds no whole checkpoint to resume from.")
            resume_from_checkpoint = str(newest)
        elif resume_from_checkpoint:
            check_checkpoint(Path(resume_from_checkpoint))
        resumed = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        if resumed is not None:
            check_origin(self, resumed)
        self._resuming.checkpoint = resumed
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        """The folder of checkpoints; while one is written, the folder beside."""
        return self._writing or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        def save(folder: Path) -> None:
            self._writing = str(folder.parent)
            try:
                super(ProbTuneTrainer, self)._save_checkpoint(model, trial)
            finally:
                self._writing = None
            self._name_the_best(folder)
            save_progress(self, folder)
            if self.args.should_save:
                write_origin(self, folder)

        target = save_checkpoint(self, Path(self._get_output_dir(trial)), save)
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(target))

    def _name_the_best(self, folder: Path) -> None:
        """Name the best checkpoint by its place, if it is the one that is written in `folder`."""
        best = self.state.best_model_checkpoint
        if best is not None and Path(best) == folder:
            self.state.best_model_checkpoint = str(folder.parent.parent / folder.name)
            if self.args.should_save:
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: the checkpoint is uploaded once it is whole."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            # A pickle with this machine's paths, and with what was given as a token.
            (Path(output_dir or self.args.output_dir or ".") / TRAINING_ARGS_NAME).unlink(
                missing_ok=True
            )

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return the names of the weights that decay, as `weight_decay_on` says."""
        if self.args.weight_decay_on == "all":
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """Write the model's card into `output_dir`: base model, objective, results."""
        if self.is_world_process_zero():
            named = [tags] if isinstance(tags, str) else tags or []
            text = card_of_trainer(self, model_name, dataset_name, named)
            write_text(Path(self.args.output_dir or ".") / "README.md", text)

    @property
    def _inner(self) -> Any:
        """The model without adapters' wrapper."""
        return without_adapters(self.model)

    def _check_parallelism(self) -> None:
        parallelism = self.accelerator.parallelism_config
        if parallelism is not None:
            check_parallelism(self.args, parallelism)

    def _fuse_head(self) -> None:
        """Choose the head, and refuse what it cannot compute."""
        choice = choose_head(self.args.head, self.objective, self.model)
        self.head, self.head_reason = choice
        if self.args.head_two_pass:
            check_two_pass(choice, self.objective)
        if self.head_reason is not None and self.args.process_index == 0:
            _LOGGER.warning("TRL's fused head computes the loss: %s.", self.head_reason)
        if self.head == "probtune" and self.args.device.type not in TRUSTED_DEVICES:
            check_head(self.objective.at(0.0), self.args.device, self._head_dtype())
        if REFERENCE_SIGNALS & self.objective.kinds and not is_adapted(self.model):
            self._frozen = frozen_copy(self)  # with adapters the base is the reference
        if self.head == "probtune":
            add_objective_head(self._inner)
        elif "collision" in self.objective.needs:
            # TRL's head has it, and SFTTrainer does not ask for it.
            outputs = ("log_probs", "entropy", "is_top1", "log_sum_sq_probs")
            add_fused_lm_head(self._inner, outputs=outputs)
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):  # whose weights are elsewhere
            with self.accelerator.autocast():
                check_model(self._inner, self.head, self._head_dtype())

    def _head_dtype(self) -> torch.dtype:
        """In which the head gets its inputs on an accelerator, and the model has its logits."""
        if self.args.bf16 or self.args.fp16:
            return torch.bfloat16 if self.args.bf16 else torch.float16
        dtype = self._inner.dtype
        return dtype if dtype in (torch.bfloat16, torch.float16) else torch.float32

    def _add_columns(self) -> None:
        """Give the datasets the numbers per token that the objective needs, and the training rows
        their groups.
        """
        names = tuple(dict.fromkeys(self.columns.values()))
        grouped = (GROUP,) if self.args.groups else ()
        self.data_collator = ColumnCollator(self.data_collator, (*names, *grouped))
        if self.args.packing or names:
            of_training = (*names, *grouped)
            self.train_dataset = self._completed(self.train_dataset, "train", of_training)
        for name in self.objective.needs:
            if kind_of(name) == "excess_cut":
                cut = excess_cut(self.train_dataset, float(parameter_of(name)))
                self._cuts[name] = torch.tensor(cut)
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {
                name: self._completed(part, name, names) for name, part in self.eval_dataset.items()
            }
        elif self.eval_dataset is not None and names:
            self.eval_dataset = self._completed(self.eval_dataset, "eval", names)
        if self.args.packing:
            self.train_dataset = packed(self.train_dataset, (*names, *grouped), self.args)

    def _completed(self, dataset: Any, which: str, names: tuple[str, ...]) -> Any:
        if dataset is None:
            return None
        for column in names:
            dataset = with_logprobs(dataset, column, which, model=self._inner, trainer=self)
        derived = {"sequence_weight"} - set(dataset.column_names or ())
        dataset = per_token(dataset, [name for name in names if name not in derived])
        if derived & set(names):
            dataset = per_token(with_sequence_weights(dataset), sorted(derived))
        return dataset

    def _prepare_dataset(self, dataset, processing_class, args, packing, *others):  # type: ignore[override]
        # With columns, packing comes after them.
        packing = packing and not self.columns and not args.groups
        if args.assistant_only_loss is not False and others[0] is None:  # no formatting function
            dataset = mask_rows(dataset, processing_class)
        return super()._prepare_dataset(dataset, processing_class, args, packing, *others)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        with measured_rows_padded(self, eval_dataset):
            return super().get_eval_dataloader(eval_dataset)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        for column in (*self.columns.values(), *((GROUP,) if self.args.groups else ())):
            if column not in self._signature_columns:
                self._signature_columns.append(column)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of an optimizer step, with what is measured before it; none where a
        resumed training has nothing left to do.
        """
        if self.control.should_training_stop:
            return [], None
        in_force = self.objective.at(self._progress())
        if "old" in self.objective.needs:
            batches = self._passes.from_block(epoch_iterator, num_batches)
            counted = self._get_num_items_in_batch(batches, device)
        else:
            batches, counted = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.padding_free and batches and not self._isolated:
            check_isolated(self, batches[0]["input_ids"][0])
            self._isolated = True
        self._passes.before_step(batches, in_force.needs)
        return batches, counted

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        training = self.model.training
        mode = "train" if training else "eval"
        names = (*self.columns.values(), GROUP, STEP, OLD)
        extras = {name: inputs.pop(name, None) for name in names}
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        in_force = self.objective.at(self._progress())
        signals = signals_of(self, in_force.needs, model, inputs, extras)
        denominator = self._denominator(num_items_in_batch)
        out = self.forward(model, inputs, in_force, denominator, signals)
        loss = out.loss if not training else out.loss * self._factor(out)
        with torch.no_grad():
            sums = row_sums(out.tokens)
            if training:
                self._check_finite(loss, out.tokens.log_probs, inputs)
                self._sums["train"].add(sums)
                counts = p_histogram(out.tokens)
                self._histogram = counts if self._histogram is None else self._histogram + counts
                self._count_tokens(inputs)
                if self.args.normalizer == "kept":
                    self._step.kept += float(out.tokens.kept[out.tokens.label_mask].sum())
                    self._step.num_items = float(num_items_in_batch or 0)
            else:
                # Gathered row by row, so that rows repeated to fill the last batch count once.
                self._sums["eval"].add(self.accelerator.gather_for_metrics(sums))
            if extras[GROUP] is not None:
                gather = None if training else self.accelerator.gather_for_metrics
                self._group_sums[mode].add(out.tokens, extras[GROUP][:, 1:], gather)
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

    def forward(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        objective: Objective,
        denominator: Tensor | None,
        signals: Signals,
    ) -> Any:
        """Return the loss and the statistics of a batch, by the head that was chosen."""
        if self.head == "trl":
            out = with_trl_head(model, inputs, objective, denominator, signals)
            refuse_gathered_head(self)
            return out
        compares = REFERENCE_SIGNALS & objective.kinds
        reference = self._reference_head(model, inputs) if compares else None
        call = HeadCall(objective, denominator, signals, reference, self.args.head_two_pass)
        out = model(**inputs, objective_head=call)
        if out.loss.dtype != out.tokens.loss.dtype:
            # Mixed precision of FSDP2 rounds what the model returns; the gradient is not affected.
            out.loss = out.loss + (out.tokens.loss - out.loss.detach())
        return out

    def _reference_head(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """The last hidden states and the head of the model before training; no weight where that is
        the head of the model itself without its adapter.
        """
        call = HeadCall(None)
        if self._frozen is not None:
            with self._passes.as_it_is(self._frozen):
                out = self._frozen(**inputs, objective_head=call)
            return out.hidden, *frozen_head(self._frozen, out.hidden)
        adapted = self.accelerator.unwrap_model(self.model)
        with self._passes.as_it_is(model), adapted.disable_adapter():
            out = model(**inputs, objective_head=call)
        return out.hidden, None, None

    def _progress(self) -> float:
        """The share of the optimizer steps that is done; exact when training is resumed."""
        return self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 0.0

    def _denominator(self, num_items_in_batch: Any) -> Tensor | None:
        """Return the number that the sum over this micro-batch is divided by to be its part of the
        loss of the whole optimizer step; None for its own supervised tokens.
        """
        if num_items_in_batch is None:
            if self.model.training:
                raise TrainingError(
                    "the number of supervised tokens of the step is unknown: the batches have no"
                    " labels, so the loss has no scale."
                )
            return None
        if self.args.normalizer.endswith("_per_batch"):
            return None
        num_items = torch.as_tensor(num_items_in_batch, device=self.args.device).clamp(min=1)
        if not self.args.average_tokens_across_devices:
            return num_items
        # The count is over all ranks, and data parallelism averages the ranks' gradients.
        return num_items / (self.accelerator.num_processes // self.get_tp_size())

    def _factor(self, out: Any) -> Tensor | float:
        """Return the factor on a micro-batch's loss, besides the denominator of its sum."""
        args, batches = self.args, self.current_gradient_accumulation_steps
        factor: Tensor | float = batches if args.accumulation == "sum" else 1.0
        if args.normalizer.endswith("_per_batch"):
            factor = factor / batches
        if args.normalizer == "kept_per_batch":
            remaining = (out.tokens.kept & out.tokens.label_mask).sum().clamp(min=1)
            factor = factor * out.tokens.label_mask.sum() / remaining
        return factor

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
        self._step = StepCounts() if last else self._step.next()
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        self._sums["eval"] = TokenSums()
        self._group_sums["eval"] = GroupSums(self.args.groups or ())
        out = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", args[4] if len(args) > 4 else "eval")
        means = self._sums["eval"].means()
        self._sums["eval"] = TokenSums()
        self.heldout_by_group = self._group_sums["eval"].means()
        if means and out.metrics is not None and f"{prefix}_loss" in out.metrics:
            means["loss"] = means.pop("objective")
            out.metrics.update({f"{prefix}_{name}": value for name, value in means.items()})
        return out

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # The last numbers come when the model may have been measured already.
        if self.model.training or "train_runtime" in logs:
            means = self._sums["train"].means(self.accelerator)
            means.pop("objective", None)
            if self._histogram is not None:
                counts = self.accelerator.reduce(self._histogram, "sum")
                self.p_histogram, self._histogram = counts.tolist(), None
                self.by_group = self._group_sums["train"].means(self.accelerator)
            for index, share in enumerate(anneal_shares(self.objective, self._progress())):
                logs[f"anneal_{index + 1}" if index else "anneal"] = share
            logs.update(means)
            self._sums["train"] = TokenSums()
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
        of_rank = torch.tensor(self._step.kept, device=loss.device)
        tokens_kept = self.accelerator.reduce(of_rank, "sum")
        factor = self._step.num_items / max(float(tokens_kept) / self._tp_size, 1.0)
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
        last = newest_whole(Path(self.args.output_dir)) if self.args.output_dir else None
        return f"The last good checkpoint is {last}." if last else "No checkpoint was written yet."

    def _count_tokens(self, inputs: dict[str, Any]) -> None:
        """TRL's `num_tokens`: what the model has read so far, all ranks."""
        if "attention_mask" in inputs:
            tokens = inputs["attention_mask"].sum()
        else:
            ids = inputs["position_ids"]
            tokens = torch.tensor(ids.size(1), device=ids.device)
        self._total_train_tokens += int(self.accelerator.gather(tokens).sum()) // self._tp_size
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
