"""A sweep: every objective with every learning rate and seed, and a comparison in which each has
the learning rate that suits it.

A learning rate and a seed are a run of `tune` in a folder of its own, which trains all objectives
from the same rows in the same order. Rates are chosen and results are reported on different rows:
of the held-out rows of a run those at even places choose, by the mean over seeds, and those at odd
places are reported.

    DIR/lr-1e-05-seed-0/   a run of `tune`
    DIR/sweep.json         the record, once all runs are finished
    DIR/report.html        the same to look at, with the runs below

Runs that are finished are not done again; a longer list goes on in the same folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..objectives import objective as read_objective
from ..options import arguments_of
from ..records import environment, read_record, write_record, write_text
from ..reports.report import render
from ..reports.verdict import main_metric, sampled_metric
from ..settings import TuneSettings
from ..statistics import Estimate, mean, paired_difference, two_level_difference
from .launch import Job

__all__ = ["Runs", "gather", "jobs_of", "runs_of", "unfinished"]

Runs = dict[tuple[float, int], TuneSettings]
"""(learning rate, seed) -> settings of its run."""

_ITEMS = {
    "exact_match": "exact",
    "token_accuracy": "top1",
    "sampled": "sampled",
    "mean_p": "p",
}
"""Metric -> the column of a row's result; of `top1` and `p` a row has sums over its tokens."""


def runs_of(
    settings: TuneSettings,
    objectives: Sequence[str],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    folder: Path,
) -> Runs:
    """Return the settings of each run.

    Raises:
        UsageError: an objective or a learning rate is named twice, fewer than two runs could be
            compared, or an objective is chosen anew by every run.
    """
    names = [str(read_objective(text)) for text in objectives if _named(text)]
    for flag, values in (("--objectives", names), ("--learning-rates", list(learning_rates))):
        if len(set(values)) < len(values):
            raise UsageError(f"{flag} names one twice: {', '.join(map(str, values))}.")
        if not values:
            raise UsageError(f"{flag} is empty; name at least one.")
    if len(names) * len(learning_rates) < 2:
        raise UsageError("a sweep compares: name two objectives, or two learning rates.")
    if not all(0 < rate < 1 for rate in learning_rates):
        raise UsageError(
            "--learning-rates must be positive and below 1, got"
            f" {', '.join(f'{rate:g}' for rate in learning_rates)}."
        )
    first, *others = names
    settings = replace(settings, objective=first, compare=", ".join(others))
    return {
        (rate, seed): replace(
            settings, learning_rate=rate, seed=seed, out=str(folder / f"lr-{rate:g}-seed-{seed}")
        )
        for rate in learning_rates
        for seed in seeds
    }


def _named(text: str) -> bool:
    if text == "auto" or text.startswith("select:"):
        raise UsageError(
            f"--objectives {text}: every seed would choose anew, so that there is nothing to"
            " average; name objectives. `probtune probe` says which are worth it."
        )
    return bool(text.strip())


def unfinished(runs: Runs) -> Runs:
    """Return the runs without a record."""
    return {
        key: settings
        for key, settings in runs.items()
        if not (settings.folder / "record.json").is_file()
    }


def jobs_of(runs: Runs) -> list[Job]:
    """Return the command of each run, for a scheduler."""
    return [
        Job((sys.executable, "-m", "probtune", "tune", *arguments_of(settings)), 1)
        for settings in runs.values()
    ]


