"""The best power for a capability, a noise rate and a budget: whole diagrams, and advice on one
point.

The budget is time, the integral of the learning rate over the flow of one context: what one
context's own gradient moves its logits. A trained network moves a context's logits also through
all the others, and an adaptive optimizer rescales; so a budget in steps has no fixed exchange rate,
and advice says how it depends on the budget. Where it stands to measured runs: docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError
from ..objectives import Objective, power
from ..objectives import objective as read_objective
from .closed import budget_crossover, crossover, escape_time
from .flow import flow_probability, rate

__all__ = ["ALPHAS", "Advice", "PhaseDiagram", "advise", "phase_diagram"]

ALPHAS = (-0.5, 0.0, 0.3, 0.5, 1.0, 2.0, 10.0)
"""Powers that a diagram compares unless others are named."""


class PhaseDiagram(NamedTuple):
    """Objectives over a grid of noise rates (rows) and starting probabilities (columns)."""

    objectives: tuple[str, ...]
    noise: np.ndarray
    """(R,)."""
    p: np.ndarray
    """(C,)."""
    budget: float
    """0: the instant at the start."""
    values: np.ndarray
    """Probability of the right class after the budget, or risk reduction rates at budget 0;
    (objectives, R, C).
    """

    @property
    def winner(self) -> np.ndarray:
        """Index of the best objective, (R, C)."""
        return self.values.argmax(0)

    @property
    def margin(self) -> np.ndarray:
        """Best less second best, (R, C); where it is tiny the winner means nothing."""
        ordered = np.sort(self.values, axis=0)
        return ordered[-1] - ordered[-2]


class Advice(NamedTuple):
    """Results of the flow at one point."""

    best: str
    """Power with the highest probability after the budget."""
    after: dict[str, float]
    """Probability of the right class after the budget, by objective."""
    harms: tuple[str, ...]
    """Objectives that end below the start."""
    crossover: float
    """Above it -p leads NLL at the first instant."""
    budget_crossover: float
    """Above it -p leads NLL after the budget."""
    learning_rate_factor: float
    """Factor on NLL's learning rate that gives `best` NLL's logit gradient at p: 1 / w(p)."""
    floor: float
    """Least weight with which a right target of this probability still becomes likely within the
    budget; 0 where it is likely already, infinite where the budget is too small for NLL as well.
    """


def phase_diagram(
    objectives: Sequence[Objective | str] | None = None,
    *,
    p: ArrayLike,
    noise: ArrayLike,
    classes: int = 10,
    budget: float = 30.0,
) -> PhaseDiagram:
    """Compare all objectives on the grid noise x p, by the symmetric flow.

    Args:
        objectives: default: the powers `ALPHAS`.
        p: starting probabilities of the right class, strictly between 0 and 1.
        noise: rates in [0, (K - 1) / K).
        budget: time; 0 compares the rates at the start.

    Raises:
        UsageError: a value out of range, or a flow that cannot be integrated (a threshold above
            which nothing pulls back, say).
    """
    chosen = [read_objective(f) for f in objectives or [power(a) for a in ALPHAS]]
    p, noise = np.atleast_1d(np.asarray(p, float)), np.atleast_1d(np.asarray(noise, float))
    if not np.isfinite(budget) or budget < 0:
        raise UsageError(f"budget must be finite and not negative, got {budget}.")
    grid = {"noise": noise[:, None], "classes": classes}
    values = [
        rate(p[None, :], objective=f, **grid)
        if budget == 0
        else flow_probability(budget, p[None, :], objective=f, **grid)
        for f in chosen
    ]
    return PhaseDiagram(tuple(str(f) for f in chosen), noise, p, float(budget), np.stack(values))


def advise(
    p: float,
    *,
    noise: float,
    budget: float,
    classes: int = 10,
    alphas: Sequence[float] = ALPHAS,
) -> Advice:
    """Return the power to take for one capability, noise rate and budget, with what else matters.

    `p` is the base model's probability of right targets. The mean over tokens is a poor stand-in
    when it hides a tail: ask for the tail's p as well, and compare.

    Example:
        >>> advise(0.9, noise=0.2, budget=30).best, advise(0.01, noise=0.2, budget=30).best
        ('power(1.0)', 'power(0.3)')
    """
    if not 0.0 < p < 1.0:
        raise UsageError(f"p must lie strictly between 0 and 1, got {p}.")
    if not budget > 0:
        raise UsageError(f"budget must be positive, got {budget}.")
    diagram = phase_diagram(
        [power(a) for a in alphas], p=p, noise=noise, classes=classes, budget=budget
    )
    after = dict(zip(diagram.objectives, diagram.values[:, 0, 0].tolist(), strict=True))
    best = max(after, key=lambda name: after[name])
    weight = p ** read_objective(best).alpha  # type: ignore[attr-defined]
    needed = float(escape_time(p, alpha=0.0, noise=noise, classes=classes)) if p < 0.5 else 0.0
    floor = needed / budget
    return Advice(
        best,
        after,
        tuple(name for name, value in after.items() if value < p - 1e-6),
        float(crossover(noise=noise, classes=classes)),
        float(budget_crossover(budget, noise=noise, classes=classes)),
        1.0 / weight,
        floor if floor <= 1.0 else float("inf"),
    )
