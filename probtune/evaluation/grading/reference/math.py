r"""Mathematical answers as the paper's evaluation grades them, to be compatible with its scores and
not to be right; `math_strict` is the grader to believe. An answer is

    phrase    what stands between "final answer is $" and "$. I hope", if both are in the response
    boxed     else what the last `boxed` holds: to the closing brace, or to the end of the text if
              it is never closed, or without a brace to the next dollar
    phrase    else all that follows the last "he answer is", "final answer is" or "答案是"
    number    else the last number anywhere in the text
    none      else nothing
    letter    where the gold is one of A to E: the letter that the response names (`choice`)

brought to one spelling (`spelling`, twice), and right by the rules of `equality`. So 100 passes for
1 and [1,2] for (1,2), and a response without a box can pass by its last number.

Written afresh from the behaviour of evaluations/math in
https://github.com/GaotangLi/Beyond-Log-Likelihood at 220589d.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ..base import Grade, GradingItem, Progress
from ..math_strict import Count, gold_text
from ..pool import TIMEOUT_S, Verdict, compare_all
from .equality import certain, choice, equal
from .spelling import normalise

__all__ = ["extract", "grade", "read_gold"]

LONGEST = 20_000
"""Characters: of a longer answer the beginning is read."""
_LETTERS = ("A", "B", "C", "D", "E")


def grade(
    items: Sequence[GradingItem],
    *,
    units: bool = True,
    solved: bool = False,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Grade]:
    r"""Grade each response; `gold` as in `math_strict.grade`, and the same errors.

    Args:
        units: Units leave; the paper's code keeps them for Minerva.
        solved: The golds come from solutions (MATH-500, Minerva), whose spelling the paper's code
            changes once, not twice.

    >>> [g.score for g in grade([GradingItem(r"\boxed{100}", "1"), GradingItem("so 7.", "7")])]
    [1.0, 1.0]
    """
    count = Count(progress)
    golds = [
        read_gold(gold_text(item.gold, number), units=units, solved=solved)
        for number, item in enumerate(items)
    ]
    answers = [
        _answer(item.text, gold, units=units) for item, gold in zip(items, golds, strict=True)
    ]
    pairs = [(gold, answer) for gold, (answer, _) in zip(golds, answers, strict=True)]
    uses = Counter(pairs)
    verdicts: dict[tuple[str | None, ...], Verdict] = {}
    for (gold, answer), number in uses.items():
        pair = gold, answer
        verdict = False if answer is None else certain(gold, answer)
        if verdict is not None:
            verdicts[pair] = Verdict(verdict)
            count.add(number)
    verdicts |= compare_all(
        equal,
        [pair for pair in uses if pair not in verdicts],
        timeout_s=timeout_s,
        workers=workers,
        finished=lambda pair: count.add(uses[pair[0], pair[1]]),
    )
    return [
        Grade(
            float(verdicts[pair].equal),
            None if extraction == "none" else pair[1],
            extraction,
            error=verdicts[pair].error,
        )
        for pair, (_, extraction) in zip(pairs, answers, strict=True)
    ]


def extract(text: str, *, units: bool = True) -> tuple[str, str]:
    r"""Return the answer in the paper's spelling and the rule that read it; empty if there is none.

    >>> extract(r"\boxed{1}, so the answer is 2"), extract("5, then 6")
    (('1', 'boxed'), ('6', 'number'))
    """
    answer, rule = _raw(text.replace("ки", ""))
    answer = _without_ends(answer[:LONGEST])
    return normalise(normalise(answer, units=units), units=units), rule


def read_gold(gold: str, *, units: bool = True, solved: bool = False) -> str:
    r"""Return a gold answer in the paper's spelling.

    >>> read_gold(r"\text{(C)}"), read_gold("5 m"), read_gold("5 m", units=False)
    ('(C)', '5', '5m')
    """
    if solved:
        return normalise(_without_ends(gold), units=units)
    return normalise(normalise(gold, units=units), units=units)


def _answer(text: str, gold: str, *, units: bool) -> tuple[str | None, str]:
    """The answer of a response and its rule; where the gold is letters A to E, letters. An empty
    response is None: it is wrong also where the paper's spelling leaves nothing of the gold.
    """
    text = text.rstrip()
    answer, rule = extract(text, units=units)
    if text in ("", "error"):
        return (choice(text), "letter") if gold in _LETTERS else (None, "none")
    if gold in _LETTERS and answer not in _LETTERS:
        return choice(text), "letter"
    if all(c in _LETTERS for c in gold) and not all(c in _LETTERS for c in answer):
        return "".join(c for c in answer if c in _LETTERS), rule
    return answer, rule


def _raw(text: str) -> tuple[str, str]:
    if "final answer is $" in text and "$. I hope" in text:
        rest = text.split("final answer is $", 1)[1]
        return rest.split("$. I hope", 1)[0].strip(), "phrase"
    if "boxed" in text:
        rest = text.rpartition("boxed")[2]
        return (_to_brace(rest[1:]) if rest[:1] == "{" else rest.split("$")[0].strip()), "boxed"
    for phrase in ("he answer is", "final answer is"):
        if phrase in text:
            return text.rpartition(phrase)[2].strip(), "phrase"
    if "答案是" in text:
        return text.split("答案是")[1].strip().split("\n\n")[0].strip(), "phrase"
    numbers = _NUMBER.findall(text.replace(",", ""))
    return (numbers[-1], "number") if numbers else ("", "none")


def _without_ends(answer: str) -> str:
    answer = re.sub(r"\n\s*", "", answer).removeprefix(":")
    return answer.removesuffix(".").removesuffix("/")


def _to_brace(text: str) -> str:
    """A text up to the brace that closes it, or whole."""
    depth = 1
    for brace in _BRACE.finditer(text):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[: brace.start()]
    return text


_NUMBER = re.compile(r"-?\d*\.?\d+")
_BRACE = re.compile(r"[{}]")
