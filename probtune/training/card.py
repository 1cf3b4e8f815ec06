"""The card that a trainer writes: what it knows of its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.adapters import is_adapted
from ..models.card import Card, Measured, model_card
from ..records import environment

__all__ = ["card_of_trainer"]

_SHOWN = (
    *("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "weight_decay", "normalizer", "seed"),
)
_EVALUATED = {"mean_p": "mean_p", "nll": "nll", "mean_token_accuracy": "token_accuracy"}


def card_of_trainer(
    trainer: Any, model_name: str | None, dataset_name: str | None, tags: Sequence[str]
) -> str:
    """Return the card of a trainer's model, with the results of its last evaluation if it had one.

    Arguments as in TRL's `create_model_card`.
    """
    args, config = trainer.args, trainer.model.config
    title = model_name or (args.hub_model_id or Path(args.output_dir).resolve().name).split("/")[-1]
    shown = {name: getattr(args, name) for name in _SHOWN}
    rows = trainer.train_dataset
    return model_card(
        Card(
            objective=trainer.objective,
            base=getattr(config, "_name_or_path", "") or "a model made in Python",
            title=title,
            adapter=is_adapted(trainer.model),
            data=dataset_name or "",
            rows=len(rows) if dataset_name and hasattr(rows, "__len__") else 0,
            heldout=_evaluated(trainer),
            hyperparameters={k: v for k, v in shown.items() if v is not None and v != -1},
            versions=environment()["versions"],
            tags=tuple(dict.fromkeys((*trainer._tag_names, *tags))),
        )
    )


def _evaluated(trainer: Any) -> tuple[Measured, ...]:
    """Return the numbers of the last evaluation; they have no interval."""
    entries = [entry for entry in trainer.state.log_history if "eval_nll" in entry]
    if not entries:
        return ()
    metrics = {
        name: {"value": entries[-1][f"eval_{logged}"], "low": None, "high": None}
        for logged, name in _EVALUATED.items()
    }
    rows = trainer.eval_dataset
    number = len(rows) if hasattr(rows, "__len__") else 0
    return (Measured(str(trainer.objective), metrics, number),)
