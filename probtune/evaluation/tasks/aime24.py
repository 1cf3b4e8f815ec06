"""AIME 2024: both papers of the American Invitational Mathematics Examination."""

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
    answer = str(column(row, number, "answer")).strip()
    if not answer.isdecimal() or int(answer) > 999:
        raise DataError(f"row {number}: 'answer' must be a number from 0 to 999, got {answer!r}.")
    return Question(
        id=str(column(row, number, "id")),
        text=text(row, number, "problem").strip(),
        gold=str(int(answer)),
    )


TASK = Task(
    name="aime24",
    domain="math",
    title="AIME 2024",
    source=Source(
        dataset="HuggingFaceH4/aime_2024",
        split="train",
        rows=30,
        licence="[unknown]; the problems are the Mathematical Association of America's",
        revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        url="https://huggingface.co/datasets/HuggingFaceH4/aime_2024",
        columns=("id", "problem", "answer"),
        note="The split is called train and is a test. Ids and columns are those of the paper's"
        " file (60 to 89); answers are written with three digits, 025, and read as 25.",
    ),
    read=_read,
    protocols=math_protocol.PROTOCOLS,
    example={
        "id": 60,
        "problem": "Find the number of pairs of positive integers $(a, b)$ with $a + 2b = 51$.",
        "solution": "$b$ runs from $1$ to $25$: $\\boxed{025}$",
        "answer": "025",
        "url": "",
        "year": "2024",
    },
    example_response="$b = 1, \\dots, 25$, and $a = 51 - 2b$ is positive: \\boxed{25}",
    paper=math_protocol.columns("aime24"),
    citation="Mathematical Association of America: American Invitational Mathematics Examination,"
    " 2024, https://artofproblemsolving.com/wiki/index.php/2024_AIME_I",
    local="aime24/test.jsonl",
)
