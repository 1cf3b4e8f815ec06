"""Rows of figlet: items of reasoning-gym's `figlet_font` as the paper makes them, words of two to
five letters (15,365 of them), spaced out, in one of 447 fonts, seed 42.

Rows 0 to 39,999 are for training; 40,000 to 44,999 are the paper's test. Generated rows are cached
in the user's cache folder (XDG_CACHE_HOME, else ~/.cache), in blocks of 1,000. They need the extra
`probtune[figlet]`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

from ...errors import UsageError

__all__ = [
    "TEST",
    "TRAIN",
    "drawn",
    "figlet_rows",
    "font_disjoint",
    "held_out_fonts",
    "rows_at",
    "training_rows",
    "word_disjoint",
]

TRAIN = range(40_000)
TEST = range(40_000, 45_000)
_SEED = 42
_BLOCK = 1_000
_TASKS = ("figlet", "figlet_words", "figlet_fonts")
_VERSIONS = {"reasoning-gym": "0.1.25", "pyfiglet": "1.0.2"}
"""Versions of the generator and its fonts; another version makes other rows."""

Progress = Callable[[int], None]
"""Callback with the number of finished rows."""


def figlet_rows(start: int, stop: int, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Return the rows start to stop - 1: `index`, `question`, `answer`, `font`. A row takes about
    1.5 ms the first time; then it is read from the cache folder.

    Raises:
        UsageError: reasoning-gym or pyfiglet is missing or of another version, or the range is
            empty.
    """
    if not 0 <= start < stop:
        raise UsageError(f"rows must be from 0 on and at least one, got {start} to {stop}.")
    rows: list[dict[str, Any]] = []
    for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
        members = _block(block)
        first = block * _BLOCK
        rows += members[max(start - first, 0) : stop - first]
        if progress is not None:
            progress(len(rows))
    return rows


def training_rows(task: str, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Return the training rows for a model that is tested on `task`: the paper's 40,000 rows, for
    `figlet_fonts` without the held-out fonts.

    Raises:
        UsageError: `task` is no figlet task, or the generator is missing.
    """
    if task not in _TASKS:
        raise UsageError(f"task must be one of {', '.join(_TASKS)}, got {task!r}.")
    rows = figlet_rows(TRAIN.start, TRAIN.stop, progress=progress)
    left_out = held_out_fonts() if task == "figlet_fonts" else frozenset()
    return [row for row in rows if row["font"] not in left_out]


def drawn(index: int) -> tuple[str, str]:
    """Return word and font of a row without drawing the banner: 3 µs instead of 1.5 ms."""
    words, fonts = _choices()
    rng = Random(_SEED + index)
    return rng.choice(words).upper(), rng.choice(fonts)


@cache
def held_out_fonts() -> frozenset[str]:
    """Return every tenth font by name: 45 of 447."""
    return frozenset(sorted(_choices()[1])[::10])


def rows_at(indices: Iterable[int]) -> list[dict[str, Any]]:
    """Generate rows by number, without the cache."""
    dataset = _dataset()
    return [_row(dataset, index) for index in indices]


def word_disjoint(number: int) -> list[int]:
    """Return the first rows after the paper's with words that its training rows lack, each once."""
    seen = {drawn(index)[0] for index in TRAIN}

    def new() -> Iterator[int]:
        for index in count(TEST.stop):
            word = drawn(index)[0]
            if word not in seen:
                seen.add(word)
                yield index

    return list(islice(new(), number))


def font_disjoint(number: int) -> list[int]:
    """Return the first rows after the training rows in a held-out font."""
    fonts = held_out_fonts()
    return list(islice((i for i in count(TEST.start) if drawn(i)[1] in fonts), number))


def _block(number: int) -> list[dict[str, Any]]:
    """Return a block of rows from the cache folder, or generate and cache it."""
    name = "-".join(f"{key}-{value}" for key, value in _VERSIONS.items())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "probtune" / f"figlet-{name}" / f"{number:05}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    rows = rows_at(range(number * _BLOCK, (number + 1) * _BLOCK))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        part.replace(path)
    except OSError:
        pass  # without a cache the next run only takes longer
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

    for name, required in _VERSIONS.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "none"
        if installed != required:
            raise UsageError(
                f"figlet needs {name} {required}, because its rows depend on it; found {installed}."
                " Install it: pip install -e '.[figlet]'."
            )
    import reasoning_gym

    return reasoning_gym.create_dataset(
        "figlet_font", size=10, seed=_SEED, min_word_len=2, max_word_len=5, space_letters=True
    )


@cache
def _choices() -> tuple[Sequence[str], Sequence[str]]:
    """Return words and fonts in the generator's order."""
    dataset = _dataset()
    from reasoning_gym.cognition.figlet_fonts import OK_FONTS

    return dataset.words, OK_FONTS
