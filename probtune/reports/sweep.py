"""The page and the sentences of a sweep: objectives, each at the learning rate that suits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..numbers import lead
from . import figures
from .verdict import METRIC_NAMES

__all__ = ["sweep_part", "sweep_sentences"]

_FEW_SEEDS = 3


def sweep_sentences(record: Mapping[str, Any]) -> list[str]:
    """Return the result in words, the objective to take first."""
    results = {result["objective"]: result for result in record["results"]}
    reference, metric = record["reference"], METRIC_NAMES[record["metric"]]
    best = max(results.values(), key=lambda result: result["score"]["value"])
    name, difference = best["objective"], best["difference"]
    if difference is None:
        lines = [f"Use {name}: no other objective has a larger {metric}."]
    elif figures.excludes_zero(difference):
        lines = [f"Use {name}: {lead(difference)} of {metric} against {reference}."]
    else:
        lines = [
            f"Undecided: {name} has the largest {metric}, but {lead(difference)} against"
            f" {reference} does not exclude 0. More seeds or held-out rows would tell."
        ]
    if len(record["seeds"]) == 1:
        lines.append("One seed: another training may turn this around.")
    elif len(record["seeds"]) < _FEW_SEEDS:
        lines.append("Two seeds carry wide intervals only.")
    for result in results.values():
        if result["edge"] is not None:
            side = "below" if result["edge"] == "smallest" else "above"
            lines.append(
                f"{result['objective']} takes the {result['edge']} learning rate that was tried;"
                f" a better one may lie {side} {result['learning_rate']:g}."
            )
    return lines


def sweep_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names in the template."""
    sentences = sweep_sentences(record)
    metric = METRIC_NAMES[record["metric"]]
    rows = [
        (result["objective"], result["difference"])
        for result in record["results"]
        if result["difference"] is not None
    ]
    forest = figures.differences(rows, label=f"{metric} minus that of {record['reference']}")
    return {
        "link": f"{len(record['results'])} objectives, {len(record['learning_rates'])} learning"
        f" rates, {len(record['seeds'])} seeds",
        "headline": sentences[0],
        "title": sentences[0].partition(":")[0].rstrip("."),
        "sentences": sentences,
        "metric": metric,
        "rates": [f"{rate:g}" for rate in record["learning_rates"]],
        "forest": forest if rows else "",
    }
