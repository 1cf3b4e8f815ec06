r"""Medicine: ten benchmarks of multiple-choice questions, asked and graded in one way.

All ten are read from one file, `m1_eval_data.json` of UCSC-VLAA/m1_eval_data: the evaluation of m1,
which the paper's code uses. Each benchmark's own dataset would not do, because only this file
defines the subsets and versions: the questions of MMLU-Pro, GPQA and MedXpertQA that are medical or
of the chosen difficulty, the order of the options, and the rows that were dropped because answer
and letter disagreed.

The paper's averages include an eleventh set that it does not show; the numbers fit one of 158
questions. The file's eleventh list, HumanityLastExam, is not in the paper's tables and is no task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ...data.messages import kind_of
from ...errors import DataError
from . import graders
from .base import PROTOCOLS as BOTH
from .base import Decoding, Protocol, Question, Source, Task
from .fields import column, numbered, text
from .figures import BASE, NLL, P, figures

__all__ = ["PROTOCOLS", "medical_task", "read_choices"]

_SYSTEM = "You are a helpful assistant."
_INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."
_DECODING = Decoding(8000)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "strict": Protocol(
            _DECODING,
            graders.choice_strict,
            "The last \\boxed{…}: its letter, or the option whose text it is; without a box, an"
            ' "answer is (C)" and its like; else no answer. Boxes first, as m1\'s own'
            " scorer (https://github.com/UCSC-VLAA/m1); never by similarity.",
            _SYSTEM,
            _INSTRUCTION,
            MappingProxyType({"deepseek": "deepseek-bare"}),
        ),
        "reference": Protocol(
            _DECODING,
            graders.choice_reference,
            'The last "answer is" with a capital; else the last capital that stands alone; else the'
            " last option's text; else the option most similar to the response, so that there is"
            " always an answer: match_choice of HuatuoGPT-o1, as in"
            " https://github.com/GaotangLi/Beyond-Log-Likelihood, evaluations/medical.",
            _SYSTEM,
            _INSTRUCTION,
            MappingProxyType(
                {"llama3": "llama3-dated-reference", "deepseek": "deepseek-reference"}
            ),
        ),
    }
)

_TABLE_2 = {
    ("Llama-3.2-3B", BASE): (21.30, 21.92, 22.60, 11.40, 23.08, 25.00, 23.05, 15.26, 10.35, 23.22),
    ("Llama-3.2-3B", NLL): (42.60, 45.56, 67.40, 38.63, 24.36, 46.84, 46.10, 34.42, 11.59, 43.28),
    ("Llama-3.2-3B", P): (39.42, 41.95, 62.70, 33.88, 38.46, 44.17, 35.71, 28.57, 12.63, 40.80),
    ("Llama-3.1-8B", BASE): (23.57, 29.14, 21.00, 20.00, 29.49, 22.57, 30.52, 20.45, 10.01, 20.73),
    ("Llama-3.1-8B", NLL): (55.08, 59.47, 74.00, 53.62, 32.05, 57.28, 52.27, 46.10, 15.87, 59.20),
    ("Llama-3.1-8B", P): (54.10, 58.44, 76.50, 52.70, 44.87, 54.13, 42.21, 42.53, 13.80, 54.73),
    ("Qwen2.5-1.5B", BASE): (22.21, 21.84, 18.50, 11.21, 24.36, 22.57, 24.03, 17.53, 10.84, 18.74),
    ("Qwen2.5-1.5B", NLL): (39.64, 39.59, 66.70, 34.92, 33.33, 38.83, 38.31, 27.60, 10.56, 34.16),
    ("Qwen2.5-1.5B", P): (38.58, 36.68, 68.00, 38.37, 35.90, 35.68, 36.69, 28.90, 11.94, 39.97),
    ("Qwen2.5-Math-7B", BASE): (
        *(35.84, 27.26, 49.30, 30.23, 35.90, 30.34, 24.03, 18.18, 10.21, 24.71),
    ),
    ("Qwen2.5-Math-7B", NLL): (
        *(36.48, 33.78, 72.60, 35.50, 38.46, 40.05, 29.87, 26.95, 10.42, 26.70),
    ),
    ("Qwen2.5-Math-7B", P): (
        *(35.62, 33.78, 69.90, 38.83, 42.31, 35.44, 33.12, 27.60, 10.49, 26.70),
    ),
}
"""P. 6; accuracy in %, greedy. The paper writes LLaMA-3.1-3B for Llama-3.2-3B."""

_ORDER = (
    *("medmcqa", "medqa", "pubmedqa", "mmlu_pro_medical", "gpqa_medical"),
    *("lancet", "medbullets4", "medbullets5", "medxpertqa", "nejm"),
)


def medical_task(
    name: str,
    title: str,
    key: str,
    rows: int,
    *,
    licence: str,
    origin: str,
    example: Mapping[str, Any],
    response: str,
    citation: str,
    note: str = "",
    once: bool = False,
) -> Task:
    """Return one list of the file as a task.

    Args:
        key: name of the list in the file.
        origin: dataset that the questions come from.
        once: count copies of a question once under the strict protocol.
    """
    return Task(
        name=name,
        domain="medical",
        title=title,
        source=Source(
            dataset="UCSC-VLAA/m1_eval_data",
            config=key,
            split="test",
            rows=rows,
            licence=licence,
            url="https://huggingface.co/datasets/UCSC-VLAA/m1_eval_data",
            columns=("question", "options", "answer", "answer_idx"),
            files="m1_eval_data.json",
            md5="fe50ce67a958cfa9bc958a51b2502e57",
            note=f"From {origin}. Not pinned: no full commit was found, the file list showed"
            f" 22fc408; the file's MD5 is checked. {note}".strip(),
        ),
        read=_read_once if once else read_choices,
        protocols=PROTOCOLS,
        example=example,
        example_response=response,
        paper=figures(_TABLE_2, _ORDER.index(name)),
        citation=citation,
        local="m1_eval_data.json",
    )


def read_choices(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Turn rows with question, options (letter to text), answer and answer_idx (its letter) into
    questions: the stem, then the options, one a line. Questions with the same stem share a cluster,
    also across tasks, as MedBullets with four and with five options.
    """
    return [_question(row, number) for number, row in numbered(rows)]


