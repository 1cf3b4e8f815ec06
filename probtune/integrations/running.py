"""Signals of a running trainer: the share of the steps that is done, and which targets are special
tokens. So `anneal(...)` and `nll_on_special(...)`, which `auto` writes, train in any engine that
inherits from `transformers.Trainer`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.chat import added_tokens
from ..errors import ObjectiveError
from ..objectives import Objective

__all__ = ["OFFERED", "Running"]

OFFERED = frozenset({"progress", "special"})
"""Signals that such a trainer offers besides those of the logits."""


class Running:
    """An objective in a trainer that runs."""

    def __init__(self, trainer: Any, objective: Objective):
        self.trainer, self.objective = trainer, objective
        self._special: Tensor | None = None

    def check(self) -> None:
        """Raise ObjectiveError if the trainer cannot offer what the objective needs: as soon as the
        trainer is whole, before any step.
        """
        if "special" in self.objective.kinds:
            _special_tokens(self.trainer, self.objective)

    def objective_now(self) -> Objective:
        """Return the objective in force, at the share of the optimizer steps that is done."""
        if "progress" not in self.objective.kinds:
            return self.objective
        state = self.trainer.state
        return self.objective.at(state.global_step / max(state.max_steps, 1))

    def signals(self, objective: Objective, labels: Tensor) -> dict[str, Tensor]:
        """Return what an objective in force needs besides the logits, in the shape of labels."""
        if "special" not in objective.needs:
            return {}
        if self._special is None or self._special.device != labels.device:
            self._special = _special_tokens(self.trainer, self.objective).to(labels.device)
        return {"special": torch.isin(labels, self._special)}


def _special_tokens(trainer: Any, objective: Objective) -> Tensor:
    """Return their ids; ms-swift keeps the tokenizer in its template."""
    processor = getattr(trainer, "processing_class", None) or getattr(trainer, "template", None)
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer is None:
        raise ObjectiveError(
            f"{objective} needs to know which tokens are special, and the trainer has no tokenizer;"
            " give it as processing_class=."
        )
    return torch.tensor(sorted(added_tokens(tokenizer)))
