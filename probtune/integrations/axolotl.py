"""axolotl: a plug-in.

plugins:
  - probtune.integrations.axolotl.Plugin
probtune_objective: power(0.5)
"""

from __future__ import annotations

from typing import Any

from axolotl.integrations.base import BasePlugin  # pyright: ignore[reportMissingImports]
from pydantic import BaseModel

from ..errors import UsageError
from .loss import logits_objective
from .running import OFFERED
from .transformers_trainer import use_objective
from .versions import check_version

__all__ = ["Arguments", "Plugin"]

_OTHER_LOSSES = (
    "use_eaft",
    "orpo_alpha",
    "liger_fused_linear_cross_entropy",
    "liger_use_token_scaling",
    "cut_cross_entropy",
    "chunked_cross_entropy",
    "context_parallel_size",
    "label_smoothing_factor",
)
"""Keys that put another loss in the objective's place, or leave no logits."""


class Arguments(BaseModel):
    """Keys of the configuration."""

    probtune_objective: str | None = None


class Plugin(BasePlugin):
    """Trains the objective that `probtune_objective` names."""

    def get_input_args(self) -> str:
        return "probtune.integrations.axolotl.Arguments"

    def register(self, cfg: Any) -> None:
        """Refuse a configuration whose loss would be another one, before anything is loaded.

        Raises:
            UsageError: with the key; ObjectiveError: the objective cannot be read.
        """
        check_version("axolotl")
        objective = cfg.get("probtune_objective")
        if not objective:
            raise UsageError(
                "probtune.integrations.axolotl.Plugin needs an objective: write"
                " probtune_objective: power(0.5)."
            )
        logits_objective(objective, OFFERED)
        for key in _OTHER_LOSSES:
            value = cfg.get(key)
            if value and not (key == "context_parallel_size" and value == 1):
                raise UsageError(
                    f"{key}: {value!r} takes another loss, or leaves no logits, and"
                    f" {objective} would not be trained; remove one of them."
                )

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        self.register(cfg)
        use_objective(trainer, cfg.get("probtune_objective"), engine="axolotl")
