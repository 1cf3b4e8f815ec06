"""Checked rows, kept in a file beside the memory and read back one by one.

Texts of a dataset are as large as its tokens or larger, and are needed a few at a time: to be
tokenized, to be shown. So a row is written to a temporary file without a name, which goes with the
process, and memory holds 16 bytes a row. Small sets stay in memory.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import index as whole
from typing import Any, overload

import numpy as np

from ..errors import DataError
from .example import Example

__all__ = ["ExampleWriter", "Examples", "PackedRecords", "Records"]

_IN_MEMORY = 16 * 2**20
_FLUSH = 2**20


PackedRecords = tuple[bytes, "array[int]"]
"""Pickled values one after another, and where each ends."""


class Records:
    """A list of values in a temporary file; only what was appended is ever unpickled."""

    def __init__(self, *, in_memory: int = _IN_MEMORY) -> None:
        self._ends = array("q", [0])
        self._pending = bytearray()
        self._written = 0
        self._file: Any = None
        self._in_memory = in_memory

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, value: Any) -> None:
        """Write a value at the end.

        Raises:
            DataError: the temporary file cannot be written.
        """
        self._pending += pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self._ends.append(self._written + len(self._pending))
        self._flush_if_full()

    def packed(self) -> PackedRecords:
        """Return all values, for `take`; they must still be in memory."""
        assert not self._written
        return bytes(self._pending), self._ends[1:]

    def take(self, packed: PackedRecords) -> None:
        """Write the values of other records at the end, which need not be unpickled for it."""
        content, ends = packed
        base = self._written + len(self._pending)
        self._pending += content
        self._ends.extend(array("q", (np.asarray(ends) + base).tobytes()))
        self._flush_if_full()

    def _flush_if_full(self) -> None:
        if len(self._pending) > (self._in_memory if self._file is None else _FLUSH):
            self._flush()

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()
            self._file.write(self._pending)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"cannot keep the rows in a temporary file in {tempfile.gettempdir()}:"
                f" {error.strerror}. Free some space, or name another folder with TMPDIR."
            ) from None
        self._written += len(self._pending)
        self._pending.clear()

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each value."""
        return np.diff(np.frombuffer(self._ends, dtype=np.int64))

    def __getitem__(self, index: int) -> Any:
        begin, end = self._ends[index], self._ends[index + 1]
        if begin >= self._written:
            return pickle.loads(self._pending[begin - self._written : end - self._written])
        return pickle.loads(os.pread(self._file.fileno(), end - begin, begin))


class Examples(Sequence[Example]):
    """Rows in their order; equal to any sequence of equal rows."""

    def __init__(self, records: Records, questions: np.ndarray, indices: np.ndarray):
        self._records, self._questions, self._indices = records, questions, indices

    @property
    def questions(self) -> np.ndarray:
        """Hashes of `Example.question`, of use in this process only."""
        return self._questions[self._indices]

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each row, about."""
        return self._records.sizes[self._indices]

    def select(self, indices: Iterable[int] | np.ndarray) -> Examples:
        """Return the rows at these indices, without reading them."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Examples(self._records, self._questions, self._indices[chosen])

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._records, self._questions, self._indices[index])
        return Example(*self._records[int(self._indices[whole(index)])])

    def __iter__(self) -> Iterator[Example]:
        records = self._records
        return (Example(*records[number]) for number in self._indices.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Examples({len(self)} rows)"


class ExampleWriter:
    """The one way to make `Examples`: append, then finish."""

    def __init__(self, *, in_memory: int = _IN_MEMORY) -> None:
        """Make a writer that keeps this many bytes in memory before it takes a file."""
        self._records = Records(in_memory=in_memory)
        self._questions = array("q")

    def __len__(self) -> int:
        return len(self._questions)

    def append(self, example: Example) -> None:
        """Write a row at the end."""
        self._records.append(example.fields)
        self._questions.append(hash(example.question))

    def packed(self) -> tuple[PackedRecords, array[int]]:
        """Return all rows, for `take` of another writer in this process or its parent."""
        return self._records.packed(), self._questions

    def take(self, packed: tuple[PackedRecords, array[int]]) -> None:
        """Write the rows of another writer at the end."""
        records, questions = packed
        self._records.take(records)
        self._questions.extend(questions)

    def finish(self) -> Examples:
        """Return what was written."""
        number = len(self._questions)
        return Examples(self._records, np.array(self._questions, dtype=np.int64), np.arange(number))
