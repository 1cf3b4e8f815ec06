"""OlympiadBench: open-ended olympiad problems in English, mathematics, text only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError
from . import math_protocol
from .base import Question, Source, Task
from .fields import column, numbered, text

__all__ = ["TASK"]


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [_question(row, number) for number, row in numbered(rows)]


def _question(row: Mapping[str, Any], number: int) -> Question:
    answers = column(row, number, "final_answer")
    if not isinstance(answers, Sequence) or isinstance(answers, str) or len(answers) != 1:
        raise DataError(
            f"row {number}: 'final_answer' must be a list of one text, got {answers!r}."
        )
    gold = str(answers[0]).strip("$")
    return Question(
        id=str(column(row, number, "id")),
        text=math_protocol.question_text(text(row, number, "question"), gold),
        gold=gold,
        meta={key: row.get(key) for key in ("subfield", "answer_type", "unit")},
    )


TASK = Task(
    name="olympiadbench",
    domain="math",
    title="OlympiadBench",
    source=Source(
        dataset="Hothan/OlympiadBench",
        config="OE_TO_maths_en_COMP",
        split="train",
        rows=674,
        licence="Apache-2.0",
        revision="3b426ee1d587c71b495146dde9f3e995ee7ac59f",
        redistributable=True,
        url="https://huggingface.co/datasets/Hothan/OlympiadBench",
        columns=("id", "question", "final_answer"),
        note="The paper's code has 675 rows: one more, probably id 2592, the only one with an"
        " erratum [unverified]. Several answers stand in one text, $69$,$84$.",
    ),
    read=_read,
    protocols=math_protocol.PROTOCOLS,
    example={
        "id": 1,
        "subfield": "Number Theory",
        "context": None,
        "question": "Find all primes $p$ for which $p^{2}+2$ is prime.",
        "solution": ["If $p$ is not $3$, then $3$ divides $p^{2}+2$; $p=3$ gives $11$."],
        "final_answer": ["$3$"],
        "is_multiple_answer": False,
        "unit": None,
        "answer_type": "Numerical",
        "error": None,
    },
    example_response="Modulo $3$ only $p = 3$ is possible, and $11$ is prime: $\\boxed{3}$.",
    paper=math_protocol.columns("olympiadbench"),
    citation="Chaoqun He et al.: OlympiadBench, 2024, https://arxiv.org/abs/2402.14008",
    local="olympiadbench/test.jsonl",
)
