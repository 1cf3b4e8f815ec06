"""Weights of the training rows by two scouts, for objectives that weigh sequences (`inliers`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from ..models.loading import load_model
from ..models.ranks import ALONE, Ranks
from ..objectives import Objective
from ..probe.features import LEAST_WEIGHT
from ..probe.scout import steps_of, trained_on
from ..probe.weighing import weigh
from ..settings import TuneSettings
from ..statistics import wilson
from ..terminal import Terminal
from .probing import plan_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NEEDED_BY", "in_words", "weigh_rows", "weighed_by_scouts", "weights_of_rows"]

NEEDED_BY = "sequence_weight"
"""The signal that the weights are."""


def weighed_by_scouts(settings: TuneSettings, objectives: Sequence[Objective]) -> bool:
    """True if one of the objectives weighs sequences, and scouts judge the rows."""
    return settings.scouts_weigh and any(NEEDED_BY in o.needs for o in objectives)


def weigh_rows(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Weigh the training rows, and return what the record holds: how many look wrong, and which,
    worst first.
    """
    started = time.monotonic()
    model = load_model(settings.model, dtype=settings.measured_as)
    halves = (len(rows) // 2, len(rows) - len(rows) // 2)
    of_scouts = sum(trained_on(half, steps_of(half, settings.scout_steps)) for half in halves)
    with terminal.track("two scouts weigh the training rows", of_scouts + len(rows)) as advance:
        weighed = weigh(
            model,
            tokenizer,
            rows,
            seed=settings.seed,
            steps=settings.scout_steps,
            planned_steps=plan_of(settings, len(rows), ranks).steps,
            ranks=ranks,
            progress=advance,
        )
    return {
        "rows": len(rows),
        "known": float(weighed.certain.mean()),
        "share": wilson((weighed.weights < 1.0).astype(float))._asdict(),
        "steps": list(weighed.steps),
        "wrong": [
            {
                "row": i,
                "where": rows[i].where,
                "excess": float(weighed.excess[i]),
                "cut_short": bool(weighed.cut_short[i]),
                "echo": bool(weighed.echoes[i]),
            }
            for i in weighed.wrong_first()
        ],
        "weight": LEAST_WEIGHT,
        "seconds": time.monotonic() - started,
    }


def weights_of_rows(record: Mapping[str, Any] | None) -> list[float] | None:
    """Return the weight of every training row; None without a record."""
    if record is None:
        return None
    weights = np.ones(record["rows"])
    weights[[row["row"] for row in record["wrong"]]] = record["weight"]
    return weights.tolist()


def in_words(record: Mapping[str, Any]) -> str:
    """Return the number of rows that look wrong, in words."""
    wrong, rows = len(record["wrong"]), record["rows"]
    if record["known"] == 0.0:
        return (
            "Two scouts could not tell wrong rows from new ones: all training rows keep the weight"
            " 1, and inliers(f) is f."
        )
    said = f"{wrong} of {rows} training rows look wrong and weigh {record['weight']:g}."
    if record["known"] < 1.0:
        said += f" Of {1.0 - record['known']:.0%} of the rows it could not be told."
    return said
