"""`probtune demo --real`: the choice on a real language model, SmolLM2-135M, by the path of
`probtune tune`.

Two tasks, one that the model knows once it has seen the form of the answers and one that it does
not, each with right answers and with wrong ones. In each of the four cells NLL, -p, power(0.5) and
what `auto` takes are trained on the same rows in the same order, and measured on right held-out
rows. One seed, one learning rate, short rows: an example that fits into minutes on two cores, not a
benchmark. It prints what it measures, whatever that is.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import remove_leftovers
from ..lock import is_fresh, locked
from ..records import environment, read_record, write_record, write_text
from ..reports.report import render
from ..terminal import Terminal

__all__ = ["CELLS", "OBJECTIVES", "RECIPE", "TASKS", "RealCell", "Task", "rows_of", "run"]

MODEL = "smollm2-135m"
OBJECTIVES = ("nll()", "p()", "power(0.5)")
HELD_OUT_ROWS = 96
TRAINING_ROWS = 128
RECIPE: dict[str, Any] = {
    "epochs": 3.0,
    "learning_rate": 1e-3,
    "lora_rank": 16,
    "batch_size": 16,
    "gradient_accumulation": 1,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
}
"""One recipe for every objective and cell. LoRA, because a step of so few tokens costs less than an
optimizer's step over all weights.
"""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Task:
    """Questions with one right answer each."""

    name: str
    what: str
    draw: Callable[[random.Random], Pair]
    """generator -> (prompt, right answer)"""
    knows: bool
    """True if the model could answer before, but for the form."""


def _next_number(rng: random.Random) -> Pair:
    number = rng.randrange(100, 990)
    return f"Which number comes after {number}?\n", str(number + 1)


def _reversed_word(rng: random.Random) -> Pair:
    word = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
    return f"Reverse the word {word}:\n", word[::-1]


TASKS = {
    task.name: task
    for task in (
        Task("next", "the number after a number", _next_number, knows=True),
        Task("reverse", "a made-up word of six letters, backwards", _reversed_word, knows=False),
    )
}


@dataclass(frozen=True)
class RealCell:
    """A task with a share of wrong answers."""

    task: str
    rate: float

    @property
    def name(self) -> str:
        """The cell's name, for folders and tables."""
        return f"{self.task}-{self.rate:g}" if self.rate else f"{self.task}-clean"


CELLS = tuple(RealCell(task, rate) for rate in (0.4, 0.0) for task in TASKS)


def rows_of(cell: RealCell, seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return (training rows, held-out rows) without common questions, the same for every share of
    wrong answers but for those. A wrong answer is that of another training row.
    """
    rng = random.Random(f"{cell.task} {seed}")
    pairs: dict[str, str] = {}
    while len(pairs) < TRAINING_ROWS + HELD_OUT_ROWS:
        pairs.setdefault(*TASKS[cell.task].draw(rng))
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs.items()]
    train, heldout = rows[:TRAINING_ROWS], rows[TRAINING_ROWS:]
    right = [row["completion"] for row in train]
    for index in sorted(rng.sample(range(TRAINING_ROWS), round(cell.rate * TRAINING_ROWS))):
        others = [answer for answer in right if answer != right[index]]
        train[index] = {**train[index], "completion": rng.choice(others)}
    return train, heldout


def run(folder: Path, terminal: Terminal, cells: Sequence[RealCell] = CELLS) -> dict[str, Any]:
    """Run the cells and return the demo's record, also in DIR/record.json, with one report of all
    of it in DIR/report.html. What is finished is not done again.

    Raises:
        UsageError: the folder holds something else, or the model's package is missing.
    """
    with locked(folder):
        return _run(folder, terminal, cells)


def _run(folder: Path, terminal: Terminal, cells: Sequence[RealCell]) -> dict[str, Any]:
    recipe = {"training_rows": TRAINING_ROWS, "held_out_rows": HELD_OUT_ROWS, **RECIPE}
    plan = folder / "plan.json"
    if plan.is_file():
        if read_record(plan, "plan")["recipe"] != recipe:
            raise UsageError(f"{folder} holds a demo with another recipe; choose another --out.")
    elif not is_fresh(folder):
        raise UsageError(f"{folder} exists and is not a demo of probtune; choose another --out.")
    else:
        write_record(plan, "plan", {"recipe": recipe})
    remove_leftovers(folder, below=True)
    rows, records = [], []
    for cell in cells:
        record = _tune(folder, cell, terminal)
        records.append(record)
        rows.append(_summarise(folder, cell, record))
    content = {"model": MODEL, "environment": environment(), "recipe": recipe, "cells": rows}
    whole = write_record(folder / "record.json", "demo-real", content)
    write_text(folder / "report.html", render([whole, *records]))
    return whole


def _tune(folder: Path, cell: RealCell, terminal: Terminal) -> dict[str, Any]:
    """Run a cell as `probtune tune smollm2-135m DATA` would."""
    from ..pipeline import tune
    from ..settings import TuneSettings

    paths = {}
    for name, rows in zip(("train", "heldout"), rows_of(cell), strict=True):
        paths[name] = folder / "data" / f"{cell.name}.{name}.jsonl"
        write_text(paths[name], "".join(json.dumps(row) + "\n" for row in rows))
    settings = TuneSettings(
        model=MODEL,
        data=str(paths["train"]),
        heldout_data=str(paths["heldout"]),
        heldout=float(HELD_OUT_ROWS),
        objective="auto",
        compare=", ".join(OBJECTIVES),
        answer="whole",
        out=str(folder / cell.name),
        **RECIPE,
    )
    path = settings.folder / "record.json"
    if path.is_file():
        return read_record(path, "tune")
    terminal.say(f"\n{cell.name}: {TASKS[cell.task].what}, {cell.rate:.0%} of the answers wrong.")
    started, before = time.monotonic(), time.process_time()
    record = tune(settings, terminal)
    timing = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - before}
    write_record(settings.folder / "timing.json", "timing", timing)
    return record


def _summarise(folder: Path, cell: RealCell, record: dict[str, Any]) -> dict[str, Any]:
    """Return a cell's numbers: every arm's rates, what `auto` took and its regret."""
    arms = {
        run["name"]: {
            **{name: run["heldout"]["metrics"][name] for name in ("exact_match", "sampled")},
            **{name: run["heldout"]["rates"][name] for name in ("stops", "end_p")},
        }
        for run in record["runs"]
    }
    takes = record["choice"]["objective"]
    trained = [name for name in arms if name != "base"]
    regret = {
        metric: max(arms[name][metric]["value"] for name in trained) - arms[takes][metric]["value"]
        for metric in ("exact_match", "sampled")
    }
    noise = record["scout"]["noise"]
    return {
        "name": cell.name,
        "task": TASKS[cell.task].what,
        "knows": TASKS[cell.task].knows,
        "rate": cell.rate,
        "mean_p": record["probe"]["mean_p"],
        "mean_p_after_scout": record["scout"]["probe"]["mean_p"],
        "looks_wrong": noise["share"] if noise["known"] else None,
        "arms": arms,
        "takes": takes,
        "reason": record["choice"]["reason"],
        "regret": regret,
        "timing": read_record(folder / cell.name / "timing.json", "timing"),
        "folder": cell.name,
    }
