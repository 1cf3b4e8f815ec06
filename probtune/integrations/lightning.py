"""Lightning: a module for its `Trainer`, exact however a step is split.

    model = ObjectiveModule(AutoModelForCausalLM.from_pretrained(...), "power(0.5)")
    Trainer(accumulate_grad_batches=4).fit(model, batches)

Lightning averages micro-batches and ranks, so that a token in a short batch weighs more. The module
hands over sums, and divides the gradient by the tokens of the whole step before it is clipped. It
knows the share of the steps that is done, and with a tokenizer the special tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..errors import UsageError
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


class ObjectiveModule(LightningModule):
    """Fine-tunes a causal language model with an objective.

    A batch holds `input_ids`, `labels` and what else the model's forward takes.

    Args:
        tokenizer: needed by objectives that treat special tokens apart, as `nll_on_special(p())`.

    Raises:
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
        self.model = model
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
        self.proof = Proof(
            self.objective, engine="Lightning", way_out="Another training_step is in the way."
        )
        self._sums: list[float] = [0.0, 0.0]
        """The step's loss and tokens so far, on this rank."""
        self._applied = 0.0
        """The same as it was propagated back: each loss times the gradient from above."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels = batch["labels"]
        logits = self.model(**{k: x for k, x in batch.items() if k != "labels"}).logits
        now = self._running.objective_now()
        signals = self._running.signals(now, labels)
        loss = logits_loss(logits, labels, now, num_items_in_batch=1.0, signals=signals)
        tokens = float((labels[..., 1:] != IGNORE_INDEX).sum())
        self._sums = [self._sums[0] + float(loss.detach()), self._sums[1] + tokens]
        self.statistics.add_logits(logits.detach(), labels, objective=now, signals=signals)
        if self._examines(now):
            self.proof.add(0.0, logits_sums(now, logits.detach(), labels, signals=signals))
            value = float(loss.detach())
            loss.register_hook(lambda gradient: self._propagated(value * float(gradient)))
        return loss

    def _progress(self) -> float:
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise UsageError(
                f"{self.objective} changes over training, and this one has no end; give the Trainer"
                " max_steps or max_epochs."
            )
        return self.trainer.global_step / max(steps, 1)

    def _examines(self, now: Objective) -> bool:
        """True until the loss is proven, but for steps of NLL, which prove nothing."""
        return not self.proof.proven and now != nll()

    def _propagated(self, loss: float) -> None:
        self._applied += loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Divide the gradient by the tokens of the step; log what the model does."""
        total, tokens = self._over_ranks(torch.tensor(self._sums, dtype=torch.float64)).tolist()
        self._sums = [0.0, 0.0]
        # Lightning has divided by the micro-batches, and data parallelism by the ranks.
        ranks = self.trainer.world_size
        factor = self.trainer.accumulate_grad_batches * ranks / max(tokens, 1.0)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        loss = total / max(tokens, 1.0)
        if self._examines(self._running.objective_now()):
            applied, self._applied = self._applied / self._loss_scale(), 0.0
            # Over the ranks the sum of the gradients is divided by their number, as by `finish`.
            self.proof.add(applied * factor, (0.0, 0.0, 0.0))
            self.proof.finish(self._over_ranks, ranks)
        means = self.statistics.means(self._over_ranks)
        self.log_dict({"loss": loss, **means}, on_step=True, on_epoch=False)

    def _loss_scale(self) -> float:
        """Return the factor that mixed precision in float16 puts on a loss."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _over_ranks(self, sums: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return sums
        return self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()
