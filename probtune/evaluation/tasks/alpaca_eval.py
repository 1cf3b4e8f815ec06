"""AlpacaEval 2: 805 instructions, answered freely; a judge decides which of two answers is better.

The paper compares the models trained with −p and with −log p directly. It does not name its judge;
its code's default is AlpacaEval's `weighted_alpaca_eval_gpt4_turbo`. A judge is a service that may
cost money, so none is called unless the user names one (--judge).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..grading.judge import JudgeGrader
from .base import Decoding, Protocol, Question, Source, Task
from .fields import numbered, text
from .figures import P

__all__ = ["LENGTH_CONTROLLED", "TASK"]


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [
        Question(
            id=str(number - 1),
            text=text(row, number, "instruction"),
            gold={
                "instruction": text(row, number, "instruction"),
                "output": text(row, number, "output"),
            },
            meta={"dataset": row.get("dataset")},
        )
        for number, row in numbered(rows)
    ]


_RULE = "The whole response, judged against another model's answer to the same instruction"

LENGTH_CONTROLLED: Mapping[tuple[str, str], float] = MappingProxyType(
    {("Qwen2.5-3B", P): 41.0, ("Qwen2.5-7B", P): 49.6, ("Qwen2.5-14B", P): 57.5}
)
"""(backbone, objective) -> length-controlled win rate against the model trained with nll()."""

TASK = Task(
    name="alpaca_eval",
    domain="instructions",
    title="AlpacaEval 2",
    source=Source(
        dataset="tatsu-lab/alpaca_eval",
        split="eval",
        rows=805,
        licence="CC BY-NC 4.0 [unverified]",
        url="https://huggingface.co/datasets/tatsu-lab/alpaca_eval",
        columns=("instruction", "output"),
        files="alpaca_eval_gpt4_baseline.json",
        note="The file with the answers of GPT-4 Turbo, AlpacaEval 2's own baseline; the dataset's"
        " loading script no longer runs. Not pinned: no commit was found.",
    ),
    read=_read,
    protocols=MappingProxyType(
        {
            "strict": Protocol(
                Decoding(2048), JudgeGrader(), f"{_RULE}; one greedy answer, so that it repeats."
            ),
            "reference": Protocol(
                Decoding(
                    2048,
                    temperature=0.7,
                    top_p=0.9,
                    stop=("<|im_end|>", "<endoftext>", "\n\n\n\n", "[END_OF_TEXT]"),
                ),
                JudgeGrader(),
                f"{_RULE}; drawn as by https://github.com/GaotangLi/Beyond-Log-Likelihood,"
                " evaluations/instruction_tuning.",
            ),
        }
    ),
    example={
        "dataset": "ours",
        "instruction": "Give three uses of an old newspaper.",
        "output": "Wrapping, cleaning windows, and papier-mâché.",
        "generator": "ours",
    },
    example_response="1. Wrap glasses when you move. 2. Dry wet shoes. 3. Start a fire.",
    paper=MappingProxyType(
        {("Qwen2.5-3B", P): 42.0, ("Qwen2.5-7B", P): 49.0, ("Qwen2.5-14B", P): 57.1}
    ),
    citation="Yann Dubois, Balázs Galambosi, Percy Liang, Tatsunori Hashimoto: Length-Controlled"
    " AlpacaEval, 2024, https://arxiv.org/abs/2404.04475",
    local="alpaca_eval/alpaca_eval_gpt4_baseline.json",
)
