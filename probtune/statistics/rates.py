"""Rates at which a model is right: avg@k, one greedy answer, pass@k.

References:
    Miller, "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations",
    2024, https://arxiv.org/abs/2411.00640 (clustered standard errors). Bowyer, Aitchison and
    Ivanova, "Position: Don't Use the CLT in LLM Evals With Fewer Than a Few Hundred Datapoints",
    2025, https://arxiv.org/abs/2503.01747. Wilson, "Probable Inference, the Law of Succession, and
    Statistical Inference", 1927, https://doi.org/10.1080/01621459.1927.10502953. Chen et al.,
    "Evaluating Large Language Models Trained on Code", 2021, https://arxiv.org/abs/2107.03374.
    Franco, Little, Louis and Slud, "Comparative Study of Confidence Intervals for Proportions in
    Complex Sample Surveys", 2019, https://doi.org/10.1093/jssam/smy019 (score intervals with an
    effective number of items).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Estimate, bootstrap_ratio, ratio
from .questions import Clusters, Floats, Scores, by_cluster, read_scores

__all__ = ["avg_at_k", "interval_of_means", "pass_at_k", "rate", "share", "wilson"]

Method = Literal["t", "bca"]


def avg_at_k(
    scores: Scores,
    *,
    clusters: Clusters = None,
    method: Method = "t",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """avg@k: the average over the samples of each question, then over questions, with an interval
    from the spread between questions (between clusters, where labels are given).

    With m_i the average of question i, the error is sd(m) / sqrt(n); with clusters g of questions
    it is that of the ratio sum_g sum_{i in g} m_i / sum_g |g|. A binomial interval over all n k
    samples takes the samples of a question for independent and is far too short.

    Args:
        method: `t`, Student's t interval; `bca`, the bootstrap over questions (`bootstrap_ratio`:
            BCa up to 1000 items, percentile beyond).

    >>> avg_at_k([[0, 1, 1, 1], [0, 0, 0, 1]]).value
    0.5
    """
    questions = read_scores(scores)
    sums, sizes = by_cluster(questions.means, questions, clusters)
    return interval_of_means(
        sums, sizes, method=method, confidence=confidence, resamples=resamples, seed=seed
    )


def interval_of_means(
    sums: Floats,
    sizes: Floats,
    *,
    method: Method,
    confidence: float,
    resamples: int,
    seed: int,
) -> Estimate:
    """`ratio` or `bootstrap_ratio` of the clusters' sums and sizes, by the name of the method."""
    if method == "t":
        return ratio(sums, sizes, confidence=confidence)
    if method == "bca":
        return bootstrap_ratio(sums, sizes, resamples=resamples, seed=seed, confidence=confidence)
    raise ValueError(f"method must be t or bca, got {method!r}.")


def wilson(correct: Scores, *, confidence: float = 0.95) -> Estimate:
    """Return the share of right answers, one answer per question, with Wilson's score interval.

    The standard error is sqrt(p (1 - p) / n); where p is 0 or 1 it is 0, and only the interval says
    how little n questions prove.

    Raises:
        ValueError: an answer is neither 0 nor 1, or a question has several.

    >>> wilson([0] * 30)
    Estimate(value=0.0, standard_error=0.0, low=0.0, high=0.11..., n=30)
    """
    questions = read_scores(correct)
    questions.require_binary()
    several = np.flatnonzero(questions.counts > 1)
    if several.size:
        raise ValueError(
            f"{questions.name(int(several[0]))} has {questions.counts[several[0]]} samples; "
            "Wilson's interval is for one. Use avg_at_k."
        )
    return _wilson(int(questions.sums.sum()), len(questions), confidence)


def rate(scores: Scores, *, clusters: Clusters = None, confidence: float = 0.95) -> Estimate:
    """Return a rate with the interval that fits: Wilson's where each question (cluster) is a plain
    0 or 1, as with one greedy answer, Student's t on `avg_at_k` otherwise.

    Samples that agree on every question are one answer per question, so Wilson's interval also
    serves a model that solves nothing in k tries, where t would have no width. Clusters are 0 or 1
    where their questions agree; they must then be of one size, or agree with each other.
    """
    questions = read_scores(scores)
    sums, sizes = by_cluster(questions.means, questions, clusters)
    shares = sums / sizes
    plain = bool(np.isin(shares, (0.0, 1.0)).all())
    if plain and len(shares) and (np.ptp(sizes) == 0 or np.ptp(shares) == 0):
        return _wilson(int(shares.sum()), len(shares), confidence)
    return ratio(sums, sizes, confidence=confidence)


