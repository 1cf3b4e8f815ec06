"""Diversity of the samples of one question, and its use: pass@k, distinct answers and texts, the
majority's answer.

An objective that sharpens the model raises pass@1 and may lower the gain from pass@k and from the
majority vote; this measures both.

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
"""Extracted answers, question by question, sample by sample; None for a sample without an answer.
Answers that the grader takes for the same must be equal."""


def diversity(
    texts: Sequence[Sequence[str]],
    answers: Answers,
    correct: Sequence[Sequence[float]],
    *,
    clusters: Clusters = None,
) -> dict[str, Estimate]:
    """Measure the diversity of k samples per question, with questions (clusters) as the unit.

    Returns:
        `pass@1`, `pass@2`, ... up to k; `maj@k`, the accuracy of the most frequent answer;
        `distinct_answers` and `distinct_texts`, their number among the k samples of a question
        (missing answers do not count); `answered`, the share of samples with an answer.

    Raises:
        ValueError: texts, answers and correctness differ in shape, or questions have different
            numbers of samples: distinct answers of 8 and of 16 do not compare.

    >>> measures = diversity([["2", "two", "3"]], [["2", "2", "3"]], [[1, 1, 0]])
    >>> {name: round(x.value, 2) for name, x in measures.items()}
    {'pass@1': 0.67, 'pass@2': 1.0, 'maj@3': 1.0, 'distinct_answers': 2.0, 'distinct_texts': 3.0,
     'answered': 1.0}
    """
    k = check_samples(answers, correct)
    check_samples(texts, correct)
    if not k:
        return {}
    votes = [majority(a, c) for a, c in zip(answers, correct, strict=True)]
    answered = [[answer for answer in row if answer is not None] for row in answers]
    measures = {f"pass@{n}": x for n, x in pass_at_k(correct, clusters=clusters).items()}
    measures[f"maj@{k}"] = rate([vote.correct for vote in votes], clusters=clusters)
    measures["distinct_answers"] = avg_at_k([len(set(row)) for row in answered], clusters=clusters)
    measures["distinct_texts"] = avg_at_k([len(set(row)) for row in texts], clusters=clusters)
    measures["answered"] = rate([len(row) / k for row in answered], clusters=clusters)
    return measures


class Vote(NamedTuple):
    """Vote of the samples of one question."""

    share: float
    """Share of the samples that give the most frequent answer; 0 if no sample has an answer."""
    correct: float
    """Chance that the most frequent answer is right: 1 or 0 if one answer leads. Equally frequent
    answers are chosen equally often."""
    first: float
    """The same chance if the answer that was sampled first wins a tie; as samples come in no order,
    that is a random one of the leaders."""


def majority(answers: Sequence[Hashable | None], correct: Sequence[float]) -> Vote:
    """Return the vote of one question's samples. A missing answer has no vote; without any answer
    the vote is wrong.

    An answer counts as right to the share of its samples that are: a grader may see more than the
    answer.

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
    """Return the number of samples of every question; 0 without questions.

    Raises:
        ValueError: the number differs between questions, or between rows and grades; the message
            names the first such question.
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
