r"""Words read from banners of letters (figlet): exact match, and Jaro-Winkler similarity.

A response is right where it is the word, once white space at the ends is removed. The metrics are
`normalized` (upper and lower case alike), `jaro_winkler` (rapidfuzz) and `jaro_winkler_reference`
(the paper's variant), the similarities without regard to case and to white space at the ends.
Another word has a similarity of about 0.28, so `wrong_word_baseline` belongs beside every
similarity. As the paper grades, nothing is removed: `reference.figlet`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .base import Grade, GradingItem, Progress
from .reference.similarity import jaro_winkler_reference

__all__ = ["grade_strict", "grade_words", "jaro_winkler", "wrong_word_baseline"]

_LONGEST = 1_000
"""Characters: of a longer response the beginning is recorded as its answer."""


def grade_strict(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """Grade each response; `gold` is the word. A response of white space is no answer.

    >>> grade_strict([GradingItem(" MAD ", "MAD")])[0].score
    1.0
    """
    return grade_words(items, strip=True, progress=progress)


def jaro_winkler(one: str, other: str) -> float:
    """Return rapidfuzz's Jaro-Winkler similarity, 0 to 1, with Winkler's rule that the common
    prefix counts only above a Jaro similarity of 0.7.

    Winkler, String comparator metrics and enhanced decision rules in the Fellegi-Sunter model of
    record linkage, 1990.

    >>> round(jaro_winkler("MARTHA", "MARHTA"), 4)
    0.9611
    """
    from rapidfuzz.distance import JaroWinkler

    return JaroWinkler.similarity(one, other)


def wrong_word_baseline(words: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """Return the mean similarities of each gold word with another one drawn from the same list:
    the score of a model that always answers with some wrong word.

    Raises:
        ValueError: there are not two different words.

    >>> wrong_word_baseline(["MAD", "MAD", "MAN"])["jaro_winkler"] < 1
    True
    """
    if len(set(words)) < 2:
        raise ValueError(f"the baseline needs two different words, got {sorted(set(words))}")
    draw = random.Random(seed)
    pairs = []
    for word in words:
        other = draw.choice(words)
        while other == word:
            other = draw.choice(words)
        pairs.append((other.casefold(), word.casefold()))
    return {
        measure.__name__: sum(measure(*pair) for pair in pairs) / len(pairs)
        for measure in (jaro_winkler, jaro_winkler_reference)
    }


def grade_words(
    items: Sequence[GradingItem], *, strip: bool, progress: Progress | None = None
) -> list[Grade]:
    """Grade each response; `strip` removes the white space around response and gold first."""
    grades = []
    for number, item in enumerate(items, start=1):
        text, gold = item.text, str(item.gold)
        if strip:
            text, gold = text.strip(), gold.strip()
        lower = item.text.lower().strip(), str(item.gold).lower().strip()
        metrics = {
            "normalized": float(text.lower() == gold.lower()),
            "jaro_winkler": jaro_winkler(*lower),
            "jaro_winkler_reference": jaro_winkler_reference(*lower),
        }
        answer = text[:_LONGEST] if text.strip() else None
        how = "none" if answer is None else "whole"
        grades.append(Grade(float(text == gold), answer, how, metrics))
        if progress:
            progress(number)
    return grades
