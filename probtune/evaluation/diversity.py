"""How different the samples of one question are, and what that is worth: pass@k, distinct answers
and texts, the majority's answer.

An objective that sharpens the model raises pass@1 and leaves less for pass@k and the majority to
find; this shows both.

References:
    Chen et al., "Evaluating Large Language Models Trained on Code", 2021,
    https://arxiv.org/abs/2107.03374 (pass@k). Wang et al., "Self-Consistency Improves Chain of
    Thought Reasoning in Language Models", 2022, https://arxiv.org/abs/2203.11171 (majority vote).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from ..statistics import Clusters, Estimate, avg_at_k, pass_at_k, rate

__all__ = ["Answers", "Vote", "check_samples", "diversity", "majority"]

Answers = Sequence[Sequence[Hashable | None]]
"""Extracted answers, question by question, sample by sample; None where there is none. Answers that
the grader takes for the same must be equal."""


def diversity(
    texts: Sequence[Sequence[str]],
    answers: Answers,
    correct: Sequence[Sequence[float]],
    *,
    clusters: Clusters = None,
) -> dict[str, Estimate]:
    """Diversity of k samples per question, with questions (clusters) as the unit.

    Returns:
        `pass@1`, `pass@2`, ... up to k; `maj@k`, the accuracy of the most frequent answer;
        `distinct_answers` and `distinct_texts`, their number among the k samples of a question (a
        missing answer is none); `answered`, the share of samples with an answer.

    Raises:
        ValueError: texts, answers and correctness do not belong together, or questions have
            different numbers of samples: distinct answers of 8 and of 16 do not compare.

    >>> found = diversity([["2", "two", "3"]], [["2", "2", "3"]], [[1, 1, 0]])
    >>> {name: round(x.value, 2) for name, x in found.items()}
    {'pass@1': 0.67, 'pass@2': 1.0, 'maj@3': 1.0, 'distinct_answers': 2.0, 'distinct_texts': 3.0,
     'answered': 1.0}
    """
    k = check_samples(answers, correct)
    check_samples(texts, correct)
    if not k:
        return {}
    votes = [majority(a, c) for a, c in zip(answers, correct, strict=True)]
    given = [[answer for answer in row if answer is not None] for row in answers]
    found = {f"pass@{n}": x for n, x in pass_at_k(correct, clusters=clusters).items()}
    found[f"maj@{k}"] = rate([vote.correct for vote in votes], clusters=clusters)
    found["distinct_answers"] = avg_at_k([len(set(row)) for row in given], clusters=clusters)
    found["distinct_texts"] = avg_at_k([len(set(row)) for row in texts], clusters=clusters)
    found["answered"] = rate([len(row) / k for row in given], clusters=clusters)
    return found


class Vote(NamedTuple):
    """What the samples of one question vote for."""

    share: float
    """Votes for the most frequent answer, of all samples; 0 where no sample has an answer."""
    correct: float
    """The chance that it is right, each of equally frequent answers being chosen as often as the
    others: 1 or 0 where one answer leads."""
    first: float
    """The same for the answer among the leaders that was sampled first, which is one of them at
    random, since samples come in no order."""


def majority(answers: Sequence[Hashable | None], correct: Sequence[float]) -> Vote:
    """The vote of one question's samples. A missing answer has no vote; without any answer the vote
    is wrong.

    An answer is as right as its samples on average, in case the grader saw more than the answer.

    >>> majority(["a", "b", "b", "a", None], [1, 0, 0, 1, 0])
    Vote(share=0.4, correct=0.5, first=1.0)
    """
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return Vote(0.0, 0.0, 0.0)
    most = max(counts.values())
    right = {
        leader: sum(c for a, c in zip(answers, correct, strict=True) if a == leader) / most
        for leader, votes in counts.items()
        if votes == most
    }
    chances = list(right.values())  # in the order of first appearance
    return Vote(most / len(answers), sum(chances) / len(chances), chances[0])


def check_samples(rows: Sequence[Sequence[object]], correct: Sequence[Sequence[float]]) -> int:
    """The number of samples of every question; 0 without questions.

    Raises:
        ValueError: it differs between questions, or between the two; the first such question is
            named.
    """
    if len(rows) != len(correct):
        raise ValueError(f"{len(rows)} questions with samples, {len(correct)} with grades.")
    k = len(correct[0]) if len(correct) else 0
    for index, (row, grades) in enumerate(zip(rows, correct, strict=True)):
        if len(row) != len(grades) or len(grades) != k or k == 0:
            raise ValueError(
                f"question {index} has {len(row)} samples and {len(grades)} grades; "
                f"every question must have {k or 'at least one'} of both, as the first."
            )
    return k