def share(sums: ArrayLike, counts: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """`ratio` of numbers from 0 to 1, with an interval that lies in [0, 1].

    Value and standard error are those of `ratio`. The interval is Wilson's score interval with the
    effective number of items p (1 - p) / error^2 in place of n: it equals `wilson` where every item
    counts one and is 0 or 1, and tends to the t interval of `ratio` where the error is small
    against the distance to 0 and 1.

    >>> share([9.9, 9.6], [10, 10]).high <= 1.0, share([1, 1, 1], [1, 1, 1]).low > 0.4
    (True, True)
    """
    x, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    estimate = ratio(x, n, confidence=confidence)
    p, items = estimate.value, estimate.n
    if items == 0 or math.isnan(estimate.standard_error):
        return estimate
    x, n = x[n > 0], n[n > 0]
    freedom = math.inf if bool((n == 1).all() and np.isin(x, (0.0, 1.0)).all()) else items - 1
    # `ratio` has n - 1 in its variance, Wilson's interval n.
    variance = estimate.standard_error**2 * (items - 1) / items
    effective = p * (1.0 - p) / variance if variance > 0 and 0 < p < 1 else float(items)
    low, high = _score_interval(min(max(p, 0.0), 1.0), effective, confidence, freedom)
    return estimate._replace(low=low, high=high)


def _score_interval(p: float, n: float, confidence: float, freedom: float) -> tuple[float, float]:
    """Wilson's score interval of a share p of n items, which need not be a whole number."""
    from scipy.stats import norm, t

    upper = 0.5 + confidence / 2.0
    q = float(norm.ppf(upper) if math.isinf(freedom) else t.ppf(upper, freedom))
    scale = 1.0 + q * q / n
    centre = (p + q * q / (2.0 * n)) / scale
    half = q / scale * math.sqrt(p * (1.0 - p) / n + q * q / (4.0 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def pass_at_k(
    correct: Scores,
    ks: Sequence[int] | None = None,
    *,
    clusters: Clusters = None,
    confidence: float = 0.95,
) -> dict[int, Estimate]:
    """k -> pass@k: the chance that at least one of k samples is right, from n >= k samples.

    Of a question with c right of n samples it is 1 - C(n - c, k) / C(n, k), the share of its
    k-subsets with a right one: unbiased, unlike 1 - (1 - c / n)^k. Counted in whole numbers, so
    nothing cancels. The average over questions has the interval of `rate`.

    Args:
        ks: 1, 2, 4, 8, 16, up to the fewest samples of a question, unless given.

    Raises:
        ValueError: a sample is neither 0 nor 1, or a question has fewer than k samples.

    >>> {k: round(found.value, 3) for k, found in pass_at_k([[1, 0, 0, 0], [1, 1, 0, 0]]).items()}
    {1: 0.375, 2: 0.667, 4: 1.0}
    """
    questions = read_scores(correct)
    questions.require_binary()
    fewest = int(questions.counts.min()) if len(questions) else 0
    if ks is None:
        ks = [k for k in (1, 2, 4, 8, 16) if k <= fewest]
    for k in ks:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        if len(questions) and k > fewest:
            name = questions.name(int(np.argmin(questions.counts)))
            raise ValueError(f"pass@{k} needs {k} samples, {name} has {fewest}.")
    table = np.stack([questions.counts, questions.sums.astype(np.int64)])
    pairs, index = np.unique(table, axis=1, return_inverse=True)
    chances = {k: np.array([_passes(n, c, k) for n, c in pairs.T.tolist()]) for k in ks}
    names = questions.names

    def named(values: Floats) -> Scores:
        return values if names is None else dict(zip(names, values, strict=True))

    return {
        k: rate(named(chance[index.ravel()]), clusters=clusters, confidence=confidence)
        if len(questions)
        else rate([], confidence=confidence)
        for k, chance in chances.items()
    }


def _passes(n: int, c: int, k: int) -> float:
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def _wilson(successes: int, n: int, confidence: float) -> Estimate:
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    from statsmodels.stats.proportion import proportion_confint

    ends: Any = proportion_confint(successes, n, alpha=1.0 - confidence, method="wilson")
    p = successes / n
    return Estimate(p, math.sqrt(p * (1.0 - p) / n), float(ends[0]), float(ends[1]), n)
