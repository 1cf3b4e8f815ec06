"""Success rate of a model on training rows: the share of its own answers to a row's prompt that are
right, and the weight that online self-weighted fine-tuning gives the row.

    weight = 1 - success rate

A row that the model solves already counts less, one that it never solves counts in full.

Reference: Wen et al., "Online Self-Weighted Fine-Tuning", 2026, https://arxiv.org/abs/2609.00734
(Algorithm 1: K = 2 answers at temperature 1). There the rate is measured anew for every batch; here
once, for the model before training, or again for a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..data.messages import kind_of
from ..data.tokens import Encoded
from ..errors import DataError, UsageError
from ..measure.answers import choose_rule, exact_match, read_rule
from ..terminal import Terminal
from .grade import grade_items
from .grading.base import GradingItem
from .rollouts import Rollout
from .tasks.questions import GRADERS, gold_of

__all__ = ["grade_by_grader", "grade_by_rule", "grader_named", "rule_for"]

Grades = list[list[float]]
"""Score of every answer, row by row."""


def rule_for(rule: str, responses: Sequence[str]) -> str:
    """Return the answer rule by its name; `auto` is the one that fits the responses.

    Raises:
        UsageError: none fits, or the name is unknown.
    """
    if rule != "auto":
        if rule == "none":
            raise UsageError("--answer none finds no answer to grade; name a rule, or a --grader.")
        read_rule(rule)
        return rule
    chosen = choose_rule(responses)
    if chosen == "none":
        raise UsageError(
            "the responses have no short answer (####, a box, or a few words), so nothing says"
            f" which answers are right; name one of {', '.join(GRADERS)} with --grader, or a rule"
            " with --answer regex:PATTERN."
        )
    return chosen


def grade_by_rule(
    rule: str, rows: Sequence[Encoded], answers: Sequence[Sequence[Rollout]]
) -> Grades:
    """Grade answers by exact match of what a rule finds in them and in the row's response."""
    find = read_rule(rule)
    return [
        [float(exact_match(find(answer.text), find(row.response))) for answer in of_row]
        for row, of_row in zip(rows, answers, strict=True)
    ]


def grade_by_grader(
    name: str,
    rows: Sequence[Encoded],
    contents: Mapping[str, Mapping[str, Any]],
    answers: Sequence[Sequence[Rollout]],
    *,
    answer_column: str | None,
    terminal: Terminal,
) -> Grades:
    """Grade answers by a named grader.

    Args:
        contents: place of a row -> its columns.
        answer_column: column with the right answer; None: it is read from the row's response.

    Raises:
        UsageError: there is no such grader.
        DataError: a row lacks the column, or its answer does not fit the grader.
    """
    grader = grader_named(name)
    items = []
    for row, of_row in zip(rows, answers, strict=True):
        content = contents[row.where]
        answer = row.response
        if answer_column is not None:
            answer = _answer(content, row.where, answer_column)
        gold, options = gold_of(content, row.where, name, answer, answer_column or "response")
        items += [GradingItem(one.text, gold, options) for one in of_row]
    grades = grade_items(grader, items, terminal, f"grades ({name})")
    scores = iter([grade.score for grade in grades])
    return [[next(scores) for _ in of_row] for of_row in answers]


def grader_named(name: str) -> Callable[..., Any]:
    """Return the strict grader of own questions by its name."""
    if name not in GRADERS:
        raise UsageError(
            f"--grader must be one of {', '.join(GRADERS)}, got {name!r}; probtune eval --list"
            " explains them."
        )
    return GRADERS[name][1]


def _answer(content: Mapping[str, Any], where: str, column: str) -> str | int | float:
    if column not in content:
        raise DataError(
            f"{where} has no column {column!r}; its columns are {', '.join(map(repr, content))}."
        )
    answer = content[column]
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise DataError(f"{where}: {column!r} must be a text or a number, got {kind_of(answer)}.")
    return answer
