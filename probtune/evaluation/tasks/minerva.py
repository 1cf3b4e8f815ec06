"""Minerva Math: undergraduate problems of MIT OpenCourseWare with short answers.

lm-evaluation-harness's `minerva_math` is another benchmark: MATH with Minerva's prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import math_protocol
from .base import Question, Source, Task
from .fields import column, last_box, numbered, text

__all__ = ["TASK"]


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [_question(row, number) for number, row in numbered(rows)]


def _question(row: Mapping[str, Any], number: int) -> Question:
    gold = last_box(row, number, "solution")
    return Question(
        id=str(column(row, number, "idx")),
        text=math_protocol.question_text(text(row, number, "problem"), gold),
        gold=gold,
        meta={"subject": row.get("type")},
    )


TASK = Task(
    name="minerva",
    domain="math",
    title="Minerva Math",
    source=Source(
        dataset="svc-huggingface/minerva-math",
        split="test",
        rows=272,
        licence="card: MIT; the problems' text is MIT OpenCourseWare's, CC BY-NC-SA [unverified]",
        url="https://huggingface.co/datasets/svc-huggingface/minerva-math",
        columns=("problem", "solution", "idx"),
        note="Not pinned: no full commit was found, the file list showed aec8535. Its test.jsonl"
        " has the size of the file in the paper's code (247 kB). `math-ai/minervamath` has the"
        " answers without the solutions.",
    ),
    read=_read,
    protocols=math_protocol.ROUNDED,
    example={
        "problem": "A lamp radiates $60$ W evenly in all directions. What is the flux at a distance"
        " of $1$ m, in W m$^{-2}$, to two significant figures?",
        "solution": "The flux is $L / (4 \\pi d^2) = 60 / 12.57 = \\boxed{4.8}$ W m$^{-2}$.",
        "type": "Introduction to Astronomy (8.282J Spring 2006)",
        "idx": 0,
    },
    example_response="$F = 60 / (4\\pi) \\approx 4.77$, so the flux is $\\boxed{4.8}$.",
    paper=math_protocol.columns("minerva"),
    citation="Aitor Lewkowycz et al.: Solving Quantitative Reasoning Problems with Language Models,"
    " 2022, https://arxiv.org/abs/2206.14858",
    local="minerva/test.jsonl",
)
