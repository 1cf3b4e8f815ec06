r"""Numbers written out, read exactly: integers, decimals, fractions, mixed numbers, powers of ten,
percentages.

Two numbers are equal when they are the same rational number, and in three more cases:

    a percent sign may be left out            10 % is 10 (and 0.1, exactly)
    a decimal stands for a number that no     0.333333 is 1/3, 3.14159 is pi; 0.3333 is not 1/3:
    decimal writes exactly                    at least six significant digits, all of them right
    a tolerance is named                      |answer - gold| <= rel_tol |gold|
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .latex import clean
from .spellings import CURRENCIES, SCALES

__all__ = ["Literal", "equal_literals", "read_literal", "stands_for", "within"]

SIGNIFICANT_DIGITS = 6
"""The number of right digits that a decimal needs to stand for a number it does not equal."""
_LONGEST = 400


@dataclass(frozen=True)
class Literal:
    """A number as it is written."""

    value: Fraction
    percent: bool = False
    """True if a percent sign follows; `value` is the number before it."""
    unit: Fraction | None = None
    """Value of the last digit, where a decimal point is written."""
    significant: int = 0
    """Number of significant digits of a decimal."""

    @property
    def exact(self) -> Fraction:
        return self.value / 100 if self.percent else self.value


@lru_cache(maxsize=100_000)
def read_literal(text: str) -> Literal | None:
    r"""Return the number a text consists of, or None.

    >>> read_literal(r"-\frac{3}{4}").value, read_literal("6.02e23").value == 602 * 10**21
    (Fraction(-3, 4), True)
    >>> read_literal("1 000").value, read_literal("€2 million").value, read_literal("1 2")
    (Fraction(1000, 1), Fraction(2000000, 1), None)
    >>> read_literal(r"3\frac{1}{2}").value, read_literal(r"62.5\%").exact, read_literal("2n")
    (Fraction(7, 2), Fraction(5, 8), None)
    """
    if len(text) > _LONGEST:
        return None
    text = _without_currency(clean(text))
    negative = text.startswith("-")
    if text[:1] in ("-", "+"):
        text = text[1:].strip()
    text = _without_currency(text)
    scale = _SCALE.search(text)
    if scale:
        text = text[: scale.start()].strip()
    percent = text.endswith("%")
    text = text.removesuffix("%").strip()
    if _GROUPED.fullmatch(text):
        text = re.sub("[ '’]", "", text)
    while text.startswith("{") and text.endswith("}") and "{" not in text[1:]:
        text = text[1:-1].strip()
    for pattern, build in _FORMS:
        match = pattern.fullmatch(text)
        if match:
            literal = build(match)
            if literal is None:
                return None
            factor = SCALES[scale[1]] if scale else 1
            value = (-literal.value if negative else literal.value) * factor
            last = None if literal.unit is None else literal.unit * factor
            return Literal(value, percent, last, literal.significant)
    return None


def _without_currency(text: str) -> str:
    for sign in CURRENCIES:
        text = text.removeprefix(sign).removesuffix(sign).strip()
    return text


def equal_literals(gold: Literal, answer: Literal, *, rel_tol: float | None = None) -> bool:
    """True if two written numbers are equal (see the module)."""
    if gold.exact == answer.exact:
        return True
    if gold.percent != answer.percent and gold.value == answer.value:
        return True
    if stands_for(answer, gold.exact) or stands_for(gold, answer.exact):
        return True
    return rel_tol is not None and within(answer.exact, gold.exact, rel_tol)


def stands_for(decimal: Literal, number: Fraction, *, irrational: bool = False) -> bool:
    """True if a decimal is a number, rounded or cut, to at least six significant digits.

    A number that a decimal can write exactly must be written exactly. Where `irrational`, `number`
    is an approximation with many more digits.

    >>> third = Fraction(1, 3)
    >>> stands_for(read_literal("0.333333"), third), stands_for(read_literal("0.3333"), third)
    (True, False)
    """
    if decimal.unit is None or decimal.significant < SIGNIFICANT_DIGITS:
        return False
    if not irrational and _terminates(number):
        return False
    return abs(decimal.exact - number) < (decimal.unit / 100 if decimal.percent else decimal.unit)


def within(answer: Fraction, gold: Fraction, rel_tol: float) -> bool:
    """True if |answer - gold| <= rel_tol |gold|."""
    return abs(answer - gold) <= Fraction(rel_tol) * abs(gold)


def _terminates(number: Fraction) -> bool:
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _decimal(text: str) -> Literal:
    digits = text.replace(",", "")
    value = Fraction(f"{digits}0" if digits.endswith(".") else digits)
    if "." not in digits:
        return Literal(value)
    places = len(digits) - digits.index(".") - 1
    significant = len(digits.replace(".", "").lstrip("0"))
    return Literal(value, unit=Fraction(1, 10**places), significant=significant)


def _fraction(numerator: str, denominator: str) -> Literal | None:
    sign = -1 if numerator.strip().startswith("-") else 1
    sign *= -1 if denominator.strip().startswith("-") else 1
    above = _decimal(numerator.strip(" -")).value
    below = _decimal(denominator.strip(" -")).value
    return Literal(sign * above / below) if below else None


def _mixed(match: re.Match[str]) -> Literal | None:
    part = _fraction(match[2], match[3])
    return Literal(_decimal(match[1]).value + part.value) if part else None


def _scientific(match: re.Match[str]) -> Literal | None:
    exponent = int(match[2])
    if abs(exponent) > _LONGEST:
        return None
    first = _decimal(match[1] or "1")
    power = Fraction(10) ** exponent
    unit = None if first.unit is None else first.unit * power
    return Literal(first.value * power, unit=unit, significant=first.significant)


_SCALE = re.compile(rf"(?<=[\d}}%])\s*(?:\\text\{{\s*)?({'|'.join(SCALES)})s?\s*\}}?$")
_GROUPED = re.compile(r"\d{1,3}(?:(?: \d{3})+|(?:['’]\d{3})+)(?:\.\d+)?")
"""Thousands between spaces or apostrophes."""
_NUMBER = r"((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)"
_SIGNED = r"(\s*-?\s*(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)\s*)"
_WHOLE = r"(\d+)"
_EXPONENT = r"\{?\s*([-+]?\d{1,6})\s*\}?"
_FORMS = [
    (re.compile(pattern), build)
    for pattern, build in [
        (_NUMBER, lambda match: _decimal(match[1])),
        (rf"\\frac\{{{_SIGNED}\}}\{{{_SIGNED}\}}", lambda match: _fraction(match[1], match[2])),
        (rf"{_NUMBER}\s*/\s*{_NUMBER}", lambda match: _fraction(match[1], match[2])),
        (rf"{_WHOLE}\s*\\frac\{{{_WHOLE}\}}\{{{_WHOLE}\}}", _mixed),
        (rf"{_WHOLE}\s+{_WHOLE}\s*/\s*{_WHOLE}", _mixed),
        (rf"{_NUMBER}\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*{_EXPONENT}", _scientific),
        (rf"{_NUMBER}[eE]{_EXPONENT}", _scientific),
        (rf"()10\s*\^\s*{_EXPONENT}", _scientific),
    ]
]
