"""The smallest difference that a benchmark can show, and how many questions a difference takes.

For the two-sided paired t test; to first order n = 7.85 Var(d) / delta^2 at the level 5 % with
power 80 %, where d is the difference per question. The power is that of the right tail, by SciPy's
noncentral t: statsmodels adds the wrong tail, which is nothing at any power of interest but comes
out as NaN for large effects, and then its solver returns what is no solution.

Reference: Miller, 2024, https://arxiv.org/abs/2411.00640, sec. 5.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

from .estimates import Estimate

__all__ = ["detectable_difference", "minimum_detectable_difference", "questions_needed"]


def minimum_detectable_difference(
    n: int, variance: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest difference that the paired t test finds with the given power.

    Args:
        n: questions, or clusters.
        variance: of the difference per question.

    NaN for n < 2.

    >>> round(minimum_detectable_difference(500, 0.04), 4)
    0.0251
    """
    _check(variance, alpha, power)
    if n < 2:
        return math.nan
    from scipy.optimize import brentq

    most = 1.0
    while _power(most, n, alpha) < power:
        most *= 2.0
    effect: Any = brentq(lambda effect: _power(effect, n, alpha) - power, 0.0, most)
    return float(effect) * math.sqrt(variance)


def detectable_difference(
    difference: Estimate, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """`minimum_detectable_difference` for the questions of a paired estimate, whose standard error
    holds the variance.

    It says what the benchmark could have shown, not what the result is worth. NaN where the
    difference has no spread: its variance is then unknown.
    """
    error = difference.standard_error
    if math.isnan(error) or error == 0.0:
        return math.nan
    return minimum_detectable_difference(
        difference.n, error**2 * difference.n, alpha=alpha, power=power
    )


def questions_needed(
    delta: float, variance: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Return the questions with which the paired t test finds a difference `delta` with the given
    power; at least 2.

    >>> questions_needed(0.02511, 0.04)
    500
    """
    _check(variance, alpha, power)
    if not abs(delta) > 0.0:
        raise ValueError(f"delta must not be 0, got {delta}.")
    if abs(delta) >= minimum_detectable_difference(2, variance, alpha=alpha, power=power):
        return 2
    effect, enough = abs(delta) / math.sqrt(variance), 4
    while _power(effect, enough, alpha) < power:
        enough *= 2
    candidates = range(enough // 2, enough)
    return candidates[0] + bisect_left(candidates, power, key=lambda n: _power(effect, n, alpha))


def _power(effect: float, n: int, alpha: float) -> float:
    """Return the chance that the t statistic of n differences with mean `effect` and variance 1
    lies above the two-sided critical value."""
    from scipy.stats import nct, t

    return float(nct.sf(t.isf(alpha / 2, n - 1), n - 1, effect * math.sqrt(n)))


def _check(variance: float, alpha: float, power: float) -> None:
    if not (variance >= 0.0 and math.isfinite(variance)):
        raise ValueError(f"the variance must be a finite number of at least 0, got {variance}.")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} must be between 0 and 1, got {value}.")
    if power <= alpha:
        raise ValueError(f"the power must be above alpha, got {power} and {alpha}.")
