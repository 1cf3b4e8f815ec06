"""`metrics.jsonl`, the log entries of a training as they come, and a training's turn in its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["HELDOUT", "MetricsFile", "Turn", "read_metrics"]

HELDOUT = ("nll", "mean_p", "mean_token_accuracy")
"""Numbers of the held-out rows during training."""


@dataclass(frozen=True)
class Turn:
    """Position of a training among those of its run."""

    number: int = 1
    of: int = 1
    between: float = 0.0
    """Seconds between two trainings: the measurement of a model."""

    def left(self, training: float, whole_training: float) -> float:
        """Return the seconds that are left of the run.

        Args:
            training: seconds that are left of this training.
            whole_training: seconds of a training from its first step to its last.
        """
        after = self.of - self.number
        return training + self.between + after * (whole_training + self.between)


class MetricsFile:
    """Log entries as JSON lines, each on the disk as soon as it is there."""

    def __init__(self, path: Path):
        self._path = path

    def begin(self, step: int) -> None:
        """Keep the entries up to a step, after which training goes on; not the sum at the end of a
        training, which is written again.
        """
        kept_lines = [
            entry
            for entry in read_metrics(self._path)
            if entry["step"] < step
            or (entry["step"] == step and ("loss" in entry or "heldout" in entry))
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(_line(entry) for entry in kept_lines), encoding="utf-8")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a `metrics.jsonl`; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"
