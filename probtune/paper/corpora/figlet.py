"""Figlet puzzles: a short word drawn in letters of ASCII art, to be read. Rows are generated.

Source: reasoning-gym (Stojanovski et al., 2025, https://github.com/open-thought/reasoning-gym),
task `figlet_font`, with the paper's parameters (data/data_process_figfont.py of its code): seed 42,
words of 2 to 5 letters, spaced; row i is drawn with seed 42 + i. Rows 0 to 39,999 are for training;
the benchmark takes those from 40,000 on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import DataError
from ...records import digest
from .base import Corpus, Part
from .verl import reader

__all__ = ["CORPORA", "KNOWN_ROWS", "KNOWN_SHA256", "ROWS"]

ROWS = 40_000

KNOWN_ROWS: Mapping[int, tuple[str, str]] = {
    0: ("USNIC", "53be5422f73bdd31"),
    1: ("MAD", "7b80f4c292728963"),
    2: ("SUDE", "f4bc03f205b06861"),
    999: ("SORDS", "de882665c3268af1"),
    9999: ("SHITA", "537f9bcd09cc6f79"),
    19999: ("KINOT", "433e8e5fad1aacf7"),
    39999: ("KIST", "8f2b1c7efe8f31b8"),
}
"""Row -> answer, and SHA-256 of the question, first 16 digits."""

KNOWN_SHA256 = "5bbccc95cec4b2635afdd0f741cae1b48bb5f1cac82a50d858e0114564786137"
"""Hash of all rows, as in the manifest: `digest` over {completion, prompt}."""

_EXAMPLE = {
    "ability": "figlet_font",
    "prompt": [{"role": "user", "content": "What word does this say?\n\n|_| |\n| | |\n"}],
    "answer": "HI",
    "qwen_prompt": "",
    "llama_prompt": "",
    "reward_model": {"style": "rule", "ground_truth": "HI"},
    "extra_info": {
        "split": "train",
        "index": 0,
        "question": "What word does this say?\n\n|_| |\n| | |\n",
        "qwen_prompt": "",
        "llama_prompt": "",
        "answer": "HI",
    },
}


def _make(rows: int, progress: Callable[[int], None]) -> list[dict[str, Any]]:
    """Generate the first rows, with the columns of the paper's file that we read."""
    from ...evaluation.tasks.figlet_generator import figlet_rows

    return _published(figlet_rows(0, rows, progress=progress))


def _make_other_fonts(rows: int, progress: Callable[[int], None]) -> list[dict[str, Any]]:
    from ...evaluation.tasks.figlet_generator import training_rows

    return _published(training_rows("figlet_fonts", progress=progress)[:rows])


def _published(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"extra_info": {name: row[name] for name in ("index", "question", "answer")}}
        for row in rows
    ]


def _verify(rows: Sequence[tuple[str, str]]) -> str:
    """Compare (question, answer) with known rows of the pinned generator, and return a sentence on
    the comparison.

    Raises:
        DataError: another version of the generator or of its fonts makes other rows.
    """
    checked = 0
    for index, expected in KNOWN_ROWS.items():
        if index < len(rows):
            checked += 1
            question, answer = rows[index]
            drawn = (answer, hashlib.sha256(question.encode()).hexdigest()[:16])
            if drawn != expected:
                raise DataError(
                    f"figlet row {index} is {drawn[0]!r} drawn as {drawn[1]}, known is"
                    f" {expected[0]!r} drawn as {expected[1]}: {_WAY_OUT}"
                )
    if len(rows) < ROWS:
        return f"{checked} of {len(rows)} rows agree with known ones"
    whole = digest({"prompt": question, "completion": answer} for question, answer in rows)
    if whole != KNOWN_SHA256:
        raise DataError(
            f"the {len(rows)} figlet rows have the hash {whole[:16]}, known is"
            f" {KNOWN_SHA256[:16]}: {_WAY_OUT}"
        )
    return f"all {ROWS} rows agree with the known hash"


_WAY_OUT = (
    "another version of the generator makes other rows. Install reasoning-gym==0.1.25 and"
    " pyfiglet==1.0.2."
)
_STATES = (
    "40k rows of reasoning-gym's figlet_font, seed 42, 2 to 5 letters, spaced; indices 0 to 39,999"
    " (p. 16-17; data/data_process_figfont.py)."
)

CORPORA = (
    Corpus(
        "figlet",
        "figlet",
        "Figlet puzzles, made here",
        (
            Part(
                "generated",
                "train",
                reader("question", "answer", "figlet"),
                _EXAMPLE,
                rows=ROWS,
                licence="apache-2.0",
                redistributable=True,
                megabytes=0,
                note="reasoning-gym 0.1.25 with pyfiglet 1.0.2; about a minute on one core.",
            ),
        ),
        states=_STATES,
        ours="nothing.",
        paper_rows="40k",
        make=_make,
        verify=_verify,
    ),
    Corpus(
        "figlet-fonts",
        "figlet",
        "Figlet puzzles, 45 fonts held out",
        (
            Part(
                "generated",
                "train",
                reader("question", "answer", "figlet"),
                _EXAMPLE,
                rows=35_880,
                licence="apache-2.0",
                redistributable=True,
                megabytes=0,
                note="For the benchmark figlet_fonts, which asks in the fonts left out here.",
            ),
        ),
        states="nothing: it trains and tests in the same 447 fonts.",
        ours="that every tenth font is left out of the paper's rows.",
        paper_rows="",
        make=_make_other_fonts,
    ),
    Corpus(
        "figlet-published",
        "figlet",
        "Figlet puzzles, the paper's own file",
        (
            Part(
                "gaotang/figlet_font",
                "train",
                reader("question", "answer", "figlet"),
                _EXAMPLE,
                rows=ROWS,
                note="Not pinned: no commit could be verified. No licence is stated.",
            ),
        ),
        states=_STATES,
        ours="nothing.",
        paper_rows="40k",
        verify=_verify,
    ),
)
