r"""Multiple choice: the option a response names.

In this order; a response that names no option, or two, has no answer, and nothing is guessed:

    boxed      the last box holds a letter, `C. text`, `(C)`, or an option's exact text
    phrase     "The answer is C", "Answer: (C)" and their like, by the rules of `stated`
    letter     the whole response is a letter, `C. text` or `(C)`
    text       the whole response is an option's exact text
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ...errors import DataError
from ...measure.boxes import last_box
from .base import Grade, GradingItem, Progress
from .stated import plain, stated_letter

__all__ = ["Choice", "find_strict", "grade_letters", "grade_strict"]

Choice = tuple[str | None, str]
"""The letter, and the name of the rule that read it."""


def grade_strict(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """Grade each response; `gold` is the letter of the right option.

    Raises:
        DataError: an item has no options, or its gold is not one of their letters.

    >>> options = {"A": "Aspirin", "B": "Ibuprofen"}
    >>> grade_strict([GradingItem("The answer is (B).", "B", options)])
    [Grade(score=1.0, answer='B', extraction='phrase', metrics={}, error=None)]
    """
    return grade_letters(items, find_strict, progress)


def find_strict(text: str, options: Mapping[str, str]) -> Choice:
    r"""Return the option that a response names and the name of the rule, or (None, "none").

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
    letter = stated_letter(text, options)
    if letter is not None:
        return letter, "phrase"
    return _named(text, options)


def grade_letters(
    items: Sequence[GradingItem],
    find: Callable[[str, Mapping[str, str]], Choice],
    progress: Progress | None,
) -> list[Grade]:
    """Grade each response by the letter that `find` reads in it; errors as in `grade_strict`."""
    for index, item in enumerate(items):
        if not item.options or item.gold not in item.options:
            raise DataError(
                f"Multiple choice needs options and, as gold, one of their letters; item {index} "
                f"has gold {item.gold!r} and options {list(item.options or ())}."
            )
    grades = []
    for index, item in enumerate(items, start=1):
        assert item.options is not None
        letter, how = find(item.text, item.options)
        grades.append(Grade(float(letter == item.gold), letter, how))
        if progress:
            progress(index)
    return grades


def _named(text: str, options: Mapping[str, str]) -> Choice:
    """The option that a short text names as a whole."""
    if len(text) > _LINE:
        return None, "none"
    short = plain(text)
    by_text = {plain(option).casefold(): letter for letter, option in [*options.items()][::-1]}
    if short.casefold() in by_text:
        # an option's text that is itself a letter names that letter
        return by_text[short.casefold()] if short not in options else short, "text"
    if reasoned := _REASONED.match(short):
        return (reasoned[1], "letter") if reasoned[1] in options else (None, "none")
    match = _LETTER.fullmatch(short)
    if not match:
        return None, "none"
    letter = (match["alone"] or match["first"] or match["bracketed"]).upper()
    rest = match["text"] or match["further"] or ""
    others = {other.upper() for other in _MARKED.findall(rest)} - {letter}
    if (
        others & set(options)
        and plain(rest).casefold() != plain(options.get(letter, "")).casefold()
    ):
        return None, "none"
    return (letter, "letter") if letter in options else (None, "none")


_LINE = 4_000
"""Characters: a longer text is no option."""
_LETTER = re.compile(
    r"(?:(?i:option|choice)\s+)?(?:(?P<alone>[A-Za-z])[).:]?|(?P<first>[A-Z])\s*[.:)]\s*(?P<text>\S.*)"
    r"|[(\[](?P<bracketed>[A-Za-z])[)\]](?:[ .:](?P<further>.*))?)",
    re.DOTALL,
)
_REASONED = re.compile(
    r"(?:(?i:option|choice)\s+)?[(\[]?([A-Z])[)\]]?,?\s+(?:because|since)(?![\w])"
)
"""A letter with its reason, "B because A is wrong"."""
_MARKED = re.compile(r"(?<![A-Za-z0-9])[(\[]?([A-Z])[).:\]]")
"""Another letter in the text after the first one, as in "A) B)"."""
