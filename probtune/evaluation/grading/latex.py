r"""Short answers in LaTeX as text: cleaning, words, units, bases, brackets, lists, inequalities.

What can be decided without algebra is decided here, exactly, so that only the rest needs a parser.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = [
    "base_and_digits",
    "brackets",
    "clean",
    "fold",
    "interval",
    "normal",
    "split_list",
    "unit",
    "word",
]


@lru_cache(maxsize=100_000)
def clean(text: str) -> str:
    r"""One spelling for what is typeset alike; the value never changes.

    >>> clean(r"$\left( 3,\, \dfrac{\pi}2 \right)$."), clean(r"11,\! 111,\!100"), clean("1{,}000")
    ('( 3, \\frac{\\pi}{2} )', '11,111,100', '1,000')
    """
    text = "".join(_CHARACTERS.get(c, c) for c in text)
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split()).rstrip(" .;,:").lstrip(" ;,:")


@lru_cache(maxsize=100_000)
def normal(text: str) -> str:
    r"""`clean`, without text commands and without white space that cannot matter: equal normal
    forms are equal answers.

    >>> normal(r"\text{Evelyn}"), normal("3 1/2"), normal(r"2 \cdot  x ^{2}")
    ('Evelyn', '3 1/2', '2\\cdot x^2')
    """
    text = _TEXT.sub(r"\1", clean(text))
    text = _SINGLE.sub(r"\1\2", text)
    text = _SPACE.sub("", text)
    return text.strip()


def word(text: str) -> str | None:
    r"""The word or words an answer consists of, folded, or None for mathematics.

    Letters in `\text{…}`, four letters or more, or a choice such as `\text{(C)}`.

    >>> word(r"\text{East}"), word("Evelyn"), word(r"\text{(C)}"), word("ab"), word(r"\pi")
    ('east', 'evelyn', 'c', None, None)
    """
    text = clean(text)
    wrapped = _WHOLE_TEXT.fullmatch(text)
    bare = (wrapped[1] if wrapped else text).strip(" .()")
    if not _WORDS.fullmatch(bare):
        return None
    letters = sum(c.isalpha() for c in bare)
    if wrapped or letters >= 4 or bare.casefold() in ("no", "yes") or text == f"({bare})":
        return " ".join(bare.casefold().split())
    return None


def fold(text: str) -> str:
    r"""An answer as words to compare: without text command, brackets and case.

    >>> fold(r"\text{(C)}"), fold("C.")
    ('c', 'c')
    """
    text = clean(text)
    wrapped = _WHOLE_TEXT.fullmatch(text)
    return " ".join((wrapped[1] if wrapped else text).strip(" .()").casefold().split())


def unit(text: str) -> tuple[str, str]:
    r"""An answer without the unit at its end, and the unit (empty if there is none).

    A unit stands in a text command, or in words after a plain number.

    >>> unit(r"864 \mbox{ inches}^2"), unit("5 cm"), unit(r"90^\circ"), unit("3n+2m")
    (('864', 'inch^2'), ('5', 'centimeter'), ('90', 'degree'), ('3n+2m', ''))
    """
    text = clean(text).removeprefix("\\$").removeprefix("$").strip()
    if text.endswith("^\\circ") and text != "^\\circ":
        return text.removesuffix("^\\circ").strip(), "degree"
    found = _UNIT.fullmatch(text) or _PLAIN_UNIT.fullmatch(text)
    if not found:
        return text, ""
    words = " ".join(found["unit"].casefold().split()).strip(" .")
    if not _NOT_UNITS.isdisjoint(words.split()):
        return text, ""
    power = (found["power"] or "").strip("^{}")
    if words.startswith(("square ", "sq ", "cubic ", "cu ")):
        first, _, words = words.partition(" ")
        power = "2" if first.startswith("sq") else "3"
    name = _UNITS.get(words) or _UNITS.get(words.removesuffix("s")) or words.removesuffix("s")
    return found["value"].strip(), f"{name}^{power}" if power else name


def base_and_digits(text: str) -> tuple[str, str] | None:
    r"""Base and digits of a number with a base at its foot.

    >>> base_and_digits("2516_8"), base_and_digits("4210_{5}"), base_and_digits("x_1")
    (('8', '2516'), ('5', '4210'), None)
    """
    found = _BASE.fullmatch(normal(text))
    return (found[2] or found[3], found[1]) if found else None


def brackets(text: str) -> tuple[str, str, str] | None:
    r"""Opening bracket, inside and closing bracket, where one pair encloses the whole.

    >>> brackets(r"\{1,2\}"), brackets("(1,2],(3,4)")
    (('\\{', '1,2', '\\}'), None)
    """
    depth = 0
    first = None
    for mark in _BRACKET.finditer(text):
        depth += 1 if mark[0] in _OPENING else -1
        if first is None:
            if mark.start() != 0 or depth != 1:
                return None
            first = mark[0]
        if depth == 0:
            if mark.end() != len(text) or first == "{" or mark[0] == "}":
                return None
            return first, text[len(first) : mark.start()].strip(), mark[0]
    return None


def split_list(text: str) -> list[str]:
    r"""The parts between commas, semicolons, and's and or's outside of all brackets.

    >>> split_list(r"(1,2), (3,4)\text{ and }5"), split_list("1,000")
    (['(1,2)', '(3,4)', '5'], ['1,000'])
    """
    text = _JOINT.sub(";", text)
    parts, depth, begin = [], 0, 0
    for mark in _LIST_MARK.finditer(text):
        if mark[0] in ",;":
            if depth == 0:
                parts.append(text[begin : mark.start()].strip())
                begin = mark.end()
        else:
            depth += 1 if mark[0] in _OPENING else -1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def interval(text: str) -> tuple[str, str] | None:
    r"""Inequalities of one variable, joined by or, as (variable, union of intervals).

    >>> interval(r"x<0 \text{ or } x\ge 1"), interval(r"-2 < t \leq 7")
    (('x', '(-\\infty,0)\\cup[1,\\infty)'), ('t', '(-2,7]'))
    >>> interval(r"x \in [-2,7]"), interval("x=1")
    (('x', '[-2,7]'), None)
    """
    text = clean(text)
    member = _MEMBER.fullmatch(text)
    if member:
        return member[1], member[2]
    if not _RELATION.search(text):
        return None
    variables, found = set(), []
    for part in _OR.split(text):
        sides = [side.strip() for side in _RELATION.split(part)]
        signs = [sign.strip() for sign in _RELATION.findall(part)]
        piece = _piece(sides, signs)
        if piece is None:
            return None
        variables.add(piece[0])
        found.append(piece[1])
    return (variables.pop(), "\\cup".join(found)) if len(variables) == 1 else None


def _piece(sides: list[str], signs: list[str]) -> tuple[str, str] | None:
    if len(sides) == 2:
        (left, right), (sign,) = sides, signs
        if _VARIABLE.fullmatch(right) and not _VARIABLE.fullmatch(left):
            left, right, sign = right, left, _FLIPPED[sign]
        if not _VARIABLE.fullmatch(left) or not _constant(right, left):
            return None
        closed = sign != "<" and sign != ">"
        if sign.startswith(("<", "\\le")):
            return left, f"(-\\infty,{right}{']' if closed else ')'}"
        return left, f"{'[' if closed else '('}{right},\\infty)"
    if len(sides) == 3:
        low, name, high = sides
        if signs[0][0] == ">" or signs[0] == "\\ge":
            low, high, signs = high, low, [_FLIPPED[sign] for sign in reversed(signs)]
        if not all(sign in ("<", "\\le") for sign in signs) or not _VARIABLE.fullmatch(name):
            return None
        if not (_constant(low, name) and _constant(high, name)):
            return None
        left = "(" if signs[0] == "<" else "["
        return name, f"{left}{low},{high}{')' if signs[1] == '<' else ']'}"
    return None


def _constant(side: str, name: str) -> bool:
    return bool(side) and not re.search(rf"(?<![A-Za-z\\]){re.escape(name)}(?![A-Za-z])", side)


_CHARACTERS = {
    "\0": "", "−": "-", "–": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/",
    "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "°": "^\\circ ", "²": "^2",
    "³": "^3", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "∪": "\\cup ",
    "∈": "\\in ", "±": "\\pm ", "√": "\\sqrt", "⁄": "/", "∅": "\\emptyset ",
}  # fmt: skip
_ARGUMENT = r"(\{(?:[^{}]|\{[^{}]*\})*\}|[0-9A-Za-z]|\\[A-Za-z]+)"
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"(?<!\\)(?:\$|\\[()\[\]])", " "),
        (r"\\(?:left|right|[bB]ig{1,2}[lr]?)(?![A-Za-z])\.?", ""),
        (r"(?<!\\)\\!\s*|\\(?:displaystyle|textstyle|limits)(?![A-Za-z])", ""),
        (r"(?<=\d)\\[,;: ](?=\d{3}(?!\d))", ","),
        (r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![A-Za-z])|\\(?:hspace|vspace)\{[^{}]*\}", " "),
        (r"(?<=\d)\{,\}\s*(?=\d{3})", ","),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*" + _ARGUMENT + r"\s*" + _ARGUMENT, r"\\frac\1\2"),
        (r"\\frac([0-9A-Za-z]|\\[A-Za-z]+)", r"\\frac{\1}"),
        (r"(\\frac\{(?:[^{}]|\{[^{}]*\})*\})([0-9A-Za-z]|\\[A-Za-z]+)", r"\1{\2}"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z\\])(sin|cos|tan|cot|sec|csc|log|ln|exp)(?=\s*\()", r"\\\1"),
        (r"\\(?:mbox|textbf|textit|textrm|textnormal|mathrm|mathit|operatorname)\{", r"\\text{"),
        (r"\\(?:mathbf|boldsymbol|mathsf)\{([^{}]*)\}", r"\1"),
        (r"\\(?:leqslant|leq)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geqslant|geq)(?![A-Za-z])", r"\\ge"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\s*\^\s*\{?\s*\\circ\s*\}?(?![A-Za-z])|\\degree(?![A-Za-z])", r"^\\circ"),
        (r"\\%|\s*\\text\{\s*(?:percent|%)\s*\}|\s*\bpercent\b", "%"),
        (r"\*\*(?=\s*[-0-9({])", "^"),
    ]
]
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]+(?:[ '-]+[^\W\d_]+)*")
_SINGLE = re.compile(r"\s*([\^_])\s*\{\s*([0-9A-Za-z])\s*\}")
_SPACE = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])|(?<=[0-9])\s+(?=[A-Za-z])")
_BASE = re.compile(r"([0-9A-F]+)_(?:\{(\d+)\}|(\d))")
_OPENING = ("(", "[", "{", "\\{")
_BRACKET = re.compile(r"\\[{}]|[()\[\]{}]")
_LIST_MARK = re.compile(r"\\[{}]|[()\[\]{};]|,(?!\d{3}(?!\d))|(?<!\d),")
_JOINT = re.compile(r",?\s*(?:\\text\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))")
_OR = re.compile(r"\\text\{\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![A-Za-z])|\\cup")
_RELATION = re.compile(r"\\le(?![A-Za-z])|\\ge(?![A-Za-z])|<|>")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_VARIABLE = re.compile(r"[A-Za-z]|\\[a-z]+")
_MEMBER = re.compile(r"([A-Za-z])\s*\\in(?![A-Za-z])\s*(.+)")
_UNIT = re.compile(r"(?P<value>.*\S)\s*\\text\{(?P<unit>[^{}]*)\}(?P<power>\^\{?[23]\}?)?")
_PLAIN_UNIT = re.compile(
    r"(?P<value>-?[\d,.]+(?:/\d+)?)\s*(?P<unit>(?:(?:square|sq|cubic|cu) )?[A-Za-z]{2,})"
    r"(?P<power>\^\{?[23]\}?)?"
)
_NOT_UNITS = set(
    "and or more less than least most not if for when where with otherwise to mod odd even".split()
)
_UNITS = {
    "cm": "centimeter", "centimetre": "centimeter", "m": "meter", "metre": "meter",
    "km": "kilometer", "kilometre": "kilometer", "mm": "millimeter", "ft": "foot", "feet": "foot",
    "in": "inch", "inches": "inch", "mi": "mile", "yd": "yard", "s": "second", "sec": "second",
    "min": "minute", "h": "hour", "hr": "hour", "deg": "degree", "kg": "kilogram", "g": "gram",
    "gram": "gram", "lb": "pound", "units": "unit", "dollar": "dollar",
}  # fmt: skip
