"""Training set: the source of its rows, the step from a row to a question and a response, the rows
that are left out, and the paper's statements about all of this.

A corpus stores questions without instruction and turns: those belong to the prompt that training
and evaluation share (`probtune.data.prompts`).
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
    """Row that is left out, with the reason; equal reasons are counted together."""

    reason: str


@dataclass(frozen=True)
class Take:
    """Random subset of a part, drawn before anything else: `datasets.shuffle(seed)`, then the first
    rows.
    """

    rows: int
    seed: int | None = None
    """None: the seed of the request."""


@dataclass(frozen=True)
class Part:
    """Rows of one split of one dataset, all in the same schema."""

    dataset: str
    """Hub id, or `generated` for rows that `Corpus.make` makes."""
    split: str
    convert: Callable[[Mapping[str, Any]], dict[str, Any] | Dropped]
    """Function from a row in the dataset's own schema to {"prompt", "completion"}, perhaps with
    "id" and "options". A missing column, or one of another type, raises KeyError, IndexError or
    TypeError.
    """
    example: Mapping[str, Any]
    """A row in the dataset's own schema, written by us, for documentation and tests."""
    rows: int | None = None
    """Rows before anything is left out; None if unknown."""
    rounded: int = 0
    """Largest error of `rows`."""
    config: str | None = None
    files: str | None = None
    """File of the dataset to read, if it has no split of its own."""
    revision: str | None = None
    """Commit of the dataset. None: not pinned, for the reason in `note`."""
    licence: str = "not stated"
    redistributable: bool = False
    """True if the rows may be passed on."""
    megabytes: float | None = None
    """Size of the download; None if only the hub knows it."""
    take: Take | None = None
    noisy: bool = True
    """True if the label noise of the corpus changes this part."""
    note: str = ""

    @property
    def label(self) -> str:
        """Name of the part in messages and in a manifest."""
        if self.dataset == "generated":
            return self.dataset
        config = f", {self.config}" if self.config else ""
        return f"{self.dataset} ({self.files or self.split}{config})"

    @property
    def stem(self) -> str:
        """Beginning of the part's ids, and name of its file in a folder of local rows."""
        words = [self.dataset.rsplit("/", 1)[-1], self.config, self.split]
        return "-".join(word for word in words if word)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset, as far as the example has them."""
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
    """Statement of the paper or its code, with its page or file."""
    ours: str
    """Choices that neither states and that are therefore ours."""
    paper_rows: str = ""
    """Rows as the paper prints them."""
    max_tokens: int | None = None
    """Longest question and response together, in the turns of each tokenizer."""
    tokenizers: tuple[str, ...] = ()
    """Default tokenizers that measure the length."""
    shuffle: str | None = None
    """Order of the written rows: None as read, `pandas` as `DataFrame.sample(frac=1)` orders them,
    `datasets` as `Dataset.shuffle` does.
    """
    seed: int = 42
    """Default seed of everything random."""
    unique: bool = False
    """True if rows with a repeated question are left out. The paper's code never does this, so its
    own training sets keep such rows; the manifest counts them.
    """
    noise: Noise | None = None
    make: Callable[[int, Callable[[int], None]], list[dict[str, Any]]] | None = None
    """Function that makes so many rows of a generated corpus; it reports the number of finished
    rows to the callback.
    """
    verify: Callable[[Sequence[tuple[str, str]]], str] | None = None
    """Function that compares the (question, response) pairs with known ones. It returns a sentence
    on the comparison, or raises DataError.
    """

    @property
    def redistributable(self) -> bool:
        return all(part.redistributable for part in self.parts)

    @property
    def licences(self) -> str:
        return ", ".join(dict.fromkeys(part.licence for part in self.parts))

    @property
    def rows(self) -> int | None:
        """Rows after subsets are taken and before anything is left out; None if unknown."""
        counts = [part.rows if part.take is None else part.take.rows for part in self.parts]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def megabytes(self) -> float | None:
        """Size of the download; None if that of a part is unknown."""
        sizes = [part.megabytes for part in self.parts]
        return None if None in sizes else math.fsum(size for size in sizes if size is not None)


def choose(count: int, size: int, seed: int) -> set[int]:
    """Return the indices of the subset `datasets.Dataset.shuffle(seed).select(range(size))`.

    >>> sorted(choose(5, 2, seed=42))
    [2, 4]
    """
    import numpy as np

    return set(np.random.default_rng(seed).permutation(count)[:size].tolist())


def row_order(kind: str, count: int, seed: int) -> list[int]:
    """Return the order of `count` rows after a library's shuffle: `pandas` for
    `DataFrame.sample(frac=1, random_state=seed)`, `datasets` for `Dataset.shuffle(seed)`.
    """
    import numpy as np

    if kind == "pandas":
        return np.random.RandomState(seed).permutation(count).tolist()
    if kind == "datasets":
        return np.random.default_rng(seed).permutation(count).tolist()
    raise UsageError(f"a corpus is shuffled as pandas or datasets do, got {kind!r}.")
