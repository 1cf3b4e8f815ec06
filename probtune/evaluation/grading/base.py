"""The values of every grader: it takes a batch of `GradingItem`s and returns a `Grade` for each.

A grader sees a whole batch, so that it may use a pool of processes. It never raises for anything a
model wrote: what cannot be read is no answer or an `error` in the grade, and counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["VERSION", "Grade", "Grader", "GradingItem", "Progress", "versions"]

VERSION = "4"
"""Raised when any grade can change; stands in every graded record, beside `versions()`."""

Progress = Callable[[int], None]
"""Called with the number of items graded so far."""


@dataclass(frozen=True)
class GradingItem:
    """One response to grade."""

    text: str
    """The response, whole."""
    gold: Any
    """The right answer, in the form that the grader documents."""
    options: Mapping[str, str] | None = None
    """Multiple choice: letter to text, in order."""


@dataclass(frozen=True)
class Grade:
    """A grader's judgement of one response."""

    score: float
    """0 to 1."""
    answer: str | None
    """The extracted answer; None is no answer: it scores 0 and is counted."""
    extraction: str
    """The place of the answer: `boxed`, `phrase`, `number`, `letter`, `text`, `similar`, `last`,
    `whole` or `none`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, such as `{"jaro_winkler": 0.93}`."""
    error: str | None = None
    """Why a comparison could not be made: `timeout`, `unparsable`, `crashed`."""


class Grader(Protocol):
    """A function from a batch to its grades, in order."""

    def __call__(
        self, items: Sequence[GradingItem], /, *, progress: Progress | None = None
    ) -> list[Grade]: ...


def versions() -> dict[str, str]:
    """Version of the graders and of every library that a grade depends on.

    >>> sorted(versions())[0], versions()["grading"] == VERSION
    ('antlr4-python3-runtime', True)
    """
    from importlib.metadata import PackageNotFoundError, version

    numbers = {"grading": VERSION}
    for name in _LIBRARIES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "absent"
    return numbers


_LIBRARIES = (
    "antlr4-python3-runtime",
    "evalplus",
    "latex2sympy2_extended",
    "math-verify",
    "rapidfuzz",
    "sympy",
    "tree-sitter",
    "tree-sitter-python",
)
