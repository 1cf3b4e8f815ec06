"""The graders that the tasks name, loaded when first called: a list of tasks needs none of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..grading.base import Grade, GradingItem, Progress

__all__ = ["math_reference", "math_strict"]

Items = Sequence[GradingItem]


def math_strict(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """The last box, by math-verify."""
    from ..grading.math_strict import grade_math_strict

    return grade_math_strict(items, progress=progress)


def math_reference(items: Items, /, *, progress: Progress | None = None) -> list[Grade]:
    """As the paper's code grades mathematics."""
    from ..grading.math_reference import grade_math_reference

    return grade_math_reference(items, progress=progress)
