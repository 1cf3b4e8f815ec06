"""Files and datasets -> (where, row): every format, with the place of each row for messages.

What a source is, is `datasets`' and fsspec's to say: folders with splits as the hub lays them out,
globs, compression, addresses (`https://`, `hf://`, `s3://`), hub ids, Parquet and Arrow. Lines of
text are ours (`formats`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..errors import DataError, UsageError
from .formats import (
    POINTER,
    JsonLine,
    Row,
    Unreadable,
    read_csv,
    read_json,
    read_lines,
    read_tsv,
)
from .hub import first_line

__all__ = ["JsonLine", "Unreadable", "check_split", "read_source", "source_rows"]

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
_SIGNATURES = {
    b"PAR1": "Parquet: name it .parquet",
    b"ARROW1": "Arrow: name it .arrow",
    b"\x1f\x8b": "compressed by gzip: add .gz to its name",
    b"PK\x03\x04": "a zip archive: unpack it",
}
"""First bytes of formats that a text file is sometimes named for."""


def read_source(source: str, split: str, subset: str | None) -> Iterator[Row]:
    """`source_rows` with lines of JSON read."""
    for where, row in source_rows(source, split, subset):
        yield where, row.row() if isinstance(row, JsonLine) else row


def check_split(source: str, split: str, subset: str | None) -> None:
    """Refuse a split or a subset of what has none.

    Raises:
        UsageError: the source is standard input, files, or one saved dataset.
    """
    if split == "train" and subset is None:
        return
    path = Path(source).expanduser()
    saved = (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()
    one = source in _STANDARD_INPUT or path.is_file() or (path / "dataset_info.json").is_file()
    if one or (not path.is_dir() and _suffix(source) in _SUFFIXES):
        what = f"--split {split}" if split != "train" else f"--subset {subset}"
        raise UsageError(
            f"{what} is for datasets that have several; {source} is one. Leave it out, or name the"
            " file of that part."
        )
    if saved and subset is not None:
        raise UsageError(f"--subset {subset}: a saved dataset such as {source} has none.")


def source_rows(source: str, split: str, subset: str | None) -> Iterator[Row]:
    """Rows of files, a saved dataset, a folder, an address or a hub dataset, each with the place
    to name it by. A line of JSON comes as it stands, a `JsonLine`.

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
            raise UsageError(
                f"{part}: no such file{f' (one of {source})' if len(parts) > 1 else ''}."
            )
        files += matches
    return files


def _suffix(source: str) -> str:
    """The suffix that tells the format: that before a suffix of compression."""
    path = Path(source.split("?")[0])
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in _COMPRESSED else suffix


def _is_compressed(source: str) -> bool:
    return Path(source).suffix.lower() in _COMPRESSED


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
            yield from read_json("standard input", rest)
        else:
            yield from read_lines("standard input", rest)


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
def _readable(source: str) -> Iterator[None]:
    """Turn the errors of reading into one line that names the source."""
    try:
        yield
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if reason in ("", source):  # as of an address that does not answer
            reason = "nothing answers there"
        raise DataError(f"cannot read {source}: {reason}.") from None
    except ImportError as error:
        raise UsageError(f"cannot read {source}: {error}.") from None


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
        if Path(source).is_file() and not _is_compressed(source):
            first = file.peek(8)[:8]
            for signature, what in _SIGNATURES.items():
                if first.startswith(signature):
                    raise DataError(f"{source} is no text but {what}.")
        yield io.TextIOWrapper(
            file, encoding="utf-8-sig", errors="surrogateescape", newline=newline
        )


_READERS = {"jsonl": read_lines, "json": read_json, "csv": read_csv, "tsv": read_tsv}


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
        if Path(source).is_file() and Path(source).read_bytes().startswith(POINTER.encode()):
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
    _refuse_left_out(path, [file for part in splits.values() for file in part])
    if not files:
        raise DataError(f"{path} has no files with a known suffix ({', '.join(_SUFFIXES)}).")
    return (row for file in files for row in _read_file(file, _form_of(file)))


def _refuse_left_out(path: Path, read: Sequence[str]) -> None:
    """Refuse a folder of which `datasets` would read some files of rows and leave others out: it
    takes the most frequent format, and the files that are named by splits.
    """
    names = {Path(file).resolve() for file in read}
    folders = {name.parent for name in names}
    left = sorted(
        file.name
        for folder in folders
        for file in folder.iterdir()
        if _suffix(str(file)) in set(_SUFFIXES) - {".json"} and file.resolve() not in names
    )
    if left and any(Path(file).exists() for file in read):
        raise UsageError(
            f"{path} holds files that datasets.load_dataset would leave out"
            f" ({', '.join(left[:5])}), since others have another format or are named by a split;"
            " name the files to read, separated by commas or as a pattern."
        )


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
