"""Figlet: read a word drawn as a banner of ASCII art. Rows are generated, never downloaded
(`figlet_generator`). The paper says 20,000 test rows; its code and its dataset have 5,000.

93 % of the test's words occur in training, in other fonts. We therefore add two harder tests:

    figlet_words   1,000 rows after the paper's, of words that its training rows do not contain;
                   it suits every model trained on the paper's rows
    figlet_fonts   1,000 rows from 40,000 on, in 45 fonts that training must leave out
                   (`training_rows("figlet_fonts")`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from . import graders
from .base import Decoding, Protocol, Question, Source, Task
from .fields import numbered, text
from .figlet_generator import (
    TEST,
    figlet_rows,
    font_disjoint,
    rows_at,
    training_rows,
    word_disjoint,
)
from .figures import BASE, NLL, P, figures

__all__ = ["JARO_WINKLER", "TASKS", "figlet_rows", "training_rows"]

_SIZE = 1_000


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    return [
        Question(
            id=str(row.get("index", number - 1)),
            text=text(row, number, "question"),
            gold=text(row, number, "answer"),
            cluster=f"figlet:{row['answer']}",
            meta={"font": row.get("font"), "letters": len(row["answer"])},
        )
        for number, row in numbered(rows)
    ]


_SYSTEM = (
    "You are an expert at decoding Figlet Font ASCII art. When given Figlet Font text, identify the"
    " word it represents and output only that without any explanations or additional text."
)
_REFERENCE = (
    "The whole response, not stripped, at most 5 tokens; equal to the word, letter case included"
    " (https://github.com/GaotangLi/Beyond-Log-Likelihood, evaluations/figfont)."
)
_PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "strict": Protocol(
            Decoding(16),
            graders.figlet_strict,
            "The whole response without white space around it; ours.",
            _SYSTEM,
        ),
        "reference": Protocol(
            Decoding(5),
            graders.figlet_reference,
            _REFERENCE,
            _SYSTEM,
            formats=MappingProxyType(
                {"chatml": "chatml-newline-reference", "llama3": "llama3-double-reference"}
            ),
        ),
    }
)

_TABLE_3 = {
    ("Llama-3.2-3B", BASE): (0.00, 41.89),
    ("Llama-3.2-3B", NLL): (1.08, 44.39),
    ("Llama-3.2-3B", P): (0.00, 2.43),
    ("Llama-3.1-8B", BASE): (0.00, 30.17),
    ("Llama-3.1-8B", NLL): (1.34, 43.59),
    ("Llama-3.1-8B", P): (0.00, 10.15),
    ("Qwen2.5-1.5B", BASE): (0.00, 35.32),
    ("Qwen2.5-1.5B", NLL): (0.60, 32.98),
    ("Qwen2.5-1.5B", P): (0.00, 8.36),
    ("Qwen2.5-7B", BASE): (0.00, 44.92),
    ("Qwen2.5-7B", NLL): (35.20, 82.48),
    ("Qwen2.5-7B", P): (0.00, 10.15),
}
"""P. 6: exact match, and Jaro-Winkler similarity x 100; greedy."""

_EXAMPLE = {
    "index": 0,
    "question": "What word does this say?\n\n"
    "#  #  ###\n#  #   # \n####   # \n#  #   # \n#  #  ###\n",
    "answer": "HI",
    "font": "banner",
}


def _task(name: str, title: str, make: Callable[[], list[dict[str, Any]]], **source: Any) -> Task:
    return Task(
        name=name,
        domain="figlet",
        title=title,
        source=Source(
            "generated",
            licence="Apache-2.0 (reasoning-gym), MIT (pyfiglet)",
            redistributable=True,
            url="https://github.com/open-thought/reasoning-gym",
            columns=("question", "answer"),
            **source,
        ),
        read=_read,
        protocols=_PROTOCOLS,
        example=_EXAMPLE,
        example_response="HI",
        paper=figures(_TABLE_3, 0) if name == "figlet" else {},
        also=("jaro_winkler", "jaro_winkler_reference"),
        citation="Zafir Stojanovski et al.: Reasoning Gym, 2025, https://arxiv.org/abs/2505.24760",
        make=make,
        local=f"{name}/test.jsonl",
    )


JARO_WINKLER = figures(_TABLE_3, 1)
"""(backbone, objective) -> similarity that the paper prints beside exact match, x 100."""

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            _task(
                "figlet",
                "Figlet",
                lambda: figlet_rows(TEST.start, TEST.stop),
                split="rows 40000 to 44999",
                rows=len(TEST),
                note="The dataset gaotang/figlet_font holds the same rows, by the paper's code.",
            ),
            _task(
                "figlet_words",
                "Figlet, words not trained on",
                lambda: rows_at(word_disjoint(_SIZE)),
                split="from row 45000: each word once that rows 0 to 39999 do not show",
                rows=_SIZE,
                note="Ours: not in the paper.",
            ),
            _task(
                "figlet_fonts",
                "Figlet, fonts not trained on",
                lambda: rows_at(font_disjoint(_SIZE)),
                split="from row 40000: every tenth font",
                rows=_SIZE,
                note="Ours: not in the paper. Only for models trained without these fonts.",
            ),
        )
    }
)
