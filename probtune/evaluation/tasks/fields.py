"""Readers of a row's columns; their messages name the row's number. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...data.messages import kind_of
from ...errors import DataError

__all__ = ["LETTERS", "column", "last_box", "lettered", "numbered", "text"]

LETTERS = "ABCDEFGHIJKLMNOP"

Row = Mapping[str, Any]


def numbered(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """Yield rows with their numbers, from 1."""
    return enumerate(rows, 1)


def column(row: Row, number: int, name: str) -> Any:
    """Return the value of a column that the row must have.

    Raises:
        DataError: the row has no such column.
    """
    if name not in row:
        raise DataError(
            f"row {number} has no column {name!r}; its columns are {', '.join(map(repr, row))}."
        )
    return row[name]


def text(row: Row, number: int, name: str) -> str:
    """Return the text of a column, which must not be empty.

    Raises:
        DataError: the column is missing, holds no text, or holds an empty one.
    """
    value = column(row, number, name)
    if not isinstance(value, str):
        raise DataError(f"row {number}: {name!r} must be a text, got {kind_of(value)}.")
    if not value.strip():
        raise DataError(f"row {number}: {name!r} is empty.")
    return value


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Return letter -> text for options in order.

    >>> lettered(["yes", "no"])
    {'A': 'yes', 'B': 'no'}
    """
    return dict(zip(LETTERS, options, strict=False))


def last_box(row: Row, number: int, name: str) -> str:
    r"""Return the content of the last `\boxed{…}` of a column, the gold where rows hold a solution.

    Raises:
        DataError: the column has no box, or its braces do not close.
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
