"""GSM8K: grade-school word problems, with the prompts of the paper's mathematics. The paper does
not use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError
from . import math_protocol
from .base import Question, Source, Task
from .fields import numbered, text

__all__ = ["TASK"]


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [_question(row, number) for number, row in numbered(rows)]


def _question(row: Mapping[str, Any], number: int) -> Question:
    worked, mark, gold = text(row, number, "answer").rpartition("####")
    if not mark or not gold.strip():
        raise DataError(f"row {number}: 'answer' has no final answer after ####.")
    return Question(
        id=f"test-{number - 1}",
        text=text(row, number, "question").strip(),
        gold=gold.strip().replace(",", ""),
        meta={"steps": worked.strip().count("\n") + 1},
    )


TASK = Task(
    name="gsm8k",
    domain="math",
    title="GSM8K",
    source=Source(
        dataset="openai/gsm8k",
        config="main",
        split="test",
        rows=1319,
        licence="MIT",
        revision="740312add88f781978c0658806c59bc2815b9866",
        redistributable=True,
        url="https://huggingface.co/datasets/openai/gsm8k",
        columns=("question", "answer"),
        note="Ours: not in the paper.",
    ),
    read=_read,
    protocols=math_protocol.PROTOCOLS,
    example={
        "question": "Noor packs 6 boxes with 12 candles each and sells 20 of the candles. How many"
        " candles are left?",
        "answer": "Noor packs 6*12=<<6*12=72>>72 candles.\n72-20=<<72-20=52>>52 are left.\n#### 52",
    },
    example_response="There are $6 \\cdot 12 = 72$ candles, and $72 - 20 = \\boxed{52}$ are left.",
    citation="Karl Cobbe et al.: Training Verifiers to Solve Math Word Problems, 2021,"
    " https://arxiv.org/abs/2110.14168",
    local="gsm8k/test.jsonl",
)
