"""Fit the rules of `probtune.probe.choosing` on the development cells, and nothing else.

Two small models of the gain over NLL of a few candidate objectives: `regimes`, a shallow tree whose
leaves state the mean gain of the development cells that fell in; and `linear`, ridge regression.
Which of them `auto` uses, and every other number, is settled by leaving one development family out
at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from probtune.files import hash_file
from probtune.probe import choosing
from probtune.records import environment, write_text

from .evaluate import WITH_OUTLIERS, index_of, race_scores
from .regret import accuracy, crossed_regret
from .rules import after_race, theory_rule
from .table import Grid, load

__all__ = [
    "CANDIDATES",
    "METRIC",
    "RULE",
    "Rows",
    "crossvalidate",
    "fit_linear",
    "fit_tree",
    "write",
]

RULE = Path(choosing.__file__).with_name("choosing.json")

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

_OUTLIERS = ("outlier", "outlier_half")

CLIP = {"greedy": 15.0, "sampled": 60.0}
"""Points: gains and losses beyond count as this much in a fit, so that the few cells where all is
lost do not decide everything. Sampled gains are larger; both values from left-out families.
"""

_RIDGE = (1.0, 3.0, 10.0)
_TERMS = (
    ("strength", "repeated"),
    ("strength", "unsure", "repeated"),
    ("strength", "noise", "repeated"),
    ("strength", "unsure", "noise", "repeated"),
    ("strength", "to_learn", "known", "noise", "repeated", "passes", "length"),
)
_BANDS = (0.6, 0.9)
"""Limits of mean p in usual sequences between weak, intermediate and strong, for intervals only."""
_LEAST_CELLS = 7
"""Fewest development cells in a leaf."""

_THRESHOLDS = 24
"""Most thresholds tried per term."""

_LEAVES = (2, 3, 4, 5, 6)
_MOST_LOST = (1.0, 2.0, 4.0, 8.0, 100.0)
_WORTH = (1.0, 2.0, 1000.0)
"""1000 points: never race."""
_RACE_SHARE = 0.05
_LOSES = 0.05
"""Largest share of left-out cells that a setting may lose to NLL by more than a point."""
_TIMES = (0.1, 0.3, 1.0, 3.0, 10.0)


METRIC = {"greedy": "accuracy", "sampled": "sampled"}
"""The rule's name of a metric -> the table's."""


class Rows:
    """Development cells as rows of a regression: one per cell and seed."""

    def __init__(
        self,
        grid: Grid,
        cells: np.ndarray,
        metric: str = "greedy",
        candidates: Sequence[str] = CANDIDATES,
    ):
        self.candidates = tuple(candidates)
        reached = accuracy(grid, metric=METRIC[metric])
        gains = 100.0 * (reached - reached[..., [grid.index("nll()")]])
        self.values, self.metric = reached[cells], metric
        self.grid, self.cells = grid, cells
        self.features = [grid.features[c][s] for c in cells for s in range(len(grid.seeds))]
        x = [choosing.terms(f) for f in self.features]
        self.names = tuple(x[0])
        self.x = np.array([[row[n] for n in self.names] for row in x])
        columns = [grid.index(o) for o in candidates]
        self.gains = gains[self.cells][:, :, columns].reshape(len(x), -1)
        self.clipped = self.gains.clip(-CLIP[metric], CLIP[metric])
        self.cell = np.repeat(self.cells, len(grid.seeds))
        self.family = np.array([grid.cells[c]["family"] for c in self.cell])


def fit_tree(rows: Rows, keep: np.ndarray, *, leaves: int) -> dict[str, Any]:
    """Return a regression tree on the clipped gains of all candidates, split best first."""
    gains = rows.clipped

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
        node, among, best_split = open_leaves.pop(0)
        if best_split is None or len(open_leaves) + len(done) + 2 > leaves:
            done.append((node, among))
            continue
        _, t, at = best_split
        below = rows.x[among, t] <= at
        node |= {"term": rows.names[t], "at": round(at, 4), "below": {}, "above": {}}
        for side, part in (("below", among[below]), ("above", among[~below])):
            open_leaves.append((node[side], part, split(part)))
    for node, among in done:
        node["cells"] = int(np.unique(rows.cell[among]).size)
        node["families"] = int(np.unique(rows.family[among]).size)
        node["gains"] = {
            name: [
                round(float(v), 2)
                for v in (
                    rows.clipped[among, o].mean(),
                    *np.quantile(rows.gains[among, o], [0.05, 0.95]),
                )
            ]
            for o, name in enumerate(rows.candidates)
        }
    return root


def fit_linear(
    rows: Rows, keep: np.ndarray, *, names: Sequence[str] = _TERMS[0], ridge: float = _RIDGE[0]
) -> dict[str, Any]:
    """Ridge regression of each candidate's clipped gain; ranges from the residuals of rows in the
    same band of strength, since a weak model's gains scatter far more.
    """
    columns = [rows.names.index(name) for name in names]
    x, y = rows.x[keep][:, columns], rows.clipped[keep]
    centre, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - centre) / scale
    weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    residual = y - y.mean(0) - z @ weights
    band = np.searchsorted(_BANDS, rows.x[keep][:, rows.names.index("strength")])
    ranges = np.stack(
        [np.quantile(residual[band == b], [0.05, 0.95], axis=0) for b in range(len(_BANDS) + 1)]
    )
    objectives = {
        name: {
            "intercept": round(float(y[:, o].mean()), 3),
            "weights": [round(float(w), 3) for w in weights[:, o]],
            "low": [round(float(v), 2) for v in ranges[:, 0, o]],
            "high": [round(float(v), 2) for v in ranges[:, 1, o]],
        }
        for o, name in enumerate(rows.candidates)
    }
    return {
        "terms": list(names),
        "bands": list(_BANDS),
        "centre": [round(float(v), 4) for v in centre],
        "scale": [round(float(v), 4) for v in scale],
        "objectives": objectives,
    }


def chosen(rows: Rows, rule: dict[str, Any], keep: np.ndarray) -> np.ndarray:
    """Return what `auto` chooses under a rule, races run: indices of objectives; (kept rows,)."""
    grid, seeds = rows.grid, len(rows.grid.seeds)
    indices = []
    for i in keep:
        choice = choosing.auto(rows.features[i], metric=rows.metric, rule=rule)
        if choice.undecided:
            scores = race_scores(grid, int(rows.cell[i]), i % seeds, choice.race_share, choice.race)
            choice = after_race(choice, scores)
        indices.append(index_of(grid, choice.objective))
    return np.array(indices)


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


Fit = Callable[[Rows, np.ndarray], dict[str, Any]]


def fits() -> dict[str, tuple[str, Fit]]:
    """Return every way to fit by name: (form, function of rows and those to keep)."""
    ways: dict[str, tuple[str, Fit]] = {}
    for leaves in _LEAVES:
        ways[f"regimes, {leaves} leaves"] = ("regimes", partial(fit_tree, leaves=leaves))
    for names, ridge in product(_TERMS, _RIDGE):
        name = f"linear, {len(names)} terms ({', '.join(names)}), ridge {ridge:g}"
        ways[name] = ("linear", partial(fit_linear, names=names, ridge=ridge))
    return ways


def crossvalidate(rows: Rows) -> list[dict[str, Any]]:
    """Return every setting of `auto` with its criterion when each development family is left out in
    turn, the best first.
    """
    results = []
    for name, (form, fit) in fits().items():
        parts = []
        for family in np.unique(rows.family):
            inside = np.flatnonzero(rows.family == family)
            parts.append((fit(rows, np.flatnonzero(rows.family != family)), inside))
        for lost, worth in product(_MOST_LOST, _WORTH):
            limits = {"form": form, "most_lost": lost, "worth_a_race": worth}
            limits |= {"race_share": _RACE_SHARE, "range": {}}
            choice = np.empty(len(rows.cell), int)
            for part, inside in parts:
                rule = {rows.metric: {form: part, "auto": limits}}
                choice[inside] = chosen(rows, rule, inside)
            criterion, regret, loses = penalty(rows, choice)
            scores = {"criterion": criterion, "regret": regret, "loses": loses}
            results.append({"fit": name, **limits, **scores})
    return sorted(results, key=lambda f: f["criterion"])


def simplest(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, of the settings that seldom lose to NLL and are within a tenth of a point of the best
    such, one that does not race if there is one, then the one with the fewest parts.
    """
    safe = [s for s in settings if s["loses"] <= _LOSES] or settings
    near = [s for s in safe if s["criterion"] <= safe[0]["criterion"] + 0.1]

    def parts(s: dict[str, Any]) -> tuple[bool, int, float]:
        races = s["worth_a_race"] < max(_WORTH)
        return races, int(s["fit"].split()[1]), s["criterion"]

    return min(near, key=parts)


