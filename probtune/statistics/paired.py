"""Two systems on the same questions: what the questions share cancels.

References:
    Miller, 2024, https://arxiv.org/abs/2411.00640 (paired differences). McNemar, "Note on the
    Sampling Error of the Difference between Correlated Proportions or Percentages", 1947,
    https://doi.org/10.1007/BF02295996.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Estimate
from .questions import Clusters, Floats, Scores, by_cluster, pair
from .rates import Method, interval_of_means

__all__ = ["flip_signs", "mcnemar", "mcnemar_interval", "paired_difference", "sign_flip_test"]


def paired_difference(
    a: Scores,
    b: Scores,
    *,
    clusters: Clusters = None,
    method: Method = "t",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the average of a minus that of b, with the interval of `avg_at_k` over the differences
    per question.

    The two may have different numbers of samples, never different questions.

    Raises:
        ValueError: a question is in one and not in the other.

    >>> paired_difference({"q1": [1, 1], "q2": [1, 0]}, {"q2": [0, 0], "q1": [1, 0]}).value
    0.5
    """
    questions, difference = pair(a, b)
    sums, sizes = by_cluster(difference, questions, clusters)
    return interval_of_means(
        sums, sizes, method=method, confidence=confidence, resamples=resamples, seed=seed
    )


def sign_flip_test(
    a: Scores, b: Scores, *, clusters: Clusters = None, resamples: int = 9999, seed: int = 0
) -> float:
    """Two-sided permutation test of a against b on the same questions: the p-value.

    If the two are the same, a question's (a cluster's) difference is as likely with the other sign.
    All 2^m signs are tried where the m differences that are not zero allow it in `resamples`, which
    makes the test exact; else random ones, and the smallest p-value is 2 / (resamples + 1). 1.0
    where the systems agree everywhere.

    >>> sign_flip_test([1, 1, 1, 1], [0, 0, 0, 0])
    0.125
    """
    questions, difference = pair(a, b)
    sums, _ = by_cluster(difference, questions, clusters)
    return flip_signs(sums, resamples=resamples, seed=seed)


def flip_signs(contributions: Floats, *, resamples: int, seed: int) -> float:
    """Return the p-value of the sum of independent contributions, whose signs are arbitrary under
    the null hypothesis. NaN without any."""
    if not len(contributions):
        return float("nan")
    moved = contributions[contributions != 0]
    if len(moved) < 2:  # of one, either sign is as far from 0
        return 1.0
    from scipy.stats import permutation_test

    result = permutation_test(
        (moved,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 1_000_000 // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def mcnemar(right: ArrayLike, other_right: ArrayLike) -> float:
    """Exact two-sided McNemar test of two systems on the same items: the p-value.

    Under the null hypothesis, of the items that exactly one system gets right each system has half.
    1.0 when the systems agree everywhere. Equals statsmodels' `mcnemar(table, exact=True)`; SciPy's
    binomial test is that test, without the second library.

    Raises:
        ValueError: the two have different numbers of items.
    """
    from scipy.stats import binomtest

    only_a, only_b, _ = _discordant(right, other_right)
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def mcnemar_interval(right: ArrayLike, other_right: ArrayLike) -> tuple[float, float]:
    """Exact 95 % interval of the difference of two shares on the same items, given how many items
    exactly one system gets right: Clopper and Pearson's for the share of these that each has.

    It leaves 0 out exactly where `mcnemar` is below 0.05, and lies in [-1, 1]. It holds the number
    of discordant items fixed, so it may be narrower than an interval over items.

    >>> low, high = mcnemar_interval([1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0])
    >>> round(low, 2), round(high, 2)
    (-0.12, 0.57)
    """
    from scipy.stats import binomtest

    only_a, only_b, items = _discordant(right, other_right)
    discordant = only_a + only_b
    if not discordant:
        return 0.0, 0.0
    ends = binomtest(only_a, discordant).proportion_ci(0.95, method="exact")
    low, high = (discordant / items * (2.0 * share - 1.0) for share in (ends.low, ends.high))
    return low, high


def _discordant(right: ArrayLike, other_right: ArrayLike) -> tuple[int, int, int]:
    """Return how many items only the first system gets right, only the other one, and all items."""
    a = np.asarray(right, dtype=bool)
    b = np.asarray(other_right, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"McNemar's test needs the same items, got {a.shape} and {b.shape}.")
    return int((a & ~b).sum()), int((b & ~a).sum()), a.size
