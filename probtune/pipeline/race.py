"""Where the probe cannot decide: each candidate is trained for a share of the planned steps, the
best on rows that none of them trains on is chosen, and trains on from where it stopped.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..models.loading import token_table
from ..objectives import objective as read_objective
from ..probe.capability import sample
from ..records import read_record, write_record
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import train_stage
from .preparation import Prepared, slug

__all__ = ["race_stage"]

_ROWS = 96
_SHARE = 0.1
"""At most this many rows, and this share of the training rows, are kept for the comparison."""


def race_stage(
    folder: Path,
    settings: TuneSettings,
    prepared: Prepared,
    probed: dict[str, Any],
    terminal: Terminal,
) -> tuple[Prepared, dict[str, Any]]:
    """Run the race that the probe's suggestion asks for.

    The score is that of the bench behind the suggestion: the share of target tokens that are the
    model's first choice, ties broken by mean p.

    Returns:
        (what is left to train on, for every objective of the run; the race's record).
    """
    rows = prepared.train.rows
    number = min(_ROWS, max(1, math.floor(_SHARE * len(rows))))
    kept = sample(rows, number, seed=settings.seed)
    chosen = {id(row) for row in kept}
    left = tuple(row for row in rows if id(row) not in chosen)
    prepared = replace(prepared, train=replace(prepared.train, rows=left))
    path = folder / "race.json"
    if path.is_file():
        return prepared, read_record(path, "race")
    suggestion = probed["suggestion"]
    until = max(1, math.ceil(suggestion["race_share"] * probed["features"]["steps"]))
    scores: dict[str, dict[str, float]] = {}
    for name in suggestion["race"]:
        done = folder / slug(read_objective(name)) / "race.json"
        if done.is_file():
            scores[name] = read_record(done, "race-leg")["score"]
            continue

        def measure(model: Any) -> dict[str, float]:
            table = token_table(model, kept)
            mean_p = float(np.exp(table.logp).mean())
            return {"token_accuracy": float(table.is_top1.mean()), "mean_p": mean_p}

        found = train_stage(
            done.parent, read_objective(name), settings, prepared, terminal, {},
            until=until, measure=measure,
        )  # fmt: skip
        scores[name] = write_record(done, "race-leg", {"score": found})["score"]
    order = sorted(scores, key=lambda o: (-scores[o]["token_accuracy"], -scores[o]["mean_p"]))
    said = ", ".join(f"{o} {scores[o]['token_accuracy']:.3f}" for o in scores)
    reason = (
        f"{suggestion['reason']} The race after {until} steps, token accuracy on {number} rows set"
        f" aside: {said}."
    )
    terminal.say(f"Race: {said}. Training {order[0]}.")
    record = write_record(
        path,
        "race",
        {"objective": order[0], "reason": reason, "steps": until, "rows": number, "scores": scores},
    )
    for name in order[1:]:
        shutil.rmtree(folder / slug(read_objective(name)) / "checkpoints", ignore_errors=True)
    return prepared, record
