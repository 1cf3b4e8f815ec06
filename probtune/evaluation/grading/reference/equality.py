r"""Equality of two mathematical answers as the paper's code has it, its generosity included.

Two answers in the paper's spelling are equal where one of these holds, in this order:

    text           the same text, but for case; or a letter A to E that the answer ends with
    numbers        within a relative 1e-4 of the gold, of 100 times it, or of a hundredth; two
                   numbers that are not are different
    brackets       the same but for brackets and braces
    tuples         every part is equal in its place, whatever the kind of bracket
    matrices       every entry is equal
    equations      both differences of their sides are the same, up to sign; `x=` is left out on
                   one side
    expressions    SymPy reads the same, finds the difference zero, or both values within 1e-4

An expression is read by the first of three readers that does not refuse it: SymPy's LaTeX grammar,
which reads as much of the beginning as is LaTeX (of `2700,5401` and `2700,5400` the 2700), SymPy's
grammar of Python expressions, and latex2sympy. What none reads is text.

Two things differ from the paper's code. Python is read only where it can do nothing but arithmetic:
`parse_expr` evaluates its text, and a response must not run programs. And latex2sympy is today's
latex2sympy2_extended, not the copy in the paper's repository.

Written afresh from the behaviour of evaluations/math/grader.py in
https://github.com/GaotangLi/Beyond-Log-Likelihood at 220589d.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

__all__ = ["certain", "choice", "equal"]

REL_TOL = 1e-4


def equal(gold: str, answer: str) -> bool:
    """True if two answers count as equal; runs in the workers of `pool`."""
    verdict = certain(gold, answer)
    if verdict is not None:
        return verdict
    gold, answer = gold.strip(), answer.strip()
    if "pmatrix" in answer and "pmatrix" not in gold:
        gold = _as_matrix(gold)
    bare_gold, bare_answer = gold, answer
    if (answer[:1] == "[" and answer[-1:] == "]" and gold[:1] != "(") or (
        answer[:1] == "(" and answer[-1:] == ")" and gold[:1] != "["
    ):
        bare_gold, bare_answer = gold.strip("[]()"), answer.strip("[]()")
    if _without_brackets(bare_gold) == _without_brackets(bare_answer):
        return True
    if _BRACKETED.match(answer) and _BRACKETED.match(gold):
        if _all_equal(gold[1:-1].split(","), answer[1:-1].split(",")):
            return True
    if _is_matrix(gold) and _is_matrix(answer):
        rows = _rows(gold), _rows(answer)
        if len(rows[0]) == len(rows[1]) and all(
            _all_equal(left.split("&"), right.split("&")) for left, right in zip(*rows, strict=True)
        ):
            return True
    if gold.count("=") == answer.count("=") == 1:
        of_gold, of_answer = (
            "{} - ({})".format(*(side.strip() for side in text.split("=")))
            for text in (gold, answer)
        )
        if _same(of_answer, of_gold) or _same(f"-({of_answer})", of_gold):
            return True
    elif answer.count("=") == 1 and "=" not in gold:
        name, value = answer.split("=")
        if len(name.strip()) <= 2 and equal(gold, value):
            return True
    elif gold.count("=") == 1 and "=" not in answer:
        name, value = gold.split("=")
        if len(name.strip()) <= 2 and equal(value, answer):
            return True
    return _same(answer, gold)


def certain(gold: str, answer: str) -> bool | None:
    """Return the verdict that text and numbers give alone, or None."""
    if answer.strip().lower() == gold.strip().lower():
        return True
    if gold in tuple("ABCDE") and _last_letter(answer) == gold:
        return True
    numbers = _number(gold), _number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        scaled = (numbers[0] / 100, numbers[0], numbers[0] * 100)
        return any(_close(numbers[1], number) for number in scaled)
    return None if answer else False


def choice(response: str) -> str:
    """Return the letter that a whole response names where the gold is a letter: the first one after
    "answer is" or "choice is", or else the last one.

    >>> choice("It is B or C"), choice("The answer is (B), not C"), choice("none.")
    ('C', 'B', 'none')
    """
    response = response.strip("\n")
    if any(response.count(mark) > 1 for mark in ("choice is", "answer is")):
        response = response.split("\n\n")[0]
    pieces = re.split("choice is|answer is", response)
    last = pieces[-1].strip("\n").rstrip(".").rstrip("/").strip(" ").lstrip(":")
    letters = _LETTER.findall(last.upper()) or [last.strip().strip(".")]
    return (letters[0] if len(pieces) > 1 else letters[-1]).rstrip(".").rstrip("/")


def _last_letter(answer: str) -> str:
    letters = _LETTER.findall(answer.upper())
    return letters[-1] if letters else ""


def _number(text: str) -> float | None:
    text = text.replace(",", "")
    for written, scale in ((text, 1), (text.removesuffix("%").removesuffix("\\"), 100)):
        try:
            return float(written) / scale
        except ValueError:
            if not text.endswith("%"):
                break
    return None


def _close(answer: float, gold: float) -> bool:
    return math.isclose(gold, answer, rel_tol=REL_TOL)


def _all_equal(golds: Sequence[str], answers: Sequence[str]) -> bool:
    return len(golds) == len(answers) and all(map(equal, golds, answers))


def _as_matrix(text: str) -> str:
    r"""Braces around a list as a column: `{1,2}` as `\begin{pmatrix}1\2\end{pmatrix}`."""
    columns = (piece.strip("{}").replace(",", "\\") for piece in _BRACED_LIST.findall(text.strip()))
    return ", ".join(rf"\begin{{pmatrix}}{column}\end{{pmatrix}}" for column in columns)


def _without_brackets(text: str) -> str:
    return re.sub(r"[{}()]", "", text).lower()


def _is_matrix(text: str) -> bool:
    return text.startswith((r"\begin{pmatrix}", r"\begin{bmatrix}")) and text.endswith(
        (r"\end{pmatrix}", r"\end{bmatrix}")
    )


def _rows(matrix: str) -> list[str]:
    inside = matrix[len(r"\begin{pmatrix}") : -len(r"\end{pmatrix}")]
    return [row.strip() for row in inside.split("\\\\") if row.strip()]


def _same(answer: str, gold: str) -> bool:
    """True if SymPy finds two texts equal in any of five ways."""
    from sympy import simplify

    left, right = _read(answer), _read(gold)
    ways = (
        lambda: str(left) == str(right) or left == right,
        lambda: left.equals(right) or simplify(left - right) == 0,
        lambda: abs(left.lhs - left.rhs).equals(abs(right.lhs - right.rhs)),
        lambda: _close(_value(left), _value(right)),
        lambda: left.shape == right.shape and _rounded(left).equals(_rounded(right)),
    )
    for way in ways:
        try:
            if way():
                return True
        except Exception:  # what was read may be of any type, and SymPy may raise anything
            continue
    return False


def _value(expression: Any) -> float:
    from sympy import N

    return float(N(expression))


def _rounded(matrix: Any) -> Any:
    return matrix.applyfunc(lambda entry: round(entry, 3))


@lru_cache(maxsize=512)
def _read(text: str) -> Any:
    """An expression that SymPy reads in a text, or the text."""
    single = text.replace("\\\\", "\\")
    for read in (_read_latex, _read_python, _read_latex2sympy):
        for written in dict.fromkeys((single, text)):
            try:
                return read(written)
            except Exception:  # grammars of others may raise anything on what a model wrote
                continue
    return text


def _read_latex(text: str) -> Any:
    """SymPy's LaTeX grammar with any antlr4 runtime that it can be read by; `parse_latex` insists
    on 4.11, whose grammars 4.13 reads as well.
    """
    from contextlib import redirect_stdout
    from io import StringIO

    from antlr4 import CommonTokenStream, InputStream
    from sympy.parsing.latex import _parse_latex_antlr as grammar

    listener = grammar.MathErrorListener(text)
    with redirect_stdout(StringIO()):  # antlr4 prints that the versions differ
        lexer = grammar.LaTeXLexer(InputStream(text))
        parser = grammar.LaTeXParser(CommonTokenStream(lexer))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    return grammar.convert_relation(parser.math().relation())


def _read_python(text: str) -> Any:
    from sympy.parsing.sympy_parser import parse_expr

    if not _is_arithmetic(text):
        raise ValueError(f"a response must not run Python, got {text!r}")
    return parse_expr(text)


def _is_arithmetic(text: str) -> bool:
    """True if a Python expression names no attribute, holds no text, and calls nothing but
    functions of mathematics.
    """
    import builtins

    import sympy

    if _PROGRAM.search(text):
        return False
    for name in _NAME.findall(text):
        value = getattr(builtins, name, None) or getattr(sympy, name, None)
        harmless = isinstance(value, sympy.Basic) or (
            isinstance(value, type) and issubclass(value, sympy.Basic)
        )
        if callable(value) and not harmless and name not in _FUNCTIONS:
            return False
    return True


def _read_latex2sympy(text: str) -> Any:
    """An expression by the successor of the paper's last reader. Unlike that one it reads sets as
    well, and refuses what follows a whole expression.
    """
    from latex2sympy2_extended import latex2sympy
    from sympy import Set

    listed = _LISTED.match(text)
    if listed is not None:
        return [latex2sympy(part, normalization_config=None) for part in listed[1].split(",")]
    text = text[: _unopened(text)]
    expression = latex2sympy(text, normalization_config=None)
    if isinstance(expression, Set):
        raise ValueError(f"a set is no expression, got {text!r}")
    return expression


def _unopened(text: str) -> int:
    r"""Return the place of the first bracket that closes what was not opened, or the length.

    >>> _unopened(r"\begin{pmatrix}1\\2\end{pmatrix})cm")
    32
    """
    opened = []
    for index, sign in enumerate(text):
        if sign in "([{":
            opened.append(sign)
        elif sign in ")]}" and not opened:
            return index
        elif sign in ")]}":
            opened.pop()
    return len(text)


_LETTER = re.compile(r"\b([ABCDE])\b")
_BRACKETED = re.compile(r"[(\[].+[)\]]")
_LISTED = re.compile(r"\[([^\[\]()]*,[^\[\]()]*)\]")
_BRACED_LIST = re.compile(r"\{.*,.*\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
_PROGRAM = re.compile(r"['\"`]|__|\.\s*[A-Za-z_]|:=|\b(?:lambda|for|yield|await|import)\b")
_FUNCTIONS = frozenset(
    "abs cbrt divmod expand factor max min pow real_root root round sqrt sum".split()
)
"""Functions, of Python and SymPy, that are no classes of SymPy and compute nothing but numbers."""
