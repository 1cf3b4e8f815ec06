"""unsloth: one call on a trainer whose model unsloth has compiled.

    model, tokenizer = FastLanguageModel.from_pretrained(...)
    trainer = SFTTrainer(model, ...)
    use_objective(trainer, "power(0.5)")

unsloth's fused cross-entropy takes the loss whenever it may; the proof on the first step says if it
did. Packing is off, since the logits are needed.
"""

from __future__ import annotations

import os
from typing import Any

from ..objectives import Objective
from .transformers_trainer import ObjectiveLoss
from .transformers_trainer import use_objective as of_trainer
from .versions import check_version

__all__ = ["use_objective"]

_WAY_OUT = (
    "unsloth's fused cross-entropy has taken the loss. Set UNSLOTH_RETURN_LOGITS=1 before unsloth"
    " is imported, or train with ProbTuneTrainer on a model without unsloth."
)


def use_objective(trainer: Any, objective: Objective | str) -> ObjectiveLoss:
    """Let a trainer of an unsloth model minimise an objective; see `transformers_trainer`."""
    check_version("unsloth")
    os.environ["UNSLOTH_RETURN_LOGITS"] = "1"
    return of_trainer(trainer, objective, engine="unsloth", way_out=_WAY_OUT)
