"""Several training runs on the same questions: what another seed would change, beside what other
questions would.

References:
    Owen, "The Pigeonhole Bootstrap", 2007, https://doi.org/10.1214/07-AOAS122 (rows and columns
    resampled independently). Satterthwaite, 1946, https://doi.org/10.2307/3002019. Searle, Casella
    and McCulloch, "Variance Components", 1992, ch. 4 (the crossed model with random effects).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .estimates import Estimate, mean, t_interval
from .questions import Clusters, Floats, Questions, Scores, aligned, by_cluster, pair, read_scores

__all__ = ["TwoLevel", "two_level_bootstrap", "two_level_difference"]

SeedScores: TypeAlias = Sequence[Scores] | Mapping[Any, Scores]
"""Scores of each seed, by position or by name."""


class TwoLevel(NamedTuple):
    """An average over seeds and questions. With one seed everything but the value and
    `question_error` is NaN: one run says nothing about another."""

    bootstrap: Estimate
    """The average; error and interval from drawing seeds, then questions (percentile)."""
    random_effects: Estimate
    """The average; error and t interval of the crossed random-effects model. The one to trust with
    few seeds: the bootstrap then draws from too few, and its interval is too short."""
    seed_sd: float
    """Standard deviation of the seeds' averages: what a single run moves by."""
    question_error: float
    """Standard error over questions of the average over seeds: what other questions would move."""
    seeds: int
    questions: int
    """Questions, or clusters of questions."""


def two_level_bootstrap(
    scores: SeedScores,
    *,
    clusters: Clusters = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> TwoLevel:
    """Return the average over seeds and questions, uncertain in both.

    All seeds answer the same questions, so one draw of questions serves every drawn seed: seeds
    and questions are crossed, not nested. Both intervals are about other seeds and other questions.

    Args:
        scores: seed -> question -> samples; the questions must be the same for every seed.

    Raises:
        ValueError: a question is missing for a seed; seed and question are named.
    """
    named = _by_seed(scores)
    if not named:
        return _nothing()
    names = list(named)
    first = read_scores(named[names[0]])
    rows = []
    for name in names:
        try:
            rows.append(aligned(first, read_scores(named[name])))
        except ValueError as error:
            raise ValueError(f"seed {names[0]!r} first, seed {name!r} second: {error}") from None
    return _two_level(np.stack(rows), first, clusters, resamples, seed, confidence)


def two_level_difference(
    a: SeedScores,
    b: SeedScores,
    *,
    clusters: Clusters = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> TwoLevel:
    """Return the difference a - b of two objectives, paired by seed and by question.

    Seeds are a pair when they share what a seed decides: initial state of the head or adapter and
    order of the data.

    Raises:
        ValueError: a seed or a question is in one and not in the other.
    """
    first, second = _by_seed(a), _by_seed(b)
    for name in [*first, *second]:
        if name not in first or name not in second:
            raise ValueError(f"seed {name!r} is in one of two paired objectives only.")
    differences: dict[Any, Scores] = {}
    for name in first:
        try:
            questions, difference = pair(first[name], second[name])
        except ValueError as error:
            raise ValueError(f"seed {name!r}: {error}") from None
        ones = np.ones(len(questions), dtype=np.int64)
        differences[name] = Questions(difference, ones, questions.names)
    return two_level_bootstrap(
        differences, clusters=clusters, resamples=resamples, seed=seed, confidence=confidence
    )


def _by_seed(scores: SeedScores) -> dict[Any, Scores]:
    return dict(scores) if isinstance(scores, Mapping) else dict(enumerate(scores))


def _nothing() -> TwoLevel:
    nan = Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    return TwoLevel(nan, nan, math.nan, math.nan, 0, 0)


def _two_level(
    table: Floats,  # (S, n)
    questions: Questions,
    clusters: Clusters,
    resamples: int,
    seed: int,
    confidence: float,
) -> TwoLevel:
    if not table.shape[1]:
        return _nothing()
    value = float(table.mean())
    rows = [by_cluster(row, questions, clusters) for row in table]
    sizes = rows[0][1]
    shares = np.stack([sums for sums, _ in rows])  # (S, G)
    seeds, units = shares.shape
    # a cluster's deviation from the average, in questions: clusters of any size on one scale
    deviations = (shares - value * sizes) * (units / sizes.sum())
    by_seed = table.mean(axis=1)
    question_error = mean(deviations.mean(axis=0)).standard_error
    if seeds < 2 or units < 2:
        unknown = Estimate(value, math.nan, math.nan, math.nan, seeds)
        spread = float(by_seed.std(ddof=1)) if seeds > 1 else math.nan
        return TwoLevel(unknown, unknown, spread, question_error, seeds, units)
    drawn = value + _draws(deviations, resamples, np.random.default_rng(seed))
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return TwoLevel(
        Estimate(value, float(drawn.std(ddof=1)), float(low), float(high), seeds),
        _random_effects(value, deviations, confidence),
        float(by_seed.std(ddof=1)),
        question_error,
        seeds,
        units,
    )


def _draws(table: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples,): the average of the table with its rows and its columns drawn anew."""
    seeds, units = table.shape
    draws = []
    batch = max(1, 2_000_000 // units)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        rows = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size)
        columns = rng.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(columns.ravel(), minlength=size * units).reshape(size, units)
        draws.append(((counts @ table.T) * rows).sum(axis=1) / (seeds * units))
    return np.concatenate(draws)


def _random_effects(value: float, table: Floats, confidence: float) -> Estimate:
    """Analysis of variance of the crossed table: the variance of the average is
    (MS_seeds + MS_questions - MS_rest) / (seeds x questions)."""
    seeds, units = table.shape
    rows = table.mean(axis=1, keepdims=True) - table.mean()
    columns = table.mean(axis=0, keepdims=True) - table.mean()
    rest = table - table.mean() - rows - columns
    between = np.array(
        [
            units * float((rows**2).sum()) / (seeds - 1),
            seeds * float((columns**2).sum()) / (units - 1),
            -float((rest**2).sum()) / ((seeds - 1) * (units - 1)),
        ]
    )
    # seeds that differ by less than the rest explains add nothing, instead of taking away
    components = between if between[0] + between[2] > 0 else between * [0, 1, 0]
    total = float(components.sum())
    if total <= 0:
        return Estimate(value, 0.0, value, value, seeds)
    freedom = total**2 / float(
        (components**2 / [seeds - 1, units - 1, (seeds - 1) * (units - 1)]).sum()
    )
    error = math.sqrt(total / (seeds * units))
    return t_interval(value, error, seeds, confidence, freedom=freedom)
