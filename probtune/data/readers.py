"""Files and datasets -> (where, row): every format, with the place of each row for messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from .hub import first_line

__all__ = ["kind_of", "read_source"]

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
}


def read_source(source: str, split: str, subset: str | None) -> Iterator[tuple[str, Any]]:
    """Rows of a file, a saved dataset or a hub dataset, each with the place to name it by.

    Raises:
        UsageError: the source or the split does not exist, or the format is unknown.
        DataError: the content cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return _read_saved(path, split)
    form = _SUFFIXES.get(path.suffix.lower())
    if path.is_file():
        if form is None:
            raise UsageError(
                f"{source}: unknown format {path.suffix!r}; known are {', '.join(_SUFFIXES)}."
            )
        return _read_file(path, form)
    if form is not None or source.startswith((".", "/", "~")):
        raise UsageError(f"{source}: no such file.")
    return _read_hub(source, split, subset)


def _read_file(path: Path, form: str) -> Iterator[tuple[str, Any]]:
    try:
        if form in ("csv", "tsv"):
            yield from _read_csv(path, "\t" if form == "tsv" else ",")
        elif form == "parquet":
            yield from _read_parquet(path)
        elif form == "json":
            yield from _read_json(path)
        else:
            yield from _read_jsonl(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from None


def _read_jsonl(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not str.splitlines: that also cuts at U+2028 and other characters that JSON allows inside a
    # text.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number} is not JSON: {error}.") from None


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
    except ValueError as error:
        if getattr(error, "msg", "") == "Extra data":  # one object per line under the other suffix
            yield from _read_jsonl(path, text)
            return
        raise DataError(f"{path} is not JSON: {error}.") from None
    if isinstance(content, dict):
        lists = [key for key, value in content.items() if isinstance(value, list)]
        if len(lists) != 1:
            yield f"{path}: row 1", content
            return
        content = content[lists[0]]  # {"data": [...]}
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of rows, got {kind_of(content)}.")
    for number, row in enumerate(content, 1):
        yield f"{path}: row {number}", row


def _read_csv(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                yield f"{path}:{reader.line_num}", {k: v for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num} is not CSV: {error}.") from None


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not Parquet: {str(error).splitlines()[0]}.") from None


def _read_saved(path: Path, split: str) -> Iterator[tuple[str, Any]]:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except FileNotFoundError:
        raise DataError(
            f"{path} is a folder, but not a dataset written by datasets.save_to_disk."
        ) from None
    yield from _rows_of(dataset, str(path), split)


def _read_hub(name: str, split: str, subset: str | None) -> Iterator[tuple[str, Any]]:
    import datasets

    try:
        dataset = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot load the dataset {name!r} (split {split!r}): {first_line(error)} If it is a"
            " file, check the path."
        ) from None
    yield from _rows_of(dataset, name, split)


def _rows_of(dataset: Any, name: str, split: str) -> Iterator[tuple[str, Any]]:
    if isinstance(dataset, Mapping):  # DatasetDict
        if split not in dataset:
            raise UsageError(
                f"{name} has no split {split!r}; it has {', '.join(dataset)}. Choose with --split."
            )
        dataset = dataset[split]
    for number, row in enumerate(dataset, 1):
        yield f"{name}[{split}]: row {number}", row


def kind_of(value: Any) -> str:
    """What a value is, in the words of a message."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" if value else "an empty text"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {
        "dict": "an object",
        "int": "a number",
        "float": "a number",
        "bool": "true or false",
    }.get(type(value).__name__, type(value).__name__)
