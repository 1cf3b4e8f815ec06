"""Fit the rules of `probtune.choosing` on the development cells, and nothing else.

Two small models of the gain over NLL of a few candidate objectives: `regimes`, a shallow tree whose
leaves state the mean gain of the development cells that fell in; and `linear`, ridge regression.
Which of them `auto` uses, and every other number, is settled by leaving one development family out
at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import probtune
from probtune import choosing
from probtune.records import environment, write_text

from .regret import accuracy
from .table import Grid, file_hash, load

__all__ = ["CANDIDATES", "RULE", "Rows", "development", "fit_linear", "fit_tree", "write"]

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


class Rows:
    """Development cells as rows of a regression: one per cell and seed."""

    def __init__(self, grid: Grid, cells: Sequence[int]):
        gains = 100.0 * (accuracy(grid) - accuracy(grid)[..., [grid.index("nll()")]])
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
            for at in (values[1:] + values[:-1]) / 2.0:
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
