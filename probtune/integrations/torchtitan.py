"""torchtitan: a loss for `ChunkedLossWrapper`, which never stores the logits of a whole batch.

    loss = ChunkedLossWrapper.Config(loss_fn=ObjectiveLoss.Config(objective="power(0.5)"))

`prove(trainer)` before `trainer.train()` compares the loss that the first step reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchtitan.components.loss import (  # pyright: ignore[reportMissingImports]
    IGNORE_INDEX,
    BaseLoss,
    compute_logprobs,
)

from ..errors import UsageError
from ..objectives import objective as read_objective
from .loss import bound_objective, token_loss
from .proof import Ledger, Proof
from .versions import check_version

__all__ = ["ObjectiveLoss", "prove"]


class ObjectiveLoss(BaseLoss):
    """Sum of an objective over a chunk's tokens, divided by those of the whole step. Labels are
    those of torchtitan, shifted already.

    An objective may need the entropy; a chunk never sees the step.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseLoss.Config):
        objective: str = "nll()"
        """Function of the target probability to minimise."""

    def __init__(self, config: Any, *, compile_config: Any = None):
        check_version("torchtitan")
        self.objective = read_objective(config.objective)
        self._entropy = "entropy" in self.objective.needs
        signals = {"entropy": torch.empty(0)} if self._entropy else {}
        bound_objective(self.objective, torch.empty(0), signals)
        proof = Proof(self.objective, engine="torchtitan", ranks="sum")
        self.ledger = Ledger(proof)
        self.fn = self._sum
        self._maybe_compile(compile_config)

    def _sum(self, pred: Tensor, labels: Tensor) -> Tensor:
        signals: dict[str, Tensor] = {}
        if self._entropy:
            logprobs, signals["entropy"] = compute_logprobs(pred, labels, return_entropy=True)
        else:
            logprobs = compute_logprobs(pred, labels)
        mask = labels != IGNORE_INDEX
        if not torch.compiler.is_compiling():
            self.ledger.add(logprobs, mask, signals)
        return token_loss(self.objective, logprobs, mask, 1.0, signals)


def prove(trainer: Any) -> None:
    """Let a torchtitan trainer compare the loss that it reports with the objective, on the first
    step.

    Raises:
        UsageError: the trainer's loss is not an `ObjectiveLoss`, wrapped or not.
    """
    loss = getattr(trainer.loss_fn, "loss_fn", trainer.loss_fn)
    if not isinstance(loss, ObjectiveLoss):
        raise UsageError(
            f"the trainer's loss is {type(loss).__name__} and not ObjectiveLoss; name it in the"
            " configuration: loss=ChunkedLossWrapper.Config(loss_fn=ObjectiveLoss.Config(...))."
        )
    processor = trainer.metrics_processor
    logged = processor.log

    def log(step: int, global_avg_loss: float, *others: Any, **options: Any) -> Any:
        mesh = trainer.parallel_dims.get_optional_mesh("loss")

        def reduce(sums: Tensor) -> Tensor:
            if mesh is None:
                return sums
            returned = sums[0].clone()
            sums = sums.to(trainer.device)
            torch.distributed.all_reduce(sums, group=mesh.get_group())
            sums[0] = returned  # reported over all ranks already
            return sums.cpu()

        loss.ledger.check(global_avg_loss, reduce)
        return logged(step, global_avg_loss, *others, **options)

    processor.log = log
