r"""The last `\boxed{…}` or `\fbox{…}` of a text, by matching braces.

Of nested boxes the innermost last one counts. A box that is never closed (the response was cut off
inside it) and an empty one are no answer, and no earlier box stands in for them.
"""

from __future__ import annotations

import re

__all__ = ["last_box"]


def last_box(text: str) -> str | None:
    r"""Return what the last box holds, without the white space around it; None if there is no
    answer.

    >>> last_box(r"so \boxed{1} or rather \boxed{\frac{1}{2}}."), last_box(r"hence \boxed 5$.")
    ('\\frac{1}{2}', '5')
    >>> last_box(r"\boxed{1} then \boxed{2"), last_box("no box")
    (None, None)
    """
    box = None
    end = len(text)
    while box is None:
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        box = _BOX.match(text, start)
        end = start
    if box["brace"]:
        return _braced(text, box.end())
    return _bare(text, box.end()).strip() or None


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?")
_MARK = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE_MARK = re.compile(r"\\[{}$]|[{}\s$]")


def _braced(text: str, begin: int) -> str | None:
    depth = 1
    for mark in _MARK.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return text[begin : mark.start()].strip() or None
    return None


def _bare(text: str, begin: int) -> str:
    """Return what follows a box without braces, up to white space or a dollar outside of braces."""
    depth = 0
    for mark in _BARE_MARK.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth < 0 or (depth == 0 and (mark[0] == "$" or mark[0].isspace())):
            return text[begin : mark.start()].rstrip(".,;")
    return text[begin:].rstrip(".,;") if depth == 0 else ""
