r"""Short answers compared as texts: the whole response, the last box, what follows `####`, or an
answer that the response contains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ...measure.answers import exact_match, read_rule
from .base import Grade, GradingItem, Progress

__all__ = ["grade_contained", "grade_rule"]

_LONGEST = 1_000
"""Characters: of a longer response the beginning is recorded as its answer."""


def grade_rule(
    items: Sequence[GradingItem], rule: str, *, progress: Progress | None = None
) -> list[Grade]:
    r"""Grade what a rule finds by exact match, up to marks of Markdown and the form of numbers.

    Args:
        rule: `hash`, `boxed` or `whole`.

    >>> [g.score for g in grade_rule([GradingItem("**1,250**", "1250")], "whole")]
    [1.0]
    """
    extraction = {"hash": "phrase", "boxed": "boxed", "whole": "whole"}[rule]
    find = _whole if rule == "whole" else read_rule(rule)

    def one(item: GradingItem) -> Grade:
        answer = find(item.text)
        if answer is None or not answer.strip():
            return Grade(0.0, None, "none")
        return Grade(float(exact_match(answer, str(item.gold))), answer[:_LONGEST], extraction)

    return _each(items, one, progress)


def grade_contained(
    items: Sequence[GradingItem], *, progress: Progress | None = None
) -> list[Grade]:
    """Grade a response as right if it contains the answer as words of its own, in any case.

    >>> grade = lambda text: grade_contained([GradingItem(text, "Nile")])[0].score
    >>> grade("It is the nile."), grade("Juveniles")
    (1.0, 0.0)
    """

    def one(item: GradingItem) -> Grade:
        gold = " ".join(str(item.gold).split())
        pattern = rf"(?<!\w){re.escape(gold)}(?!\w)"
        text = " ".join(item.text.split())
        if not text:
            return Grade(0.0, None, "none")
        match = re.search(pattern, text, re.IGNORECASE)
        return Grade(float(match is not None), match[0] if match else text[:_LONGEST], "text")

    return _each(items, one, progress)


def _whole(text: str) -> str | None:
    return text.strip() or None


def _each(
    items: Sequence[GradingItem], one: Callable[[GradingItem], Grade], progress: Progress | None
) -> list[Grade]:
    grades = []
    for number, item in enumerate(items, 1):
        grades.append(one(item))
        if progress:
            progress(number)
    return grades
