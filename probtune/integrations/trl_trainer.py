"""TRL's `SFTTrainer` as it is: a mixin for a subclass of your own.

    class MyTrainer(ObjectiveMixin, SFTTrainer):
        objective = "power(0.5)"

Loss and statistics come from TRL's fused head, which never stores the logits. `ProbTuneTrainer` is
the whole of ours: more objectives, our head, checkpoints that are whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ObjectiveError, UsageError
from ..models.kinds import check_decoder, check_decoder_folder
from ..objectives import Objective, Signals
from ..objectives import objective as read_objective
from ..training.config import is_lower_better
from ..training.trl_head import refuse_gathered_head
from .loss import token_loss
from .proof import logprob_sums, prove_trainer
from .running import OFFERED, running_in
from .statistics import TokenStatistics
from .transformers_trainer import refuse_sequence_parallelism
from .versions import check_version

__all__ = ["ObjectiveMixin"]

_OFFERED = OFFERED | {"entropy"}
"""Signals that TRL's head and trainer have."""


class ObjectiveMixin:
    """Minimises `objective` in a subclass of `trl.SFTTrainer`; stands before it in the bases.

    Raises:
        UsageError: the configuration asks for another loss.
        ObjectiveError: the objective needs more than p, entropy, progress and special tokens.
    """

    objective: Objective | str = "nll()"
    loss_is_scaled_for_ga = True
    """The loss is divided by the tokens of the whole step, not by the number of micro-batches."""

    args: Any
    accelerator: Any
    model: Any
    state: Any

    def __init__(self, *arguments: Any, **options: Any):
        check_version("trl")
        f = read_objective(self.objective)
        missing = sorted(f.needs - _OFFERED)
        if missing or f.terms:
            raise ObjectiveError(
                f"{f} needs {', '.join(missing or sorted(f.terms))}, which SFTTrainer does not"
                " have; train it with ProbTuneTrainer."
            )
        if options.get("compute_loss_func") is not None:
            raise UsageError(f"compute_loss_func would replace {f}; leave one of them out.")
        model = arguments[0] if arguments else options.get("model")
        if isinstance(model, str):
            check_decoder_folder(model)
        elif model is not None:
            check_decoder(model)
        super().__init__(*arguments, **options)
        check_decoder(self.model)
        if self.args.loss_type not in ("nll", "chunked_nll") or self.args.label_smoothing_factor:
            raise UsageError(
                f"loss_type={self.args.loss_type!r} and label_smoothing_factor ="
                f" {self.args.label_smoothing_factor:g} would replace {f}; leave them out."
            )
        if self.args.greater_is_better and is_lower_better(self.args.metric_for_best_model):
            raise UsageError(
                f"the checkpoint with the greatest {self.args.metric_for_best_model} is the worst;"
                " set greater_is_better=False."
            )
        refuse_sequence_parallelism(self.accelerator, f)
        self.objective = f
        self.model_accepts_loss_kwargs = self._loss_shifts_labels = True
        self._statistics = {mode: TokenStatistics(f) for mode in ("train", "eval")}
        self._balancing: float | Tensor = 0.0
        """The experts' balancing loss in that of the last micro-batch."""
        self._running = running_in(self, f)
        self._running.check()
        if f.needs <= OFFERED:
            way_out = "Another class in the bases overrides compute_loss, or a compiled forward."
            prove_trainer(
                self, self._running, engine="SFTTrainer", way_out=way_out,
                besides=lambda: self._balancing,
                measured=self._sums_of_head if self._scatters_the_head else None,
            )  # fmt: skip

    @property
    def _scatters_the_head(self) -> bool:
        """True under ZeRO-3: a pass by which the output layer is gathered as a module leaves it in
        a state in which no gradient can be added after a pass of TRL's head.
        """
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        return plugin is not None and plugin.zero_stage == 3

    def _sums_of_head(self, model: Any, inputs: dict[str, Any]) -> tuple[float, float, float]:
        """Return the sums of the proof by TRL's head, which is all that this model can be asked."""
        trainer: Any = self
        batch = {n: x.clone() if isinstance(x, Tensor) else x for n, x in inputs.items()}
        batch = trainer._prepare_inputs(batch)
        device = self.args.device
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), trainer.compute_loss_context_manager(), forked:
            out = model(**batch, use_cache=False, fused_lm_head=True)
        now = self._running.objective_now()
        return logprob_sums(now, out.log_probs, out.label_mask, self._signals(now, batch, out))

    def _signals(self, now: Objective, inputs: Any, out: Any) -> Signals:
        """Return what the objective in force needs besides p."""
        shifted = inputs.get("shift_labels")
        targets = inputs["labels"][..., 1:] if shifted is None else shifted
        signals = Signals(self._running.signals(now, targets))
        if "entropy" in now.needs:
            signals["entropy"] = out.entropy.detach()
        return signals

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the objective's part of the step's loss, by TRL's fused head."""
        mode = "train" if self.model.training else "eval"
        trainer: Any = self
        inputs["use_cache"] = False
        if trainer.aux_loss_enabled:
            inputs["output_router_logits"] = True
        out = model(**inputs, fused_lm_head=True)
        refuse_gathered_head(self)
        mask = out.label_mask
        now = self._running.objective_now()
        signals = self._signals(now, inputs, out)
        loss = token_loss(now, out.log_probs, mask, num_items_in_batch, signals)
        if not bool(mask.any()):
            loss = loss + 0.0 * out.log_probs.sum()  # other ranks wait for its gradient
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * (self.accelerator.num_processes // trainer.get_tp_size())
        if trainer.aux_loss_enabled:
            steps = trainer.current_gradient_accumulation_steps if mode == "train" else 1
            balancing = trainer.router_aux_loss_coef * out.aux_loss / steps
            loss, self._balancing = loss + balancing, balancing.detach()
        with torch.no_grad():
            tokens = (out.log_probs, out.is_top1, out.entropy)
            counted = mask if mode == "train" else mask & self._first_seen(len(mask))[:, None]
            own = {name: x[counted] for name, x in signals.items()}
            columns = [x[counted].detach().float() for x in tokens]
            self._statistics[mode].add(*columns, objective=now, signals=own)
            self._count(inputs, mode)
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**{k: v for k, v in inputs.items() if k != "labels"})

    def _first_seen(self, number: int) -> Tensor:
        """Return which of the rows of this rank's batch do not repeat rows to fill the last one."""
        first = self.accelerator.process_index * number
        index = torch.arange(first, first + number, device=self.args.device)
        return torch.isin(index, self.accelerator.gather_for_metrics(index))

    def _count(self, inputs: Any, mode: str) -> None:
        """TRL's `num_tokens`: what the model has read so far, all ranks."""
        trainer: Any = self
        if mode == "train":
            read = inputs.get("attention_mask")
            tokens: Tensor = (
                read.sum() if read is not None else torch.tensor(inputs["position_ids"].size(1))
            )
            gathered = self.accelerator.gather_for_metrics(tokens.to(self.args.device)).sum()
            trainer._total_train_tokens += int(gathered) // trainer.get_tp_size()
        trainer._metrics[mode]["num_tokens"] = [trainer._total_train_tokens]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        out = super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]
        prefix = kwargs.get("metric_key_prefix", args[4] if len(args) > 4 else "eval")
        means = self._means("eval")
        out.metrics.update({f"{prefix}_{name}": value for name, value in means.items()})
        return out

    def _means(self, mode: str) -> dict[str, float]:
        return self._statistics[mode].means(lambda x: self.accelerator.reduce(x, "sum"))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            logs.update(self._means("train"))
        super().log(logs, start_time)  # type: ignore[misc]
