r"""Generated and mutated answers for `paper_graders.py`, in the forms that models write.

`mathematics` puts an answer (`ANSWERS`), as it is, another one or changed (`MUTATIONS`), into
responses (`RESPONSES`: `@` is the answer, `#` another one). The multiple-choice domains string
letters, options and `PIECES` together. Everything is ours; no text of a benchmark is in it.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

RESPONSES_OF_ONE = 10
"""Responses with the same mathematical answer: comparing takes longer than finding it."""
Case = dict[str, Any]


def generate(domain: str, number: int, seed: int) -> list[Case]:
    """Different cases of one domain."""
    draw = random.Random(f"{domain} {seed}")
    cases: dict[str, Case] = {}
    while len(cases) < number:
        for case in DOMAINS[domain](draw):
            cases[json.dumps(case)] = {"domain": domain, **case}
    return list(cases.values())[:number]


def mathematics(draw: random.Random) -> Iterator[Case]:
    """One answer in some responses."""
    gold = draw.choice(ANSWERS)(draw)
    answer = draw.choice([gold, gold, draw.choice(ANSWERS)(draw)])
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        answer = draw.choice(MUTATIONS)(answer, draw)
    benchmark = draw.choice(["math_oai", "minerva_math", "olympiadbench", "aime24", "amc23"])
    for response in draw.sample(RESPONSES, RESPONSES_OF_ONE):
        text = response.replace("@", answer).replace("#", draw.choice(ANSWERS)(draw))
        yield {"text": text, "gold": gold, "benchmark": benchmark}


def _number(draw: random.Random) -> int:
    return draw.randint(0, 10 ** draw.choice([1, 1, 2, 3, 5]))


def _of(form: str) -> Callable[[random.Random], str]:
    """A form with numbers for n, letters for v and function names for g."""

    def make(draw: random.Random) -> str:
        parts = {
            "«n»": lambda: str(_number(draw)),
            "«v»": lambda: draw.choice("xyzabktnmpr"),
            "«g»": lambda: draw.choice(["sin", "cos", "tan", "log", "ln"]),
            "«w»": lambda: draw.choice(WORDS),
            "«u»": lambda: draw.choice(UNITS),
            "«L»": lambda: draw.choice("ABCDE"),
        }
        return re.sub(r"«.»", lambda match: parts[match[0]](), form)

    return make


WORDS = (
    "east west even odd no yes true false Evelyn Tuesday infinity none seven twenty two hundred"
    " million point circle parabola neither hyperbola and thousand"
).split()
UNITS = (
    "cm|m|km|feet|inches|degrees|square units|hours|minutes|dollars|miles|percent|units|g|kg|s|mph"
    "|apples|years|m/s|cents"
).split("|")
ANSWERS = [
    _of(form)
    for form in r"""
