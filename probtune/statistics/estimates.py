"""Estimates with their uncertainty: the mean, and the ratio of two sums over items.

References:
    Miller, "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations",
    2024, https://arxiv.org/abs/2411.00640 (clustered and paired standard errors). Cochran,
    "Sampling Techniques", 1977, ch. 6 (variance of a ratio by linearisation).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Estimate",
    "bootstrap_ratio",
    "mean",
    "paired_ratio_difference",
    "ratio",
    "t_interval",
]


class Estimate(NamedTuple):
    """A number with its uncertainty. What cannot be computed is NaN, never 0."""

    value: float
    standard_error: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    n: int
    """Number of independent items."""

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def without_spread(self) -> Estimate:
        """Itself, but where all items agree: resampling them gives an interval of width 0, which
        says nothing, so there is none.

        >>> mean([0.0, 0.0]).without_spread().low
        nan
        """
        if self.standard_error != 0.0:
            return self
        return self._replace(standard_error=math.nan, low=math.nan, high=math.nan)

    def within(self, least: float, most: float) -> Estimate:
        """Itself, with the interval cut to what the number can be.

        >>> mean([-0.3, -0.9]).low < -1, mean([-0.3, -0.9]).within(-1, 1).low
        (True, -1.0)
        """
        low, high = np.clip([self.low, self.high], least, most).tolist()
        return self._replace(low=low, high=high)


def mean(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Return the mean over items, with Student's t interval.

    >>> mean([1.0, 2.0, 3.0]).value
    2.0
    >>> mean([1.0]).standard_error
    nan
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    error = float(x.std(ddof=1) / math.sqrt(x.size)) if x.size > 1 else math.nan
    return t_interval(float(x.mean()), error, x.size, confidence)


def ratio(sums: ArrayLike, counts: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Sum of `sums` / sum of `counts` over items, with the standard error by linearisation and a t
    interval.

    With `sums` the summed NLL per sequence and `counts` its tokens, this is the NLL per token, and
    its error is that of whole sequences drawn anew.
    """
    x = np.asarray(sums, dtype=np.float64)
    n = np.asarray(counts, dtype=np.float64)
    if n.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    value = float(x.sum() / n.sum())
    items = int((n > 0).sum())
    if items < 2:
        return t_interval(value, math.nan, items, confidence)
    residual = (x - value * n)[n > 0]
    error = math.sqrt(items / (items - 1) * float((residual**2).sum())) / float(n.sum())
    return t_interval(value, error, items, confidence)


def paired_ratio_difference(
    sums: ArrayLike, other_sums: ArrayLike, counts: ArrayLike, *, confidence: float = 0.95
) -> Estimate:
    """`ratio(sums, counts) - ratio(other_sums, counts)`, paired by item: the spread the items share
    cancels.

    With counts of 1 it is the paired difference of two means.
    """
    return ratio(
        np.asarray(sums, dtype=np.float64) - np.asarray(other_sums), counts, confidence=confidence
    )


def bootstrap_ratio(
    sums: ArrayLike,
    counts: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Return what `ratio` does, with the interval from resampling items: BCa bootstrap, percentile
    beyond 1000 items.

    BCa's correction costs a jackknife, quadratic in the items, and is gone at that size.

    Reference: Efron, "Better Bootstrap Confidence Intervals", 1987, https://doi.org/10.2307/2289144.
    """
    from scipy.stats import bootstrap

    x = np.asarray(sums, dtype=np.float64)
    n = np.asarray(counts, dtype=np.float64)
    x, n = x[n > 0], n[n > 0]
    if n.size < 2:
        return ratio(x, n, confidence=confidence)
    value = float(x.sum() / n.sum())
    if np.allclose(x, value * n, rtol=1e-12, atol=0.0):  # every item agrees: nothing to resample
        return Estimate(value, 0.0, value, value, n.size)
    result = bootstrap(
        (x, n),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // n.size),
        confidence_level=confidence,
        method="BCa" if n.size <= 1000 else "percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(
        value, float(result.standard_error), float(interval.low), float(interval.high), n.size
    )


def t_interval(
    value: float, error: float, n: int, confidence: float = 0.95, *, freedom: float | None = None
) -> Estimate:
    """Return a value with its standard error, and Student's t interval around it.

    Args:
        n: number of independent items.
        freedom: degrees of freedom, n - 1 unless given.
    """
    if n < 2 or math.isnan(error):
        return Estimate(value, error, math.nan, math.nan, n)
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2.0, n - 1 if freedom is None else freedom)) * error
    return Estimate(value, error, value - half, value + half, n)
