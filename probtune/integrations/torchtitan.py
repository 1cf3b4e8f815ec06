"""torchtitan: a loss for `ChunkedLossWrapper`, which never stores the logits of a whole batch.

    loss = ChunkedLossWrapper.Config(loss_fn=ObjectiveLoss.Config(objective="power(0.5)"))

`prove(trainer)` before `trainer.train()` compares the loss that the first step reports, and tells
the loss the share of the steps that is done and the special tokens, for `anneal(...)` and
`nll_on_special(...)`.
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
from .loss import logprobs_objective, token_loss
from .proof import Ledger, Proof
from .running import OFFERED, Running, in_force
from .versions import check_version

__all__ = ["ObjectiveLoss", "prove"]

_WAY_OUT = "Call probtune.integrations.torchtitan.prove(trainer) before trainer.train()."


class ObjectiveLoss(BaseLoss):
    """Sum of an objective over a chunk's tokens, divided by those of the whole step. Labels are
    those of torchtitan, shifted already.

    An objective may need the entropy, and after `prove` the share of the steps that is done and
    which tokens are special; a chunk never sees the step. An objective that changes over the steps
    is not compiled.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseLoss.Config):
        objective: str = "nll()"
        """Function of the target probability to minimise."""

    def __init__(self, config: Any, *, compile_config: Any = None):
        check_version("torchtitan")
        self.objective = logprobs_objective(config.objective, OFFERED | {"entropy"})
        self.ledger = Ledger(Proof(self.objective, engine="torchtitan", ranks="sum"))
        self.running: Running | None = None
        self.fn = self._sum
        if "progress" not in self.objective.kinds:
            self._maybe_compile(compile_config)
        self._compiled, self.fn = self.fn, self._first

    def _first(self, pred: Tensor, labels: Tensor) -> Tensor:
        """As it is until the loss is proven, compiled afterwards."""
        return (self._sum if self._examined else self._compiled)(pred, labels)

    @property
    def _examined(self) -> bool:
        return self.running is not None and not self.ledger.proof.proven

    def _sum(self, pred: Tensor, labels: Tensor) -> Tensor:
        f, signals = in_force(self.running, self.objective, labels, way_out=_WAY_OUT)
        if "entropy" in f.needs:
            logprobs, signals["entropy"] = compute_logprobs(pred, labels, return_entropy=True)
        else:
            logprobs = compute_logprobs(pred, labels)
        mask = labels != IGNORE_INDEX
        if self._examined:
            self.ledger.add(logprobs, mask, signals, f)
        return token_loss(f, logprobs, mask, 1.0, signals)


def prove(trainer: Any) -> None:
    """Let a torchtitan trainer tell its loss of steps and special tokens, and compare the loss that
    it reports with the objective, on the first step.

    Raises:
        UsageError: the trainer's loss is not an `ObjectiveLoss`, wrapped or not.
    """
    loss = getattr(trainer.loss_fn, "loss_fn", trainer.loss_fn)
    if not isinstance(loss, ObjectiveLoss):
        raise UsageError(
            f"the trainer's loss is {type(loss).__name__} and not ObjectiveLoss; name it in the"
            " configuration: loss=ChunkedLossWrapper.Config(loss_fn=ObjectiveLoss.Config(...))."
        )
    loss.running = Running(
        loss.objective,
        progress=lambda: (trainer.step - 1) / max(trainer.config.training.steps, 1),
        tokenizer=lambda: getattr(trainer.tokenizer, "tokenizer", trainer.tokenizer),
    )
    loss.running.check()
    trained, processor = trainer.train_step, trainer.metrics_processor
    logged = processor.log

    def train_step(*arguments: Any, **options: Any) -> Any:
        loss.ledger.clear()  # a step that is not logged is not compared
        return trained(*arguments, **options)

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

    trainer.train_step, processor.log = train_step, log
