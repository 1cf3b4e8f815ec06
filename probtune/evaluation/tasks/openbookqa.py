"""OpenBookQA: elementary science, four options. The paper trains on clean and on noised labels and
tests both on the clean test split, so it is one benchmark.

The paper's code noises 30 % of the 4,957 training labels (each becomes one of the three other
letters) and adds the 500 validation rows with their right labels to the training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ...errors import DataError
from ..grading.reference.explicit import ExplicitChoice
from . import graders
from .base import Decoding, Protocol, Question, Source, Task
from .fields import column, numbered, text
from .figures import BASE, NLL, P

__all__ = ["TASK"]

_ASKED = "Please complete the following multiple choice question.\nQuestion: {}\nOptions:\n{}"


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [_question(row, number) for number, row in numbered(rows)]


def _question(row: Mapping[str, Any], number: int) -> Question:
    choices = column(row, number, "choices")
    try:
        options = dict(zip(choices["label"], choices["text"], strict=True))
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"row {number}: 'choices' must hold as many 'label' as 'text', got {choices!r}."
        ) from None
    gold = text(row, number, "answerKey").strip()
    if gold not in options:
        raise DataError(
            f"row {number}: 'answerKey' is {gold!r}, which is none of {', '.join(options)}."
        )
    listed = "\n".join(f"{letter}. {option}" for letter, option in options.items())
    return Question(
        id=str(column(row, number, "id")),
        text=_ASKED.format(text(row, number, "question_stem"), listed),
        gold=gold,
        options=options,
    )


_DECODING = Decoding(128)

TASK = Task(
    name="openbookqa",
    domain="knowledge",
    title="OpenBookQA",
    source=Source(
        dataset="allenai/openbookqa",
        config="main",
        split="test",
        rows=500,
        licence="[unknown]; the card says so",
        revision="388097ea7776314e93a529163e0fea805b8a6454",
        url="https://huggingface.co/datasets/allenai/openbookqa",
        columns=("id", "question_stem", "choices", "answerKey"),
        note="The paper's code loads the config `additional`, which has the same questions.",
    ),
    read=_read,
    protocols=MappingProxyType(
        {
            "strict": Protocol(
                _DECODING,
                graders.choice_strict,
                "As in medicine: box, letter, option's text, anchored phrase, else no answer;"
                " asked as the paper's code asks.",
            ),
            "reference": Protocol(
                _DECODING,
                ExplicitChoice("openbookqa"),
                "The letter A to D that is marked most clearly, then most often, then last"
                " (https://github.com/GaotangLi/Beyond-Log-Likelihood,"
                " evaluations/knowledge_memorization).",
            ),
        }
    ),
    example={
        "id": "ours-1",
        "question_stem": "A metal spoon in hot soup soon feels hot at its other end because of",
        "choices": {
            "text": ["evaporation", "conduction", "reflection", "photosynthesis"],
            "label": ["A", "B", "C", "D"],
        },
        "answerKey": "B",
    },
    example_response="B",
    paper=MappingProxyType(
        {
            ("Qwen2.5-14B", BASE): 82.2,
            ("Qwen2.5-14B", NLL): 95.0,
            ("Qwen2.5-14B", P): 93.4,
            ("Qwen2.5-14B, labels noised", NLL): 27.0,
            ("Qwen2.5-14B, labels noised", P): 91.6,
            ("Qwen2.5-7B", BASE): 81.0,
            ("Qwen2.5-7B", NLL): 91.0,
            ("Qwen2.5-7B", P): 86.2,
            ("Qwen2.5-7B, labels noised", NLL): 27.2,
            ("Qwen2.5-7B, labels noised", P): 85.0,
        }
    ),
    citation="Todor Mihaylov, Peter Clark, Tushar Khot, Ashish Sabharwal: Can a Suit of Armor"
    " Conduct Electricity?, 2018, https://arxiv.org/abs/1809.02789",
    local="openbookqa/test.jsonl",
)
