r"""Multiple choice by the phrase that a language ends an answer with, such as "Jibu ni (C)".

Where lm-evaluation-harness takes the first match of the phrase, with nothing asked of what follows
the letter ("Jibu ni Asali" is A), this takes the last one whose letter stands alone and is one of
the question's. Without the phrase, the rules of `choice` decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .base import Grade, Grader, GradingItem, Progress

__all__ = ["PhraseChoice"]


@dataclass(frozen=True)
class PhraseChoice:
    """A grader; `gold` is the right letter, `options` the question's letters.

    >>> grader = PhraseChoice("the answer is ({})", otherwise=lambda items: [])
    >>> grader([GradingItem("So the answer is (B).", "B", {"A": "one", "B": "two"})])
    [Grade(score=1.0, answer='B', extraction='phrase', metrics={}, error=None)]
    """

    phrase: str
    """With `({})` in the letter's place; the brackets may be missing in a response."""
    otherwise: Grader
    """Grades the responses without the phrase."""

    def __call__(
        self, items: Sequence[GradingItem], /, *, progress: Progress | None = None
    ) -> list[Grade]:
        before, after = (re.escape(part.strip()) for part in self.phrase.split("({})"))
        pattern = re.compile(rf"{before}\s*\(?([A-Z])\)?(?!\w)\s*{after}", re.UNICODE)
        grades: list[Grade | None] = []
        for item in items:
            letters = [x for x in pattern.findall(item.text) if x in (item.options or {})]
            grades.append(
                Grade(float(letters[-1] == item.gold), letters[-1], "phrase") if letters else None
            )
        rest = [item for item, grade in zip(items, grades, strict=True) if grade is None]
        others = iter(self.otherwise(rest) if rest else [])
        if progress is not None:
            progress(len(items))
        return [next(others) if grade is None else grade for grade in grades]
