"""Gains of the rule of `probtune.probe.after_scout` on the bench: run

    python -m benchmarks.choice.after_scout            print the tables
    python -m benchmarks.choice.after_scout --write    and write after_scout.json, and the documents

The rule takes one objective where wrong rows are seen by a model that knows the data, another where
it knows them and few are wrong, NLL elsewhere. The bench's cells have no scout: its own levels and
rates stand for what a scout finds. A model knows a cell's rows if it is at level 0.5 or above, and
sees wrong ones if at least 8 % of the demonstrations are wrong. The objectives are chosen on the
development cells (`chosen`): the best means of a small family, with two floors. Every objective has
its best learning rate by validation on rows with the cell's own noise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from probtune.probe.after_scout import LEAST_NOISE, TAKEN, Taken
from probtune.probe.choosing import NLL

from ..blocks import Table, write
from . import table
from .regret import accuracy

DOCUMENT = Path(__file__).parents[2] / "docs" / "choice-bench.md"
TARGET = Path(__file__).parents[2] / "probtune" / "probe" / "after_scout.json"
LEAST_LEVEL = 0.5
CANDIDATES = ("power(0.5)", "p()", "affine(0.1, 0.9)", "outlier", "outlier_half")
FAMILY = (NLL, "power(0.3)", "power(0.5)", "p()")
"""Objectives that the rule chooses among: one dial."""
MOST_LOSING, WORST = 0.03, -4.0
"""Floors of the rule on development cells: share of them that lose more than a point to NLL, and
the worst cell, in points."""
METRICS = {"greedy": "accuracy", "sampled": "sampled"}
HELD_OUT = ("family", "kind", "both", "confirmation")


def seen(grid: table.Grid) -> np.ndarray:
    """True for the cells whose wrong rows a scout would see, (C,)."""
    return _knows(grid) & _noisy(grid)


def known_right(grid: table.Grid) -> np.ndarray:
    """True for the cells that a model knows and in which few or no rows are wrong, (C,)."""
    return _knows(grid) & ~_noisy(grid)


def _knows(grid: table.Grid) -> np.ndarray:
    return np.array([cell["level"] >= LEAST_LEVEL for cell in grid.cells])


def _noisy(grid: table.Grid) -> np.ndarray:
    return grid.run["true_noise"].mean(1) >= LEAST_NOISE


def taken(grid: table.Grid, pair: Taken) -> np.ndarray:
    """Index of the objective that a pair takes in each cell, (C,)."""
    right = np.where(known_right(grid), grid.index(pair.right), grid.index(NLL))
    return np.where(seen(grid), grid.index(pair.wrong), right)


def chosen(grid: table.Grid, metric: str, family: tuple[str, ...] = FAMILY) -> Taken:
    """Return the pair of the family with the best mean gain on the development cells, among those
    that keep both floors there.
    """
    cells = grid.where("development")
    best, most = Taken(NLL, NLL), 0.0
    for wrong in family:
        for right in family:
            pair = Taken(wrong, right)
            means = gains(grid, taken(grid, pair)[:, None], metric)[cells].mean(1)
            keeps = (means < -1.0).mean() <= MOST_LOSING and means.min() >= WORST
            if keeps and means.mean() > most:
                best, most = pair, float(means.mean())
    return best


def gains(grid: table.Grid, chosen: int | np.ndarray, metric: str) -> np.ndarray:
    """Gain over NLL in points, (C, S).

    Args:
        chosen: index of the objective that is taken, everywhere or in each run, (C, S).
    """
    values = accuracy(grid, metric=METRICS[metric])
    each = np.broadcast_to(chosen, values.shape[:2])[..., None]
    picked = np.take_along_axis(values, each, -1)[..., 0]
    return 100.0 * (picked - values[..., grid.index("nll()")])


def row(
    grid: table.Grid, objective: str, metric: str, splits: tuple[str, ...], case: str = "wrong"
) -> dict[str, float]:
    """Figures of an objective over the cells of these splits in one case (a field of `Taken`)."""
    everything = grid.where(splits)
    cells = everything[{"wrong": seen, "right": known_right}[case](grid)[everything]]
    single = gains(grid, grid.index(objective), metric)[cells]
    means = single.mean(1)
    low, high = worst_kind(single, np.array([grid.cells[c]["kind"] for c in cells]))
    return {
        "cells": len(cells),
        "of": len(everything),
        "points": round(float(means.mean()), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
        "worst": round(float(means.min()), 2),
        "loses": round(float((means < -1.0).mean()), 3),
    }


def worst_kind(runs: np.ndarray, kinds: np.ndarray) -> tuple[float, float]:
    """Return the 90 % range of single runs in the worst kind of noise: the least of the kinds' 5 %
    quantiles and the largest of their 95 % quantiles.

    Args:
        runs: gains, (C, S).
        kinds: names, (C,).
    """
    ends = [np.quantile(runs[kinds == kind], [0.05, 0.95]) for kind in sorted(set(kinds))]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def rule(grid: table.Grid) -> dict[str, object]:
    """The file that the product reads: 90 % ranges of single runs in the worst kind of noise."""
    figures = {
        case: {
            objective: {metric: row(grid, objective, metric, HELD_OUT, case) for metric in METRICS}
            for objective in sorted({getattr(pair, case) for pair in TAKEN.values()} - {NLL})
        }
        for case in Taken._fields
    }
    return {
        "from": "benchmarks/choice/results.parquet, held-out and confirmation cells; the range is"
        " that of single runs in the worst kind of noise",
        **figures,
    }


def page(grid: table.Grid) -> Table:
    """The table for the document."""
    header = [
        "answers",
        "objective",
        "cells",
        "number",
        "gain [90 %, worst kind]",
        "worst cell",
        "lose > 1",
    ]
    rows = []
    for metric in METRICS:
        for label, splits in (("development", ("development",)), ("held out", HELD_OUT)):
            for objective in CANDIDATES:
                r = row(grid, objective, metric, splits)
                rows.append(
                    [
                        *(metric, f"`{objective}`", label, f"{r['cells']} of {r['of']}"),
                        f"{r['points']:+.1f} [{r['low']:+.1f}, {r['high']:+.1f}]",
                        *(f"{r['worst']:+.1f}", f"{r['loses']:.0%}"),
                    ]
                )
    return header, rows


def text(grid: table.Grid) -> str:
    """The table for the terminal."""
    lines = ["metric   where seen         cells       number   gain  90 %, worst kind  worst  lost"]
    for metric in METRICS:
        for label, splits in (("development", ("development",)), ("held out", HELD_OUT)):
            for objective in CANDIDATES:
                r = row(grid, objective, metric, splits)
                lines.append(
                    f"{metric:8} {objective:18} {label:11} {r['cells']:>6} {r['points']:>6.1f}"
                    f" [{r['low']:>6.1f}, {r['high']:>5.1f}] {r['worst']:>6.1f} {r['loses']:>6.0%}"
                )
    return "\n".join(lines)


def main() -> None:
    from . import policies

    grid = table.load()
    print(text(grid))
    print(policies.text(grid))
    if "--write" in sys.argv[1:]:
        TARGET.write_text(json.dumps(rule(grid), indent=1) + "\n", encoding="utf-8")
        write(DOCUMENT, "after_scout", page(grid))
        write(policies.DOCUMENT, "policies", policies.page(grid))
        second = policies.second(table.load(policies.SECOND), grid)
        write(DOCUMENT, "second confirmation", second)


if __name__ == "__main__":
    main()