def best_of(settings: Sequence[dict[str, Any]], form: str) -> Fit:
    """Return the best way to fit a form."""
    return fits()[simplest([s for s in settings if s["form"] == form])["fit"]][1]


def best_time(rows: Rows) -> float:
    """Return the flow's time per epoch with which the theory's crossover does best on the rows."""

    def regret(time: float) -> float:
        names = [theory_rule(f, time_per_epoch=time).objective for f in rows.features]
        choice = np.array([rows.grid.index(n) for n in names]).reshape(len(rows.cells), -1)
        return float(crossed_regret(rows.values, choice).mean())

    return min(_TIMES, key=regret)


def fitted_rule(grid: Grid, metric: str, candidates: Sequence[str]) -> tuple[dict[str, Any], Rows]:
    """Return the numbers of one metric, from the development cells of a grid, and their rows."""
    rows = Rows(grid, grid.where("development"), metric, candidates)
    every = np.arange(len(rows.cell))
    settings = crossvalidate(rows)
    best = simplest(settings)
    limits = {k: best[k] for k in ("form", "most_lost", "worth_a_race", "race_share")}
    limits["range"] = {
        name: [round(float(v), 4) for v in (rows.x[:, i].min(), rows.x[:, i].max())]
        for i, name in enumerate(rows.names)
        if name in ("strength", "repeated")
    }
    left_out = {k: round(best[k], 3) for k in ("criterion", "regret", "loses")}
    return {
        "auto": limits,
        "left out": {"fit": best["fit"], **left_out},
        **{form: best_of(settings, form)(rows, every) for form in ("regimes", "linear")},
        best["form"]: fits()[best["fit"]][1](rows, every),
    }, rows


def write(path: Path) -> Path:
    """Fit on the development cells of a table and write the rule into the package, and beside the
    table the one that may also name what the product does not have.
    """
    grid = load(path)
    source = {
        "written by": "python -m benchmarks.choice --fit",
        "table": hash_file(path),
        "development cells": int(grid.where("development").size),
        "seeds": len(grid.seeds),
        "versions": {k: environment()["versions"][k] for k in ("probtune", "numpy")},
    }
    for file, candidates in ((RULE, CANDIDATES), (WITH_OUTLIERS, (*CANDIDATES, *_OUTLIERS))):
        rule: dict[str, Any] = {"source": source}
        for metric in METRIC:
            rule[metric], rows = fitted_rule(grid, metric, candidates)
            if metric == "greedy":
                rule["theory"] = {"time_per_epoch": best_time(rows)}
        write_text(file, json.dumps(rule, indent=1) + "\n")
    choosing.read_rule.cache_clear()
    return RULE
