r"""Tables for `latex`: characters and commands that are typeset alike, and units."""

from __future__ import annotations

import re

__all__ = ["CHARACTERS", "CURRENCIES", "NOT_UNITS", "SCALES", "SPELLINGS", "UNITS"]

CHARACTERS = {
    "\0": "", "−": "-", "–": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/",
    "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "°": "^\\circ ", "²": "^2",
    "³": "^3", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "∪": "\\cup ",
    "∈": "\\in ", "±": "\\pm ", "√": "\\sqrt", "⁄": "/", "∅": "\\emptyset ",
    "≈": "\\approx ",
}  # fmt: skip
_ARGUMENT = r"(\{(?:[^{}]|\{[^{}]*\})*\}|[0-9A-Za-z]|\\[A-Za-z]+)"
_COLOUR = r"\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}\s*"
SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (rf"\\(?:text)?color(?:box)?{_COLOUR}\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}", r"\1"),
        (rf"\\color{_COLOUR}", ""),
        (r"\\(?:euro|EUR)(?![A-Za-z])(?:\{\})?", "€"),
        (r"\\(?:pounds|pound|textsterling)(?![A-Za-z])(?:\{\})?", "£"),
        (r"\\(?:yen|textyen)(?![A-Za-z])(?:\{\})?", "¥"),
        (r"\\textdollar(?![A-Za-z])(?:\{\})?", r"\\$"),
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
        (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\s*\^\s*\{?\s*\\circ\s*\}?(?![A-Za-z])|\\degree(?![A-Za-z])", r"^\\circ"),
        (r"\\%|\s*\\text\{\s*(?:percent|%)\s*\}|\s*\bpercent\b", "%"),
        (r"\*\*(?=\s*[-0-9({])", "^"),
        (r"^\s*\\text\{\s*(?i:(?:final )?answer)\s*(?:is|:)?\s*([^{}]*)\}", r"\1"),
        (r"^\s*(?i:(?:final )?answer)\s*(?:is|:)\s*", ""),
        (r"^\s*(?:=|\\approx(?![A-Za-z]))\s*", ""),
        (r"^\s*\{([^{},]*)\}\s*$", r"\1"),
    ]
]
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
"""Words after a number that multiply it."""
CURRENCIES = {"€": "euro", "£": "pound", "¥": "yen", "\\$": "dollar"}
"""Signs before or after a number, and the unit that each is."""
NOT_UNITS = set(
    "and or more less than least most not if for when where with otherwise to mod odd even".split()
)
UNITS = {
    "cm": "centimeter", "centimetre": "centimeter", "m": "meter", "metre": "meter",
    "km": "kilometer", "kilometre": "kilometer", "mm": "millimeter", "ft": "foot", "feet": "foot",
    "in": "inch", "inches": "inch", "mi": "mile", "yd": "yard", "s": "second", "sec": "second",
    "min": "minute", "h": "hour", "hr": "hour", "deg": "degree", "kg": "kilogram", "g": "gram",
    "gram": "gram", "lb": "pound", "units": "unit", "dollar": "dollar",
    "eur": "euro", "usd": "dollar", "gbp": "pound", "jpy": "yen",
}  # fmt: skip
