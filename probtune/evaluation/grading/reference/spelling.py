r"""The one spelling that the paper's code brings mathematical answers to before it compares them.

It is a long list of replacements, made one after the other, and later ones see what earlier ones
left. So `1.05x` becomes `15x` (zeros after a decimal point leave), `5 \text{ m}` and `5 m` become
`5`, and an answer with a number word in it becomes that number.

Written afresh from the behaviour of evaluations/math/parser.py in
https://github.com/GaotangLi/Beyond-Log-Likelihood at 220589d, which is Qwen2.5-Math's evaluation
(https://github.com/QwenLM/Qwen2.5-Math), and of its word2number 1.1.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["normalise"]


@lru_cache(maxsize=100_000)
def normalise(text: str, *, units: bool = True) -> str:
    r"""Return an answer in the paper's spelling. `units=False` keeps units, as Minerva's has it.

    >>> normalise(r"$x = \dfrac12$"), normalise(r"90^\circ"), normalise("5 cm.")
    ('\\frac{1}{2}', '90', '5')
    >>> normalise("twenty-one pens"), normalise("1.0x"), normalise("5 cm.", units=False)
    ('21', '1x', '5cm')
    """
    text = text.strip().replace("\n", "").rstrip(".")
    text = _replaced(text, _FIRST)
    text = _unless_empty(re.sub(r"\\text{.*?}$", "", text).strip(), text)
    if units:
        for _ in range(2):
            for word, pattern in _UNITS:
                if word in text:
                    text = _unless_empty(pattern.sub(r"\1\2", text), text)
    text = _replaced(text, _DEGREES)
    text = _number_word(text)
    text = _replaced(text, _SECOND)
    text = text.replace("infinity", r"\infty")
    if r"\infty" not in text:
        text = text.replace("inf", r"\infty")
    text = _replaced(text, _THIRD)
    if "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d+)\.0*([^\d])", r"\1\2", text)
    text = re.sub(r"(\d+)\.0*$", r"\1", text)
    if text.startswith("."):
        text = f"0{text}"
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    return _whole_fraction(_with_braces(text))


def _replaced(text: str, replacements: list[tuple[re.Pattern[str] | str, str]]) -> str:
    for old, new in replacements:
        text = text.replace(old, new) if isinstance(old, str) else old.sub(new, text)
    return text


def _unless_empty(shorter: str, text: str) -> str:
    return shorter or text


def _with_braces(text: str) -> str:
    r"""`\frac12` as `\frac{1}{2}`: the characters after each `\frac` are its two parts."""
    first, *rest = text.split("\\frac")
    parts = [first]
    for part in rest:
        if not part.startswith("{"):
            if len(part) < 2:
                return text
            above, below = part[0], part[1]
            part = f"{{{above}}}{below if below == '{' else f'{{{below}}}'}{part[2:]}"
        parts.append(part)
    return "\\frac".join(parts)


def _whole_fraction(text: str) -> str:
    """`3/4`, and `sqrt2/2`, as a fraction, where that is the whole text."""
    sides = text.split("/")
    if len(sides) != 2:
        return text
    try:
        above, below = (side if "sqrt" in side else str(int(side)) for side in sides)
    except ValueError:
        return text
    return rf"\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text


def _number_word(text: str) -> str:
    """The number that the words of a text say, if it has number words; else the text.

    All other words are skipped; numbers that are no right English stay, or give odd sums.
    """
    lower = text.replace("-", " ").lower()
    if lower.isdigit():
        try:
            return str(int(lower))
        except ValueError:  # a digit that is no decimal, or too many of them
            return text
    words = [word for word in lower.split() if word in _WORDS or word == "point"]
    if not words or any(words.count(word) > 1 for word in (*_SCALES, "point")):
        return text
    whole, decimals = words, []
    if "point" in words:
        whole, decimals = words[: words.index("point")], words[words.index("point") + 1 :]
    places = [whole.index(scale) if scale in whole else -1 for scale in _SCALES]
    billion, million, thousand = places
    if -1 < thousand < max(million, billion) or -1 < million < billion:
        return text
    try:
        return str(_sum(whole, places) + _decimals(decimals))
    except IndexError:  # a scale without a number before it: "million two"
        return text


def _sum(words: list[str], places: list[int]) -> int:
    """The number that words say; `places` are those of billion, million and thousand in them.

    Where nothing follows the last scale, what follows the one before it counts once more.
    """
    if len(words) <= 1:
        return sum(_WORDS[word] for word in words)
    total, begin = 0, 0
    for scale, index in zip(_SCALES, places, strict=True):
        if index >= 0:
            total += _group(words[begin:index]) * _WORDS[scale]
            begin = index + 1
    rest = [index + 1 for index in places if -1 < index < len(words) - 1]
    if rest:
        return total + _group(words[rest[-1] :])
    return total if begin else _group(words)


def _group(words: list[str]) -> int:
    """The number of up to four words before a scale; of more, the first one."""
    numbers = [_WORDS[word] for word in words]
    if len(numbers) == 4:
        return numbers[0] * numbers[1] + numbers[2] + numbers[3]
    if len(numbers) == 3:
        return numbers[0] * numbers[1] + numbers[2]
    if len(numbers) == 2:
        return numbers[0] * numbers[1] if 100 in numbers else numbers[0] + numbers[1]
    return numbers[0]


def _decimals(words: list[str]) -> int | float:
    if not words or any(_WORDS[word] > 9 for word in words):
        return 0
    return float("0." + "".join(str(_WORDS[word]) for word in words))


_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_ONES += " fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
_WORDS = {word: number for number, word in enumerate(_ONES.split())}
_WORDS |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_WORDS |= {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES = ("billion", "million", "thousand")

_FIRST: list[tuple[re.Pattern[str] | str, str]] = [
    ("\\!", ""),
    (re.compile(r"\\begin\{array\}\{.*?\}"), r"\\begin{pmatrix}"),
    (r"\end{array}", r"\end{pmatrix}"),
    ("bmatrix", "pmatrix"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    (r"\neq", r"\ne"),
    (r"\leq", r"\le"),
    (r"\geq", r"\ge"),
    (r"\left", ""),
    (r"\right", ""),
    (r"\{", "{"),
    (r"\}", "}"),
]
_DEGREES: list[tuple[re.Pattern[str] | str, str]] = [
    (old, "") for old in (r"^{\circ}", r"^\circ", "$", r"\(", r"\)")
]
_DEGREES.insert(2, (r"\$", ""))
_SECOND: list[tuple[re.Pattern[str] | str, str]] = [
    (re.compile(r"\\text\{(.*?)\}"), r"\1"),
    *((f"{variable}{sign}", "") for sign in ("=", r"\in", r"\to") for variable in "xyz"),
    (r"\emptyset", "{}"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"\%", ""),
    ("%", ""),
    (" .", " 0."),
    ("{.", "{0."),
]
_THIRD: list[tuple[re.Pattern[str] | str, str]] = [
    (r"+\inity", r"\infty"),
    ("and", ""),
    (r"\mathbf", ""),
    (re.compile(r"\\mbox{.*?}"), ""),
]

_UNIT_NAMES = """
east|degree|mph|kmph|ft|m sqaure| m east|sq m|deg|mile|q .|monkey|prime|ratio|profit of rs|rd|o|gm
p . m|lb|tile|per|dm|lt|gain|ab|way|west|a .|b .|c .|d .|e .|f .|g .|h .|t|a|h|no change|men|soldier
pie|bc|excess|st|inches|noon|percent|by|gal|kmh|c|acre|rise|a . m|th|π r 2|sq|mark|l|toy|coin|sq . m
gallon|° f|profit|minw|yr|women|feet|am|pm|hr|cu cm|square|v â € ™|are|rupee|rounds|cubic|cc|mtr|s
ohm|number|kmph|day|hour|minute|min|second|man|woman|sec|cube|mt|sq inch|mp|∏ cm ³|hectare|more|sec
unit|cu . m|cm 2|rs .|rs|kg|g|month|km|m|cm|mm|apple|liter|loss|yard|pure|year|increase|decrease|d
less|Surface|litre|pi sq m|s .|metre|meter|inch
"""
"""Units, in the order in which they are removed (mainly MathQA's, according to the
paper's code); first these, then each with an s. A dot stands for any character there."""
_NAMES = [name for line in _UNIT_NAMES.strip().split("\n") for name in line.split("|")]
_UNITS = [
    (name.split(".")[0], re.compile(rf"(^|\W){name}($|\W)"))
    for name in (*_NAMES, *(f"{name}s" for name in _NAMES))
]
"""The text that must be present for a unit to be in it, and the unit between other characters."""
