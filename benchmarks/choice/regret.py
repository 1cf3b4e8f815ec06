"""Regret of a choice, honestly: with the luck of the best objective in hindsight taken out, and
with intervals over families.

All accuracies are shares; regret and gains are in points (hundredths).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from .table import Grid

__all__ = ["PROTOCOLS", "Score", "accuracy", "crossed_regret", "naive_regret", "resampled", "score"]

PROTOCOLS = ("validation", "validation p", "clean validation", "middle rate", "best rate")
"""Ways to choose the learning rate of each objective. Only the first two and `middle rate` can be
done with noisy data; `best rate` looks at the test set."""


def accuracy(grid: Grid, *, protocol: str = "validation", metric: str = "accuracy") -> np.ndarray:
    """Test accuracy (cells, seeds, objectives) at the learning rate the protocol picks.

    `validation` picks, for every cell, objective and seed, the rate with the most responses right
    token by token on validation rows with the cell's own noise; ties go to the share of right
    tokens, then to mean p.
    """
    s = grid.scores
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    of_rate = {
        "validation": s["validation_exact"]
        + 1e-3 * s["validation_token"]
        + 1e-6 * s["validation_p"],
        "validation p": s["validation_p"],
        "clean validation": s["clean_exact"] + 1e-3 * s["validation_token"],
        "best rate": s[metric],
    }
    if protocol == "middle rate":
        return s[metric][..., s[metric].shape[-1] // 2]
    picked = of_rate[protocol].argmax(-1)[..., None]
    return np.take_along_axis(s[metric], picked, -1)[..., 0]


def naive_regret(
    values: np.ndarray,  # (C, S, O)
    choice: np.ndarray,  # (C, S)
) -> np.ndarray:
    """Best seed mean over objectives less the choice's seed mean, points, (C,). It includes the
    winner's luck: among many equal objectives one looks best.
    """
    picked = np.take_along_axis(values, choice[..., None], -1)[..., 0]
    return 100.0 * (values.mean(1).max(1) - picked.mean(1))


def crossed_regret(values: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Regret against the objective that is best on the other seeds, scored on this one, averaged
    over seeds; points, (C,). The luck of the winner is gone, at the price of a winner known from
    one seed less; single cells can be negative.
    """
    seeds = values.shape[1]
    regrets = []
    for s in range(seeds):
        others = values[:, [t for t in range(seeds) if t != s]].mean(1)
        best = values[np.arange(len(values)), s, others.argmax(1)]
        regrets.append(best - values[np.arange(len(values)), s, choice[:, s]])
    return 100.0 * np.mean(regrets, 0)


class Score(NamedTuple):
    """Scores of a chooser on some cells; (value, low, high) with 95 % intervals."""

    regret: tuple[float, float, float]
    """Mean of the cross-fitted regret, points."""
    naive: tuple[float, float, float]
    high: float
    """95 % quantile over cells of the cross-fitted regret, points."""
    naive_high: float
    gain: tuple[float, float, float]
    """Mean gain over NLL, points."""
    loses: tuple[float, float, float]
    """Share of cells where it is more than 1 point below NLL."""
    cells: int


def score(
    values: np.ndarray,  # (C, S, O)
    choice: np.ndarray,  # (C, S)
    family: np.ndarray,  # (C,) names
    nll: int,
) -> Score:
    """Score a chooser's choices; intervals by bootstrap over families, then cells within them."""
    picked = np.take_along_axis(values, choice[..., None], -1)[..., 0]
    gain = 100.0 * (picked - values[..., nll]).mean(1)
    crossed, naive = crossed_regret(values, choice), naive_regret(values, choice)
    return Score(
        resampled(crossed, family),
        resampled(naive, family),
        float(np.quantile(crossed, 0.95)),
        float(np.quantile(naive, 0.95)),
        resampled(gain, family),
        resampled((gain < -1.0).astype(float), family),
        len(values),
    )


def resampled(x: np.ndarray, family: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): families are drawn with replacement, then cells within each."""
    weights = _draws(tuple(family.tolist()))
    low, high = np.quantile(weights @ x / weights.sum(1), [0.025, 0.975])
    return float(x.mean()), float(low), float(high)


@cache
def _draws(family: tuple[str, ...], resamples: int = 1000) -> np.ndarray:
    """(resamples, cells): how often each cell is in each resample; the same for every question."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(np.asarray(family) == name) for name in sorted(set(family))]
    weights = np.zeros((resamples, len(family)))
    for row in weights:
        for j in rng.integers(0, len(groups), len(groups)):
            np.add.at(row, rng.choice(groups[j], len(groups[j])), 1.0)
    return weights
