"""Graders that the tasks name. Their modules are loaded on the first call: a list of tasks needs
none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..grading.base import Grade, GradingItem, Progress

__all__ = [
    "boxed",
    "choice_reference",
    "choice_strict",
    "contains",
    "figlet_reference",
    "figlet_strict",
    "hash_mark",
    "math_reference",
    "math_reference_solved",
    "math_reference_units",
    "math_rounded",
    "math_strict",
    "whole",
]

Items = Sequence[GradingItem]


def math_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade the last box with math-verify; numbers must be equal."""
    from ..grading.math_strict import grade

    return grade(items, progress=progress)


def math_rounded(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade the last box, for golds that are rounded: numbers may differ by a relative 1e-4."""
    from ..grading.math_strict import grade

    return grade(items, rel_tol=1e-4, progress=progress)


def math_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade mathematics as the paper's code does."""
    from ..grading.reference.math import grade

    return grade(items, progress=progress)


def math_reference_solved(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade as `math_reference`, for golds that are read from solutions (MATH-500)."""
    from ..grading.reference.math import grade

    return grade(items, solved=True, progress=progress)


def math_reference_units(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade as `math_reference`, for golds from solutions that keep their units (Minerva)."""
    from ..grading.reference.math import grade

    return grade(items, units=False, solved=True, progress=progress)


def whole(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade the whole response by exact match."""
    from ..grading.plain_text import grade_rule

    return grade_rule(items, "whole", progress=progress)


def boxed(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade the last box by exact match."""
    from ..grading.plain_text import grade_rule

    return grade_rule(items, "boxed", progress=progress)


def hash_mark(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade what follows the last `####` by exact match."""
    from ..grading.plain_text import grade_rule

    return grade_rule(items, "hash", progress=progress)


def contains(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade a response as right if it contains the answer."""
    from ..grading.plain_text import grade_contained

    return grade_contained(items, progress=progress)


def choice_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade a multiple choice by its last box or an anchored phrase."""
    from ..grading.choice import grade_strict

    return grade_strict(items, progress=progress)


def choice_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade a multiple choice by the letter that the paper's code finds in medicine."""
    from ..grading.reference.medicine import grade

    return grade(items, progress=progress)


def figlet_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade a word by exact match without surrounding white space, and by similarity."""
    from ..grading.figlet import grade_strict

    return grade_strict(items, progress=progress)


def figlet_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """Grade a word as the paper's code does."""
    from ..grading.reference.figlet import grade

    return grade(items, progress=progress)
