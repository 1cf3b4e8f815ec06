r"""Short answers in LaTeX as text: cleaning, words, units, bases, brackets, lists, inequalities.

What can be decided without algebra is decided here, exactly, so that only the rest needs a parser.
The tables of spellings and units are in `spellings`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from .spellings import CHARACTERS, CURRENCIES, NOT_UNITS, SCALES, SPELLINGS, UNITS

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
    r"""Return one spelling for what is typeset alike; the value never changes.

    >>> clean(r"$\left( 3,\, \dfrac{\pi}2 \right)$."), clean(r"11,\! 111,\!100"), clean("1{,}000")
    ('( 3, \\frac{\\pi}{2} )', '11,111,100', '1,000')
    >>> clean(r"\color{red}{12}"), clean("= 5"), clean(r"0.\overline{3}")
    ('12', '5', '\\frac{3}{9}')
    """
    text = "".join(CHARACTERS.get(c, c) for c in text)
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    text = _REPEATING.sub(_repeating, text)
    return " ".join(text.split()).rstrip(" .;,:").lstrip(" ;,:")


def _repeating(decimal: re.Match[str]) -> str:
    r"""`0.1\overline{6}` as the fraction (16 - 1) / 90."""
    whole, digits, period = decimal["whole"].replace(",", ""), decimal["digits"], decimal["period"]
    above = int(f"{whole}{digits}{period}") - int(f"0{whole}{digits}")
    return rf"\frac{{{above}}}{{{'9' * len(period)}{'0' * len(digits)}}}"


@lru_cache(maxsize=100_000)
def normal(text: str) -> str:
    r"""Return `clean` without text commands and without white space that cannot matter; equal
    normal forms are equal answers.

    >>> normal(r"\text{Evelyn}"), normal("3 1/2"), normal(r"2 \cdot  x ^{2}")
    ('Evelyn', '3 1/2', '2\\cdot x^2')
    """
    text = _TEXT.sub(r"\1", clean(text))
    text = _SINGLE.sub(r"\1\2", text)
    text = _SPACE.sub("", text)
    return text.strip()


def word(text: str) -> str | None:
    r"""Return the word or words an answer consists of, folded, or None for mathematics.

    Letters in `\text{…}`, four letters or more, two or three capitals, or a choice such as
    `\text{(C)}`.

    >>> word(r"\text{East}"), word("Evelyn"), word(r"\text{(C)}"), word("ab"), word(r"\pi")
    ('east', 'evelyn', 'c', None, None)
    >>> word("CAT"), word("act")
    ('cat', None)
    """
    text = clean(text)
    wrapped = _WHOLE_TEXT.fullmatch(text)
    bare = (wrapped[1] if wrapped else text).strip(" .()")
    if not _WORDS.fullmatch(bare):
        return None
    letters = sum(c.isalpha() for c in bare)
    if wrapped or letters >= 4 or _SHORT_WORD.fullmatch(bare) or text == f"({bare})":
        return " ".join(bare.casefold().split())
    return None


def fold(text: str) -> str:
    r"""Return an answer as words to compare: without text command, brackets and case.

    >>> fold(r"\text{(C)}"), fold("C.")
    ('c', 'c')
    """
    text = clean(text)
    wrapped = _WHOLE_TEXT.fullmatch(text)
    return " ".join((wrapped[1] if wrapped else text).strip(" .()").casefold().split())


def unit(text: str) -> tuple[str, str]:
    r"""Return an answer without the unit at its end, and the unit (empty if there is none).

    A unit stands in a text command, in words after a plain number, or as the sign of a currency
    before or after it.

    >>> unit(r"864 \mbox{ inches}^2"), unit("5 cm"), unit(r"90^\circ"), unit("3n+2m")
    (('864', 'inch^2'), ('5', 'centimeter'), ('90', 'degree'), ('3n+2m', ''))
    >>> unit("-€5"), unit(r"5 \text{ million dollars}")
    (('-5', 'euro'), ('5 million', 'dollar'))
    """
    text = clean(text).removeprefix("$").strip()
    money = _MONEY.fullmatch(text)
    if money:
        sign = money["before"] or money["after"]
        number = money["value"] if money["before"] else money["number"]
        value, name = _written_unit(f"{money['sign']}{number}".strip())
        return value, name or CURRENCIES[sign]
    return _written_unit(text)


def _written_unit(text: str) -> tuple[str, str]:
    if text.endswith("^\\circ") and text != "^\\circ":
        return text.removesuffix("^\\circ").strip(), "degree"
    match = _UNIT.fullmatch(text) or _PLAIN_UNIT.fullmatch(text)
    if not match:
        return text, ""
    value = match["value"].strip()
    words = " ".join(match["unit"].casefold().split()).strip(" .")
    scale, _, rest = words.partition(" ")
    if scale in SCALES:
        value, words = f"{value} {scale}", rest
    if not words:
        return value, ""
    if not NOT_UNITS.isdisjoint(words.split()):
        return text, ""
    power = (match["power"] or "").strip("^{}")
    if words.startswith(("square ", "sq ", "cubic ", "cu ")):
        first, _, words = words.partition(" ")
        power = "2" if first.startswith("sq") else "3"
    name = UNITS.get(words) or UNITS.get(words.removesuffix("s")) or words.removesuffix("s")
    return value, f"{name}^{power}" if power else name


def base_and_digits(text: str) -> tuple[str, str] | None:
    r"""Return base and digits of a number with a base at its foot.

    >>> base_and_digits("2516_8"), base_and_digits("4210_{5}"), base_and_digits("x_1")
    (('8', '2516'), ('5', '4210'), None)
    """
    match = _BASE.fullmatch(normal(text))
    return (match[2] or match[3], match[1]) if match else None


def brackets(text: str) -> tuple[str, str, str] | None:
    r"""Return opening bracket, inside and closing bracket, where one pair encloses the whole.

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
    r"""Return the parts between commas, semicolons, and's and or's outside of all brackets.

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
    r"""Return inequalities of one variable, joined by or, as (variable, union of intervals).

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
    variables, pieces = set(), []
    for part in _OR.split(text):
        sides = [side.strip() for side in _RELATION.split(part)]
        signs = [sign.strip() for sign in _RELATION.findall(part)]
        piece = _piece(sides, signs)
        if piece is None:
            return None
        variables.add(piece[0])
        pieces.append(piece[1])
    return (variables.pop(), "\\cup".join(pieces)) if len(variables) == 1 else None


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
    r"(?P<value>-?[\d,.]+(?: \d{3})*(?:/\d+)?)\s*"
    r"(?P<unit>(?:(?:square|sq|cubic|cu|hundred|thousand|[mb]illion|trillion) )?[A-Za-z]{2,})"
    r"(?P<power>\^\{?[23]\}?)?"
)
_MONEY = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<before>[€£¥]|\\\$)\s*(?P<value>[-+]?[^€£¥$]*)"
    r"|(?P<number>[^€£¥$]*[^\s€£¥$\\])\s*(?P<after>[€£¥]|\\\$))"
)
_SHORT_WORD = re.compile(r"[A-Z]{2,3}|(?i:no|yes)")
"""Two or three capitals are a word, `CAT` and no product of C, A and T."""
_REPEATING = re.compile(
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d*)\.(?P<digits>\d*)"
    r"\\(?:overline|bar|dot)\s*(?=\{\d+\}|\d)\{?(?P<period>\d+)\}?"
)
