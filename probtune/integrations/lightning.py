"""Lightning: a module for its `Trainer`, exact however a step is split.

    model = ObjectiveModule(AutoModelForCausalLM.from_pretrained(...), "power(0.5)")
    Trainer(accumulate_grad_batches=4).fit(model, batches)

Lightning averages micro-batches and ranks, so that a token in a short batch weighs more. The module
hands over sums, and divides the gradient by the tokens of the whole step before it is clipped. It
knows the share of the steps that is done, and with a tokenizer the special tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..errors import TrainingError, UsageError
from ..kernels import IGNORE_INDEX
from ..kernels import loss as logits_loss
from ..models.kinds import check_decoder
from ..objectives import Objective, nll
from .loss import logits_objective
from .proof import Proof, logits_sums
from .running import OFFERED, Running
from .statistics import TokenStatistics
from .versions import check_version

__all__ = ["ObjectiveModule"]

_LOGGER = logging.getLogger(__name__)
_eager: Any = torch.compiler.disable
_KEY = "probtune_objective"
"""Entry of a checkpoint with the objective that was trained."""


class ObjectiveModule(LightningModule):
    """Fine-tunes a causal language model with an objective.

    A batch holds `input_ids`, `labels` and what else the model's forward takes. Where there are
    batches for validation, `val_loss` and `val_nll`, `val_mean_p`, ... are logged.

    A subclass that overrides `training_step` or `on_before_optimizer_step` calls them of its
    superclass; left out, training stops.

    Args:
        model: is put into training mode. Lightning leaves it as `from_pretrained` had it: without
            dropout and gradient checkpointing. Put parts into evaluation mode after this.
        tokenizer: needed by objectives that treat special tokens apart, as `nll_on_special(p())`.

    Raises:
        UsageError: the model is no decoder.
        ObjectiveError: the objective needs more than a batch's logits, the share of the steps that
            is done and which tokens are special, or the latter without a tokenizer.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective | str = "nll()",
        *,
        learning_rate: float = 5e-5,
        tokenizer: Any = None,
    ):
        super().__init__()
        check_version("lightning")
        check_decoder(model)
        self.model = model.train()
        self.objective = logits_objective(objective, OFFERED)
        self.learning_rate = learning_rate
        self._running = Running(
            self.objective,
            progress=self._progress,
            tokenizer=lambda: tokenizer,
            tokenizer_as="tokenizer=",
        )
        self._running.check()
        self.statistics = TokenStatistics(self.objective)
        self._of_validation = TokenStatistics(self.objective)
        self._measured: Tensor | None = None
        """Loss and tokens of a validation so far, on this rank."""
        self.proof = Proof(self.objective, engine="Lightning", way_out=_WAY_OUT)
        self._unit: float | None = None
        """Tokens of a usual micro-batch, by which a sum is divided: gradients in float16 have the
        size that a mean gives them."""
        self._step = -1
        """The optimizer step that the sums are of."""
        self._clear()

    def _clear(self) -> None:
        self._sums: Tensor | None = None
        """The step's loss and tokens so far, on this rank; None before its first micro-batch."""
        self._applied: Tensor | float = 0.0
        """The loss as it was propagated back: each one times the gradient from above."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def on_fit_start(self) -> None:
        if type(self.trainer.strategy).__name__ == "DeepSpeedStrategy":
            raise UsageError(
                "the deepspeed strategy keeps the gradients to itself, and they could not be"
                " divided by the tokens of the step; use ddp or fsdp, or train with DeepSpeed in"
                " transformers.Trainer (use_objective) or ProbTuneTrainer."
            )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self._loss_of(*self._logits_and_labels(batch))

    def validation_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._measure(*self._logits_and_labels(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the statistics per token, over all batches and ranks. Lightning's own
        mean over ranks rounds their weights.
        """
        if self._measured is None:
            return
        total, tokens = self._over_ranks(self._measured).tolist()
        self._measured = None
        means = self._of_validation.means(self._over_ranks)
        if tokens:
            means["loss"] = total / tokens
        self.log_dict({f"val_{name}": value for name, value in means.items()})

    def _logits_and_labels(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if "labels" not in batch:
            raise UsageError(
                f"a batch must hold labels, got {', '.join(batch)}; let the collator add those of"
                " the input, with -100 where nothing is trained."
            )
        logits = self.model(**{k: x for k, x in batch.items() if k != "labels"}).logits
        return logits, batch["labels"]

    def _summed(
        self, logits: Tensor, labels: Tensor
    ) -> tuple[Objective, Mapping[str, Tensor], Tensor, Tensor]:
        """Return the objective in force, its signals, and the loss of a batch as a sum over its
        tokens, with their number.
        """
        now = self._running.objective_now()
        signals = self._running.signals(now, labels)
        loss = logits_loss(logits, labels, now, num_items_in_batch=1.0, signals=signals)
        return now, signals, loss, (labels[..., 1:] != IGNORE_INDEX).sum()

    @_eager  # numbers that change with each batch would be compiled anew
    def _loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        now, signals, loss, tokens = self._summed(logits, labels)
        if not torch.is_grad_enabled():  # a validation that calls `training_step`
            return loss / tokens.clamp(min=1)
        if not loss.requires_grad:
            raise UsageError("no parameter of the model is trained: all have requires_grad=False.")
        self._check_divided()
        of_batch = torch.stack([loss.detach(), tokens]).to(self._wide)
        if self._unit is None:
            self._unit = max(1.0, float(self._over_ranks(of_batch)[1]) / self.trainer.world_size)
        self._step = self.trainer.global_step
        self._sums = of_batch if self._sums is None else self._sums + of_batch
        self.statistics.add_logits(logits.detach(), labels, objective=now, signals=signals)
        loss = loss / self._unit
        if self._examines(now):
            self.proof.add(0.0, logits_sums(now, logits.detach(), labels, signals=signals))
            value = loss.detach()
            loss.register_hook(lambda gradient: self._propagated(value * gradient))
        return loss

    @_eager
    def _measure(self, logits: Tensor, labels: Tensor) -> None:
        now, signals, loss, tokens = self._summed(logits, labels)
        sums = torch.stack([loss, tokens]).to(self._wide)
        self._measured = sums if self._measured is None else self._measured + sums
        self._of_validation.add_logits(logits, labels, objective=now, signals=signals)

    @property
    def _wide(self) -> torch.dtype:
        return torch.float32 if self.device.type == "mps" else torch.float64

    def _progress(self) -> float:
        if self.trainer.state.fn != "fit":
            return 1.0
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise UsageError(
                f"{self.objective} changes over training, and this one has no end; give the Trainer"
                " max_steps, or max_epochs and batches whose number is known."
            )
        return self.trainer.global_step / max(steps, 1)

    def _examines(self, now: Objective) -> bool:
        """True until the loss is proven, but for steps of NLL, which prove nothing."""
        return not self.proof.proven and now != nll()

    def _propagated(self, loss: Tensor) -> None:
        self._applied = self._applied + loss.detach().to(self._wide)

    def _check_divided(self) -> None:
        """Stop where the last step was taken with gradients that nothing has divided."""
        if self._sums is not None and self.trainer.global_step > self._step:
            raise TrainingError(
                "the last step was not divided by its tokens: on_before_optimizer_step of"
                f" ObjectiveModule did not run. {_WAY_OUT}"
            )

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Divide the gradient by the tokens of the step; log what the model does."""
        if self._sums is None:
            raise TrainingError(
                f"Lightning trains another loss than {self.objective}: training_step of"
                f" ObjectiveModule did not run. {_WAY_OUT}"
            )
        assert self._unit is not None
        applied = torch.as_tensor(self._applied).to(self._sums)
        sums = self._over_ranks(torch.stack([*self._sums, applied]))
        total, tokens, applied = sums.tolist()
        self._clear()
        # Lightning has divided by the micro-batches, and data parallelism by the ranks.
        ranks = self.trainer.world_size
        factor = self._unit * self.trainer.accumulate_grad_batches * ranks / max(tokens, 1.0)
        groups = optimizer.param_groups
        gradients = [x.grad for group in groups for x in group["params"] if x.grad is not None]
        if tokens and not gradients:
            raise TrainingError(
                f"the {type(self.trainer.strategy).__name__} hands over no gradients, and they"
                " could not be divided by the tokens of the step; use ddp or fsdp."
            )
        for gradient in gradients:
            gradient.mul_(factor)
        loss = total / max(tokens, 1.0)
        if self._examines(self._running.objective_now()):
            # Over the ranks the sum of the gradients is divided by their number, as by `finish`.
            if self.trainer.is_global_zero:
                self.proof.add(applied / self._loss_scale() * factor, (0.0, 0.0, 0.0))
            self.proof.finish(self._over_ranks, ranks)
        means = self.statistics.means(self._over_ranks)
        self.log_dict({"loss": loss, **means}, on_step=True, on_epoch=False)

    def on_train_end(self) -> None:
        self._check_divided()
        if self.trainer.global_step and self._step < 0:
            raise TrainingError(
                f"Lightning has trained another loss than {self.objective}: neither training_step"
                f" nor on_before_optimizer_step of ObjectiveModule has run. {_WAY_OUT}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = str(self.objective)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a training of another objective.

        Raises:
            UsageError: with both.
        """
        trained, named = checkpoint.get(_KEY), str(self.objective)
        if trained in (None, named):
            return
        if self._trainer is not None and self.trainer.state.fn == "fit":
            raise UsageError(
                f"the checkpoint is of a training of {trained}, and this one is of {named}; give"
                f" ObjectiveModule that objective, or begin a new training with the weights alone."
            )
        _LOGGER.warning(
            "The checkpoint is of a training of %s, and this module has %s.", trained, named
        )

    def _loss_scale(self) -> float:
        """Return the factor that mixed precision in float16 puts on a loss."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _over_ranks(self, sums: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return sums
        of_ranks = sums.to(self.device, self._wide, copy=True)
        return self.trainer.strategy.reduce(of_ranks, reduce_op="sum").cpu()


_WAY_OUT = (
    "Another method of that name is in the way: call super() in it, or rename it where it is of"
    " another class in the bases."
)
