"""What a training set is: where its rows come from, how a row becomes a question and a response,
what is left out, and which of this the paper states.

A corpus stores questions as they are, without instruction and turns: those belong to the prompt
that training and evaluation share (`probtune.data.prompts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError

__all__ = ["Corpus", "Dropped", "Noise", "Part", "Take", "choose", "row_order"]


@dataclass(frozen=True)
class Dropped:
    """A row that is left out, with the reason; equal reasons are counted together."""

    reason: str


@dataclass(frozen=True)
class Take:
    """A random subset of a part, drawn before anything else: `datasets.shuffle(seed)`, then the
    first rows.
    """

    rows: int
    seed: int | None = None
    """None: the seed of the request."""


@dataclass(frozen=True)
class Part:
    """Rows of one split of one dataset, all in the same schema."""

    dataset: str
    """Hub id, or `generated` for rows that are made here."""
    split: str
    convert: Callable[[Mapping[str, Any]], dict[str, Any] | Dropped]
    """A row in the dataset's own schema -> {"prompt", "completion"}, perhaps "id" and "options".
    A column that is missing or of another type is a KeyError, IndexError or TypeError.
    """
    example: Mapping[str, Any]
    """A row in the dataset's own schema, written by us: what documentation and tests use."""
    rows: int | None = None
    """Rows before anything is left out. None: not known."""
    rounded: int = 0
    """The count is known to within this."""
    config: str | None = None
    files: str | None = None
    """The file of the dataset to read, where it has no split of its own."""
    revision: str | None = None
    """Commit of the dataset. None: not pinned (why, in `note`)."""
    licence: str = "not stated"
    redistributable: bool = False
    """Whether the rows may be passed on."""
    megabytes: float | None = None
    """Size of the download. None: not known before asking the hub."""
    take: Take | None = None
    noisy: bool = True
    """Whether label noise, where the corpus has it, changes this part."""
    note: str = ""

    @property
    def place(self) -> str:
        """How the part is named in messages and in a manifest."""
        if self.dataset == "generated":
            return self.dataset
        config = f", {self.config}" if self.config else ""
        return f"{self.dataset} ({self.files or self.split}{config})"

    @property
    def stem(self) -> str:
        """What a part's ids begin with, and its file is called in a folder of local rows."""
        words = [self.dataset.rsplit("/", 1)[-1], self.config, self.split]
        return "-".join(word for word in words if word)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset, as far as they are known."""
        return tuple(self.example)

    @property
    def url(self) -> str:
        return (
            "" if self.dataset == "generated" else f"https://huggingface.co/datasets/{self.dataset}"
        )


@dataclass(frozen=True)
class Noise:
    """Label noise of a corpus of multiple choices. See `probtune.paper.corpora.noise`."""

    rate: float
    """Share of the rows of noisy parts whose letter is replaced."""
    kind: str = "uniform"


@dataclass(frozen=True)
class Corpus:
    """One training set."""

    name: str
    domain: str
    title: str
    parts: tuple[Part, ...]
    states: str
    """What the paper or its code states, with the place."""
    ours: str
    """What is not stated and therefore ours."""
    paper_rows: str = ""
    """Rows as the paper prints them."""
    max_tokens: int | None = None
    """Longest question and response together, in the turns of each tokenizer."""
    tokenizers: tuple[str, ...] = ()
    """Tokenizers that the length is measured with, unless others are given."""
    shuffle: str | None = None
    """Order of the written rows: None as read, `pandas` as `DataFrame.sample(frac=1)` orders them,
    `datasets` as `Dataset.shuffle` does.
    """
    seed: int = 42
    """Of everything random, unless another is given."""
    unique: bool = False
    """Leave out rows whose question has come before. The paper's code never does, so that its own
    training sets keep them; they are counted in the manifest.
    """
    noise: Noise | None = None
    make: Callable[[int, Callable[[int], None]], list[dict[str, Any]]] | None = None
    """Makes so many rows of a generated corpus; the function is told how many are there so far."""
    verify: Callable[[Sequence[tuple[str, str]]], str] | None = None
    """Compares the (question, response) pairs with known ones; says what was compared, raises
    DataError.
    """

    @property
    def redistributable(self) -> bool:
        return all(part.redistributable for part in self.parts)

    @property
    def licences(self) -> str:
        return ", ".join(dict.fromkeys(part.licence for part in self.parts))

    @property
    def rows(self) -> int | None:
        """Rows before anything is left out, subsets taken; None when a part's are not known."""
        counts = [part.rows if part.take is None else part.take.rows for part in self.parts]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def megabytes(self) -> float | None:
        """Size of the download; None when a part's is not known."""
        sizes = [part.megabytes for part in self.parts]
        return None if None in sizes else math.fsum(size for size in sizes if size is not None)


def choose(count: int, size: int, seed: int) -> set[int]:
    """Indices of the subset that `datasets.Dataset.shuffle(seed).select(range(size))` holds.

    >>> sorted(choose(5, 2, seed=42))
    [2, 4]
    """
    import numpy as np

    return set(np.random.default_rng(seed).permutation(count)[:size].tolist())


def row_order(kind: str, count: int, seed: int) -> list[int]:
    """The order in which a library's shuffle puts `count` rows: `pandas` for
    `DataFrame.sample(frac=1, random_state=seed)`, `datasets` for `Dataset.shuffle(seed)`.
    """
    import numpy as np

    if kind == "pandas":
        return np.random.RandomState(seed).permutation(count).tolist()
    if kind == "datasets":
        return np.random.default_rng(seed).permutation(count).tolist()
    raise UsageError(f"a corpus is shuffled as pandas or datasets do, got {kind!r}.")
