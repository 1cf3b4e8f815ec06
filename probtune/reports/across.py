"""Several tune runs beside each other: their models in one table, their curves in one chart, and
pairs of models by row where two runs were measured on the same held-out rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .verdict import METRIC_NAMES, main_metric

__all__ = ["across"]

_Record = Mapping[str, Any]
_MOST_PAIRS = 60


def across(records: Sequence[_Record]) -> dict[str, Any] | None:
    """Return what the overview of several tune runs shows; None for fewer than two.

    `rows`: a model of a run each; `metrics`; `pairs`: for runs on the same held-out rows, the
    difference to the first run's model of the same objective, paired by row.
    """
    runs = [record for record in records if record["kind"] == "tune"]
    if len(runs) < 2:
        return None
    names = _names(runs)
    metrics = [
        metric
        for metric in METRIC_NAMES
        if all(metric in run["heldout"]["metrics"] for record in runs for run in record["runs"])
    ]
    rows = [
        {
            "run": name,
            "model": run["name"],
            "seed": record["settings"].get("seed"),
            "metrics": run["heldout"]["metrics"],
        }
        for name, record in zip(names, runs, strict=True)
        for run in record["runs"]
    ]
    series = {
        f"{name}: {run['name']}": run["train"]["log"]
        for name, record in zip(names, runs, strict=True)
        for run in record["runs"]
        if run["train"]
    }
    return {
        "rows": rows,
        "metrics": metrics,
        "pairs": _pairs(names, runs),
        "curves": [
            figures.curves(
                {
                    name: [(e["step"], e[key]) for e in log if key in e and "step" in e]
                    for name, log in series.items()
                },
                label=label,
            )
            for key, label in (("nll", "NLL (training rows)"), ("mean_p", "mean p (training rows)"))
        ],
    }


def _names(runs: Sequence[_Record]) -> list[str]:
    """Return a short name for each run: what its settings have that the others have not."""
    differing = [
        key
        for key in runs[0]["settings"]
        if len({str(run["settings"].get(key)) for run in runs}) > 1
    ]
    short = [key for key in ("seed", "learning_rate", "model", "data") if key in differing]
    names = []
    for number, run in enumerate(runs, start=1):
        words = [f"{key} {_last(str(run['settings'].get(key)))}" for key in short[:2]]
        names.append(f"{number}: {', '.join(words)}" if words else str(number))
    return names


def _last(text: str) -> str:
    return text.rstrip("/").rpartition("/")[2][:24]


def _pairs(names: Sequence[str], runs: Sequence[_Record]) -> list[dict[str, Any]]:
    from ..statistics import paired_ratio_difference

    first = {run["name"]: run["heldout"]["items"] for run in runs[0]["runs"]}
    pairs = []
    metric = main_metric(runs[0])
    key = {"exact_match": "exact", "token_accuracy": "top1"}[metric]
    for name, record in list(zip(names, runs, strict=True))[1:]:
        if not _same_rows(runs[0], record):
            continue
        for run in record["runs"]:
            ours, theirs = run["heldout"]["items"], first.get(run["name"])
            if theirs is None or run["name"] == "base" or key not in ours or key not in theirs:
                continue
            counts = ours["tokens"] if key == "top1" else [1] * len(ours["tokens"])
            difference = paired_ratio_difference(
                [float(x) for x in ours[key]], [float(x) for x in theirs[key]], counts
            )
            pairs.append(
                {
                    "name": f"{run['name']}: {name} - {names[0]}",
                    "metric": METRIC_NAMES[metric],
                    "difference": difference._asdict(),
                }
            )
    return pairs[:_MOST_PAIRS]


def _same_rows(one: _Record, other: _Record) -> bool:
    """True if two runs were measured on the same held-out rows, in the same order."""

    def rows(record: _Record) -> list[tuple[Any, Any]]:
        return [(item["prompt"], item["reference"]) for item in record["data"]["items"]]

    tokens = [r["runs"][0]["heldout"]["items"]["tokens"] for r in (one, other)]
    return tokens[0] == tokens[1] and rows(one) == rows(other)
