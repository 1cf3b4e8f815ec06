"""NVIDIA NeMo Automodel: a loss for `_target_`.

    loss_fn:
      _target_: probtune.integrations.automodel.ObjectiveLoss
      objective: power(0.5)

    torchrun --nproc_per_node=8 -m probtune.integrations.automodel --config run.yaml

It is a subclass of `MaskedCrossEntropy`, because Automodel replaces every other class by NLL for a
model whose forward has no `logits_to_keep`. The launcher proves the loss on the first step, and
tells it the share of the steps that is done and the special tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from nemo_automodel.components.loss.masked_ce import (  # pyright: ignore[reportMissingImports]
    MaskedCrossEntropy,
)
from torch import Tensor

from ..errors import TrainingError
from ..kernels import loss as logits_loss
from .loss import logits_objective
from .proof import Ledger, Proof
from .running import OFFERED, Running, in_force
from .versions import check_version

__all__ = ["ObjectiveLoss", "main", "prove"]

_LAUNCHER = "Start it by python -m probtune.integrations.automodel, or call prove(recipe)."
_WAY_OUT = "Name probtune.integrations.automodel.ObjectiveLoss as loss_fn._target_."


class ObjectiveLoss(MaskedCrossEntropy):
    """Sum of an objective over the labels, which are shifted already, divided by
    `num_label_tokens`.
    """

    def __init__(self, objective: str = "nll()", ignore_index: int = -100):
        check_version("automodel")
        super().__init__(ignore_index=ignore_index)
        self.objective = logits_objective(objective, OFFERED)
        self.running: Running | None = None
        proof = Proof(self.objective, engine="Automodel", way_out=_WAY_OUT, ranks="sum")
        self.ledger = Ledger(proof)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        num_label_tokens: float | None = None,
        loss_weights: Tensor | None = None,
    ) -> Tensor:
        if loss_weights is not None:
            raise TrainingError(
                f"loss_weights beside {self.objective} are not supported; leave them out."
            )
        if mask is not None:
            labels = labels.masked_fill(mask == 0, self.ignore_index)
        labels = labels.to(logits.device)
        whole = getattr(logits, "full_tensor", None)
        logits = logits if whole is None else whole()
        now, signals = in_force(self.running, self.objective, labels, way_out=_LAUNCHER)
        if self.running is not None:
            self.ledger.add_logits(logits, labels, now, signals)
        count = 1.0 if num_label_tokens is None else max(num_label_tokens, 1)
        return logits_loss(
            logits, labels, now, signals=signals,
            num_items_in_batch=torch.as_tensor(count, device=logits.device),
            shift=False, ignore_index=self.ignore_index,
        )  # fmt: skip


def prove(recipe: Any) -> None:
    """Let a recipe that is set up tell its loss of steps and special tokens, and compare the loss
    that it reports with the objective.

    Raises:
        TrainingError: Automodel has replaced the loss.
    """
    loss = recipe.loss_fn
    if not isinstance(loss, ObjectiveLoss):
        raise TrainingError(
            f"Automodel trains with {type(loss).__name__}, which is NLL, and not with an"
            f" objective. {_WAY_OUT}"
        )
    loss.running = Running(
        loss.objective,
        progress=lambda: recipe.step_scheduler.step / max(recipe.step_scheduler.max_steps, 1),
        tokenizer=lambda: recipe.tokenizer,
        tokenizer_as="dataset.tokenizer",
    )
    loss.running.check()
    trained = recipe._run_train_optim_step

    def step(*arguments: Any, **options: Any) -> Any:
        sample = trained(*arguments, **options)
        metrics = sample if isinstance(sample, dict) else sample.metrics
        returned = float(metrics["loss"])

        def reduce(sums: Tensor) -> Tensor:
            over_ranks = recipe._dp_allreduce(sums.clone(), include_cp=True)
            over_ranks[0] = returned  # reported over all ranks already
            return over_ranks.cpu()

        if loss.ledger.check(returned, reduce):
            recipe._run_train_optim_step = trained
        return sample

    recipe._run_train_optim_step = step


def main() -> None:
    """Run Automodel's fine-tuning recipe with `--config FILE`, and prove its loss."""
    from nemo_automodel.recipes.llm import train_ft  # pyright: ignore[reportMissingImports]

    recipe_class = train_ft.TrainFinetuneRecipeForNextTokenPrediction
    set_up = recipe_class.setup

    def setup(self: Any) -> None:
        set_up(self)
        prove(self)

    recipe_class.setup = setup
    train_ft.main()


if __name__ == "__main__":
    main()
