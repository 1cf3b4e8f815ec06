"""The training that a checkpoint is of, kept with it: another one that went on from it would change
without a word.

Steps, schedule and learning rate may change: to train longer is a reason to go on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..files import write_text
from .sources import check_sources, write_sources

__all__ = ["check_origin", "write_origin"]

_FILE = "training.json"
_WORDS = {
    "objective": "the objective {}",
    "normalizer": "the normalizer {}",
    "accumulation": "accumulation {}",
    "rows": "{} rows of data",
    "sample": "other rows of data",
    "rows_per_step": "{} rows a step (batch size x accumulation x processes)",
    "processes": "{} processes, of which each keeps its part of the old state",
}
_SAMPLE = 64
"""Rows of the data that are compared."""


def write_origin(trainer: Any, folder: Path) -> None:
    """Write what a checkpoint is of, with the code of the user's own objectives."""
    write_sources(folder, trainer.objective)
    write_text(folder / _FILE, json.dumps(_origin(trainer), indent=1) + "\n")


def check_origin(trainer: Any, folder: Path) -> None:
    """Refuse a checkpoint of another training.

    Raises:
        UsageError: with what differs.
    """
    check_sources(folder, trainer.objective)
    path = folder / _FILE
    if not path.is_file():
        return
    origin, own = json.loads(path.read_text(encoding="utf-8")), _origin(trainer)
    for name, value in own.items():
        before = origin.get(name, value)
        if value != before and (name != "processes" or "old" in trainer.objective.needs):
            words = _WORDS[name]
            current = "" if name == "sample" else f", and this has {words.format(value)}"
            raise UsageError(
                f"{folder} is a checkpoint of another training: it has {words.format(before)}"
                f"{current}. Train into another folder, or leave this as it was."
            )


def _origin(trainer: Any) -> dict[str, Any]:
    args, processes = trainer.args, trainer.accelerator.num_processes
    of_data = processes // trainer.get_tp_size() // trainer.get_cp_size()
    rows = trainer.train_dataset
    number = len(rows) if hasattr(rows, "__len__") else None
    return {
        "objective": str(trainer.objective),
        "normalizer": args.normalizer,
        "accumulation": args.accumulation,
        "rows": number,
        "sample": None if number is None else _digest(rows, number),
        "rows_per_step": args.per_device_train_batch_size
        * args.gradient_accumulation_steps
        * of_data,
        "processes": processes,
    }


def _digest(rows: Any, number: int) -> str | None:
    """Return a hash of some rows' tokens; None for rows that are tokenized later."""
    if "input_ids" not in (rows.column_names or ()):
        return None
    chosen = np.unique(np.linspace(0, number - 1, min(_SAMPLE, number)).astype(int)).tolist()
    digest = hashlib.sha256()
    for row in rows.select(chosen).select_columns(["input_ids"]):
        digest.update(np.asarray(row["input_ids"], dtype=np.int64).tobytes() + b"|")
    return digest.hexdigest()
