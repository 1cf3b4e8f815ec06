r"""Mathematical answers, strict: the last box, or no answer.

    1  the answer is what the last `\boxed{…}` or `\fbox{…}` holds; else there is none
    2  text and exact numbers decide where they can          (`plain`, which covers AIME and AMC)
    3  math-verify decides the rest, on the box alone, in processes that can be killed (`algebra`)
    4  numbers must be equal, unless a tolerance is named    (`rel_tol`, for rounded measurements)

A comparison that takes longer than the time-out counts as wrong, with `error="timeout"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError
from ...measure.boxes import last_box
from .algebra import answers_equal
from .base import Grade, GradingItem, Progress
from .latex import clean
from .plain import LONGEST, reduce
from .pool import TIMEOUT_S, Verdict, compare_all

__all__ = ["Count", "gold_text", "grade", "grade_answers"]


def grade(
    items: Sequence[GradingItem],
    *,
    rel_tol: float | None = None,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Grade]:
    r"""One grade for each response; `gold` is the answer (text or number), or a text with it boxed.

    Args:
        rel_tol: Two real numbers are also equal when |answer - gold| <= rel_tol |gold|.
        timeout_s: Seconds for one comparison.
        workers: Processes; by default one for each processor, at most eight.
        progress: Called with the number of graded items.

    Raises:
        DataError: a gold answer is empty.

    >>> grade([GradingItem(r"so \boxed{\frac{2}{4}}", "0.5"), GradingItem("so 0.5", "0.5")])
    [Grade(score=1.0, answer='\\frac{2}{4}', extraction='boxed', metrics={}, error=None),
     Grade(score=0.0, answer=None, extraction='none', metrics={}, error=None)]
    """
    answers = [last_box(item.text) for item in items]
    golds = [gold_text(item.gold, index) for index, item in enumerate(items)]
    verdicts = grade_answers(
        list(zip(golds, answers, strict=True)),
        rel_tol=rel_tol,
        timeout_s=timeout_s,
        workers=workers,
        progress=progress,
    )
    return [
        Grade(0.0, None, "none")
        if answer is None
        else Grade(float(verdict.equal), answer, "boxed", error=verdict.error)
        for answer, verdict in zip(answers, verdicts, strict=True)
    ]


def grade_answers(
    pairs: Sequence[tuple[str, str | None]],
    *,
    rel_tol: float | None = None,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Verdict]:
    """One verdict for each pair of gold and answer; an answer of None is wrong."""
    count = Count(progress)
    verdicts: dict[tuple[str, str], Verdict] = {}
    hard: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
    uses: dict[tuple[str, str], int] = {}
    for gold, answer in pairs:
        if answer is None:
            count.add(1)
        else:
            uses[gold, answer] = uses.get((gold, answer), 0) + 1
    for pair in uses:
        left, right = (text if len(text) > LONGEST else clean(text) for text in pair)
        left, right, verdict = reduce(left, right, rel_tol)
        if verdict is None:
            hard.setdefault((left, right, rel_tol), []).append(pair)
        else:
            too_long = not verdict and max(map(len, pair)) > LONGEST
            verdicts[pair] = Verdict(verdict, "unparsable" if too_long else None)
            count.add(uses[pair])
    by_task = compare_all(
        answers_equal,
        hard,
        timeout_s=timeout_s,
        workers=workers,
        finished=lambda task: count.add(sum(uses[pair] for pair in hard[task])),
    )
    for task, same in hard.items():
        for pair in same:
            verdicts[pair] = by_task[task]
    wrong = Verdict(False)
    return [wrong if answer is None else verdicts[gold, answer] for gold, answer in pairs]


def gold_text(gold: Any, where: int | Mapping[str, Any] | str = "") -> str:
    r"""A gold answer as text: a number written out, a text with its box opened.

    Raises:
        DataError: it is empty.

    >>> gold_text(27.0), gold_text(r"hence $\boxed{12}$."), gold_text(r"$\frac12$")
    ('27', '12', '$\\frac12$')
    """
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    text = str(gold) if gold is not None else ""
    if "\\boxed" in text or "\\fbox" in text:
        text = last_box(text) or ""
    if not text.strip(" $"):
        raise DataError(
            f"A gold answer must not be empty, got {gold!r} in item {where}; drop the row or give "
            "its answer."
        )
    return text


class Count:
    """Running number of graded items."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.number = 0

    def add(self, number: int) -> None:
        self.number += number
        if self.progress:
            self.progress(self.number)
