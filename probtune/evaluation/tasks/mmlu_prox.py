"""MMLU-ProX: the questions of MMLU-Pro in other languages; seven languages with few resources.

Strict asks as lm-evaluation-harness does: five worked examples of the question's category, then the
question, to be reasoned about in its language. The paper does not describe its prompt. Its code,
published later, asks without examples and generates 1,024 tokens, and reference does the same. The
wording of that prompt is in an unpublished file, so reference takes the wording of
lm-evaluation-harness, too. The difference matters: in the paper the base models are below chance
(10 %).

Reading the rows needs lm-evaluation-harness (`probtune[eval]`), which holds the wording.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import DataError, UsageError
from ..grading.phrase import PhraseChoice
from ..grading.reference.explicit import ExplicitChoice
from . import graders
from .base import Decoding, Protocol, Question, Source, Task
from .fields import column, lettered, numbered, text
from .figures import BASE, NLL, P, figures

__all__ = ["LANGUAGES", "TASKS"]

Row = Mapping[str, Any]

LANGUAGES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "mr": ("Marathi", "प्रश्न:", "उत्तर आहे ({})"),
        "te": ("Telugu", "ప్రశ్న:", "సమాధానం ({})"),
        "ne": ("Nepali", "प्रश्न:", "उत्तर ({}) हो।"),
        "sw": ("Swahili", "Swali:", "Jibu ni ({})"),
        "wo": ("Wolof", "Laaj:", "Tontu bi mooy ({})"),
        "yo": ("Yoruba", "Ìbéèrè:", "Ìdáhùn náà ni ({})"),
        "zu": ("Zulu", "Umbuzo:", "Impendulo ithi ({})"),
    }
)
"""Code -> name, the word before a question, the phrase of an answer."""

_TABLE_9 = {
    ("Llama-3.1-8B", BASE): (11.1, 5.0, 12.3, 4.1, 3.7, 7.4, 6.0),
    ("Llama-3.1-8B", P): (15.2, 2.5, 15.5, 14.0, 11.5, 10.0, 11.5),
    ("Llama-3.1-8B", NLL): (18.7, 13.3, 18.7, 18.4, 13.9, 13.6, 15.9),
    ("Qwen2.5-7B", BASE): (8.7, 2.4, 9.4, 8.3, 9.9, 7.9, 7.2),
    ("Qwen2.5-7B", P): (20.6, 7.7, 19.5, 14.9, 12.9, 10.5, 6.9),
    ("Qwen2.5-7B", NLL): (24.8, 9.1, 24.4, 19.9, 13.1, 12.6, 9.6),
}
_SHOTS = 5


@cache
def _words() -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """Return lm-evaluation-harness's wording for each language, and its names of the categories.
    Its file is run on its own: importing the package would load torch.
    """
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UsageError(
            "MMLU-ProX takes its wording from lm-evaluation-harness; install it: pip install"
            " -e '.[eval]'."
        )
    path = Path(spec.origin).parent / "tasks" / "mmlu_prox" / "lang_libs.py"
    names = runpy.run_path(str(path))
    return names["LANG_LIBS"], names["LANG_SUBJECTS"]


def _reader(code: str):
    def read(rows: Sequence[Row]) -> list[Question]:
        """Turn rows into questions. The first five rows of a category (or all but the last) are its
        worked examples: the validation split, which is read before the test.
        """
        words, subjects = _words()
        categories: dict[str, list[tuple[int, Row]]] = {}
        for number, row in numbered(rows):
            categories.setdefault(text(row, number, "category"), []).append((number, row))
        questions = []
        for category, members in categories.items():
            shots = members[: min(_SHOTS, len(members) - 1)]
            subject = subjects[code].get(category.replace(" ", "_"))
            if subject is None:
                raise DataError(f"row {members[0][0]}: {category!r} is no category of MMLU-Pro.")
            intro = words[code][3].format(subject=subject, ans_suffix=words[code][5].format("X"))
            worked = "".join(_worked(row, number, words[code]) for number, row in shots)
            questions += [
                (number, _question(row, number, words[code], f"{intro}\n", worked))
                for number, row in members[len(shots) :]
            ]
        return [question for _, question in sorted(questions, key=lambda pair: pair[0])]

    return read


def _question(row: Row, number: int, words: list[str], intro: str, worked: str) -> Question:
    options = _options(row)
    gold = text(row, number, "answer").strip()
    if gold not in options:
        raise DataError(
            f"row {number}: 'answer' is {gold!r}, which is none of {', '.join(options)}."
        )
    source = column(row, number, "question_id")
    block = _block(row, number, words) + words[2]
    return Question(
        id=str(source),
        text=intro + worked + block,
        gold=gold,
        options=options,
        cluster=f"mmlu_prox:{source}",
        meta={"category": row["category"]},
        texts=MappingProxyType({"reference": intro + block}),
    )


def _worked(row: Row, number: int, words: list[str]) -> str:
    reasoning = text(row, number, "cot_content").replace(words[4], words[2])
    return f"{_block(row, number, words)}{reasoning}\n\n"


def _block(row: Row, number: int, words: list[str]) -> str:
    options = "".join(f"{letter}. {option}\n" for letter, option in _options(row).items())
    return f"{words[0]}\n{text(row, number, 'question')}\n{words[1]}\n{options}"


def _options(row: Row) -> dict[str, str]:
    texts = [row.get(f"option_{index}") for index in range(10)]
    return {
        k: v for k, v in lettered([str(o) if o is not None else "" for o in texts]).items() if v
    }


def _task(index: int, code: str) -> Task:
    language, before, phrase = LANGUAGES[code]
    return Task(
        name=f"mmlu_prox_{code}",
        domain="languages",
        title=f"MMLU-ProX, {language}",
        source=Source(
            dataset="li-lab/MMLU-ProX",
            config=code,
            split="validation+test",
            rows=11_829,
            licence="MIT",
            revision="8e6106a6c6ce1c5027e66cc338143cf997b2aa09",
            redistributable=True,
            url="https://huggingface.co/datasets/li-lab/MMLU-ProX",
            columns=("question_id", "question", "option_0", "answer", "cot_content", "category"),
            note="70 rows of validation, which the five examples of each category are taken from,"
            " then 11,759 of the test [numbers unverified]. The same questions in every language"
            " share a cluster.",
        ),
        read=_reader(code),
        protocols=MappingProxyType(
            {
                "strict": Protocol(
                    Decoding(2048, stop=("</s>", "Q:", before, "<|im_end|>")),
                    PhraseChoice(phrase, graders.choice_strict),
                    f'The last "{phrase.format("C")}" whose letter is one of the options; else as'
                    " in medicine. Phrase and prompt: lm-evaluation-harness, tasks/mmlu_prox"
                    " (https://github.com/EleutherAI/lm-evaluation-harness), taking the first.",
                ),
                "reference": Protocol(
                    Decoding(1024),
                    ExplicitChoice("mmlu_prox"),
                    "The letter A to J that is marked most clearly, then last"
                    " (https://github.com/GaotangLi/Beyond-Log-Likelihood,"
                    " evaluations/low_resource_language).",
                ),
            }
        ),
        example=_EXAMPLE,
        example_response=f"7 + 5 = 12. {phrase.format('B')}",
        paper=figures(_TABLE_9, index),
        citation="Weihao Xuan et al.: MMLU-ProX, 2025, https://arxiv.org/abs/2503.10497",
        local=f"mmlu_prox/{code}.jsonl",
    )


_EXAMPLE = {
    "question_id": 1,
    "question": "7 + 5 = ?",
    **{f"option_{i}": str(11 + i) if i < 4 else None for i in range(10)},
    "answer": "B",
    "answer_index": 1,
    "cot_content": "",
    "category": "math",
    "src": "ours",
    "question_id_src": 1,
}

TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for index, code in enumerate(LANGUAGES) for task in [_task(index, code)]}
)
