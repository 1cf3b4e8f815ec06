"""Steps from the rows of one part to the written rows: subset, conversion, reasons to leave a row
out, label noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...data.messages import kind_of
from ...errors import DataError
from ...terminal import Terminal
from .base import Corpus, Dropped, Part, choose
from .lengths import longest
from .noise import corrupt
from .sources import Opened

__all__ = ["Reading", "read_part"]

_SHOWN = 3
_Row = dict[str, Any]


class Reading:
    """State of reading a corpus: rows left out by reason, repeated questions, changed letters."""

    def __init__(self, corpus: Corpus, request: Mapping[str, Any]):
        self.corpus = corpus
        self.seed: int = request["seed"]
        self.limit: int | None = request["limit"]
        self.unique: bool = request["unique"]
        self.dropped: dict[str, dict[str, Any]] = {}
        self.duplicates = {"count": 0, "first": []}
        self.changed = 0
        self.noisy_rows = 0
        self._seen: set[bytes] = set()
        self._length: Callable[[str, str], int] | None = None
        if request["tokenizers"]:
            self._length = longest(request["tokenizers"])

    def drop(self, where: str, reason: str) -> None:
        entry = self.dropped.setdefault(reason, {"count": 0, "first": []})
        _count(entry, where)

    def repeated(self, where: str, prompt: str) -> bool:
        """True if a question has come before; it is counted then."""
        key = hashlib.blake2b(prompt.encode(), digest_size=16).digest()
        if key in self._seen:
            _count(self.duplicates, where)
            return True
        self._seen.add(key)
        return False

    def too_long(self, row: _Row) -> bool:
        bound = self.corpus.max_tokens
        if self._length is None or bound is None:
            return False
        return self._length(row["prompt"], row["completion"]) > bound

    def complaint(self) -> str:
        return (
            "; ".join(
                f"{entry['count']}: {reason} ({entry['first'][0]})"
                for reason, entry in self.dropped.items()
            )
            or "the source has no rows."
        )

    def to_dict(self) -> dict[str, Any]:
        noise = self.corpus.noise
        return {
            "dropped": self.dropped,
            "duplicates": {**self.duplicates, "kept": not self.unique},
            "noise": noise
            and {
                "rate": noise.rate,
                "kind": noise.kind,
                "rows": self.noisy_rows,
                "changed": self.changed,
                "seed": self.seed,
            },
        }


def read_part(source: Opened, reading: Reading, terminal: Terminal) -> Iterator[_Row]:
    """Yield the rows of a part that are not left out, as they are written.

    Raises:
        DataError: a row lacks a column, a text is no text, or the source's number of rows has
            changed.
    """
    rows = _chosen(source, reading, terminal)
    noise = reading.corpus.noise
    if noise is None:
        for _, row in rows:
            yield row
        return
    if not source.part.noisy or not noise.rate:
        for _, row in rows:
            yield {**row, "corrupted": 0, "clean": row["completion"]}
        return
    pairs = list(rows)
    changed = corrupt(
        [row["completion"] for _, row in pairs],
        [converted["options"] for converted, _ in pairs],
        noise,
        seed=reading.seed,
    )
    reading.changed += len(changed)
    reading.noisy_rows += len(pairs)
    for index, (_, row) in enumerate(pairs):
        clean = row["completion"]
        letter = changed.get(index, clean)
        yield {**row, "completion": letter, "corrupted": int(index in changed), "clean": clean}


def _chosen(source: Opened, reading: Reading, terminal: Terminal) -> Iterator[tuple[_Row, _Row]]:
    """Yield (converted row, row to write) of the rows that are not left out."""
    part = source.part
    chosen = None
    if part.take is not None:
        assert source.count is not None
        seed = reading.seed if part.take.seed is None else part.take.seed
        chosen = choose(source.count, part.take.rows, seed)
    total = reading.limit or (len(chosen) if chosen else source.count or part.rows or 0)
    number = -1
    with terminal.track(part.stem, total) as advance:
        for number, (where, raw) in enumerate(source.rows):
            if reading.limit is not None and source.written >= reading.limit:
                source.whole = False
                break
            if chosen is not None and number not in chosen:
                continue
            source.read += 1
            row = _converted(part, where, raw, number)
            advance()
            reason = _reason(row, reading, where)
            if reason is not None:
                reading.drop(where, reason)
                continue
            assert isinstance(row, dict)
            source.written += 1
            yield row, {name: row[name] for name in ("id", "prompt", "completion")}
    if source.whole and source.count is None:
        source.count = number + 1
        source.check_count()


def _converted(part: Part, where: str, raw: Any, number: int) -> _Row | Dropped:
    """Convert a row, and give it an id."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where} is not an object with named fields but {kind_of(raw)}.")
    try:
        row = part.convert(raw)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        columns = ", ".join(part.columns)
        raise DataError(
            f"{where} does not have the schema of {part.dataset} ({columns}):"
            f" {type(error).__name__} {error}; its columns are {', '.join(map(str, raw))}."
        ) from None
    if isinstance(row, Dropped):
        return row
    row.setdefault("id", f"{part.stem}/{number}")
    return row


def _reason(row: _Row | Dropped, reading: Reading, where: str) -> str | None:
    """Return the reason to leave a row out, or None."""
    if isinstance(row, Dropped):
        return row.reason
    for name, what in (("prompt", "question"), ("completion", "response")):
        text = row[name]
        if text is None or (isinstance(text, str) and not text.strip()):
            return f"an empty {what}"
        if not isinstance(text, str):
            raise DataError(f"{where}: the {what} must be a text, got {kind_of(text)}.")
    if reading.too_long(row):
        return f"longer than {reading.corpus.max_tokens} tokens"
    if reading.repeated(where, row["prompt"]) and reading.unique:
        return "a question that has come before"
    return None


def _count(entry: dict[str, Any], where: str) -> None:
    entry["count"] += 1
    if len(entry["first"]) < _SHOWN:
        entry["first"].append(where)
