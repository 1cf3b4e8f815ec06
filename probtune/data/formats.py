"""Text with rows -> (where, row): JSON lines, JSON, CSV and TSV.

They are read here and not by `datasets`, since a message has to name the line that is wrong, and a
row that cannot be read must not end the reading: it is given as `Unreadable`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .messages import Broken, kind_of

__all__ = [
    "POINTER",
    "JsonLine",
    "Row",
    "Unreadable",
    "read_csv",
    "read_json",
    "read_jsonl",
    "read_lines",
    "read_tsv",
]

_HALF = re.compile("[\udc80-\udcff]")
_FIELD = re.compile(r'"\s*:')
POINTER = "version https://git-lfs"

Row = tuple[str, Any]
"""(place, row)."""


@dataclass(frozen=True)
class Unreadable:
    """A row that is no row: the rule it breaks completes 'file:line …'."""

    rule: str


def _undecoded(text: str) -> str | None:
    """The rule that a text breaks if it was not UTF-8."""
    match = None if text.isascii() else _HALF.search(text)
    if match is None:
        return None
    hint = "it looks like UTF-16; " if text.startswith(("\udcff\udcfe", "\udcfe\udcff")) else ""
    return f"is not UTF-8 text (at character {match.start() + 1}); {hint}save the file as UTF-8"


@dataclass(frozen=True, slots=True)
class JsonLine:
    """A line that is still to be read, in another process perhaps."""

    text: str
    number: int

    def row(self) -> Any:
        """Return the row, or `Unreadable`."""
        if rule := _undecoded(self.text):
            return Unreadable(rule)
        try:
            row = json.loads(self.text.rstrip())  # an error would name the end of the line
            if _may_name_fields_twice(self.text, row):
                row = _DECODER.decode(self.text)
        except Broken as broken:
            return Unreadable(str(broken))
        except ValueError as error:
            return Unreadable(_not_json(self.text, self.number, error))
        except RecursionError:
            return Unreadable("is nested too deeply to be read")
        return row


def read_lines(source: str, file: Any) -> Iterator[Row]:
    """Lines of JSON that are still to be read."""
    for number, line in enumerate(file, 1):
        if line and not line.isspace():
            yield f"{source}:{number}", JsonLine(line, number)


def read_jsonl(source: str, file: Any) -> Iterator[Row]:
    for where, line in read_lines(source, file):
        yield where, line.row()


def _may_name_fields_twice(line: str, row: Any) -> bool:
    """True if the line has more signs of a field's name than the row that was read has fields; an
    answer may hold such a sign as well.
    """
    return len(_FIELD.findall(line)) != _fields(row)


def _fields(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(map(_fields, value.values()))
    return sum(map(_fields, value)) if type(value) is list else 0


def _not_json(line: str, number: int, error: ValueError) -> str:
    if number == 1 and line.startswith(POINTER):
        return "is a pointer of Git LFS, not the data: run git lfs pull"
    if number == 1 and line.strip() in ("[", "{"):
        return f"is not JSON: {error}. It looks like one JSON text of several lines: name it .json"
    if number == 1 and line.startswith("[{"):
        return f"is not JSON: {error}. It looks like a list: name it .json"
    return f"is not JSON: {error}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object, of which JSON's own reader would keep the last of equal names."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Broken(f"has the field {', '.join(map(repr, twice))} more than once in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_json(source: str, file: Any) -> Iterator[Row]:
    text = file.read()
    if rule := _undecoded(text):
        raise DataError(f"{source} {rule}.")
    if not text.strip():
        return
    try:
        content = _DECODER.decode(text)
    except Broken as broken:
        raise DataError(f"{source} {broken}.") from None
    except RecursionError:
        raise DataError(f"{source} is nested too deeply to be read.") from None
    except ValueError as error:
        if text.startswith(POINTER):
            raise DataError(f"{source} is a pointer of Git LFS: run git lfs pull.") from None
        if getattr(error, "msg", "") == "Extra data":  # one object after another
            yield from _read_objects(source, text)
            return
        raise DataError(f"{source} is not JSON: {error}.") from None
    yield from _rows_of_json(source, content)


def _read_objects(source: str, text: str) -> Iterator[Row]:
    """Objects one after another: one a line, or over several lines each."""
    try:
        first = next(line for line in text.split("\n") if line.strip())
        json.loads(first)
    except ValueError:
        offset = 0
        while text[offset:].strip():
            offset += len(text[offset:]) - len(text[offset:].lstrip())
            where = f"{source}:{text.count(chr(10), 0, offset) + 1}"
            try:
                row, offset = _DECODER.raw_decode(text, offset)
            except ValueError as error:
                yield where, Unreadable(f"is not JSON: {error}")
                return
            yield where, row
    else:
        yield from read_jsonl(source, text.split("\n"))


def _rows_of_json(source: str, content: Any) -> Iterator[Row]:
    if isinstance(content, dict):
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
        of_rows = {
            key: value for key, value in lists.items() if all(isinstance(r, dict) for r in value)
        }
        if len(lists) == 1 and len(of_rows) == 1 and not _is_a_row(content):
            content = next(iter(of_rows.values()))  # {"data": [...]}
        elif len(of_rows) > 1 and not _is_a_row(content):
            raise DataError(
                f"{source} holds several lists ({', '.join(of_rows)}); keep each in a file of its"
                " own."
            )
        elif len(lists) == len(content) > 1 and len({len(v) for v in lists.values()}) == 1:
            if not _is_a_row(content):  # columns instead of rows
                content = [
                    dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)
                ]
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise DataError(f"{source} must hold a list of rows, got {kind_of(content)}.")
    for number, row in enumerate(content, 1):
        yield f"{source}: row {number}", row


def _is_a_row(content: Mapping[str, Any]) -> bool:
    """True if an object is itself one row with turns."""
    return any(
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and {"role", "from"} & set(turn) for turn in value)
        for value in content.values()
    )


def read_csv(source: str, file: Any, delimiter: str = ",") -> Iterator[Row]:
    before = csv.field_size_limit(2**31 - 1)  # the default of 131072 characters refuses long texts
    try:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header: Sequence[str] | None = None
        while True:
            where = f"{source}:{reader.line_num + 1}"
            try:
                fields = next(reader, None)
            except csv.Error as error:
                if header is None:
                    raise DataError(f"{where} is not CSV: {error}.") from None
                hint = (
                    "; a field that begins with a quote must end with one, and quotes inside it are"
                    ' doubled: "Yes," she said is written """Yes,"" she said"'
                )
                yield where, Unreadable(f"is not CSV: {error}{hint}")
                continue
            if fields is None:
                return
            if not fields:
                continue
            rule = next((rule for field in fields if (rule := _undecoded(field))), None)
            if header is None:
                if rule:
                    raise DataError(f"{where} {rule}.")
                header = _header(source, fields)
            elif rule:
                yield where, Unreadable(rule)
            elif len(fields) != len(header):
                yield (
                    where,
                    Unreadable(
                        f"has {len(fields)} fields, and the header has {len(header)}; put quotes"
                        f" around texts with a {'tab' if delimiter != ',' else 'comma'}"
                    ),
                )
            else:
                yield where, dict(zip(header, fields, strict=True))
    finally:
        csv.field_size_limit(before)


def _header(source: str, fields: list[str]) -> list[str]:
    if fields[0].startswith(POINTER):
        raise DataError(f"{source} is a pointer of Git LFS: run git lfs pull.")
    if len(fields) == 1 and (sign := next((s for s in ";\t|," if s in fields[0]), None)):
        way_out = {"\t": "name it .tsv", ",": "name it .csv"}.get(sign, "separate with commas")
        raise DataError(
            f"{source}:1 has the one column {fields[0]!r}, which looks like several that are"
            f" separated by {sign!r}; {way_out}."
        )
    twice = sorted({name for name in fields if fields.count(name) > 1})
    if twice:
        raise DataError(
            f"{source}:1 names the column {', '.join(map(repr, twice))} more than once; rename it."
        )
    return fields


def read_tsv(source: str, file: Any) -> Iterator[Row]:
    yield from read_csv(source, file, "\t")
