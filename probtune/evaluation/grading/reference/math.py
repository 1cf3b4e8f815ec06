r"""Mathematical answers as the paper's evaluation grades them, its generosity included.

Written afresh from a description of its behaviour, to be compatible with its scores, not to be
right; `math_strict` is the grader to believe. An answer is

    boxed     what the last `boxed{…}` holds, to the end of the text if it is never closed
    phrase    else the rest of the line after the last "he answer is"
    number    else the last number anywhere in the text
    none      else nothing, which is wrong

and is right where, after normalisation,

    text            it is the same text, or the same but for brackets and braces
    numbers         it is within a relative 1e-4 of the gold, of 100 times it, or of a hundredth
    tuples          every part is right in its place, whatever the kind of bracket
    matrices        every entry is right
    equations       both differences of their sides agree, up to sign
    expressions     SymPy finds the difference zero, or both values within a relative 1e-4

So 100 passes for 1 and [1,2] for (1,2), and a response without a box can pass by its last number.
Known to be refused: sets in another order, `\pm`, mixed numbers, `6.02e23`, decimals of pi.
Expressions are read by latex2sympy2_extended alone, where the paper's code also evaluates the text
as Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..base import Grade, GradingItem, Progress
from ..math_strict import Count, gold_text
from ..plain import LONGEST
from ..pool import TIMEOUT_S, Unparsable, Verdict, compare_all

__all__ = ["equal", "extract", "grade", "normalise"]

REL_TOL = 1e-4


def grade(
    items: Sequence[GradingItem],
    *,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Grade]:
    r"""One grade for each response; `gold` as in `math_strict.grade`, and the same errors.

    >>> [g.score for g in grade([GradingItem(r"\boxed{100}", "1"), GradingItem("so 7.", "7")])]
    [1.0, 1.0]
    """
    count = Count(progress)
    answers = [extract(item.text) for item in items]
    golds = [gold_text(item.gold, place) for place, item in enumerate(items)]
    pairs = [
        (normalise(gold), normalise(answer))
        for gold, (answer, _) in zip(golds, answers, strict=True)
    ]
    uses: dict[tuple[Any, ...], int] = {}
    verdicts: dict[tuple[Any, ...], Verdict] = {}
    for pair in pairs:
        uses[pair] = uses.get(pair, 0) + 1
    for pair, number in uses.items():
        known = _known_without_algebra(*pair)
        if known is None and max(map(len, pair)) > LONGEST:
            verdicts[pair] = Verdict(False, "unparsable")
        elif known is not None:
            verdicts[pair] = Verdict(known)
        if pair in verdicts:
            count.add(number)
    verdicts |= compare_all(
        equal,
        [pair for pair in uses if pair not in verdicts],
        timeout_s=timeout_s,
        workers=workers,
        finished=lambda pair: count.add(uses[pair]),
    )
    grades = []
    for pair, (_, extraction) in zip(pairs, answers, strict=True):
        verdict = verdicts[pair]
        answer = None if extraction == "none" else pair[1]
        grades.append(Grade(float(verdict.equal), answer, extraction, error=verdict.error))
    return grades


def extract(text: str) -> tuple[str, str]:
    r"""The answer and how it was found; an empty answer if there is none.

    >>> extract(r"\boxed{1}, so the answer is 2"), extract("5, then 6")
    (('1', 'boxed'), ('6', 'number'))
    """
    start = text.rfind("boxed{")
    if start >= 0:
        return _to_closing_brace(text, start + len("boxed{")), "boxed"
    _, mark, rest = text.rpartition("he answer is")
    if mark:
        line = (rest.strip().splitlines() or [""])[0]
        return line.strip(" :").rstrip("./ "), "phrase"
    number = ""
    for match in _LAST_NUMBER.finditer(text.replace(",", "")):
        number = match[0]
    return number, "number" if number else "none"


@lru_cache(maxsize=100_000)
def normalise(text: str) -> str:
    r"""One spelling, as far as the paper's code goes: units, signs of money and percent, `x =` and
    white space leave.

    >>> normalise(r"$x = \dfrac12$"), normalise(r"90^\circ"), normalise(r"5 \text{ cm}.")
    ('\\frac{1}{2}', '90', '5')
    """
    text = text[: LONGEST + 1]
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def equal(gold: str, answer: str) -> bool:
    """Whether two normalised answers count as equal; runs in the workers of `pool`."""
    known = _known_without_algebra(gold, answer)
    if known is not None:
        return known
    parts = _parts(gold), _parts(answer)
    if parts[0] and parts[1]:
        return len(parts[0]) == len(parts[1]) and all(map(equal, parts[0], parts[1]))
    matrices = _entries(gold), _entries(answer)
    if matrices[0] and matrices[1]:
        return [len(row) for row in matrices[0]] == [len(row) for row in matrices[1]] and all(
            equal(left, right)
            for rows in zip(*matrices, strict=True)
            for left, right in zip(*rows, strict=True)
        )
    if gold.count("=") == answer.count("=") == 1:
        gold, answer = (
            "({})-({})".format(*(side.strip() for side in text.split("=")))
            for text in (gold, answer)
        )
        return _same(_read(gold), _read(answer)) or _same(_read(gold), -_read(answer))
    return _same(_read(gold), _read(answer))


def _known_without_algebra(gold: str, answer: str) -> bool | None:
    if not answer or not gold:
        return False
    if gold.casefold() == answer.casefold():
        return True
    numbers = _number(gold), _number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return any(_close(numbers[1], numbers[0] * scale) for scale in (1, 100, 0.01))
    if _BRACKETS.sub("", gold).casefold() == _BRACKETS.sub("", answer).casefold():
        return True
    return None


def _number(text: str) -> float | None:
    return float(text.replace(",", "")) if _FLOAT.fullmatch(text) else None


def _close(answer: float, gold: float) -> bool:
    return math.isclose(answer, gold, rel_tol=REL_TOL)


def _parts(text: str) -> list[str]:
    """The parts of a tuple or interval."""
    if text[:1] not in "([" or text[-1:] not in ")]" or "," not in text:
        return []
    return [part.strip() for part in text[1:-1].split(",")]


def _entries(text: str) -> list[list[str]]:
    found = _MATRIX.fullmatch(text)
    if not found:
        return []
    rows = [row for row in found[1].split("\\\\") if row.strip()]
    return [[entry.strip() for entry in row.split("&")] for row in rows]


@lru_cache(maxsize=512)
def _read(text: str) -> Any:
    from latex2sympy2_extended import latex2sympy
    from sympy import Expr, MatrixBase, Symbol, pi

    text = _MIXED.sub(r"\1 \\cdot \\frac", text)
    found = latex2sympy(text, normalization_config=None)
    if not isinstance(found, Expr | MatrixBase):
        raise Unparsable
    return found.subs(pi, Symbol("pi"))


def _same(gold: Any, answer: Any) -> bool:
    from sympy import simplify

    if gold == answer:
        return True
    if getattr(gold, "shape", None) != getattr(answer, "shape", None):
        return False
    difference = simplify(gold - answer)
    if difference == 0 or getattr(difference, "is_zero_matrix", False):
        return True
    if hasattr(gold, "shape"):
        return False
    values = gold.evalf(), answer.evalf()
    if all(value.is_real and value.is_number for value in values):
        return _close(float(values[1]), float(values[0]))
    return False


def _to_closing_brace(text: str, begin: int) -> str:
    depth = 1
    for mark in _BRACE.finditer(text, begin):
        depth += 1 if mark[0] == "{" else -1
        if depth == 0:
            return text[begin : mark.start()]
    return text[begin:]


_BRACE = re.compile(r"[{}]")
_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)")
_BRACKETS = re.compile(r"[()\[\]{}]|\\(?=[{}])")
_MATRIX = re.compile(r"\\begin\{[pb]?matrix\}(.*)\\end\{[pb]?matrix\}")
_MIXED = re.compile(r"(\d)\s*\\frac")
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\n|\\!|\\,|\\;|\\:|\0", ""),
        (r"\\[dt]frac", r"\\frac"),
        (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\\begin\{(?:array)\}\{[^{}]*\}(.*)\\end\{array\}", r"\\begin{pmatrix}\1\\end{pmatrix}"),
        (r"(?<=.)\s*\\(?:text|mbox)\{[^{}]*\}(?:\^\{?[23]\}?)?\.?\s*$", ""),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\\$|\$|\\?%|\\degree", ""),
        (r"\\(?:text|mbox|mathrm|mathbf)\{([^{}]*)\}", r"\1"),
        (r"^\s*\(([A-Z])\)\s*$", r"\1"),
        (r"^\s*[A-Za-z]{1,2}\s*(?:=|\\in)\s*", ""),
        (r"infinity|∞|(?<!\\)inf(?![a-z])", r"\\infty"),
        (r"(?<![\d])\.(?=\d)", "0."),
        (r"(?<=\d)\.0+(?!\d)", ""),
        (r"sqrt\s*\(([^()]*)\)", r"sqrt{\1}"),
        (r"(?<!\\)sqrt", r"\\sqrt"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"\\frac\s*([0-9])\s*([0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9])\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\{[^{}]*\})\s*([0-9])", r"\1{\2}"),
        (r"^\s*(-?\d+)\s*/\s*(\d+)\s*$", r"\\frac{\1}{\2}"),
        (r"(?<=[A-Za-z])\s+(?=[A-Za-z])", "\0"),
        (r"\s+", ""),
        ("\0", " "),
        (r"^\{([^{}]*)\}$", r"\1"),
        (r"[.;,]+$", ""),
    ]
]
