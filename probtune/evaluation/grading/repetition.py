"""A rule for responses that end in a loop.

Rule: after white space is made single, the last characters are one piece repeated at least
`TIMES` times, over at least `CHARACTERS` characters (the last piece may be cut off). The piece may
have up to 1,000 characters. So much white space at the end is a loop too. A loop that counts
("Step 1 …, Step 2 …") or varies is not seen.
"""

from __future__ import annotations

__all__ = ["CHARACTERS", "TIMES", "repeats"]

TIMES = 4
CHARACTERS = 200
_TAIL = 4_000


def repeats(text: str) -> bool:
    """Return True if a text ends in a loop (see the module).

    >>> repeats("So we are done. " + "I hope it is correct. " * 12), repeats("So we are done.")
    (True, False)
    """
    if len(text) - len(text.rstrip()) >= CHARACTERS:
        return True
    tail = " ".join(text[-2 * _TAIL :].split())[-_TAIL:]
    if len(tail) < CHARACTERS:
        return False
    # With period p, the last max(TIMES p, CHARACTERS) characters equal those p before them, so at
    # least the last 3/4 of CHARACTERS reappear p characters earlier.
    probe = tail[-CHARACTERS * (TIMES - 1) // TIMES :]
    end = len(tail) - 1
    while (position := tail.rfind(probe, 0, end)) >= 0:
        end = position + len(probe) - 1
        period = len(tail) - len(probe) - position
        length = max(TIMES * period, CHARACTERS)
        if length > len(tail):
            return False
        if tail[len(tail) - length + period :] == tail[len(tail) - length : len(tail) - period]:
            return True
    return False