def gather(runs: Runs, folder: Path) -> dict[str, Any]:
    """Compare the objectives of finished runs, and write the record and the page.

    The uncertainty is that over seeds. Where each seed held out rows of its own, an interval of
    Student's t over seeds holds both sources; where all have the same (--heldout-data), seeds and
    rows are crossed random effects. Of one seed only the rows' uncertainty is known.

    Raises:
        DataError: a run has other settings than the sweep, or too few held-out rows.
    """
    records = {key: _record_of(settings) for key, settings in runs.items()}
    one = next(iter(runs.values()))
    rates = list(dict.fromkeys(rate for rate, _ in runs))
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    metric = _metric(list(records.values()), one.decoding)
    names = [run["name"] for run in next(iter(records.values()))["runs"] if run["train"]]
    rows = {
        (name, *key): _rows(record, name, metric)
        for key, record in records.items()
        for name in names
    }
    number = min(len(values) for values in rows.values())
    if number < 4:
        raise DataError(f"{number} held-out rows are too few to choose and to report; hold out 4.")
    shared = one.heldout_data is not None
    best = {
        name: max(rates, key=lambda rate: _chosen_on(rows, name, rate, seeds)) for name in names
    }
    reference = "nll()" if "nll()" in names else names[0]
    results = []
    for name in names:
        reported = [rows[name, best[name], seed][1::2] for seed in seeds]
        beside = [rows[reference, best[reference], seed][1::2] for seed in seeds]
        by_seed = [float(values.mean()) for values in reported]
        results.append(
            {
                "objective": name,
                "learning_rate": best[name],
                "edge": _edge(best[name], rates),
                "score": mean(by_seed)._asdict(),
                "difference": None
                if name == reference
                else _difference(reported, beside, shared)._asdict(),
                "by_seed": by_seed,
                "by_rate": {f"{rate:g}": _chosen_on(rows, name, rate, seeds) for rate in rates},
            }
        )
    content = {
        "settings": one.to_dict(),
        "environment": environment(),
        "learning_rates": rates,
        "seeds": seeds,
        "metric": metric,
        "reference": reference,
        "reported_rows": number // 2,
        "same_rows": shared,
        "results": results,
        "folders": {f"lr {rate:g}, seed {seed}": s.folder.name for (rate, seed), s in runs.items()},
    }
    record = write_record(folder / "sweep.json", "sweep", content)
    write_text(folder / "report.html", render([record, *records.values()]))
    return record


def _record_of(settings: TuneSettings) -> dict[str, Any]:
    record = read_record(settings.folder / "record.json", "tune")
    different = [
        name
        for name, value in settings.to_dict().items()
        if record["settings"].get(name) != value and name != "objective"
    ]
    if different:
        raise DataError(
            f"{settings.folder} holds a run with other settings ({', '.join(different)}); choose"
            " another --out."
        )
    return record


def _metric(records: Sequence[dict[str, Any]], decoding: str) -> str:
    """Return the metric of all runs: accuracy where any answer of any run is right."""
    of_run = sampled_metric if decoding == "sampled" else main_metric
    metrics = {of_run(record) for record in records}
    return next(name for name in ("exact_match", "sampled", *metrics) if name in metrics)


def _rows(record: dict[str, Any], name: str, metric: str) -> np.ndarray:
    """Return the result of each held-out row; of tokens, their mean."""
    run = next(run for run in record["runs"] if run["name"] == name)
    items = run["heldout"]["items"]
    values = np.asarray(items[_ITEMS[metric]], dtype=np.float64)
    if metric in ("token_accuracy", "mean_p"):
        values = values / np.maximum(np.asarray(items["tokens"], dtype=np.float64), 1.0)
    return values


def _chosen_on(rows: Any, name: str, rate: float, seeds: Sequence[int]) -> float:
    return float(np.mean([rows[name, rate, seed][::2].mean() for seed in seeds]))


def _edge(rate: float, rates: Sequence[float]) -> str | None:
    """Say whether a better rate may lie outside of those that were tried."""
    if len(rates) > 1 and rate in (min(rates), max(rates)):
        return "smallest" if rate == min(rates) else "largest"
    return None


def _difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray], shared: bool) -> Estimate:
    if len(a) == 1:
        return paired_difference(a[0][:, None], b[0][:, None])
    if shared:
        return two_level_difference(
            [values[:, None] for values in a], [values[:, None] for values in b]
        ).random_effects
    return mean([float(x.mean() - y.mean()) for x, y in zip(a, b, strict=True)])
