r"""Words read from banners of letters (figlet): exact match, and Jaro-Winkler similarity.

    strict      right where response and gold are the same after white space at the ends is removed
    reference   as the paper grades: nothing is removed

Both also give, as metrics, `normalized` (upper and lower case alike), `jaro_winkler` (rapidfuzz)
and `jaro_winkler_reference` (the paper's variant), the similarities without regard to case and to
white space at the ends. Another word has a similarity of about 0.28, so `wrong_word_baseline`
belongs beside every similarity.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .base import Grade, GradingItem, Progress

__all__ = [
    "grade_reference",
    "grade_strict",
    "jaro_winkler",
    "jaro_winkler_reference",
    "wrong_word_baseline",
]

_LONGEST = 1_000
"""Characters: of a longer response the beginning is compared."""


def grade_strict(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """One grade for each response; `gold` is the word. A response of white space is no answer.

    >>> grade_strict([GradingItem(" MAD ", "MAD")])[0].score
    1.0
    """
    return _grade(items, True, progress)


def grade_reference(
    items: Sequence[GradingItem], *, progress: Progress | None = None
) -> list[Grade]:
    """The same, with white space counting.

    >>> grade_reference([GradingItem(" MAD ", "MAD")])[0].score
    0.0
    """
    return _grade(items, False, progress)


def jaro_winkler(one: str, other: str) -> float:
    """Jaro-Winkler similarity, 0 to 1: rapidfuzz's, with Winkler's rule that the common prefix
    counts only above a Jaro similarity of 0.7.

    Winkler, String comparator metrics and enhanced decision rules in the Fellegi-Sunter model of
    record linkage, 1990.

    >>> round(jaro_winkler("MARTHA", "MARHTA"), 4)
    0.9611
    """
    from rapidfuzz.distance import JaroWinkler

    return JaroWinkler.similarity(one, other)


def jaro_winkler_reference(one: str, other: str) -> float:
    """The paper's variant: the common prefix always counts, an odd transposition counts half, and
    two empty words are the same.

        jaro = (m / |one| + m / |other| + (m - t) / m) / 3
        jaro + 0.1 min(prefix, 4) (1 - jaro)

    with m characters in common, no farther apart than max(|one|, |other|) // 2 - 1, and t half the
    number of them that stand in another order.

    >>> round(jaro_winkler_reference("MARTHA", "MARHTA"), 4), jaro_winkler_reference("", "")
    (0.9611, 1.0)
    """
    if one == other:
        return 1.0
    reach = max(max(len(one), len(other)) // 2 - 1, 0)
    taken = [False] * len(other)
    common = []
    for i, letter in enumerate(one):
        for j in range(max(0, i - reach), min(len(other), i + reach + 1)):
            if not taken[j] and other[j] == letter:
                taken[j] = True
                common.append(letter)
                break
    m = len(common)
    if m == 0:
        return 0.0
    order = [letter for letter, used in zip(other, taken, strict=True) if used]
    t = sum(a != b for a, b in zip(common, order, strict=True)) / 2
    jaro = (m / len(one) + m / len(other) + (m - t) / m) / 3
    prefix = 0
    while prefix < min(4, len(one), len(other)) and one[prefix] == other[prefix]:
        prefix += 1
    return jaro + 0.1 * prefix * (1 - jaro)


def wrong_word_baseline(words: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """Mean similarities of each gold word with another one drawn from the same list: what a model
    gets that always answers with some wrong word.

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


def _grade(items: Sequence[GradingItem], strip: bool, progress: Progress | None) -> list[Grade]:
    grades = []
    for place, item in enumerate(items, start=1):
        text = item.text.strip() if strip else item.text
        gold = str(item.gold).strip() if strip else str(item.gold)
        folded = item.text.casefold().strip()[:_LONGEST], str(item.gold).casefold().strip()
        metrics = {
            "normalized": float(text.casefold() == gold.casefold()),
            "jaro_winkler": jaro_winkler(*folded),
            "jaro_winkler_reference": jaro_winkler_reference(*folded),
        }
        answer = text[:_LONGEST] if text.strip() else None
        how = "none" if answer is None else "whole"
        grades.append(Grade(float(text == gold), answer, how, metrics))
        if progress:
            progress(place)
    return grades
