"""Averages over benchmarks, with each benchmark's questions resampled apart, and many p-values.

References:
    Efron, "Better Bootstrap Confidence Intervals", 1987, https://doi.org/10.2307/2289144.
    Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946,
    https://doi.org/10.2307/3002019. Holm, "A Simple Sequentially Rejective Multiple Test
    Procedure", 1979, https://www.jstor.org/stable/4615733.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .estimates import Estimate, t_interval
from .paired import flip_signs
from .questions import (
    Clusters,
    Floats,
    Questions,
    Scores,
    aligned,
    labels_of,
    pair,
    read_scores,
)

__all__ = ["Comparison", "difference_over_seeds", "holm", "macro_average", "macro_difference"]

MacroMethod = Literal["bootstrap", "t"]


class Comparison(NamedTuple):
    """A paired difference and the p-value of no difference at all."""

    difference: Estimate
    p_value: float


def macro_average(
    benchmarks: Mapping[str, Scores],
    *,
    clusters: Mapping[str, Clusters] | None = None,
    method: MacroMethod = "bootstrap",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the unweighted mean of the benchmarks' averages, with an interval over their
    questions.

    Args:
        benchmarks: name -> scores.
        clusters: name -> labels of its questions. A label that occurs in two benchmarks is one
            cluster of both: the stem of a question asked with four and with five options, a
            question asked in seven languages. Benchmarks linked in this way are resampled together.
        method: `bootstrap`, the stratified bootstrap: clusters drawn anew within each benchmark
            (or linked group), BCa up to 1000 clusters in each, percentile beyond. `t`, the
            benchmarks' variances added, with Satterthwaite's degrees of freedom: the same
            interval to first order, and the better one where benchmarks are small.

    Clusters of different size enter linearised, as in `ratio`. Benchmarks themselves are not
    drawn: the interval is about these benchmarks with other questions.

    Raises:
        ValueError: a benchmark has no question, or labels are for a benchmark that is not there.

    >>> macro_average({"easy": [1, 1, 0, 1], "hard": [0, 1, 0, 0]}, method="t").value
    0.5
    """
    questions = {name: read_scores(scores) for name, scores in benchmarks.items()}
    values = {name: scores_by_question.means for name, scores_by_question in questions.items()}
    strata = _strata(questions, values, clusters)
    return _interval(values, strata, method, confidence, resamples, seed)


def macro_difference(
    a: Mapping[str, Scores],
    b: Mapping[str, Scores],
    *,
    clusters: Mapping[str, Clusters] | None = None,
    method: MacroMethod = "bootstrap",
    confidence: float = 0.95,
    resamples: int = 2000,
    permutations: int = 9999,
    seed: int = 0,
) -> Comparison:
    """`macro_average` of a minus that of b, paired by question, and the p-value of the sign-flip
    test on it: each question's (cluster's) difference enters with the weight it has in the mean of
    means.

    Raises:
        ValueError: as `macro_average`, or the two have other benchmarks or other questions.
    """
    for name in [*a, *b]:
        if name not in a or name not in b:
            raise ValueError(f"benchmark {name!r} is in one of two compared systems only.")
    questions, values = {}, {}
    for name in a:
        try:
            questions[name], values[name] = pair(a[name], b[name])
        except ValueError as error:
            raise ValueError(f"benchmark {name!r}: {error}") from None
    strata = _strata(questions, values, clusters)
    shares = np.concatenate([np.zeros(0), *(stratum.shares for stratum in strata)])
    return Comparison(
        _interval(values, strata, method, confidence, resamples, seed),
        flip_signs(shares, resamples=permutations, seed=seed),
    )


