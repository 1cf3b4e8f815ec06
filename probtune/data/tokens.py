"""Rows as tokens: two flat arrays for all rows together, and a row made when it is looked at.

A Python object a row, with arrays of its own, would take more memory than the tokens of a short
row; texts of responses stay in a file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index as whole
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from .examples import PackedRecords, Records

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Encoded", "PackedRows", "TokenRows", "TokenWriter"]

IGNORED = -100


@dataclass(frozen=True, eq=False)
class Encoded:
    """One row as tokens: int32 arrays, since lists of numbers would take ten times the memory."""

    where: str
    input_ids: np.ndarray
    labels: np.ndarray
    """Same length; -100 where the token does not count. Not shifted: label i is token i."""
    prompt_ids: np.ndarray
    """Tokens that the model is given to write the (last) response itself."""
    response: str
    """The (last) response as text."""
    truncated: bool
    merged: bool
    """Tokens merge across the end of the prompt, so training sees another context than generation.
    """
    end: int | None
    """The special token that ends what is supervised: what the model is taught to stop with."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further columns of the row."""
    other_history: bool = False
    """True if the chat template writes the turns before the last response otherwise when it asks
    for that response: generation sees another context."""


_TRUNCATED, _MERGED, _OTHER_HISTORY = 1, 2, 4


class PackedRows(NamedTuple):
    """Rows of a writer, to be sent to another process."""

    ids: array[int]
    labels: array[int]
    ends: array[int]
    prompts: array[int]
    last: array[int]
    flags: array[int]
    supervised: array[int]
    texts: PackedRecords
    other_prompts: Mapping[int, np.ndarray]
    numbers: Mapping[str, array[float]]


class TokenWriter:
    """The one way to make `TokenRows`: append, then finish."""

    def __init__(self, *, records: Records | None = None) -> None:
        self._ids, self._labels = array("i"), array("i")
        self._ends, self._prompts, self._last = array("q", [0]), array("q"), array("q")
        self._flags, self._supervised = array("b"), array("q")
        self._texts = Records() if records is None else records
        self._other_prompts: dict[int, np.ndarray] = {}
        self._numbers: dict[str, array] = {}

    def __len__(self) -> int:
        return len(self._flags)

    def append(
        self,
        where: str,
        input_ids: bytes,
        labels: bytes | bytearray,
        supervised: int,
        *,
        prompt: int | Sequence[int],
        response: str,
        truncated: bool,
        merged: bool,
        end: int | None,
        numbers: Mapping[str, float],
        other_history: bool,
    ) -> None:
        """Write a row at the end.

        Args:
            input_ids, labels: as int32.
            supervised: number of labels that count, not counting the first.
            prompt: how many of the tokens are the prompt, or the prompt's own tokens.
        """
        self._ids.frombytes(input_ids)
        self._labels.frombytes(labels)
        self._supervised.append(supervised)
        self._ends.append(len(self._ids))
        if not isinstance(prompt, int):
            self._other_prompts[len(self)] = np.asarray(prompt, dtype=np.int32)
            prompt = -1
        self._prompts.append(prompt)
        self._last.append(-1 if end is None else end)
        self._texts.append((where, response))
        for name, value in numbers.items():
            self._numbers.setdefault(name, array("d")).append(value)
        self._flags.append(
            _TRUNCATED * truncated + _MERGED * merged + _OTHER_HISTORY * other_history
        )

    def packed(self) -> PackedRows:
        """Return all rows, for `take` of another writer."""
        return PackedRows(
            self._ids,
            self._labels,
            self._ends[1:],
            self._prompts,
            self._last,
            self._flags,
            self._supervised,
            self._texts.packed(),
            self._other_prompts,
            self._numbers,
        )

    def take(self, rows: PackedRows) -> None:
        """Write the rows of another writer at the end."""
        before, base = len(self), len(self._ids)
        self._ids.extend(rows.ids)
        self._labels.extend(rows.labels)
        self._ends.extend(array("q", (np.asarray(rows.ends, dtype=np.int64) + base).tobytes()))
        self._prompts.extend(rows.prompts)
        self._last.extend(rows.last)
        self._flags.extend(rows.flags)
        self._supervised.extend(rows.supervised)
        self._texts.take(rows.texts)
        for number, prompt in rows.other_prompts.items():
            self._other_prompts[before + number] = prompt
        for name, values in rows.numbers.items():
            self._numbers.setdefault(name, array("d")).extend(values)

    def finish(self) -> TokenRows:
        """Return what was written."""
        return TokenRows(self._columns(), np.arange(len(self)))

    def _columns(self) -> _Columns:
        def view(values: array, dtype: Any) -> np.ndarray:
            return np.frombuffer(values, dtype=dtype) if values else np.zeros(0, dtype=dtype)

        return _Columns(
            ids=view(self._ids, np.int32),
            labels=view(self._labels, np.int32),
            ends=view(self._ends, np.int64),
            prompts=view(self._prompts, np.int64),
            last=view(self._last, np.int64),
            flags=view(self._flags, np.int8),
            supervised=view(self._supervised, np.int64),
            other_prompts=self._other_prompts,
            numbers={name: view(values, np.float64) for name, values in self._numbers.items()},
            texts=self._texts,
        )


