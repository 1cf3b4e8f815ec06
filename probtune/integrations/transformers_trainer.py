"""`transformers.Trainer`, and whatever inherits from it: one call on the trainer.

    trainer = Trainer(model, arguments, train_dataset=rows)
    use_objective(trainer, "power(0.5)")
    trainer.train()

The loss is `probtune.compute_loss_func`; on the first step it is compared with the objective, and
every log entry says how the model does, whatever the objective. `anneal(...)` and
`nll_on_special(...)` are known to it as well, the latter if the trainer has a tokenizer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from ..errors import UsageError
from ..kernels.logits import loss_of_outputs
from ..models.kinds import check_decoder
from ..objectives import Objective
from .loss import logits_objective
from .proof import prove_trainer
from .running import OFFERED, Running, running_in
from .statistics import TokenStatistics
from .versions import check_version

__all__ = [
    "ObjectiveLoss",
    "StatisticsCallback",
    "refuse_other_losses",
    "refuse_sequence_parallelism",
    "use_objective",
]

WAY_OUT = (
    "Switch off what computes a loss of its own (use_liger_kernel, cut cross-entropy, sequence"
    " parallelism, a compiled forward), or train with ProbTuneTrainer."
)


class ObjectiveLoss:
    """A loss for `compute_loss_func` of a trainer, which remembers the statistics of the tokens it
    has seen.
    """

    def __init__(self, running: Running):
        self.running, self.objective = running, running.objective
        self.statistics = TokenStatistics(self.objective)
        self.watching = True
        """True in a step that ends with a log entry; the others are not measured."""
        self.shifted: Tensor | None = None
        """Labels of the batch that are shifted already, in place of its labels."""

    def __call__(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None, **others: Any
    ) -> Tensor:
        now = self.running.objective_now()
        shift = self.shifted is None
        labels = labels if self.shifted is None else self.shifted
        signals = {} if labels is None else self.running.signals(now, labels)
        loss = loss_of_outputs(outputs, labels, now, num_items_in_batch, signals, shift=shift)
        if self.watching and loss.requires_grad:  # not in evaluation
            logits: Any = outputs.get("logits") if isinstance(outputs, dict) else outputs[0]
            of_batch = (logits.detach(), labels.to(logits.device))
            self.statistics.add_logits(*of_batch, shift=shift, objective=now, signals=signals)
        return loss


class StatisticsCallback(TrainerCallback):
    """Adds what the model did in the last step before a log entry to it, over all ranks."""

    def __init__(self, loss: ObjectiveLoss, trainer: Any):
        self.loss, self.trainer = loss, trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.loss.statistics.means()  # of a step that did not fit, for auto_find_batch_size

    def on_step_begin(self, args, state, control, **kwargs):
        if args.logging_strategy == "steps":
            step = state.global_step + 1
            first = args.logging_first_step and step == 1
            self.loss.watching = first or step % state.logging_steps == 0

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "loss" not in logs:
            return
        accelerator = self.trainer.accelerator
        means = self.loss.statistics.means(lambda sums: accelerator.reduce(sums, "sum"))
        logs.update(means)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(means)


def use_objective(
    trainer: Any, objective: Objective | str, *, engine: str = "Trainer", way_out: str = WAY_OUT
) -> ObjectiveLoss:
    """Let a trainer minimise an objective, log what the model does, and prove its loss on the first
    step.

    Args:
        trainer: a `transformers.Trainer` before `train`.

    Raises:
        UsageError: the trainer has a loss function already, or another loss of its own; or its
            model is no decoder.
        ObjectiveError: the objective needs more than a batch's logits, the share of the steps that
            is done and which tokens are special.
    """
    if engine == "Trainer":
        check_version("transformers")
    refuse_other_losses(trainer, objective)
    check_decoder(trainer.model)
    running = running_in(trainer, logits_objective(objective, OFFERED))
    running.check()
    loss = ObjectiveLoss(running)
    trainer.compute_loss_func = loss
    _tell_shifted_labels(trainer, loss)
    # The trainer counts the step's tokens from the labels as ours shifts them.
    trainer._loss_shifts_labels = True
    # First, so that trackers and bars get the entries whole.
    trainer.callback_handler.callbacks.insert(0, StatisticsCallback(loss, trainer))
    prove_trainer(trainer, running, engine=engine, way_out=way_out)
    return loss


def _tell_shifted_labels(trainer: Any, loss: ObjectiveLoss) -> None:
    """Hand shifted labels over, which the trainer has from its collator, or under context
    parallelism, where it splits rows, and does not give to `compute_loss_func`.
    """
    compute = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        loss.shifted = inputs.pop("shift_labels", None)
        return compute(model, inputs, *arguments, **options)

    trainer.compute_loss = compute_loss


def refuse_other_losses(trainer: Any, objective: Objective | str) -> None:
    """Refuse settings of a trainer that put another loss in the objective's place.

    Raises:
        UsageError: with the setting and what to do.
    """
    if getattr(trainer, "compute_loss_func", None) is not None:
        raise UsageError(
            f"the trainer has a compute_loss_func already, which {objective} would replace; leave"
            " one of them out."
        )
    if getattr(trainer, "label_smoother", None) is not None:
        raise UsageError(
            "label_smoothing_factor would be without effect beside an objective; set it to 0, or"
            " train label_smoothing(...)."
        )
    refuse_sequence_parallelism(trainer.accelerator, objective)


def refuse_sequence_parallelism(accelerator: Any, objective: Objective | str) -> None:
    """Refuse a parallelism that takes the model's own loss.

    Raises:
        UsageError: with what to use instead.
    """
    parallelism = getattr(accelerator, "parallelism_config", None)
    if parallelism is not None and parallelism.sp_enabled:
        raise UsageError(
            "sequence parallelism takes the model's own loss, which is NLL, and would drop"
            f" {objective}; use FSDP, context parallelism or packing instead."
        )
