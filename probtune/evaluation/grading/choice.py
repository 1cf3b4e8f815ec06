r"""Multiple choice: the option a response names.

Strict, in this order; a response that names no option has no answer, and nothing is guessed:

    boxed      the last box holds a letter, `C. text`, `(C)`, or an option's exact text
    letter     the whole response is a letter, `C. text` or `(C)`
    text       the whole response is an option's exact text
    phrase     the last line says "answer is C" or "Answer: (C)"

Reference, as the paper's medical evaluation does it (after HuatuoGPT-o1), written afresh from a
description; it always names an option:

    phrase     the last "answer is" followed by a capital A to N, even one that begins a word
    letter     else the last capital that stands alone, wherever it stands ("vitamin D")
    text       else the option whose text stands last in the response
    similar    else the option most similar to the response, the last one on a tie, so also for
               an empty response
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher

from ...errors import DataError
from ...measure.boxes import last_box
from .base import Grade, GradingItem, Progress
from .latex import clean

__all__ = ["find_reference", "find_strict", "grade_reference", "grade_strict"]

Found = tuple[str | None, str]
"""The letter, and how it was found."""

_SIMILAR_CHARACTERS = 4_000
"""Of a longer response, the end is compared with the options."""


def grade_strict(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """One grade for each response; `gold` is the letter of the right option.

    Raises:
        DataError: an item has no options, or its gold is not one of their letters.

    >>> options = {"A": "Aspirin", "B": "Ibuprofen"}
    >>> grade_strict([GradingItem("The answer is (B).", "B", options)])
    [Grade(score=1.0, answer='B', extraction='phrase', metrics={}, error=None)]
    """
    return _grade(items, find_strict, progress)


def grade_reference(
    items: Sequence[GradingItem], *, progress: Progress | None = None
) -> list[Grade]:
    """The same by the paper's rule."""
    return _grade(items, find_reference, progress)


def find_strict(text: str, options: Mapping[str, str]) -> Found:
    r"""The option that a response names, or (None, "none").

    >>> options = {"A": "Aspirin", "B": "Ibuprofen"}
    >>> find_strict(r"… so \boxed{\text{B. Ibuprofen}}. Take vitamin A.", options)
    ('B', 'boxed')
    >>> find_strict("I do not know", options)
    (None, 'none')
    """
    box = last_box(text)
    if box is not None:
        letter, _ = _named(box, options)
        if letter is not None:
            return letter, "boxed"
    letter, how = _named(text, options)
    if letter is not None:
        return letter, how
    lines = text.strip().splitlines()
    found = list(_ANCHORED.finditer(lines[-1][-_LINE:])) if lines else []
    if found and found[-1]["letter"] in options:
        return found[-1]["letter"], "phrase"
    return None, "none"


def find_reference(text: str, options: Mapping[str, str]) -> Found:
    """The option that the paper's rule reads in a response; never none.

    >>> options = {"A": "Aspirin", "B": "Ibuprofen"}
    >>> find_reference("", options), find_reference("The answer is Beta blockers", options)
    (('B', 'similar'), ('B', 'phrase'))
    """
    found = _last(_UNANCHORED, text)
    if found:
        return found, "phrase"
    alone = re.compile(rf"(?<![A-Za-z0-9_])([{re.escape(''.join(options))}])(?![A-Za-z0-9_])")
    found = _last(alone, text)
    if found:
        return found, "letter"
    folded = text.casefold()
    places = {letter: folded.rfind(option.casefold()) for letter, option in options.items()}
    if max(places.values()) >= 0:
        return max(places, key=lambda letter: places[letter]), "text"
    folded = folded[-_SIMILAR_CHARACTERS:]
    similar = {
        letter: SequenceMatcher(None, folded, option.casefold()).ratio()
        for letter, option in options.items()
    }
    best = max(similar.values())
    return [letter for letter, ratio in similar.items() if ratio == best][-1], "similar"


def _grade(
    items: Sequence[GradingItem],
    find: Callable[[str, Mapping[str, str]], Found],
    progress: Progress | None,
) -> list[Grade]:
    for place, item in enumerate(items):
        if not item.options or item.gold not in item.options:
            raise DataError(
                f"Multiple choice needs options and, as gold, one of their letters; item {place} "
                f"has gold {item.gold!r} and options {list(item.options or ())}."
            )
    grades = []
    for place, item in enumerate(items, start=1):
        assert item.options is not None
        letter, how = find(item.text, item.options)
        grades.append(Grade(float(letter == item.gold), letter, how))
        if progress:
            progress(place)
    return grades


def _named(text: str, options: Mapping[str, str]) -> Found:
    """The option that a short text names as a whole."""
    if len(text) > _LINE:
        return None, "none"
    plain = _plain(text)
    by_text = {_plain(option).casefold(): letter for letter, option in [*options.items()][::-1]}
    if plain.casefold() in by_text:
        # an option's text that is itself a letter names that letter
        return by_text[plain.casefold()] if plain not in options else plain, "text"
    found = _LETTER.fullmatch(plain)
    if not found:
        return None, "none"
    letter = (found["alone"] or found["first"] or found["bracketed"]).upper()
    return (letter, "letter") if letter in options else (None, "none")


def _plain(text: str) -> str:
    """Without text commands, emphasis and white space at the ends."""
    text = clean(text) if "\\" in text or "$" in text else " ".join(text.split())
    while True:
        inner = _TEXT.sub(r"\1", text).strip("*_ ").removesuffix(".").strip()
        if inner == text:
            return text
        text = inner


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = None
    for match in pattern.finditer(text):
        found = match[1]
    return found


_LINE = 4_000
"""Characters: longer lines are read from their end, and longer texts are no option."""
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|boldsymbol)\s*\{([^{}]*)\}")
_LETTER = re.compile(
    r"(?:option\s+|choice\s+)?(?:(?P<alone>[A-Za-z])|(?P<first>[A-Z])\s*[.:)]\s*\S.*"
    r"|[(\[](?P<bracketed>[A-Za-z])[)\]](?:[ .:].*)?)",
    re.DOTALL,
)
_ANCHORED = re.compile(
    r"(?i:(?:final\s+)?answer\s*(?:is|:)\s*:?\s*(?:option\s+|choice\s+)?)[*_$]*"
    r"[(\[]?(?P<letter>[A-Z])(?![A-Za-z0-9'’-])(?!(?<=[AI])\s+[a-z])[)\]]?"
)
_UNANCHORED = re.compile(r"answer is\s*?([A-N])")
