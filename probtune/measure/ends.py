"""The end of a generated answer: by an end token, or at the limit of new tokens, perhaps in a loop.

An objective that trusts the model can leave it unable to stop, and accuracy alone hides that where
the right answer stands early in an endless text. So these shares stand beside every comparison.

    stops      the answer ended with an end token
    cut off    it reached the limit instead; stops and cut off add up to 1
    loops      it was cut off, and its last tokens are one block, three times or more
    readable   the rule that reads short answers finds one in it

Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020,
https://arxiv.org/abs/1904.09751, judge a text by a phrase that is repeated at its end.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LOOP_TIMES", "LOOP_TOKENS", "loops"]

LOOP_TIMES = 3
LOOP_TOKENS = 12
"""Least number of tokens in a loop; where the limit of new tokens is smaller, the whole answer."""


def loops(ids: Sequence[int]) -> bool:
    """True if the last tokens of a text that was cut off are one block, repeated at least
    `LOOP_TIMES` times over at least `LOOP_TOKENS` tokens or the whole text; the last block may be
    cut off.

    Works on tokens, for answers of any length. The evaluation of benchmarks has a stricter rule
    over 200 characters of text.

    >>> loops([7, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]), loops([5, 5, 5, 5])
    (True, True)
    >>> loops([7, 5, 5, 5]), loops(list(range(20))), loops([])
    (False, False, False)
    """
    length = len(ids)
    for block in range(1, length // LOOP_TIMES + 1):
        span = max(LOOP_TIMES * block, min(LOOP_TOKENS, length))
        if list(ids[length - span + block :]) == list(ids[length - span : length - block]):
            return True
    return False
