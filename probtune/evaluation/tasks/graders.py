"""The graders that the tasks name, loaded when first called: a list of tasks needs none of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..grading.base import Grade, GradingItem, Progress

__all__ = [
    "choice_reference",
    "choice_strict",
    "figlet_reference",
    "figlet_strict",
    "math_reference",
    "math_reference_solved",
    "math_reference_units",
    "math_rounded",
    "math_strict",
]

Items = Sequence[GradingItem]


def math_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The last box, by math-verify; numbers must be equal."""
    from ..grading.math_strict import grade

    return grade(items, progress=progress)


def math_rounded(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The same for golds that are rounded measurements: numbers within a relative 1e-4."""
    from ..grading.math_strict import grade

    return grade(items, rel_tol=1e-4, progress=progress)


def math_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """As the paper's code grades mathematics."""
    from ..grading.reference.math import grade

    return grade(items, progress=progress)


def math_reference_solved(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The same for golds that are read from solutions (MATH-500)."""
    from ..grading.reference.math import grade

    return grade(items, solved=True, progress=progress)


def math_reference_units(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The same for golds that are read from solutions and keep their units (Minerva)."""
    from ..grading.reference.math import grade

    return grade(items, units=False, solved=True, progress=progress)


def choice_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The last box, a letter, an option's text, an anchored phrase, or no answer."""
    from ..grading.choice import grade_strict

    return grade_strict(items, progress=progress)


def choice_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """As the paper's code finds the letter in medicine."""
    from ..grading.reference.medicine import grade

    return grade(items, progress=progress)


def figlet_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Exact match without white space around, and similarity."""
    from ..grading.figlet import grade_strict

    return grade_strict(items, progress=progress)


def figlet_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """As the paper's code compares words."""
    from ..grading.reference.figlet import grade

    return grade(items, progress=progress)
