r"""Equality of two mathematical answers that needs algebra: math-verify, with its known errors
corrected. Runs in the workers of `pool`.

math-verify 0.9 (Kydlíček et al., https://github.com/huggingface/Math-Verify, 2025) searches a text
for an answer, reads it into SymPy and compares. Here it is given the answer alone. Around it:

    a decimal beside a number   rounding to six places takes 0.001414 for sqrt(2)/1000; the rule
                                of `literals.stands_for` decides instead
    units                       its removal takes `3n+2m` for `3n+2`; off, see `latex.unit`
    lists and tuples            compared part by part too, in any order without brackets or in
                                braces, in order otherwise
    inequalities                beside intervals, written as intervals
    i                           the imaginary unit where it is the only letter; read as a letter,
                                `9 i + 6` was refused for `6+9i`
    `%`                         escaped: it would start a comment
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from . import latex
from .literals import Literal, read_literal, stands_for, within
from .plain import reduce
from .pool import Unparsable

__all__ = ["answers_equal"]


def answers_equal(gold: str, answer: str, rel_tol: float | None = None) -> bool:
    """Return True if two answers are equal.

    Raises:
        Unparsable: the answer cannot be read, and is not equal in any other way.
    """
    gold, answer, verdict = reduce(gold, answer, rel_tol)
    if verdict is not None:
        return verdict
    if _parts_equal(gold, answer, rel_tol):
        return True
    gold, answer = _as_intervals(gold, answer)
    left, right = _parse(gold), _parse(answer)
    if not right or not left:
        raise Unparsable
    literals = read_literal(gold), read_literal(answer)
    of_gold, of_answer = _real(left), _real(right)
    if of_gold is not None and of_answer is not None:
        if literals[0] or literals[1]:
            return _literal_is(literals, (of_gold, of_answer), rel_tol)
        if rel_tol is not None and within(of_answer, of_gold, rel_tol):
            return True
        if min(abs(of_gold), abs(of_answer)) > _TINY:  # 30 digits decide; no need to simplify
            return abs(of_gold - of_answer) <= abs(of_gold) / 10**25
    from math_verify import verify

    return verify(left, right, timeout_seconds=None)


def _parts_equal(gold: str, answer: str, rel_tol: float | None) -> bool:
    """Return True if both are lists or tuples with equal parts."""
    ordered = False
    pair = latex.brackets(gold), latex.brackets(answer)
    if pair[0] and pair[1]:
        if (pair[0][0], pair[0][2]) != (pair[1][0], pair[1][2]):
            return False
        ordered = pair[0][0] != "\\{"
        gold, answer = pair[0][1], pair[1][1]
    parts = latex.split_list(gold), latex.split_list(answer)
    if len(parts[0]) != len(parts[1]) or len(parts[0]) < 2:
        return False
    if ordered:
        return all(_part_equal(g, a, rel_tol) for g, a in zip(*parts, strict=True))
    left = list(parts[1])
    for part in parts[0]:
        match = next((a for a in left if _part_equal(part, a, rel_tol)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _part_equal(gold: str, answer: str, rel_tol: float | None) -> bool:
    try:
        return answers_equal(gold, answer, rel_tol)
    except Unparsable:
        return False


def _as_intervals(gold: str, answer: str) -> tuple[str, str]:
    """Inequalities as intervals, unless they speak of different variables."""
    left, right = latex.interval(gold), latex.interval(answer)
    if left and right and left[0] != right[0]:
        return gold, answer
    return (left[1] if left else gold), (right[1] if right else answer)


@lru_cache(maxsize=512)
def _parse(text: str) -> list[Any]:
    """Return the expression that math-verify reads in an answer, and its text; or nothing."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(
        try_extract_without_anchor=False,
        boxed_match_priority=0,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last"
        ),
    )
    text = re.sub(r"(?<!\\)%", r"\\%", text)
    parsed = parse(f"\\boxed{{{text}}}", [config], parsing_timeout=None)  # pyright: ignore
    if not parsed or isinstance(parsed[0], str):
        return []
    return [_with_imaginary_unit(parsed[0]), *parsed[1:]]


def _with_imaginary_unit(expression: Any) -> Any:
    """A number in i alone, which math-verify reads as a letter, with the square root of -1."""
    from sympy import Expr, I

    letters = expression.free_symbols
    if isinstance(expression, Expr) and {letter.name for letter in letters} == {"i"}:
        return expression.subs({letter: I for letter in letters})
    return expression


def _real(parsed: list[Any]) -> Fraction | None:
    """The real number an expression is: exactly, or to 30 digits; None for anything else."""
    from sympy import Expr

    expression = parsed[0]
    if not isinstance(expression, Expr) or expression.free_symbols:
        return None
    value = expression.doit()
    if not value.is_Rational:
        value = value.evalf(30)
    return Fraction(str(value)) if value.is_Rational or value.is_Float else None


def _literal_is(
    literals: tuple[Literal | None, Literal | None],
    values: tuple[Fraction, Fraction],
    rel_tol: float | None,
) -> bool:
    """Return True if a written number and the value of an expression are the same number."""
    literal, number = (
        (literals[0], values[1]) if literals[0] is not None else (literals[1], values[0])
    )
    assert literal is not None
    for exact in (literal.exact, literal.value):
        if abs(exact - number) <= abs(number) / 10**25:
            return True
    if stands_for(literal, number, irrational=not _is_short(number)):
        return True
    gold, answer = (literal.exact, number) if literals[0] else (number, literal.exact)
    return rel_tol is not None and within(answer, gold, rel_tol)


_TINY = Fraction(1, 10**20)


def _is_short(number: Fraction) -> bool:
    """Return True if a number known to 30 digits is one of few decimals."""
    return abs(number - round(number, 12)) <= abs(number) / 10**25
