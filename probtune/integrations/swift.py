"""ms-swift: a loss type, registered in a file of two lines.

# probtune_loss.py
from probtune.integrations.swift import register
register("power(0.5)")

swift sft --external_plugins probtune_loss.py --loss_type probtune ...
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..kernels import IGNORE_INDEX
from ..kernels import loss as logits_loss
from ..objectives import Objective, Signals
from ..objectives import objective as read_objective
from .loss import logits_objective
from .proof import prove_trainer
from .running import OFFERED, Running, running_in
from .versions import check_version

__all__ = ["NAME", "objective_loss", "prove", "register"]

NAME = "probtune"
"""The value of `--loss_type`."""

_WAY_OUT = (
    "Leave out --enable_dft_loss, --use_liger_kernel and --sequence_parallel_size, and see that"
    " --loss_type probtune is there."
)


def register(objective: Objective | str) -> None:
    """Make `--loss_type probtune` train an objective.

    Raises:
        UsageError: under Megatron, whose trainer reads no loss type for language models.
        ObjectiveError: the objective needs more than a batch's logits.
    """
    f = logits_objective(objective, OFFERED)
    if "megatron" in sys.argv[0].lower() or "swift.megatron" in sys.modules:
        raise UsageError(
            f"ms-swift's Megatron trainer reads no --loss_type for language models: it would train"
            f" NLL and not {f}; use swift sft, or verl's Megatron back end."
        )
    check_version("swift")
    from swift.loss import loss_map  # pyright: ignore[reportMissingImports]
    from swift.loss.base import BaseLoss  # pyright: ignore[reportMissingImports]

    loss_map[NAME] = objective_loss(f, BaseLoss)


def objective_loss(objective: Objective, base: type[Any]) -> type[Any]:
    """Return the loss class of an objective, as a subclass of ms-swift's `BaseLoss`."""

    class ObjectiveLoss(base):
        """Sum of the objective over a micro-batch, divided by the tokens of the whole step."""

        def __init__(self, args: Any, trainer: Any):
            super().__init__(args, trainer)
            if self.is_megatron:
                raise UsageError(f"Megatron would train NLL and not {objective}; use swift sft.")
            for name in ("enable_dft_loss", "use_liger_kernel"):
                if getattr(args, name, False):
                    raise UsageError(f"--{name} takes another loss than {objective}; leave it out.")
            self.running = prove(trainer, objective)

        def __call__(
            self,
            outputs: Any,
            labels: Tensor,
            *,
            num_items_in_batch: Any = None,
            loss_scale: Tensor | None = None,
            **others: Any,
        ) -> Tensor:
            count = num_items_in_batch
            if count is None:
                count = (labels[..., 1:] != IGNORE_INDEX).sum()
            count = torch.as_tensor(count, device=outputs.logits.device).clamp(min=1)
            now = self.running.objective_now()
            signals = self.running.signals(now, labels)
            if loss_scale is not None:
                shifted = {name: x[..., 1:] for name, x in signals.items()}
                bound = now.bind(Signals(shifted))
                return self._scaled(bound, outputs.logits, labels, loss_scale, count)
            return logits_loss(
                outputs.logits, labels, now, num_items_in_batch=count, signals=signals
            )

        def _scaled(
            self, f: Objective, logits: Tensor, labels: Tensor, loss_scale: Tensor, count: Tensor
        ) -> Tensor:
            """Weight each token by ms-swift's `loss_scale`, from the logits: the loss that it
            hands over is multiplied by the scale already, so that it holds no probability.
            """
            targets = labels[..., 1:]
            mask = targets != IGNORE_INDEX
            logs = logits[..., :-1, :].float().log_softmax(-1)
            logp = logs.gather(-1, torch.where(mask, targets, 0).unsqueeze(-1)).squeeze(-1)
            value = f.value(torch.where(mask, logp, 0.0))
            scale = loss_scale.reshape(labels.shape)[..., 1:].to(value.dtype)
            return torch.where(mask, value * scale, 0.0).sum() / count

    return ObjectiveLoss


def prove(trainer: Any, objective: Objective | str) -> Running:
    """Let ms-swift's trainer prove its loss on the first step."""
    running = running_in(trainer, read_objective(objective))
    prove_trainer(trainer, running, engine="ms-swift", way_out=_WAY_OUT)
    return running
