"""Scores by question: what the other modules take, read and checked once.

The question is the unit, never the sample: the k samples of one question share its difficulty.
Where questions are not independent either (copies of one question, the same stem with four and with
five options), the unit is the cluster of questions that share a label.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Clusters",
    "Questions",
    "Scores",
    "aligned",
    "by_cluster",
    "by_question",
    "labels_of",
    "pair",
    "read_scores",
]

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Questions:
    """The scores of n questions, each with one sample or more."""

    samples: Floats
    """(N,): all samples, question after question."""
    counts: NDArray[np.int64]
    """(n,): samples of each question, at least 1."""
    names: tuple[Hashable, ...] | None
    """The questions' names; None where they were given by position."""

    @property
    def means(self) -> Floats:
        """(n,): the average over the samples of each question."""
        return self.sums / self.counts

    @property
    def sums(self) -> Floats:
        """(n,): the sum over the samples of each question."""
        if not len(self.counts):
            return np.zeros(0)
        return np.add.reduceat(self.samples, np.cumsum(self.counts) - self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def name(self, index: int) -> str:
        """Name of a question in an error."""
        return f"question {self.names[index]!r}" if self.names else f"question {index}"

    def require_binary(self) -> None:
        """Raise unless every sample is 0 or 1."""
        wrong = np.flatnonzero((self.samples != 0) & (self.samples != 1))
        if wrong.size:
            where = int(np.searchsorted(np.cumsum(self.counts), wrong[0], side="right"))
            raise ValueError(
                f"{self.name(where)}: correctness must be 0 or 1, got {self.samples[wrong[0]]:g}."
            )


Scores: TypeAlias = ArrayLike | Sequence[ArrayLike] | Mapping[Any, ArrayLike] | Questions
"""(n,) with one sample per question, (n, k), a list of n lists where questions have different
numbers of samples, or question -> samples. Two sets of scores that name their questions are paired
by name, others by position."""

Clusters: TypeAlias = Sequence[Hashable] | NDArray[Any] | Mapping[Any, Hashable] | None
"""A label per question, in the questions' order, or question -> label where questions have names.
Questions with the same label are one cluster."""


def read_scores(scores: Scores) -> Questions:
    """Scores of any accepted shape as `Questions`.

    Raises:
        ValueError: a shape other than questions x samples, a question without a sample, or a score
            that is not a finite number; the first such question is named.

    >>> read_scores({"q1": [0, 1], "q2": [1]}).means.tolist()
    [0.5, 1.0]
    """
    if isinstance(scores, Questions):
        return scores
    if isinstance(scores, Mapping):
        names, rows = tuple(scores), list(scores.values())
    else:
        names, rows = None, scores
    if isinstance(rows, np.ndarray) and rows.dtype != object:
        if rows.ndim not in (1, 2):
            raise ValueError(f"scores must be questions x samples, got the shape {rows.shape}.")
        counts = np.full(len(rows), rows.shape[1] if rows.ndim == 2 else 1, dtype=np.int64)
        questions = Questions(rows.astype(np.float64).ravel(), counts, names)
    else:
        if isinstance(rows, str) or not isinstance(rows, Iterable):
            raise ValueError(f"scores must be questions x samples, got {rows!r}.")
        arrays = [_samples(row, index, names) for index, row in enumerate(rows)]
        counts = np.array([len(array) for array in arrays], dtype=np.int64)
        questions = Questions(np.concatenate(arrays) if arrays else np.zeros(0), counts, names)
    if (questions.counts == 0).any():
        raise ValueError(f"{questions.name(int(np.argmin(questions.counts)))} has no sample.")
    wrong = np.flatnonzero(~np.isfinite(questions.samples))
    if wrong.size:
        where = int(np.searchsorted(np.cumsum(questions.counts), wrong[0], side="right"))
        raise ValueError(
            f"{questions.name(where)}: a score must be a finite number, "
            f"got {questions.samples[wrong[0]]:g}. Leave ungraded samples out, or grade them."
        )
    return questions


def by_question(values: ArrayLike, questions: Iterable[Hashable]) -> dict[Hashable, Floats]:
    """Samples in one column and their questions in another, as question -> samples.

    >>> {q: x.tolist() for q, x in by_question([1, 0, 1], ["a", "b", "a"]).items()}
    {'a': [1.0, 1.0], 'b': [0.0]}
    """
    scores_of: dict[Hashable, list[float]] = {}
    flat = np.asarray(values, dtype=np.float64).tolist()
    labels = list(questions)
    if len(flat) != len(labels):
        raise ValueError(f"every sample needs its question, got {len(flat)} and {len(labels)}.")
    for value, label in zip(flat, labels, strict=True):
        scores_of.setdefault(label, []).append(value)
    return {label: np.array(samples) for label, samples in scores_of.items()}


def pair(a: Scores, b: Scores) -> tuple[Questions, Floats]:
    """(questions, differences): the difference a - b of each question's average, in the order of a.

    Raises:
        ValueError: the two were not measured on the same questions; the first that lacks a partner
            is named.
    """
    first = read_scores(a)
    return first, first.means - aligned(first, read_scores(b))


def aligned(first: Questions, second: Questions) -> Floats:
    """(n,): the averages of `second` in the order of the questions of `first`, which must be the
    same questions."""
    if (first.names is None) != (second.names is None):
        raise ValueError("of two scores to be paired, one names its questions and one does not.")
    if first.names is not None and second.names is not None:
        index_of = {name: index for index, name in enumerate(second.names)}
        lonely = next((x for x in first.names if x not in index_of), None)
        if lonely is not None:
            raise ValueError(f"question {lonely!r} is in the first scores and not in the second.")
        if len(first) < len(second):
            first_names = set(first.names)
            lonely = next(x for x in second.names if x not in first_names)
            raise ValueError(f"question {lonely!r} is in the second scores and not in the first.")
        return second.means[[index_of[name] for name in first.names]] if index_of else second.means
    if len(first) != len(second):
        raise ValueError(
            f"question {min(len(first), len(second))} has no partner: "
            f"{len(first)} questions in the first scores, {len(second)} in the second."
        )
    return second.means


def by_cluster(values: Floats, questions: Questions, clusters: Clusters) -> tuple[Floats, Floats]:
    """(sums, sizes): the sum of the questions' values in each cluster, and its number of questions;
    every question is a cluster of its own without labels."""
    if clusters is None:
        return values, np.ones(len(values))
    codes: dict[Hashable, int] = {}
    index = [codes.setdefault(label, len(codes)) for label in labels_of(questions, clusters)]
    return (
        np.bincount(index, values, len(codes)).astype(np.float64),
        np.bincount(index, minlength=len(codes)).astype(np.float64),
    )


def labels_of(questions: Questions, clusters: Clusters) -> list[Hashable]:
    """Return the cluster's label of each question.

    Raises:
        ValueError: a question has no label; the first is named.
    """
    if isinstance(clusters, Mapping):
        if questions.names is None:
            raise ValueError("clusters by name need scores that name their questions.")
        labels: list[Hashable] = [clusters.get(name) for name in questions.names]
    else:
        labels = [] if clusters is None else list(clusters)
        if len(labels) > len(questions):
            raise ValueError(f"{len(labels)} cluster labels for {len(questions)} questions.")
        labels += [None] * (len(questions) - len(labels))
    for index, label in enumerate(labels):
        if label is None or label != label:
            raise ValueError(f"{questions.name(index)} has no cluster label.")
    return labels


def _samples(row: Any, index: int, names: tuple[Hashable, ...] | None) -> Floats:
    try:
        array = np.atleast_1d(np.asarray(row, dtype=np.float64))
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim != 1:
        name = f"question {names[index]!r}" if names else f"question {index}"
        raise ValueError(f"{name}: its samples must be a list of numbers, got {row!r:.80}.")
    return array