def difference_over_seeds(
    a: Sequence[Mapping[str, Scores]],
    b: Sequence[Mapping[str, Scores]],
    *,
    clusters: Mapping[str, Clusters] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Return the unweighted mean of the benchmarks' differences a - b over several training runs,
    paired by seed and by question, with an interval and a p-value about other seeds as well as
    other questions.

    The variance of the mean is that over questions (of the seeds' average) plus that between seeds
    less what answers alone add to it, which is left out where it is not positive. A t distribution
    with Satterthwaite's degrees of freedom gives the interval, and the p-value belongs to it: it is
    at most 0.05 where the 95 % interval excludes 0. For one benchmark it is the crossed
    random-effects interval of `two_level_difference`. What it holds with three seeds stands in
    docs/evaluation.md.

    Args:
        a, b: for each seed, benchmark -> scores.
        clusters: as in `macro_average`.

    Raises:
        ValueError: seeds differ in number, or benchmarks or questions are not the same.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"seeds must be pairs, two or more, got {len(a)} and {len(b)}.")
    names = list(a[0])
    rows: list[dict[str, Floats]] = []
    questions: dict[str, Questions] = {}
    for number, (first, second) in enumerate(zip(a, b, strict=True)):
        if set(first) != set(names) or set(second) != set(names):
            raise ValueError(f"seed {number} has other benchmarks than the first.")
        values: dict[str, Floats] = {}
        for name in names:
            own, difference = pair(first[name], second[name])
            before = questions.setdefault(name, own)
            ones = np.ones(len(own), dtype=np.int64)
            values[name] = aligned(before, Questions(difference, ones, own.names))
        rows.append(values)
    averages = np.array([np.mean([x.mean() for x in values.values()]) for values in rows])
    seeds, value = len(rows), float(averages.mean())
    together = [
        np.stack([stratum.deviations for stratum in strata])
        for strata in zip(*(_strata(questions, values, clusters) for values in rows), strict=True)
    ]
    if min(x.shape[1] for x in together) < 2:
        unknown = Estimate(value, math.nan, math.nan, math.nan, seeds)
        return Comparison(unknown, math.nan)
    units = np.array([x.shape[1] for x in together])
    scale = units / (units - 1)
    over_questions = scale * [float((x.mean(axis=0) ** 2).sum()) for x in together]
    rest = scale * [
        float(((x - x.mean(axis=0)) ** 2).sum()) / (seeds * (seeds - 1)) for x in together
    ]
    between = float(averages.var(ddof=1)) / seeds
    # seeds that differ by less than the rest explains add nothing, instead of taking away
    parts = [*over_questions, between, *-rest] if between > rest.sum() else [*over_questions]
    freedoms = [*(units - 1), seeds - 1, *((units - 1) * (seeds - 1))][: len(parts)]
    total = math.fsum(parts)
    if total <= 1e-24:
        same = Estimate(value, 0.0, value, value, seeds)
        return Comparison(same, 1.0 if abs(value) < 1e-12 else 0.0)
    freedom = total**2 / math.fsum(x**2 / f for x, f in zip(parts, freedoms, strict=True))
    error = math.sqrt(total)
    from scipy.stats import t

    p_value = float(2 * t.sf(abs(value) / error, freedom))
    estimate = t_interval(value, error, seeds, confidence, freedom=freedom)
    return Comparison(estimate, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of one family of tests, adjusted so that the chance of any false rejection stays
    below the level; in the order given.

    Raises:
        ValueError: a p-value is not between 0 and 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    for index, p in enumerate(p_values):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p-value {index} must be between 0 and 1, got {p}.")
    if not len(p_values):
        return []
    from statsmodels.stats.multitest import multipletests

    adjusted: Any = multipletests(list(p_values), method="holm")[1]
    return adjusted.tolist()


class _Stratum(NamedTuple):
    """Clusters drawn together; (G,) each."""

    shares: Floats
    """Contributions of the clusters to the macro average: they sum to it, over all strata."""
    deviations: Floats
    """The same, less what the cluster would add if it were average."""


def _strata(
    questions: Mapping[str, Questions],
    values: Mapping[str, Floats],
    clusters: Mapping[str, Clusters] | None,
) -> list[_Stratum]:
    labels: dict[str, Sequence[Hashable]] = {}
    clusters = clusters or {}
    for name in clusters:
        if name not in questions:
            raise ValueError(f"cluster labels for {name!r}, which is not among the benchmarks.")
    for name, scores_by_question in questions.items():
        if not len(scores_by_question):
            raise ValueError(f"benchmark {name!r} has no question.")
        own = clusters.get(name)
        labels[name] = (
            [(name, index) for index in range(len(scores_by_question))]
            if own is None
            else [("label", label) for label in labels_of(scores_by_question, own)]
        )
    group = {name: name for name in labels}
    seen: dict[Hashable, str] = {}
    for name, own_labels in labels.items():
        for other in {group[seen.setdefault(label, name)] for label in own_labels} - {group[name]}:
            group = {x: group[name] if g == other else g for x, g in group.items()}
    strata = []
    for joined in dict.fromkeys(group.values()):
        codes: dict[Hashable, int] = {}
        members = [name for name in labels if group[name] == joined]
        index = [[codes.setdefault(x, len(codes)) for x in labels[name]] for name in members]
        shares, deviations = np.zeros(len(codes)), np.zeros(len(codes))
        for name, where in zip(members, index, strict=True):
            x, weight = values[name], 1.0 / (len(values[name]) * len(labels))
            shares += weight * np.bincount(where, x, len(codes))
            deviations += weight * np.bincount(where, x - x.mean(), len(codes))
        strata.append(_Stratum(shares, deviations))
    return strata


def _interval(
    values: Mapping[str, Floats],
    strata: Sequence[_Stratum],
    method: MacroMethod,
    confidence: float,
    resamples: int,
    seed: int,
) -> Estimate:
    if method not in ("bootstrap", "t"):
        raise ValueError(f"method must be bootstrap or t, got {method!r}.")
    if not values:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    deviations = [stratum.deviations for stratum in strata]
    value = float(np.mean([x.mean() for x in values.values()]))
    n = sum(len(x) for x in deviations)
    if min(len(x) for x in deviations) < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    variances = np.array([len(x) / (len(x) - 1) * float((x**2).sum()) for x in deviations])
    error = math.sqrt(variances.sum())
    if error < 1e-12:  # every question agrees: nothing to resample
        return Estimate(value, 0.0, value, value, n)
    if method == "t":
        freedom = error**4 / sum(
            v**2 / (len(x) - 1) for v, x in zip(variances, deviations, strict=True)
        )
        return t_interval(value, error, n, confidence, freedom=freedom)
    from scipy.stats import bootstrap

    largest = max(len(x) for x in deviations)
    result = bootstrap(
        [x * len(x) for x in deviations],
        lambda *strata, axis: value + sum(x.mean(axis=axis) for x in strata),
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // largest),
        confidence_level=confidence,
        method="BCa" if largest <= 1000 else "percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(result.standard_error), float(low), float(high), n)
