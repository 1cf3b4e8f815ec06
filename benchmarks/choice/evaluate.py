"""Choosers on the grid: what each would have chosen in every cell with every seed, and what that
costs.

A chooser sees the features of one cell and seed, as a user would; a race sees the validation scores
of the short runs, which were recorded on the way of the full ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from probtune.probe.choosing import Choice, auto, race_score

from .cell import BATCH, PROBE, VALIDATION
from .members import CAYLEY
from .rules import after_race, always, first_rule, fitted, paper_rule, theory_rule
from .table import Grid

__all__ = [
    "RACED",
    "WITH_OUTLIERS",
    "Chooser",
    "choices",
    "choosers",
    "cost",
    "index_of",
    "race_scores",
    "raced",
]

WITH_OUTLIERS = Path(__file__).with_name("with_outliers.json")

Chooser = Callable[[Mapping[str, float]], Choice]


def choosers(metric: str) -> dict[str, Chooser]:
    """Return every chooser by name, for answers drawn one way; only `auto` may race."""
    return {
        "always NLL": partial(always, "nll()"),
        "always -p": partial(always, "p()"),
        "always outlier weights": partial(always, "outlier"),
        "always outlier weights, power(0.5)": partial(always, "outlier_half"),
        "paper's rule (mean p)": paper_rule,
        "probe's first rule": first_rule,
        "theory's crossover": theory_rule,
        "fitted regimes": partial(fitted, form="regimes", metric=metric),
        "fitted linear": partial(fitted, form="linear", metric=metric),
        "auto, never racing": partial(_never_racing, metric=metric),
        "auto": partial(auto, metric=metric),
        "auto with outlier weights": partial(auto, metric=metric, rule=_with_outliers()),
    }


@cache
def _with_outliers() -> dict[str, Any]:
    """Return a rule that may also weigh sequences, which the product cannot yet."""
    return json.loads(WITH_OUTLIERS.read_text())


def _never_racing(features: Mapping[str, float], *, metric: str) -> Choice:
    return replace(auto(features, metric=metric), undecided=False)


RACED: dict[str, tuple[tuple[str, ...], float]] = {
    "race of 2, 10 % each": (("nll()", "p()"), 0.1),
    "race of 3, 5 % each": (("nll()", "power(0.5)", "p()"), 0.05),
    "race of 3, 20 % each": (("nll()", "power(0.5)", "p()"), 0.2),
}
"""Races of the same objectives in every cell, as far as 10 % of training goes."""


def index_of(grid: Grid, objective: str) -> int:
    """Column of an objective; Cayley's parameter is the cell's own mean p."""
    return grid.index(CAYLEY if objective.startswith("cayley(") else objective)


def race_scores(
    grid: Grid, cell: int, seed: int, share: float, of: Sequence[str]
) -> dict[str, float]:
    """Score of each objective on the validation rows after a share of the steps at the middle
    rate.
    """
    middle = grid.scores["accuracy"].shape[-1] // 2
    token, p = (grid.scores[f"race_{share:g}_{s}"][cell, seed, :, middle] for s in ("token", "p"))
    return {o: float(race_score(token, p)[index_of(grid, o)]) for o in of}


def choices(grid: Grid, chooser: Chooser) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chosen, undecided, cost), each (C, S): index of the objective; whether the chooser would
    race, and then the race's winner is the choice; and cost as a share of training.
    """
    shape = (len(grid.cells), len(grid.seeds))
    chosen, undecided, costs = np.empty(shape, int), np.zeros(shape, bool), np.zeros(shape)
    for c, s in np.ndindex(shape):
        choice = chooser(grid.features[c][s])
        racing = len(choice.race) if choice.undecided else 0
        costs[c, s] = cost(float(grid.run["steps"][c, s]), racing, choice.race_share)
        if choice.undecided:
            scores = race_scores(grid, c, s, choice.race_share, choice.race)
            choice = after_race(choice, scores)
            undecided[c, s] = True
        chosen[c, s] = index_of(grid, choice.objective)
    return chosen, undecided, costs


def raced(grid: Grid, of: Sequence[str], share: float) -> tuple[np.ndarray, np.ndarray]:
    """(chosen, cost) of the same race in every cell."""
    shape = (len(grid.cells), len(grid.seeds))
    chosen, costs = np.empty(shape, int), np.empty(shape)
    for c, s in np.ndindex(shape):
        scores = race_scores(grid, c, s, share, of)
        chosen[c, s] = index_of(grid, max(scores, key=lambda o: scores[o]))
        costs[c, s] = cost(grid.run["steps"][c, s], len(of), share, probed=False)
    return chosen, costs


def cost(steps: float, racing: int, share: float, *, probed: bool = True) -> float:
    """Cost as a share of the training of one objective at one learning rate.

    A row forward is a third of a row trained. The winner of a race trains on, so k racing cost
    (k - 1) times the share, and the validation rows of each.
    """
    training = 3.0 * steps * BATCH
    probe = PROBE / training if probed else 0.0
    race = (racing - 1) * share + racing * VALIDATION / training if racing else 0.0
    return probe + race
