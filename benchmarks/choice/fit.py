"""Fit the rules of `probtune.choosing` on the development cells, and nothing else.

Two small models of the gain over NLL of a few candidate objectives: `regimes`, a shallow tree whose
leaves state the mean gain of the development cells that fell in; and `linear`, ridge regression.
Which of them `auto` uses, and every other number, is settled by leaving one development family out
at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import probtune
from probtune import choosing
from probtune.records import environment, write_text

from .evaluate import index_of, race_scores
from .regret import accuracy, crossed_regret
from .table import Grid, file_hash, load

__all__ = ["CANDIDATES", "METRIC", "RULE", "Rows", "crossvalidate", "fit_linear", "fit_tree", "write"]

RULE = Path(probtune.__file__).with_name("choosing.json")

CANDIDATES = (
    "power(0.3)",
    "power(0.5)",
    "p()",
    "cayley(mean_p)",
    "tailr(0.1)",
    "floor(0.2, tailr(0.1))",
    "affine(0.1, 0.9)",
)
"""Objectives of the product that a rule may name besides NLL."""

CLIP = 15.0
"""Points: gains and losses beyond count as this much in a fit; how far beyond decides nothing."""

_RIDGE = 3.0
_LEAST_CELLS = 7
"""Fewest development cells in a leaf."""

_THRESHOLDS = 24
"""Most thresholds tried per term."""

_LEAVES = (2, 3, 4, 5, 6)
_MOST_LOST = (1.0, 2.0, 4.0, 8.0, 100.0)
_WORTH = (1.0, 2.0, 1000.0)
"""1000 points: never race."""
_RACE_SHARE = 0.1
_TIMES = (0.1, 0.3, 1.0, 3.0, 10.0)


METRIC = {"greedy": "accuracy", "sampled": "sampled"}
"""The rule's name of a metric -> the table's."""


class Rows:
    """Development cells as rows of a regression: one per cell and seed."""

    def __init__(self, grid: Grid, cells: Sequence[int], metric: str = "greedy"):
        reached = accuracy(grid, metric=METRIC[metric])
        gains = 100.0 * (reached - reached[..., [grid.index("nll()")]])
        self.values, self.metric = reached[np.asarray(cells)], metric
        self.grid, self.cells = grid, np.asarray(cells)
        self.features = [grid.features[c][s] for c in cells for s in range(len(grid.seeds))]
        x = [choosing.terms(f) for f in self.features]
        self.names = tuple(x[0])
        self.x = np.array([[row[n] for n in self.names] for row in x])
        columns = [grid.index(o) for o in CANDIDATES]
        self.gains = gains[self.cells][:, :, columns].reshape(len(x), -1)
        self.cell = np.repeat(self.cells, len(grid.seeds))
        self.family = np.array([grid.cells[c]["family"] for c in self.cell])


def fit_tree(rows: Rows, keep: np.ndarray, *, leaves: int) -> dict[str, Any]:
    """A regression tree on the clipped gains of all candidates, split best first."""
    gains = rows.gains.clip(-CLIP, CLIP)

    def spread(among: np.ndarray) -> float:
        return float(((gains[among] - gains[among].mean(0)) ** 2).sum())

    def split(among: np.ndarray) -> tuple[float, int, float] | None:
        """(gain in spread, term, threshold) of the best split, or None."""
        best = None
        for t in range(rows.x.shape[1]):
            values = np.unique(rows.x[among, t])
            middles = (values[1:] + values[:-1]) / 2.0
            if middles.size > _THRESHOLDS:
                middles = middles[np.linspace(0, middles.size - 1, _THRESHOLDS).astype(int)]
            for at in middles:
                below = rows.x[among, t] <= at
                sides = among[below], among[~below]
                if min(np.unique(rows.cell[side]).size for side in sides) < _LEAST_CELLS:
                    continue
                won = spread(among) - sum(spread(side) for side in sides)
                if best is None or won > best[0]:
                    best = (won, t, float(at))
        return best

    root: dict[str, Any] = {}
    open_leaves = [(root, keep, split(keep))]
    done: list[tuple[dict[str, Any], np.ndarray]] = []
    while open_leaves:
        open_leaves.sort(key=lambda item: -(item[2][0] if item[2] else -1.0))
        node, among, found = open_leaves.pop(0)
        if found is None or len(open_leaves) + len(done) + 2 > leaves:
            done.append((node, among))
            continue
        _, t, at = found
        below = rows.x[among, t] <= at
        node |= {"term": rows.names[t], "at": round(at, 4), "below": {}, "above": {}}
        for side, part in (("below", among[below]), ("above", among[~below])):
            open_leaves.append((node[side], part, split(part)))
    for node, among in done:
        node["cells"] = int(np.unique(rows.cell[among]).size)
        node["families"] = int(np.unique(rows.family[among]).size)
        node["gains"] = {
            name: [round(float(v), 2) for v in _mean_and_range(rows.gains[among, o])]
            for o, name in enumerate(CANDIDATES)
        }
    return root


def fit_linear(rows: Rows, keep: np.ndarray) -> dict[str, Any]:
    """Ridge regression of each candidate's clipped gain; ranges from the residuals."""
    x, y = rows.x[keep], rows.gains[keep].clip(-CLIP, CLIP)
    centre, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - centre) / scale
    weights = np.linalg.solve(z.T @ z + _RIDGE * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    residual = y - y.mean(0) - z @ weights
    low, high = np.quantile(residual, [0.05, 0.95], axis=0)
    objectives = {
        name: {
            "intercept": round(float(y[:, o].mean()), 3),
            "weights": [round(float(w), 3) for w in weights[:, o]],
            "low": round(float(low[o]), 2),
            "high": round(float(high[o]), 2),
        }
        for o, name in enumerate(CANDIDATES)
    }
    return {
        "terms": list(rows.names),
        "centre": [round(float(v), 4) for v in centre],
        "scale": [round(float(v), 4) for v in scale],
        "objectives": objectives,
    }


def _mean_and_range(gains: np.ndarray) -> tuple[float, float, float]:
    low, high = np.quantile(gains, [0.05, 0.95])
    return float(gains.clip(-CLIP, CLIP).mean()), float(low), float(high)


def chosen(rows: Rows, rule: dict[str, Any], keep: np.ndarray) -> np.ndarray:
    """What `auto` chooses under a rule, races run, as indices of objectives; (kept rows,)."""
    grid, seeds = rows.grid, len(rows.grid.seeds)
    found = []
    for i in keep:
        choice = choosing.auto(rows.features[i], metric=rows.metric, rule=rule)
        if choice.undecided:
            scores = race_scores(grid, rows.cell[i], i % seeds, choice.race_share, choice.race)
            choice = choosing.after_race(choice, scores)
        found.append(index_of(grid, choice.objective))
    return np.array(found)


def penalty(rows: Rows, choice: np.ndarray) -> tuple[float, float, float]:
    """(criterion, mean cross-fitted regret, share of cells more than a point below NLL): the
    criterion is regret plus the mean loss to NLL, so that losing to the default counts twice.
    """
    shape = (len(rows.cells), len(rows.grid.seeds))
    choice = choice.reshape(shape)
    picked = np.take_along_axis(rows.values, choice[..., None], -1)[..., 0]
    gain = 100.0 * (picked - rows.values[..., rows.grid.index("nll()")]).mean(1)
    regret = float(crossed_regret(rows.values, choice).mean())
    return regret + float((-gain).clip(0).mean()), regret, float((gain < -1.0).mean())


def crossvalidate(rows: Rows) -> list[dict[str, Any]]:
    """Every setting of `auto` with its criterion when each development family is left out in turn,
    the best first.
    """
    forms: dict[tuple[str, int], list[tuple[dict[str, Any], np.ndarray]]] = {}
    for name in np.unique(rows.family):
        inside, outside = (np.flatnonzero(rows.family == name), np.flatnonzero(rows.family != name))
        for leaves in _LEAVES:
            tree = fit_tree(rows, outside, leaves=leaves)
            forms.setdefault(("regimes", leaves), []).append((tree, inside))
        forms.setdefault(("linear", 0), []).append((fit_linear(rows, outside), inside))
    found = []
    for (form, leaves), fits in forms.items():
        for lost, worth in product(_MOST_LOST, _WORTH):
            limits = {"form": form, "most_lost": lost, "worth_a_race": worth}
            limits["race_share"] = _RACE_SHARE
            choice = np.empty(len(rows.cell), int)
            for fit, inside in fits:
                rule = {rows.metric: {form: fit, "auto": limits}}
                choice[inside] = chosen(rows, rule, inside)
            criterion, regret, loses = penalty(rows, choice)
            found.append(
                {"leaves": leaves, **limits, "criterion": criterion, "regret": regret, "loses": loses}
            )
    return sorted(found, key=lambda f: f["criterion"])


def best_time(rows: Rows) -> float:
    """The flow's time per epoch with which the theory's crossover does best on these rows."""

    def regret(time: float) -> float:
        names = [choosing.theory_rule(f, time_per_epoch=time).objective for f in rows.features]
        choice = np.array([rows.grid.index(n) for n in names]).reshape(len(rows.cells), -1)
        return float(crossed_regret(rows.values, choice).mean())

    return min(_TIMES, key=regret)


def write(path: Path) -> Path:
    """Fit on the development cells of a table and write the rule into the package."""
    grid = load(path)
    rule: dict[str, Any] = {
        "source": {
            "written by": "python -m benchmarks.choice --fit",
            "table": file_hash(path),
            "development cells": int(grid.where("development").size),
            "seeds": len(grid.seeds),
            "versions": {k: environment()["versions"][k] for k in ("probtune", "numpy")},
        }
    }
    for metric in METRIC:
        rows = Rows(grid, grid.where("development"), metric)
        every = np.arange(len(rows.cell))
        best = crossvalidate(rows)[0]
        limits = {k: best[k] for k in ("form", "most_lost", "worth_a_race", "race_share")}
        leaves = best["leaves"] or max(_LEAVES)
        rule[metric] = {
            "auto": limits,
            "left out": {k: round(best[k], 3) for k in ("criterion", "regret", "loses")},
            "regimes": fit_tree(rows, every, leaves=leaves),
            "linear": fit_linear(rows, every),
        }
        if metric == "greedy":
            rule["theory"] = {"time_per_epoch": best_time(rows)}
    write_text(RULE, json.dumps(rule, indent=1) + "\n")
    choosing.read_rule.cache_clear()
    return RULE
