"""Columns of a benchmark's rows, read with the row's number for messages. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...data.readers import kind_of
from ...errors import DataError

__all__ = ["LETTERS", "column", "last_box", "lettered", "numbered", "text"]

LETTERS = "ABCDEFGHIJKLMNOP"

Row = Mapping[str, Any]


def numbered(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """Rows with their numbers, from 1."""
    return enumerate(rows, 1)


def column(row: Row, number: int, name: str) -> Any:
    """A value that must be there.

    Raises:
        DataError: the row has no such column.
    """
    if name not in row:
        raise DataError(
            f"row {number} has no column {name!r}; its columns are {', '.join(map(repr, row))}."
        )
    return row[name]


def text(row: Row, number: int, name: str) -> str:
    """A text that must be there and say something.

    Raises:
        DataError: no such column, no text, or an empty one.
    """
    value = column(row, number, name)
    if not isinstance(value, str):
        raise DataError(f"row {number}: {name!r} must be a text, got {kind_of(value)}.")
    if not value.strip():
        raise DataError(f"row {number}: {name!r} is empty.")
    return value


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Options in order -> letter to text.

    >>> lettered(["yes", "no"])
    {'A': 'yes', 'B': 'no'}
    """
    return dict(zip(LETTERS, options, strict=False))


def last_box(row: Row, number: int, name: str) -> str:
    r"""What the last `\boxed{…}` of a column holds: the gold of benchmarks that give a solution.

    Raises:
        DataError: there is none, or its braces do not close.
    """
    value = text(row, number, name)
    start = max(value.rfind("\\boxed"), value.rfind("\\fbox"))
    inside = value[start:].partition("{")[2] if start >= 0 else ""
    depth = 1
    for index, sign in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            return inside[:index].strip()
    raise DataError(f"row {number}: {name!r} has no closed \\boxed{{…}}, so the row has no gold.")
