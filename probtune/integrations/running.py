"""Signals of a running trainer: the share of the steps that is done, and which targets are special
tokens. So `anneal(...)` and `nll_on_special(...)`, which `auto` writes, train in every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data.chat import added_tokens
from ..errors import ObjectiveError
from ..objectives import Objective

__all__ = ["OFFERED", "Running", "in_force", "running_in"]

OFFERED = frozenset({"progress", "special"})
"""Signals that such a trainer offers besides those of the logits."""


class Running:
    """An objective in a trainer that runs.

    Args:
        progress: returns the share of the optimizer steps that is done.
        tokenizer: returns the tokenizer, of transformers or of tokenizers; None if the trainer has
            none.
        tokenizer_as: the argument by which the trainer gets one, for an error.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        progress: Callable[[], float],
        tokenizer: Callable[[], Any],
        tokenizer_as: str = "processing_class=",
    ):
        self.objective = objective
        self._tokenizer_as = tokenizer_as
        self._progress, self._tokenizer = progress, tokenizer
        self._special: Tensor | None = None

    def check(self) -> None:
        """Raise ObjectiveError if the trainer cannot offer what the objective needs: as soon as the
        trainer is whole, before any step.
        """
        if "special" in self.objective.kinds:
            self._special = self._special_tokens()

    def objective_now(self) -> Objective:
        """Return the objective in force, at the share of the optimizer steps that is done."""
        if "progress" not in self.objective.kinds:
            return self.objective
        return self.objective.at(self._progress())

    def signals(self, objective: Objective, targets: Tensor) -> dict[str, Tensor]:
        """Return what an objective in force needs besides the logits, in the shape of targets."""
        if "special" not in objective.needs:
            return {}
        if self._special is None or self._special.device != targets.device:
            self._special = self._special_tokens().to(targets.device)
        return {"special": torch.isin(targets, self._special)}

    def _special_tokens(self) -> Tensor:
        tokenizer = self._tokenizer()
        if tokenizer is None:
            raise ObjectiveError(
                f"{self.objective} needs to know which tokens are special, and the trainer has no"
                f" tokenizer; give it as {self._tokenizer_as}."
            )
        of_tokenizers = getattr(tokenizer, "get_added_tokens_decoder", None)
        added = added_tokens(tokenizer) if of_tokenizers is None else of_tokenizers()
        return torch.tensor(sorted(added))


def in_force(
    running: Running | None, objective: Objective, targets: Tensor, *, way_out: str
) -> tuple[Objective, dict[str, Tensor]]:
    """Return the objective in force and its signals, for a loss that an engine builds before its
    trainer.

    Args:
        running: None until the trainer is known.
        targets: as in `Running.signals`.
        way_out: how to make it known, for an error.

    Raises:
        ObjectiveError: the objective needs a trainer that is not known.
    """
    if running is None:
        if OFFERED & objective.kinds:
            raise ObjectiveError(
                f"{objective} needs the steps of the training or its special tokens, and this loss"
                f" knows of no trainer. {way_out}"
            )
        return objective, {}
    now = running.objective_now()
    return now, running.signals(now, targets)


def running_in(trainer: Any, objective: Objective) -> Running:
    """Return an objective in a `transformers.Trainer`, or in what inherits from it."""

    def progress() -> float:
        return trainer.state.global_step / max(trainer.state.max_steps, 1)

    def tokenizer() -> Any:
        # A processor has one, and so has the template of ms-swift.
        of = getattr(trainer, "processing_class", None) or getattr(trainer, "template", None)
        return getattr(of, "tokenizer", of)

    return Running(objective, progress=progress, tokenizer=tokenizer)
