"""HumanEval+: the problems of HumanEval, with EvalPlus's further tests."""

from __future__ import annotations

from .code_protocol import code_task
from .humaneval import TASK as PLAIN

__all__ = ["TASK"]

TASK = code_task(
    "humaneval_plus",
    "HumanEval+",
    "humaneval",
    "plus",
    rows_=164,
    licence="MIT (HumanEval), Apache-2.0 (EvalPlus)",
    file="HumanEvalPlus.jsonl",
    example=PLAIN.example,
    response=PLAIN.example_response,
    citation=PLAIN.citation.split("; ")[0],
)
