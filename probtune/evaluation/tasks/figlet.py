"""Figlet: read a word drawn as a banner of ASCII art. Rows are generated, never downloaded.

A row is item i of reasoning-gym's `figlet_font` as the paper makes it: words of two to five letters
(15,365 of them), spaced out, one of 447 fonts, seed 42. Rows 0 to 39,999 are for training, 40,000
to 44,999 the test. (The paper says 20,000 test rows; its code and its dataset have 5,000.)

93 % of the test's words occur in training, in other fonts. So there are two harder tests of ours:

    figlet_words   1,000 rows after the paper's, of words that its training rows do not show: any
                   model trained on the paper's rows can be asked
    figlet_fonts   1,000 rows from 40,000 on, in 45 fonts that training must leave out
                   (`training_rows("figlet_fonts")`)

Needs the extra `probtune[figlet]`. What was generated is kept in the user's cache folder
(XDG_CACHE_HOME, else ~/.cache), in blocks of 1,000 rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from ...errors import UsageError
from . import graders
from .base import Decoding, Protocol, Question, Source, Task
from .fields import numbered, text
from .figures import BASE, NLL, P, figures

__all__ = ["TASKS", "drawn", "figlet_rows", "held_out_fonts", "training_rows"]

TRAIN = range(40_000)
TEST = range(40_000, 45_000)
_SEED = 42
_BLOCK = 1_000
_SIZE = 1_000
_VERSIONS = {"reasoning-gym": "0.1.25", "pyfiglet": "1.0.2"}
"""Rows depend on both."""

Progress = Callable[[int], None]
"""Called with the number of rows that are there so far."""


def figlet_rows(start: int, stop: int, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Rows start to stop - 1: `index`, `question`, `answer`, `font`. About 1.5 ms a row the first
    time, then read from the cache folder.

    Raises:
        UsageError: reasoning-gym or pyfiglet is absent or of another version, or the range is
            empty.
    """
    if not 0 <= start < stop:
        raise UsageError(f"rows must be from 0 on and at least one, got {start} to {stop}.")
    rows: list[dict[str, Any]] = []
    for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
        kept = _block(block)
        first = block * _BLOCK
        rows += kept[max(start - first, 0) : stop - first]
        if progress is not None:
            progress(len(rows))
    return rows


def training_rows(task: str, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """What a model may be trained on that is then asked `task`: the paper's 40,000 rows, for
    `figlet_fonts` without the held-out fonts.

    Raises:
        UsageError: no figlet task, or the generator is absent.
    """
    if task not in TASKS:
        raise UsageError(f"task must be one of {', '.join(TASKS)}, got {task!r}.")
    rows = figlet_rows(TRAIN.start, TRAIN.stop, progress=progress)
    left_out = held_out_fonts() if task == "figlet_fonts" else frozenset()
    return [row for row in rows if row["font"] not in left_out]


def drawn(index: int) -> tuple[str, str]:
    """Word and font of a row, without drawing the banner: 3 µs instead of 1.5 ms."""
    words, fonts = _choices()
    rng = Random(_SEED + index)
    return rng.choice(words).upper(), rng.choice(fonts)


@cache
def held_out_fonts() -> frozenset[str]:
    """Every tenth font by name: 45 of 447."""
    return frozenset(sorted(_choices()[1])[::10])


def _rows_at(indices: Iterable[int]) -> list[dict[str, Any]]:
    dataset = _dataset()
    return [_row(dataset, index) for index in indices]


def _word_disjoint() -> Iterator[int]:
    known = {drawn(index)[0] for index in TRAIN}
    index = TEST.stop
    while True:
        word = drawn(index)[0]
        if word not in known:
            known.add(word)
            yield index
        index += 1


def _font_disjoint() -> Iterator[int]:
    fonts, index = held_out_fonts(), TEST.start
    while True:
        if drawn(index)[1] in fonts:
            yield index
        index += 1


def _first(indices: Iterator[int]) -> list[int]:
    return [next(indices) for _ in range(_SIZE)]


def _block(number: int) -> list[dict[str, Any]]:
    """A block of rows, from the cache folder or made and put there."""
    name = "-".join(f"{key}-{value}" for key, value in _VERSIONS.items())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "probtune" / f"figlet-{name}" / f"{number:05}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    rows = _rows_at(range(number * _BLOCK, (number + 1) * _BLOCK))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        part.replace(path)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return rows


def _row(dataset: Any, index: int) -> dict[str, Any]:
    item = dataset[index]
    return {
        "index": index,
        "question": item["question"],
        "answer": item["answer"],
        "font": item["metadata"]["font"],
    }


@cache
def _dataset() -> Any:
    from importlib.metadata import PackageNotFoundError, version

    for name, wanted in _VERSIONS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise UsageError(
                f"figlet needs {name} {wanted}, because its rows depend on it; found {found}."
                " Install it: pip install 'probtune[figlet]'."
            )
    import reasoning_gym

    return reasoning_gym.create_dataset(
        "figlet_font", size=10, seed=_SEED, min_word_len=2, max_word_len=5, space_letters=True
    )


@cache
def _choices() -> tuple[Sequence[str], Sequence[str]]:
    """Words and fonts, in the order that the generator draws from."""
    dataset = _dataset()
    from reasoning_gym.cognition.figlet_fonts import OK_FONTS

    return dataset.words, OK_FONTS


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
"""(backbone, objective) -> the similarity that the paper prints beside exact match, x 100."""

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
                lambda: _rows_at(_first(_word_disjoint())),
                split="from row 45000: each word once that rows 0 to 39999 do not show",
                rows=_SIZE,
                note="Ours: not in the paper.",
            ),
            _task(
                "figlet_fonts",
                "Figlet, fonts not trained on",
                lambda: _rows_at(_first(_font_disjoint())),
                split="from row 40000: every tenth font",
                rows=_SIZE,
                note="Ours: not in the paper. Only for models trained without these fonts.",
            ),
        )
    }
)
