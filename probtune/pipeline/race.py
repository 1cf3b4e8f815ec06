"""The race: where the probe cannot decide between two objectives, each trains for a share of the
planned steps, and rows set aside decide.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.encoding import Encoded
from ..models.loading import token_table
from ..objectives import objective as read_objective
from ..probe.capability import sample
from ..probe.choosing import rank_race
from ..records import read_record, write_record
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import train_stage
from .preparation import Prepared, slug

__all__ = ["race", "set_aside"]

_ROWS = 96
_SHARE = 0.1
"""At most this many rows, and this share of the training rows, are set aside to decide a race."""


def set_aside(prepared: Prepared, *, seed: int) -> tuple[Prepared, Sequence[Encoded]]:
    """Take the rows that decide a race from the training rows; return what is left, and them."""
    rows = prepared.train.rows
    number = min(_ROWS, max(1, math.floor(_SHARE * len(rows))))
    aside = sample(range(len(rows)), number, seed=seed)
    rest = rows.select(sorted(set(range(len(rows))) - set(aside)))
    return replace(prepared, train=replace(prepared.train, rows=rest)), rows.select(aside)


def race(
    folder: Path,
    suggestion: Mapping[str, Any],
    settings: TuneSettings,
    prepared: Prepared,
    aside: Sequence[Encoded],
    terminal: Terminal,
    *,
    planned_steps: int,
) -> dict[str, Any]:
    """Train each objective of the probe's suggestion for a share of the planned steps, and choose
    the best on the rows set aside; it trains on from where it stopped.

    Args:
        folder: the run's.
        prepared: the data without the rows set aside.

    Returns:
        The race's record.
    """
    path = folder / "race.json"
    if path.is_file():
        return read_record(path, "race")
    until = max(1, math.ceil(suggestion["race_share"] * planned_steps))
    scores = {
        name: _leg(folder, name, settings, prepared, aside, terminal, until)
        for name in suggestion["race"]
    }
    first, *rest = rank_race(scores)
    listed = ", ".join(f"{o} {scores[o]['token_accuracy']:.3f}" for o in scores)
    reason = (
        f"{suggestion['reason']} The race after {until} steps, token accuracy on {len(aside)} rows"
        f" set aside: {listed}."
    )
    terminal.say(f"Race: {listed}. Training {first}.")
    content = {
        "objective": first,
        "reason": reason,
        "steps": until,
        "rows": len(aside),
        "scores": scores,
    }
    record = write_record(path, "race", content)
    for name in rest:
        loser = folder / slug(read_objective(name))
        shutil.rmtree(loser / "checkpoints", ignore_errors=True)
    return record


def _leg(
    folder: Path,
    name: str,
    settings: TuneSettings,
    prepared: Prepared,
    aside: Sequence[Encoded],
    terminal: Terminal,
    until: int,
) -> dict[str, float]:
    """Return the scores of an objective on the rows set aside after `until` steps."""
    objective = read_objective(name)
    path = folder / slug(objective) / "race.json"
    if path.is_file():
        return read_record(path, "race-leg")["score"]

    def score(model: Any) -> dict[str, float]:
        import numpy as np

        table = token_table(model, aside)
        mean_p = float(np.exp(table.logp).mean())
        return {"token_accuracy": float(table.is_top1.mean()), "mean_p": mean_p}

    content = train_stage(
        path.parent, objective, settings, prepared, terminal, {}, until=until, measure=score
    )
    return write_record(path, "race-leg", {"score": content})["score"]
