r"""Multiple choice as the paper's code finds the letter for OpenBookQA and MMLU-ProX: the one
that is marked most clearly, wherever it stands.

A letter may be marked in several forms, from `(C)`, the clearest, down to a C that stands alone.
Every place in the response counts with the first form that matches it, case ignored. The clearest
place wins; among equally clear ones the letter that is marked more often (OpenBookQA only), then
the last. An "a" as an article is a letter too: that is a bug of the rule, and kept.

Written afresh from the behaviour of evaluations/knowledge_memorization and
evaluations/low_resource_language in https://github.com/GaotangLi/Beyond-Log-Likelihood at 89e4b0c.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ..base import Grade, GradingItem, Progress

__all__ = ["ExplicitChoice"]

_FORMS = {
    "openbookqa": (
        (10, "open", "space", "letter", "space", "close"),
        (9, "left", "letter", "space", "[).。）】」\\]}]"),
        (8, "[(\\[{【「『]", "space", "letter", "right"),
        (8, "[:：\\-]", "space", "letter", "space", "[:：\\-]"),
        (7, "left", "letter", "space", "[:：]"),
        (7, "[:：→➜>]", "space", "letter", "right"),
        (6, "left", "letter", "space", "(?:[,，.。!！?？;；]|$)"),
        (5, "left", "\\s+", "letter", "\\s+", "right"),
        (4, "left", "letter", "right"),
    ),
    "mmlu_prox": (
        (10, "open", "space", "letter", "space", "close"),
        (9, "left", "letter", "space", "[).,\\]:;!?。）．：；！？]"),
        (8, "[(\\[{]", "space", "letter", "right"),
        (8, "[:=\\-]", "space", "letter", "space", "[:=\\-]"),
        (7, "left", "letter", "space", "[:=\\-]"),
        (7, "[:=\\->]", "space", "letter", "right"),
        (6, "left", "letter", "space", "(?:[,.;!?]|$)"),
        (4, "left", "letter", "right"),
    ),
}
"""The clearness of a phrase, and the pattern of what must follow it."""

_PARTS = {
    "openbookqa": {
        "open": "[(\\[{【「『«\"']",
        "close": "[)\\]}】」』»\"']",
        "left": "(?<![A-Za-z0-9À-ÿ])",
        "right": "(?![A-Za-z0-9À-ÿ])",
    },
    "mmlu_prox": {
        "open": "[(\\[{\"']",
        "close": "[)\\]}\"']",
        "left": "(?<![A-Za-z0-9])",
        "right": "(?![A-Za-z0-9])",
    },
}


@dataclass(frozen=True)
class ExplicitChoice:
    """A grader; `gold` is the right letter.

    >>> ExplicitChoice("mmlu_prox")([GradingItem("I say (B), or C", "B", {"B": "", "C": ""})])
    [Grade(score=1.0, answer='B', extraction='letter', metrics={}, error=None)]
    """

    rule: Literal["openbookqa", "mmlu_prox"]

    def __call__(
        self, items: Sequence[GradingItem], /, *, progress: Progress | None = None
    ) -> list[Grade]:
        grades = []
        for done, item in enumerate(items, 1):
            letter = self._letter(item.text)
            grades.append(
                Grade(float(letter == item.gold), letter, "none" if letter is None else "letter")
            )
            if progress is not None:
                progress(done)
        return grades

    def _letter(self, text: str) -> str | None:
        letters: dict[int, tuple[int, str]] = {}
        text = text.upper()
        for clear, pattern in _patterns(self.rule):
            for match in pattern.finditer(text):
                letters.setdefault(match.start(1), (clear, match.group(1)))
        if not letters:
            return None
        # The paper's code takes all letters of the benchmark, not those of the question.
        often = Counter(letter for _, letter in letters.values())
        counted = self.rule == "openbookqa"
        _, _, _, best = max(
            (clear, often[letter] if counted else 0, position, letter)
            for position, (clear, letter) in letters.items()
        )
        return best


@cache
def _patterns(rule: str) -> tuple[tuple[int, re.Pattern[str]], ...]:
    letters = "([A-D])" if rule == "openbookqa" else "([A-J])"
    parts = _PARTS[rule] | {"letter": letters, "space": "\\s*"}
    return tuple(
        (clear, re.compile("".join(parts[piece] if piece in parts else piece for piece in form)))
        for clear, *form in _FORMS[rule]
    )