def _read_once(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Read choices of which the strict protocol counts the first question of each stem."""
    seen: set[str | None] = set()
    questions = []
    for question in read_choices(rows):
        counted = BOTH if question.cluster not in seen else ("reference",)
        seen.add(question.cluster)
        questions.append(Question(**{**vars(question), "protocols": counted}))
    return questions


def _question(row: Mapping[str, Any], number: int) -> Question:
    stem = text(row, number, "question").strip()
    options = column(row, number, "options")
    if not isinstance(options, Mapping) or len(options) < 2:
        raise DataError(
            f"row {number}: 'options' must be at least two letters with texts, got"
            f" {kind_of(options)}."
        )
    # Parquet and Arrow fill in every letter for every row, with None where a row lacks it.
    options = {k: str(v).strip() for k, v in sorted(options.items()) if v is not None}
    gold = text(row, number, "answer_idx").strip()
    if gold not in options:
        raise DataError(
            f"row {number}: 'answer_idx' is {gold!r}, which is none of its options"
            f" {', '.join(options)}."
        )
    if options[gold] != text(row, number, "answer").strip():
        raise DataError(
            f"row {number}: 'answer' is {row['answer']!r}, but its letter {gold} is"
            f" {options[gold]!r}."
        )
    return Question(
        id=str(number - 1),
        text="\n".join([stem, *(f"{letter}. {option}" for letter, option in options.items())]),
        gold=gold,
        options=options,
        cluster="medical:"
        + hashlib.sha256(" ".join(stem.lower().split()).encode()).hexdigest()[:16],
    )
