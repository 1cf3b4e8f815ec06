"""Run the grid in pieces: every (cell, seed) is one file, written whole, and what is there is not
run again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probtune.records import environment
from probtune.terminal import Terminal

from .bases import Bases, Setting, pretrain
from .cell import RATES, Cell, run_cell
from .families import FAMILIES
from .world import Family, World

__all__ = ["Run", "shards"]


class Run:
    """One grid: its folder, size and families."""

    def __init__(
        self,
        out: Path,
        *,
        seeds: Sequence[int] = (0, 1, 2),
        width: int = 32,
        letters: int = 12,
        device: str = "cpu",
        families: dict[str, Callable[[World], Family]] | None = None,
    ):
        if width % 16:
            raise ValueError(f"width must be a multiple of 16, got {width}.")
        if device != "cpu" and not torch.cuda.is_available():
            raise ValueError(f"device {device!r} is not there: torch sees no accelerator; use cpu.")
        self.out, self.seeds, self.width, self.letters = out, tuple(seeds), width, letters
        self.device, self.families = device, {**FAMILIES, **(families or {})}
        self.rates = tuple(rate * math.sqrt(32 / width) for rate in RATES)
        self._bases: dict[tuple[str, int], Bases] = {}

    def path(self, cell: Cell, seed: int) -> Path:
        return self.out / "cells" / f"{cell.name}-{self.width}-{self.letters}-s{seed}.npz"

    def todo(self, cells: Sequence[Cell]) -> list[tuple[Cell, int]]:
        """Cells that are not run yet, in order."""
        every = [(cell, seed) for cell in cells for seed in self.seeds]
        return [(cell, seed) for cell, seed in every if not self.path(cell, seed).is_file()]

    def all(self, cells: Sequence[Cell], terminal: Terminal, *, limit: int | None = None) -> int:
        """Run what is missing, at most `limit` of it; returns how many were run."""
        todo = self.todo(cells)[:limit]
        with terminal.track("cells x seeds", len(todo)) as advance:
            for cell, seed in todo:
                self.one(cell, seed)
                advance(note=cell.name)
        return len(todo)

    def one(self, cell: Cell, seed: int) -> None:
        """Run one cell with one seed and write its file."""
        setting = self._setting(cell.family, seed)
        bases = self._base(cell.family, seed, setting)
        if cell.level not in bases.levels:
            _write(self.path(cell, seed), {**cell.__dict__, "seed": seed, "failed": bases.failure})
            return
        record, arrays = run_cell(
            setting, bases.levels[cell.level], cell, seed, rates=self.rates, device=self.device
        )
        record |= {
            "letters": self.letters,
            "pretraining_steps": [bases.steps, bases.steps_new],
            "environment": environment(),
        }
        _write(self.path(cell, seed), record, arrays)

    def _setting(self, family: str, seed: int) -> Setting:
        if family not in self.families:
            raise ValueError(f"no family {family!r}; known: {', '.join(self.families)}.")
        return Setting.of(self.families[family], seed, width=self.width, letters=self.letters)

    def _base(self, family: str, seed: int, setting: Setting) -> Bases:
        """From memory, from disk, or trained now."""
        key = (family, seed)
        if key not in self._bases:
            name = f"{family}-{self.width}-{self.letters}-s{seed}.pt"
            path = self.out / "bases" / name
            if path.is_file():
                self._bases[key] = Bases(**torch.load(path, weights_only=True))
            else:
                bases = pretrain(setting, seed, device=self.device)
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(bases.__dict__, path.with_suffix(".part"))
                os.replace(path.with_suffix(".part"), path)
                self._bases[key] = bases
        return self._bases[key]


def _write(path: Path, record: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    small = {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in (arrays or {}).items()
    }
    with open(part, "wb") as file:
        np.savez_compressed(file, record=np.array(json.dumps(record)), **small)
    os.replace(part, path)


def shards(folder: Path):
    """Return every finished (record, arrays) under a folder, in the order of their names."""
    for path in sorted((folder / "cells").glob("*.npz")):
        with np.load(path) as data:
            arrays = {name: data[name] for name in data.files if name != "record"}
            yield json.loads(str(data["record"])), arrays
