"""Where the rows of a corpus are read from: the hub, local files in the dataset's own schema, or a
generator.
"""

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
    """One part, ready to be read; counts are known once it has been."""

    part: Part
    rows: Iterator[tuple[str, Any]]
    count: int | None
    """Rows of the source. None: not known before it is read."""
    revision: str | None
    source: str
    """`hub`, `generated`, or the path of a local file."""
    whole: bool
    """Whether all rows of the source are read."""
    read: int = 0
    kept: int = 0

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
            "rows_kept": self.kept,
            "note": part.note,
        }

    def check_count(self) -> None:
        """Refuse a dataset whose number of rows has changed.

        Raises:
            DataError: with both numbers.
        """
        expected, found = self.part.rows, self.count
        if self.source != "hub" or expected is None or found is None:
            return
        if abs(found - expected) > self.part.rounded:
            known = f"{expected}" if not self.part.rounded else f"about {expected}"
            raise DataError(
                f"{self.part.place} has {found} rows, known are {known}: the dataset has changed,"
                " and results would not compare. Read it as local rows with --data if you want it"
                " as it is now."
            )


def open_parts(
    corpus: Corpus, out: Path, *, data: str | None, limit: int | None, terminal: Terminal
) -> Iterator[Opened]:
    """The parts of a corpus, one after the other; what can fail beforehand is checked for all of
    them first.
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
    wanted = part.rows if limit is None else min(limit, part.rows)
    there = 0
    with terminal.track("making rows", wanted) as advance:

        def progress(count: int) -> None:
            nonlocal there
            advance(count - there)
            there = count

        made = corpus.make(wanted, progress)
    rows = ((f"generated: row {number}", row) for number, row in enumerate(made, 1))
    return Opened(part, rows, len(made), None, "generated", whole=limit is None)


def _local(part: Part, path: Path) -> Opened:
    count = None
    if part.take is not None:  # a subset is drawn from a known number of rows
        count = sum(1 for _ in read_source(str(path), part.split, part.config))
    rows = read_source(str(path), part.split, part.config)
    return Opened(part, rows, count, None, str(path), whole=True)


def _local_paths(parts: Sequence[Part], data: Path) -> list[Path]:
    """The file of each part.

    Raises:
        UsageError: a file is not there, with the names that are looked for.
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
    found = []
    for part in parts:
        there = [data / (part.stem + suffix) for suffix in _SUFFIXES]
        path = next((path for path in there if path.is_file()), None)
        if path is None:
            raise UsageError(
                f"{data} has no {part.stem}.jsonl (or .parquet, .json, .csv) with the rows of"
                f" {part.place}."
            )
        found.append(path)
    return found