«n»
«n»
«n»
-«n»
«n».«n»
.«n»
«n».0
0.«n»
«n».00«n»
«n»,000
«n»{,}000
«n»,\!000
\frac{«n»}{«n»}
\dfrac{«n»}{«n»}
\frac«n»«n»
-\frac{«n»}{«n»}
\frac{-«n»}{«n»}
«n»/«n»
«n»\frac{«n»}{«n»}
«n»\%
«n»%
\$«n».50
\sqrt{«n»}
\sqrt«n»
«n»\sqrt{«n»}
\frac{\sqrt{«n»}}{«n»}
\frac{«n»+\sqrt{«n»}}{«n»}
«n»\pm\sqrt{«n»}
\sqrt[3]{«n»}
«n»^{«n»}
«n»^\circ
«n»^{\circ}
«n»\pi
\frac{\pi}{«n»}
\frac{«n»\pi}{«n»}
«n»\times 10^{«n»}
«n»e«n»
(«n»,«n»)
(«n», -«n»)
\left(«n»,\frac{«n»}{«n»}\right)
(«n»,«n»,«n»)
[«n»,«n»]
(«n»,«n»]
(-\infty,«n»)
(-\infty,\infty)
[«n»,\infty)
(-\infty,«n»)\cup(«n»,\infty)
\{«n»,«n»\}
{«n»,«n»,«n»}
«n»,«n»
«n»,«n»,«n»
«n», «n»
(«n»,«n»), («n»,«n»)
\emptyset
\begin{pmatrix}«n»\\«n»\end{pmatrix}
\begin{pmatrix}«n»&«n»\\«n»&«n»\end{pmatrix}
\begin{bmatrix}«n»&«n»\\«n»&\frac{«n»}{«n»}\end{bmatrix}
\begin{array}{cc}«n»&«n»\\«n»&«n»\end{array}
\left(\begin{array}{c}«n»\\«n»\end{array}\right)
«v»=«n»
«v»=«n»«v»+«n»
«v»=«n», «v»=«n»
«n»«v»-«n»«v»+«n»=0
«v»\in[«n»,«n»]
«v»\le«n»
«v»>«n»
«n»<«v»<«n»
«n»«v»+«n»
«v»+«n»
«v»^2+«n»«v»+«n»
(«v»+«n»)(«v»-«n»)
«v»^{«n»}«v»
\frac{«v»+«n»}{«v»-«n»}
\frac{«v»}{«n»}
\«g»(«v»)
\«g» «n»
\«g»^2(«v»)
«g»(«n»)
e^{«n»}
e^{-«v»/«n»}
\log_{«n»}«n»
\binom{«n»}{«n»}
«n»!
|«v»-«n»|
\lfloor «n»/«n» \rfloor
«n»+«n»i
«n»-«n»j
\text{«w»}
«w»
«w» «w»
\text{«w» «w»}
\text{(«L»)}
«L»
«L»«L»
(«L»)
\mathrm{«w»}
\mathbf{«v»}
«n»\text{ «u»}
«n» «u»
«n»\text{ «u»}^2
«n»\mbox{ «u»}
«n» «u»^2
«n» «v» + «n»
«n»_{«n»}
«n»_8
«n» \text{ and } «n»
«n» or «n»
P(«v»)=«n»«v»
f(«v»)=\frac{«v»}{«n»}
«n» - «n»
«n» + «n»
«n» \cdot «n»
«n» : «n»
\frac{«n»}{«n»}«v»^2
\int_0^{«n»} «v» d«v»
\sum_{«v»=1}^{«n»}«v»
""".strip().split("\n")
]


def _replace(old: str, new: str) -> Callable[[str, random.Random], str]:
    return lambda text, _: text.replace(old, new)


def _add(before: str, after: str) -> Callable[[str, random.Random], str]:
    return lambda text, _: f"{before}{text}{after}"


def _change(change: Callable[[int, random.Random], str]) -> Callable[[str, random.Random], str]:
    """One of the numbers of a text changed."""

    def mutate(text: str, draw: random.Random) -> str:
        numbers = [match for match in re.finditer(r"\d+", text) if len(match[0]) < 9]
        if not numbers:
            return text
        match = draw.choice(numbers)
        return text[: match.start()] + change(int(match[0]), draw) + text[match.end() :]

    return mutate


def _drop(text: str, draw: random.Random) -> str:
    position = draw.randrange(len(text)) if text else 0
    return text[:position] + text[position + 1 :]


def _insert(text: str, draw: random.Random) -> str:
    position = draw.randint(0, len(text))
    return text[:position] + draw.choice("0123456789+-=,. {}()[]\\xyi^_%$/") + text[position:]


def _swap(text: str, draw: random.Random) -> str:
    position = draw.randrange(max(len(text) - 1, 1))
    return text[:position] + text[position : position + 2][::-1] + text[position + 2 :]


def _turn(text: str, _: random.Random) -> str:
    return ",".join(text.split(",")[::-1])


MUTATIONS: list[Callable[[str, random.Random], str]] = [
    _replace(r"\frac", r"\dfrac"),
    _replace(r"\frac", r"\tfrac"),
    _replace("(", r"\left("),
    _replace(r"\left", ""),
    _replace(r"\right", ""),
    _replace("(", "["),
    _replace("pmatrix", "bmatrix"),
    _replace(" ", ""),
    _replace(",", ", "),
    _replace(r"\{", "{"),
    _replace(r"\text", r"\mbox"),
    _replace("^2", "^{2}"),
    _replace(r"\pi", "3.14159"),
    _replace("x", "y"),
    _replace("\\", ""),
    _add("", "."),
    _add("$", "$"),
    _add("x = ", ""),
    _add("k=", ""),
    _add("", r" \text{ cm}"),
    _add("", " units"),
    _add("", r"\%"),
    _add("-", ""),
    _add(r"\$", ""),
    _add("(", ")"),
    _add(r"\text{", "}"),
    _add(r"\approx ", ""),
    _add(": ", ""),
    _add("", "/"),
    _add("", ".0"),
    _add("", r"^\circ"),
    _add("", r"\,"),
    _change(lambda number, _: str(number + 1)),
    _change(lambda number, _: str(number * 100)),
    _change(lambda number, _: str(number / 100)),
    _change(lambda number, _: f"{number}.00{number % 7}"),
    _change(lambda number, _: rf"\frac{{{2 * number}}}{{2}}"),
    _change(lambda number, _: f"{2 * number}/2"),
    _change(lambda number, _: f"({number - 3} + 3)"),
    _change(lambda number, _: f"{number:,}"),
    _change(lambda number, draw: str(draw.randint(0, 1000))),
    _change(lambda number, _: rf"\sqrt{{{number**2}}}"),
    _drop,
    _drop,
    _insert,
    _insert,
    _swap,
    _turn,
]
RESPONSES = [
    r"\boxed{@}",
    r"\boxed{@}",
    r"\boxed{@}",
    r"So we have \boxed{@}.",
    r"Thus $\boxed{@}$ is right.",
    r"First \boxed{#}, but then \boxed{@}.",
    r"\boxed{@}. The answer is #.",
    r"\boxed{@",
    r"\boxed{\boxed{@}}",
    r"so \boxed @ $ and so on",
    r"$\boxed @$",
    "\\boxed{@\n}",
    r"\fbox{@}",
    "boxed",
    "The answer is @",
    "The answer is: @.",
    "The answer is $@$.",
    "the answer is @\n\nLet me check it again: # is right.",
    "The answer is @, because # is more.\nSo # it is.",
    "The answer is #. No, the answer is @.",
    "The final answer is $@$. I hope it is correct.",
    r"The final answer is $@$. I hope it is correct. \boxed{#}",
    r"So the final answer is \boxed{@}",
    "final answer is @",
    "Our final answer is: $@$",
    "答案是 @\n\n#",
    "答案是@ки",
    "We get @",
    "We get @ and then #",
    "# = @",
    "@",
    "We find # in 3 steps, hence @ apples.",
    "",
    "   ",
    "none of it",
    "Answer: @/",
    "I think the choice is (@), as # is wrong.",
]


def medicine_case(draw: random.Random) -> Iterator[Case]:
    letters = "ABCDEFGHIJ"[: draw.choice([2, 3, 4, 4, 5, 10])]
    terms = draw.sample(TERMS, len(letters))
    options = dict(zip(letters, terms, strict=True))
    yield {
        "text": _choice_text(draw, letters, terms),
        "gold": draw.choice(letters),
        "options": options,
    }


def openbookqa_case(draw: random.Random) -> Iterator[Case]:
    yield {"text": _choice_text(draw, "ABCD", TERMS), "gold": draw.choice("ABCD")}


def mmlu_prox_case(draw: random.Random) -> Iterator[Case]:
    yield {"text": _choice_text(draw, "ABCDEFGHIJ", TERMS), "gold": draw.choice("ABCDEFGHIJ")}


TERMS = (
    "Diabetes insipidus|Nephrotic syndrome|Vitamin D deficiency|Acute pancreatitis|Aspirin|Beta"
    " blockers|A low salt diet|Iron|Hepatitis B|Group A streptococcus|Observation|CT|the heart|"
    "heat|A cold|Ice|conduction|None of these|Cells|Type I error|12 mg|5%|MRI of the head|X-rays"
).split("|")
PIECES = (
    "The answer is |answer is\n|Answer: |The final answer is |the correct answer is option |It is"
    " |I think |is |not | because | or | and |, |. |: |; |\n|\n\n|## Final Response\n\n|(|)|[|]|{|}"
    "|*|**|$|\\boxed{|\\text{|}| |  |'|\"|-|–|→|>|=|#|/|_|,|。|：|（|）|是|选|答案是 |项|为|é|à|ß|Ä"
    "|ı|1|7|the patient |a |A |vitamin |hepatitis |type |Jibu ni |उत्तर |sana |!|?|A.|I am |a cup|Ab"
    "|iB|b|c|d|<answer>|</answer>|«|»|「|」|【|】|\t|x"
).split("|")


def _choice_text(draw: random.Random, letters: str, terms: Sequence[str]) -> str:
    pieces = []
    for _ in range(draw.choice([0, 1, 2, 3, 5, 8, 13, 21])):
        kind = draw.random()
        if kind < 0.35:
            pieces.append(draw.choice(letters))
        elif kind < 0.45:
            term = draw.choice(terms)
            pieces.append(draw.choice([term, term.lower(), term.upper(), _drop(term, draw)]))
        else:
            pieces.append(draw.choice(PIECES))
    if draw.random() < 0.1:  # no letter stands alone: the texts of the options decide
        pieces = [re.sub(r"\b[A-N]\b", "", piece) for piece in pieces] * draw.choice([1, 1, 20])
    return "".join(pieces)


def figlet_case(draw: random.Random) -> Iterator[Case]:
    gold = "".join(draw.choices("ABCDEFGHIKLMNOPRSTUVWY", k=draw.randint(1, 9)))
    text = draw.choice([gold, gold, "".join(draw.choices("ABCDEF ab", k=draw.randint(0, 9)))])
    for _ in range(draw.choice([0, 1, 1, 2, 4])):
        text = draw.choice(
            [str.lower, str.title, lambda t: f" {t}", lambda t: f"{t}\n", _drop_of(draw),
             _swap_of(draw), lambda t: t + draw.choice("ABCßİ."), lambda t: t[::-1]]
        )(text)  # fmt: skip
    yield {"text": text, "gold": gold}


def _drop_of(draw: random.Random) -> Callable[[str], str]:
    return lambda text: _drop(text, draw)


def _swap_of(draw: random.Random) -> Callable[[str], str]:
    return lambda text: _swap(text, draw)


DOMAINS: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "mathematics": mathematics,
    "medicine": medicine_case,
    "figlet": figlet_case,
    "openbookqa": openbookqa_case,
    "mmlu_prox": mmlu_prox_case,
}
