"""Sums of a trainer since its last log entry, kept with a checkpoint, so that a resumed
training logs what an uninterrupted one would.

transformers starts its sums at zero when it resumes: the next log entry would be a mean over fewer
steps, and the loss of the whole training that of its last part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..files import write_text
from .counts import GroupSums, StepCounts, TokenSums

__all__ = ["Resuming", "save_progress"]


def save_progress(trainer: Any, folder: Path) -> None:
    """Write this rank's sums into a checkpoint; floats as JSON, which keeps every digit."""
    sums = trainer._sums["train"]
    content = {
        "loss": float(trainer._tr_loss),
        "total_loss": trainer._total_loss_scalar,
        "last_logged": trainer._globalstep_last_logged,
        "tokens": trainer._total_train_tokens,
        "metrics": dict(trainer._metrics["train"]),
        "sums": sums.state(),
        "groups": trainer._group_sums["train"].state(),
        "histogram": None if trainer._histogram is None else trainer._histogram.tolist(),
    }
    write_text(folder / _name(trainer), json.dumps(content) + "\n")
    old = trainer._passes.remaining()
    if old:
        torch.save(old, folder / _old_name(trainer))


class Resuming(TrainerCallback):
    """Puts the sums of the checkpoint back when training begins, for one trainer."""

    checkpoint: Path | None = None
    """The checkpoint that training goes on from."""

    def __init__(self, trainer: Any):
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self._trainer
        # auto_find_batch_size begins anew in the middle of a step that did not fit.
        trainer._step, trainer._histogram = StepCounts(), None
        trainer._sums["train"] = TokenSums()
        trainer._group_sums["train"] = GroupSums(trainer.args.groups or ())
        if state.global_step >= state.max_steps:  # of a finished training; there is nothing to do
            control.should_training_stop = True
        if self.checkpoint is None or not (self.checkpoint / _name(trainer)).is_file():
            return
        content = json.loads((self.checkpoint / _name(trainer)).read_text(encoding="utf-8"))
        trainer._tr_loss += content["loss"]
        trainer._total_loss_scalar = content["total_loss"]
        trainer._globalstep_last_logged = content["last_logged"]
        # The mean loss is over all steps then, not over those since the checkpoint.
        trainer._initial_global_step = 0
        trainer._total_train_tokens = content["tokens"]
        for name, values in content["metrics"].items():
            trainer._metrics["train"][name] = values
        trainer._sums["train"].restore(content["sums"], args.device)
        trainer._group_sums["train"].restore(content.get("groups"), args.device)
        if content.get("histogram") is not None:
            trainer._histogram = torch.tensor(content["histogram"], device=args.device)
        path = self.checkpoint / _old_name(trainer)
        if path.is_file():
            trainer._passes.restore(torch.load(path, map_location=args.device, weights_only=True))


def _name(trainer: Any) -> str:
    return f"progress_{trainer.args.process_index}.json"


def _old_name(trainer: Any) -> str:
    return f"old_logprobs_{trainer.args.process_index}.pt"
