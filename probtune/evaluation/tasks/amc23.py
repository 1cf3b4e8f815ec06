"""AMC 2023: problems of the American Mathematics Competitions 12 with a number as answer."""

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
    answer = column(row, number, "answer")
    try:
        value = float(answer)
    except (TypeError, ValueError):
        raise DataError(f"row {number}: 'answer' must be a number, got {answer!r}.") from None
    return Question(
        id=str(column(row, number, "id")),
        text=text(row, number, "question").strip(),
        gold=f"{value:.15g}",
    )


TASK = Task(
    name="amc23",
    domain="math",
    title="AMC 2023",
    source=Source(
        dataset="math-ai/amc23",
        split="test",
        rows=40,
        licence="[unknown]; the problems are the Mathematical Association of America's",
        revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        url="https://huggingface.co/datasets/math-ai/amc23",
        columns=("id", "question", "answer"),
        note="Answers are written 27.0 or 27, and read as 27.",
    ),
    read=_read,
    protocols=math_protocol.PROTOCOLS,
    example={
        "id": 0,
        "question": "How many positive divisors does $72$ have?",
        "answer": "12.0",
        "url": "",
    },
    example_response="$72 = 2^3 \\cdot 3^2$ has $4 \\cdot 3 = \\boxed{12}$ divisors.",
    paper=math_protocol.columns("amc23"),
    citation="Mathematical Association of America: AMC 12A and 12B, 2023,"
    " https://artofproblemsolving.com/wiki/index.php/2023_AMC_12A",
    local="amc23/test.jsonl",
)
