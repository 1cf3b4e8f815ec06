r"""Multiple choice as the paper's code reads medicine: it always names an option.

    phrase     the last "answer is" followed by a capital A to N, even one that begins a word
    letter     else the last capital between two characters that are no letters, digits or
               underscores, wherever it stands ("vitamin D."); an A before a space is an article
    text       else the option whose text stands last in the response
    similar    else the option most similar to the response, the last one on a tie, so also for
               an empty response

Letters are counted from A, whatever the question calls its options. A character between two letters
serves one of them: in "A,B" only the A is read.

Written afresh from the behaviour of evaluations/medical (HuatuoGPT-o1's rule) in
https://github.com/GaotangLi/Beyond-Log-Likelihood at 220589d.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from ..base import Grade, GradingItem, Progress
from ..choice import Choice, grade_letters

__all__ = ["find", "grade"]


def grade(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """Grade each response; `gold` is the letter of the right option.

    Raises:
        DataError: an item has no options, or its gold is not one of their letters.

    >>> grade([GradingItem("The answer is A cold.", "A", {"A": "Cold", "B": "Flu"})])
    [Grade(score=1.0, answer='A', extraction='phrase', metrics={}, error=None)]
    """
    return grade_letters(items, find, progress)


def find(text: str, options: Mapping[str, str]) -> Choice:
    """Return the option that the paper's rule reads in a response, and the rule's name; never none.

    >>> options = {"A": "Aspirin", "B": "Ibuprofen"}
    >>> find("", options), find("The answer is Beta blockers", options)
    (('B', 'similar'), ('B', 'phrase'))
    """
    text = text.rpartition(_FINAL)[2]
    letters = _PHRASE.findall(text)
    if letters:
        return letters[-1], "phrase"
    letters = re.findall(_ALONE.format("ABCDEFGHIJKLMN"[: len(options)]), text)
    if letters:
        return letters[-1], "letter"
    lower = text.lower()
    places = {letter: lower.rfind(option.lower()) for letter, option in options.items()}
    if max(places.values()) >= 0:
        return max(places, key=lambda letter: places[letter]), "text"
    similarities = {
        # SequenceMatcher is not symmetric: it leaves out characters that its second text repeats
        letter: SequenceMatcher(None, option.lower(), lower).ratio()
        for letter, option in options.items()
    }
    best = max(similarities.values())
    return [letter for letter, ratio in similarities.items() if ratio == best][-1], "similar"


_FINAL = "## Final Response\n\n"
_PHRASE = re.compile(r"answer is\s*?([A-N])")
_ALONE = r"(?:^|[\W\u4e00-\u9fff])(?!A )([{}])(?:[\W\u4e00-\u9fff]|$)"
