"""MATH-500: problems of American competitions, five levels, seven subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import math_protocol
from .base import Question, Source, Task
from .fields import last_box, numbered, text

__all__ = ["TASK"]


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [_question(row, number) for number, row in numbered(rows)]


def _question(row: Mapping[str, Any], number: int) -> Question:
    gold = last_box(row, number, "solution")
    return Question(
        id=text(row, number, "unique_id"),
        text=math_protocol.question_text(text(row, number, "problem"), gold),
        gold=gold,
        meta={"subject": row.get("subject"), "level": row.get("level")},
    )


TASK = Task(
    name="math500",
    domain="math",
    title="MATH-500",
    source=Source(
        dataset="HuggingFaceH4/MATH-500",
        split="test",
        rows=500,
        licence="MIT (MATH and PRM800K); the dataset's card names none",
        revision="ff5b20257d8185524591543f8ff5993951537bb8",
        redistributable=True,
        url="https://huggingface.co/datasets/HuggingFaceH4/MATH-500",
        columns=("problem", "solution", "unique_id"),
        note="The gold is the last box of the solution, as in the paper's code; in all 500 rows it"
        " equals the column `answer`.",
    ),
    read=_read,
    protocols=math_protocol.SOLVED,
    example={
        "problem": "A square has a diagonal of length $6$. What is its area?",
        "solution": "The side is $6 / \\sqrt{2}$, so the area is $36 / 2 = \\boxed{18}.$",
        "answer": "18",
        "subject": "Geometry",
        "level": 1,
        "unique_id": "test/geometry/ours-1.json",
    },
    example_response="The area is half the square of the diagonal: $36/2 = 18$. \\boxed{18}",
    paper=math_protocol.columns("math500"),
    citation="Dan Hendrycks et al.: Measuring Mathematical Problem Solving With the MATH Dataset,"
    " 2021, https://arxiv.org/abs/2103.03874; the 500: Hunter Lightman et al.: Let's Verify Step"
    " by Step, 2023, https://arxiv.org/abs/2305.20050",
    local="math500/test.jsonl",
)
