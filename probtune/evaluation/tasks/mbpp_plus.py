"""MBPP+: the problems of MBPP, with EvalPlus's further tests."""

from __future__ import annotations

from .code_protocol import code_task
from .mbpp import TASK as PLAIN

__all__ = ["TASK"]

TASK = code_task(
    "mbpp_plus",
    "MBPP+",
    "mbpp",
    "plus",
    rows_=378,
    licence="CC BY 4.0 (MBPP) [unverified], Apache-2.0 (EvalPlus)",
    file="MbppPlus.jsonl",
    example=PLAIN.example,
    response=PLAIN.example_response,
    citation=PLAIN.citation.split("; ")[0],
)
