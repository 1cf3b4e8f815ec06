"""The paper's variant of the Jaro-Winkler similarity, in which the common prefix always counts, an
odd transposition counts half, and two empty words are the same.
"""

from __future__ import annotations

__all__ = ["jaro_winkler_reference"]


def jaro_winkler_reference(one: str, other: str) -> float:
    """Return the similarity of two words, 0 to 1:

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
