"""Sources of a corpus's rows: the hub, local files in the dataset's own schema, or a generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.readers import read_source
from ...errors import DataError, UsageError
from ...terminal import Terminal
from . import hub
from .base import Corpus, Part

__all__ = ["Opened", "open_parts"]

_SUFFIXES = (".jsonl", ".parquet", ".json", ".csv")


@dataclass
class Opened:
    """Part that is ready to be read. Its counts are complete once it has been read."""

    part: Part
    rows: Iterator[tuple[str, Any]]
    count: int | None
    """Rows of the source; None until a stream has been read."""
    revision: str | None
    source: str
    """`hub`, `generated`, or the path of a local file."""
    whole: bool
    """True if all rows of the source are read."""
    read: int = 0
    written: int = 0

    def to_dict(self) -> dict[str, Any]:
        part = self.part
        return {
            "dataset": part.dataset,
            "config": part.config,
            "split": part.split,
            "files": part.files,
            "revision": self.revision,
            "licence": part.licence,
            "redistributable": part.redistributable,
            "url": part.url,
            "source": self.source,
            "rows_expected": part.rows,
            "rows_source": self.count,
            "rows_read": self.read,
            "rows_kept": self.written,
            "note": part.note,
        }

    def check_count(self) -> None:
        """Refuse a dataset whose number of rows has changed.

        Raises:
            DataError: the message holds both numbers.
        """
        expected, count = self.part.rows, self.count
        if self.source != "hub" or expected is None or count is None:
            return
        if abs(count - expected) > self.part.rounded:
            stated = f"{expected}" if not self.part.rounded else f"about {expected}"
            raise DataError(
                f"{self.part.label} has {count} rows, known are {stated}: the dataset has changed,"
                " and results would not compare. Read it as local rows with --data if you want it"
                " as it is now."
            )


def open_parts(
    corpus: Corpus, out: Path, *, data: str | None, limit: int | None, terminal: Terminal
) -> Iterator[Opened]:
    """Open the parts of a corpus, one after the other. All of them are checked first, as far as
    that is possible before reading.
    """
    if data is not None:
        paths = _local_paths(corpus.parts, Path(data).expanduser())
        return (_local(part, path) for part, path in zip(corpus.parts, paths, strict=True))
    if corpus.make is not None:
        return (_generated(part, corpus, limit, terminal) for part in corpus.parts)
    offers = hub.check(corpus.parts, out)
    return (_from_hub(part, offer, limit) for part, offer in zip(corpus.parts, offers, strict=True))


def _from_hub(part: Part, offer: hub.Offer, limit: int | None) -> Opened:
    stream = limit is not None and part.take is None and not hub.offline()
    count, rows = hub.read(part, offer.revision, stream=stream)
    opened = Opened(part, rows, count, offer.revision, "hub", whole=limit is None)
    opened.check_count()
    return opened


def _generated(part: Part, corpus: Corpus, limit: int | None, terminal: Terminal) -> Opened:
    assert corpus.make is not None and part.rows is not None
    size = part.rows if limit is None else min(limit, part.rows)
    finished = 0
    with terminal.track("making rows", size) as advance:

        def progress(count: int) -> None:
            nonlocal finished
            advance(count - finished)
            finished = count

        generated = corpus.make(size, progress)
    rows = ((f"generated: row {number}", row) for number, row in enumerate(generated, 1))
    return Opened(part, rows, len(generated), None, "generated", whole=limit is None)


def _local(part: Part, path: Path) -> Opened:
    count = None
    if part.take is not None:  # a subset is drawn from a known number of rows
        count = sum(1 for _ in read_source(str(path), part.split, part.config))
    rows = read_source(str(path), part.split, part.config)
    return Opened(part, rows, count, None, str(path), whole=True)


def _local_paths(parts: Sequence[Part], data: Path) -> list[Path]:
    """Return the file of each part.

    Raises:
        UsageError: a file is missing; the message holds the expected names.
    """
    if not data.exists():
        raise UsageError(f"{data}: no such file or folder.")
    saved = data.is_dir() and any(
        (data / name).exists() for name in ("dataset_info.json", "dataset_dict.json")
    )
    if len(parts) == 1 and (data.is_file() or saved):
        return [data]
    if not data.is_dir():
        raise UsageError(
            f"{data} is one file, but the corpus has {len(parts)} parts; give a folder with"
            f" {', '.join(part.stem + '.jsonl' for part in parts)} (or .parquet, .json, .csv)."
        )
    paths = []
    for part in parts:
        candidates = [data / (part.stem + suffix) for suffix in _SUFFIXES]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise UsageError(
                f"{data} has no {part.stem}.jsonl (or .parquet, .json, .csv) with the rows of"
                f" {part.label}."
            )
        paths.append(path)
    return paths
