"""Files and datasets -> (where, row): every format, with the place of each row for messages.

What a source is, is `datasets`' and fsspec's to say: folders with splits as the hub lays them out,
globs, compression, addresses (`https://`, `hf://`, `s3://`), hub ids, Parquet and Arrow. Lines of
text are read here, since a message has to name the line that is wrong, and a row that cannot be
read must not end the reading: it is given as `Unreadable`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..errors import DataError, UsageError
from .hub import first_line
from .shapes import kind_of

__all__ = ["Unreadable", "read_source"]

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_HUB = ("hf://datasets/", "https://huggingface.co/datasets/")
_STANDARD_INPUT = ("-", "/dev/stdin")
_HALF = re.compile("[\udc80-\udcff]")
_POINTER = "version https://git-lfs"

Row = tuple[str, Any]
"""(place, row)."""


@dataclass(frozen=True)
class Unreadable:
    """A row that is no row: the rule it breaks completes 'file:line …'."""

    rule: str


def read_source(source: str, split: str, subset: str | None) -> Iterator[Row]:
    """Rows of files, a saved dataset, a folder, an address or a hub dataset, each with the place
    to name it by.

    Raises:
        UsageError: the source or the split does not exist, or the format is unknown.
        DataError: the content cannot be read.
    """
    if source in _STANDARD_INPUT:
        return _read_standard_input()
    for address in _HUB:
        if source.startswith(address) and _suffix(source) not in _SUFFIXES:
            return _read_hub(source.removeprefix(address).rstrip("/"), split, subset)
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(path, split, subset)
    if path.is_file() or "://" in source:
        return _read_file(str(path) if path.is_file() else source, _form_of(source))
    if files := _several(source):
        return (row for file in files for row in _read_file(file, _form_of(file)))
    if _suffix(source) in _SUFFIXES or source.startswith((".", "/", "~")):
        raise UsageError(f"{source}: no such file.")
    return _read_hub(source, split, subset)


def _several(source: str) -> list[str]:
    """The files of a comma-separated list or of a pattern such as `data/*.jsonl`."""
    import glob

    files: list[str] = []
    parts = [part.strip() for part in source.split(",") if part.strip()]
    for part in parts:
        matches = sorted(glob.glob(str(Path(part).expanduser()), recursive=True))
        if not matches and (len(parts) > 1 or glob.has_magic(part)):
            raise UsageError(f"{part}: no such file (one of {source}).")
        files += matches
    return files


def _suffix(source: str) -> str:
    """The suffix that tells the format: that before a suffix of compression."""
    path = Path(source.split("?")[0])
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in _COMPRESSED else suffix


def _form_of(source: str) -> str:
    form = _SUFFIXES.get(_suffix(source))
    if form is None:
        raise UsageError(
            f"{source}: unknown format {_suffix(source)!r}; known are {', '.join(_SUFFIXES)}, also"
            f" compressed ({', '.join(_COMPRESSED)}), folders of them, and - for JSON lines from"
            " standard input."
        )
    return form


def _read_file(source: str, form: str) -> Iterator[Row]:
    with _readable(source):
        if form == "parquet":
            yield from _read_parquet(source)
        elif form == "arrow":
            yield from _read_arrow(source)
        else:
            with _opened(source, form) as file:
                yield from _READERS[form](source, file)


def _read_standard_input() -> Iterator[Row]:
    """JSON lines, or one JSON list."""
    with _readable("standard input"):
        file = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="surrogateescape")
        first = file.readline()
        rest = _Chained(first, file)
        if first.lstrip().startswith("["):
            yield from _read_json("standard input", rest)
        else:
            yield from _read_jsonl("standard input", rest)


class _Chained:
    """A text file of which the first line was read already."""

    def __init__(self, first: str, rest: TextIO):
        self._first, self._rest = first, rest

    def __iter__(self) -> Iterator[str]:
        if self._first:
            yield self._first
        yield from self._rest

    def read(self) -> str:
        return self._first + self._rest.read()


@contextmanager
def _opened_bytes(source: str) -> Iterator[Any]:
    """The bytes of a file or an address, decompressed."""
    import fsspec
    from fsspec.compression import compr
    from fsspec.core import get_compression

    compression = get_compression(source.split("?")[0], "infer")
    if compression is not None and compression not in compr:
        raise UsageError(f"{source}: reading {compression} needs a package (zstandard).")
    if "://" in source:
        with fsspec.open(source, "rb", compression=compression) as file:
            yield file
        return
    with open(source, "rb") as file:
        yield file if compression is None else compr[compression](file, mode="rb")


@contextmanager
def _opened(source: str, form: str) -> Iterator[TextIO]:
    """The text of a file or an address. Bytes that are no UTF-8 become half characters, which the
    readers refuse line by line.
    """
    # The CSV reader wants the ends of lines as they are.
    newline = "" if form in ("csv", "tsv") else None
    with _opened_bytes(source) as file:
        yield io.TextIOWrapper(
            file, encoding="utf-8-sig", errors="surrogateescape", newline=newline
        )


def _undecoded(text: str) -> str | None:
    """The rule that a text breaks if it was not UTF-8."""
    match = None if text.isascii() else _HALF.search(text)
    if match is None:
        return None
    hint = "it looks like UTF-16; " if text.startswith(("\udcff\udcfe", "\udcfe\udcff")) else ""
    return f"is not UTF-8 text (at character {match.start() + 1}); {hint}save the file as UTF-8"


@contextmanager
def _readable(source: str) -> Iterator[None]:
    """Turn the errors of reading into one line that names the source."""
    try:
        yield
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {source}: {reason}.") from None
    except ImportError as error:
        raise UsageError(f"cannot read {source}: {error}.") from None


def _read_jsonl(source: str, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{source}:{number}"
        if rule := _undecoded(line):
            yield where, Unreadable(rule)
            continue
        try:
            yield where, json.loads(line)
        except ValueError as error:
            yield where, Unreadable(_not_json(line, number, error))
        except RecursionError:
            yield where, Unreadable("is nested too deeply to be read")


def _not_json(line: str, number: int, error: ValueError) -> str:
    if number == 1 and line.startswith(_POINTER):
        return "is a pointer of Git LFS, not the data: run git lfs pull"
    if number == 1 and line.strip() in ("[", "{"):
        return f"is not JSON: {error}. It looks like one JSON text of several lines: name it .json"
    return f"is not JSON: {error}"


def _read_json(source: str, file: Any) -> Iterator[Row]:
    text = file.read()
    if rule := _undecoded(text):
        raise DataError(f"{source} {rule}.")
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{source} is nested too deeply to be read.") from None
    except ValueError as error:
        if text.startswith(_POINTER):
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
        decoder, place = json.JSONDecoder(), 0
        while text[place:].strip():
            place += len(text[place:]) - len(text[place:].lstrip())
            where = f"{source}:{text.count(chr(10), 0, place) + 1}"
            try:
                row, place = decoder.raw_decode(text, place)
            except ValueError as error:
                yield where, Unreadable(f"is not JSON: {error}")
                return
            yield where, row
    else:
        yield from _read_jsonl(source, text.split("\n"))


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


def _read_csv(source: str, file: Any, delimiter: str = ",") -> Iterator[Row]:
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
    if fields[0].startswith(_POINTER):
        raise DataError(f"{source} is a pointer of Git LFS: run git lfs pull.")
    twice = sorted({name for name in fields if fields.count(name) > 1})
    if twice:
        raise DataError(
            f"{source}:1 names the column {', '.join(map(repr, twice))} more than once; rename it."
        )
    return fields


def _read_tsv(source: str, file: Any) -> Iterator[Row]:
    yield from _read_csv(source, file, "\t")


_READERS = {"jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv, "tsv": _read_tsv}


def _read_parquet(source: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with _opened_bytes(source) as file:
            number = 0
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{source}: row {number}", row
    except pyarrow.ArrowException as error:
        if Path(source).is_file() and Path(source).read_bytes().startswith(_POINTER.encode()):
            raise DataError(f"{source} is a pointer of Git LFS: run git lfs pull.") from None
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{source} is not Parquet: {reason}.") from None


def _read_arrow(source: str) -> Iterator[Row]:
    import datasets
    import pyarrow

    try:
        dataset = datasets.Dataset.from_file(source)
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{source} is not a file of Arrow: {reason}.") from None
    for number, row in enumerate(dataset, 1):
        yield f"{source}: row {number}", row


def _read_folder(path: Path, split: str, subset: str | None) -> Iterator[Row]:
    """A dataset saved by `datasets`, or files as `load_dataset` finds them in a folder."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return _rows_of(datasets.load_from_disk(str(path)), str(path), split)
    try:
        builder = datasets.load_dataset_builder(str(path), subset)
    except (OSError, ValueError, RuntimeError, DatasetNotFoundError) as error:
        raise DataError(
            f"{path} is a folder, but not a dataset written by datasets.save_to_disk, nor one with"
            f" files that datasets.load_dataset reads: {first_line(error)}."
        ) from None
    splits = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
    if split not in splits:
        raise UsageError(
            f"{path} has no split {split!r}; it has {', '.join(splits)}. Choose with --split."
        )
    files = [file for file in splits[split] if _suffix(file) in _SUFFIXES]
    if not files:
        raise DataError(f"{path} has no files with a known suffix ({', '.join(_SUFFIXES)}).")
    return (row for file in files for row in _read_file(file, _form_of(file)))


def _read_hub(name: str, split: str, subset: str | None) -> Iterator[Row]:
    import datasets

    try:
        dataset = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot load the dataset {name!r} (split {split!r}): {first_line(error)} If it is a"
            " file, check the path."
        ) from None
    return _rows_of(dataset, name, split)


def _rows_of(dataset: Any, name: str, split: str) -> Iterator[Row]:
    if isinstance(dataset, Mapping):  # DatasetDict
        if split not in dataset:
            raise UsageError(
                f"{name} has no split {split!r}; it has {', '.join(dataset)}. Choose with --split."
            )
        dataset = dataset[split]
    for number, row in enumerate(dataset, 1):
        yield f"{name}[{split}]: row {number}", row
