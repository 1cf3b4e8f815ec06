r"""Equality of two short answers as far as text and exact numbers decide it; algebra does the rest.

In this order:

    same normal form               right
    words (`\text{…}`, four letters, single letters)     right where they are the same
    a unit at one end only         left out; two different units: wrong
    written numbers                `literals.equal_literals`
    a base at the foot             digits and bases must be the same; left out on one side: right
    brackets around a list         of another kind: wrong, (1,2) is not [1,2]
"""

from __future__ import annotations

import re
from typing import NamedTuple

from . import latex
from .literals import equal_literals, read_literal

__all__ = ["LONGEST", "Reduced", "reduce"]

LONGEST = 2_000
"""Characters: a longer answer is compared as text alone."""


class Reduced(NamedTuple):
    """Two answers without what does not matter, and the verdict where it is certain."""

    gold: str
    answer: str
    verdict: bool | None
    """None: only algebra can tell."""


def reduce(gold: str, answer: str, rel_tol: float | None = None) -> Reduced:
    r"""Decide, or leave two cleaned answers without units.

    >>> reduce("10,080", r"10,\!080").verdict, reduce(r"\text{East}", "east").verdict
    (True, True)
    >>> reduce("(1,2)", "[1,2]").verdict, reduce(r"2\pi", r"\pi+\pi \text{ cm}")
    (False, Reduced(gold='2\\pi', answer='\\pi+\\pi', verdict=None))
    """
    if max(len(gold), len(answer)) > LONGEST:
        return Reduced(gold, answer, gold.split() == answer.split())
    if latex.normal(gold) == latex.normal(answer):
        return Reduced(gold, answer, True)
    if latex.word(gold) is not None or latex.word(answer) is not None:
        return Reduced(gold, answer, latex.fold(gold) == latex.fold(answer))
    (gold, of_gold), (answer, of_answer) = latex.unit(gold), latex.unit(answer)
    if of_gold and of_answer and of_gold != of_answer:
        return Reduced(gold, answer, False)
    return Reduced(gold, answer, _decide(gold, answer, rel_tol))


def _decide(gold: str, answer: str, rel_tol: float | None) -> bool | None:
    forms = latex.normal(gold), latex.normal(answer)
    if not all(forms):
        return False
    if forms[0] == forms[1]:
        return True
    if all(_LETTER.fullmatch(form) for form in forms):
        return False
    literals = read_literal(gold), read_literal(answer)
    if literals[0] and literals[1]:
        return equal_literals(literals[0], literals[1], rel_tol=rel_tol)
    bases = latex.base_and_digits(gold), latex.base_and_digits(answer)
    if bases[0] and bases[1]:
        return bases[0] == bases[1]
    if bases[0] or bases[1]:
        digits = [base[1] if base else form for base, form in zip(bases, forms, strict=True)]
        return digits[0] == digits[1]
    around = latex.brackets(gold), latex.brackets(answer)
    if around[0] and around[1] and "," in around[0][1] and "," in around[1][1]:
        if (around[0][0], around[0][2]) != (around[1][0], around[1][2]):
            return False
    return None


_LETTER = re.compile(r"[A-Za-z]")