@dataclass(frozen=True, eq=False)
class _Columns:
    """All rows of a source."""

    ids: np.ndarray
    labels: np.ndarray
    ends: np.ndarray
    """Row i has the tokens from `ends[i]` to `ends[i + 1]`."""
    prompts: np.ndarray
    """Numbers of tokens; -1 where the prompt is in `other_prompts`."""
    last: np.ndarray
    """End tokens; -1 for none."""
    flags: np.ndarray
    supervised: np.ndarray
    other_prompts: Mapping[int, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    texts: Records


class TokenRows(Sequence[Encoded]):
    """Rows in their order, with numbers over all of them that need no look at each."""

    def __init__(self, columns: _Columns, indices: np.ndarray):
        self._columns, self._indices = columns, indices

    def select(self, indices: Iterable[int] | np.ndarray) -> TokenRows:
        """Return the rows at these indices."""
        chosen = np.asarray(indices, dtype=np.int64)
        return TokenRows(self._columns, self._indices[chosen])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self._columns.ends)[self._indices]

    @property
    def supervised(self) -> np.ndarray:
        """Tokens of each row that count; the first never does."""
        return self._columns.supervised[self._indices]

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end what is supervised, of all rows."""
        return tuple(t for t in np.unique(self._columns.last[self._indices]).tolist() if t >= 0)

    @property
    def without_end(self) -> int:
        """Number of whole rows that no end token ends."""
        whole_rows = (self._columns.flags[self._indices] & _TRUNCATED) == 0
        return int(((self._columns.last[self._indices] < 0) & whole_rows).sum())

    @property
    def truncated(self) -> int:
        """Number of rows that were cut."""
        return self._number_with(_TRUNCATED)

    @property
    def merged(self) -> int:
        """Number of rows whose tokens merge across the end of the prompt."""
        return self._number_with(_MERGED)

    @property
    def other_history(self) -> int:
        """Number of rows whose earlier turns are written otherwise in generation."""
        return self._number_with(_OTHER_HISTORY)

    def _number_with(self, flag: int) -> int:
        return int(((self._columns.flags[self._indices] & flag) != 0).sum())

    def first_above(self, vocabulary: int) -> Encoded | None:
        """Return the first row with a token outside a vocabulary of this size, or None."""
        ids = self._columns.ids
        if not len(ids) or ids.max() < vocabulary:
            return None
        return next((row for row in self if row.input_ids.max() >= vocabulary), None)

    def table(self) -> dict[str, Any]:
        """Return `input_ids` and `labels` as columns of Arrow, which share the memory of these rows
        where they are all rows.
        """
        import pyarrow

        ends = self._columns.ends
        every = len(self._indices) == len(ends) - 1 and bool(
            (self._indices == np.arange(len(ends) - 1)).all()
        )
        columns = {}
        for name, values in (("input_ids", self._columns.ids), ("labels", self._columns.labels)):
            chunks = []
            for start in range(0, len(self), _CHUNK):
                part = self._indices[start : start + _CHUNK]
                if every:
                    base, stop = ends[start], ends[min(start + _CHUNK, len(self))]
                    flat = values[base:stop]
                    offsets = ends[start : start + len(part) + 1] - base
                else:
                    flat = np.concatenate([values[ends[i] : ends[i + 1]] for i in part])
                    offsets = np.concatenate([[0], np.cumsum(ends[part + 1] - ends[part])])
                chunks.append(
                    pyarrow.ListArray.from_arrays(
                        pyarrow.array(offsets.astype(np.int32)), pyarrow.array(flat)
                    )
                )
            columns[name] = pyarrow.chunked_array(chunks, pyarrow.list_(pyarrow.int32()))
        return columns

    def dataset(self, columns: Mapping[str, Any] = MappingProxyType({})) -> Dataset:
        """Return a dataset of `table()` and further columns, without a copy of the tokens."""
        import pyarrow
        from datasets import Dataset
        from datasets.fingerprint import generate_random_fingerprint
        from datasets.table import InMemoryTable

        # A fingerprint by content would be made of a copy of everything.
        return Dataset(
            InMemoryTable(pyarrow.table({**columns, **self.table()})),
            fingerprint=generate_random_fingerprint(),
        )

    def column(self, name: str) -> list[float]:
        """Return a further column of the rows."""
        return self._columns.numbers[name][self._indices].tolist()

    def __add__(self, others: Sequence[Encoded]) -> tuple[Encoded, ...]:
        return (*self, *others)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> TokenRows: ...
    def __getitem__(self, index: int | slice) -> Encoded | TokenRows:
        if isinstance(index, slice):
            return TokenRows(self._columns, self._indices[index])
        return self._row(int(self._indices[whole(index)]))

    def __iter__(self) -> Iterator[Encoded]:
        return map(self._row, self._indices.tolist())

    def _row(self, number: int) -> Encoded:
        columns = self._columns
        begin, end = int(columns.ends[number]), int(columns.ends[number + 1])
        ids, flags, last = columns.ids[begin:end], columns.flags[number], columns.last[number]
        prompt = columns.prompts[number]
        where, response = columns.texts[number]
        return Encoded(
            where=where,
            input_ids=ids,
            labels=columns.labels[begin:end],
            prompt_ids=ids[:prompt] if prompt >= 0 else columns.other_prompts[number],
            response=response,
            truncated=bool(flags & _TRUNCATED),
            merged=bool(flags & _MERGED),
            end=None if last < 0 else int(last),
            numbers={name: float(values[number]) for name, values in columns.numbers.items()},
            other_history=bool(flags & _OTHER_HISTORY),
        )


_CHUNK = 100_000
"""Rows of one array of Arrow, whose offsets have 32 bits."""
