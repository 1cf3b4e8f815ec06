"""Preparation of a training set: from its source to a file of rows and a manifest of their origin.

    rows.jsonl       {"id", "prompt", "completion"}, one row a line; with label noise also
                     "corrupted" (0 or 1) and "clean" (the right letter)
    manifest.json    the request, the sources, rows left out by reason, the hash of the rows

The manifest is written last: a folder without one is prepared again. The same request on a finished
folder does nothing; another request on it is refused, with what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from ...errors import DataError, ProbtuneError, UsageError
from ...files import hash_file
from ...records import environment, read_record, write_record, write_text
from ...terminal import Terminal
from . import sources
from .base import Corpus, row_order
from .rows import Reading, read_part
from .table import slug

__all__ = ["Manifest", "find", "prepare", "request"]


@dataclass(frozen=True)
class Manifest:
    """A prepared training set: its folder, and the record in it."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """File of the rows."""
        return self.folder / "rows.jsonl"

    @property
    def rows(self) -> int:
        return self.record["rows"]

    @property
    def sha256(self) -> str:
        """Hash of the rows' content in order, equal to that of `probtune.data.rows.read_rows`."""
        return self.record["sha256"]


def request(
    corpus: Corpus,
    *,
    tokenizers: Sequence[str] = (),
    limit: int | None = None,
    seed: int | None = None,
    data: str | None = None,
    unique: bool | None = None,
) -> dict[str, Any]:
    """Return the identity of a prepared set; a folder is reused for an equal request."""
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}.")
    chosen = tuple(tokenizers) or corpus.tokenizers
    return {
        "corpus": slug(corpus),
        "sources": [
            {"source": part.label, "revision": part.revision} if data is None else part.label
            for part in corpus.parts
        ],
        "data": data,
        "seed": corpus.seed if seed is None else seed,
        "limit": limit,
        "max_tokens": corpus.max_tokens,
        "tokenizers": list(chosen) if corpus.max_tokens is not None else [],
        "unique": corpus.unique if unique is None else unique,
    }


def find(folder: Path, requested: Mapping[str, Any]) -> Manifest | None:
    """Return the finished set of a folder, or None.

    Raises:
        UsageError: the folder holds the set of another request; the message names the differences.
        DataError: the rows are not those of the manifest.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    record = read_record(path, "manifest")
    stored = record["request"]
    different = [
        f"{name} {_shown(stored.get(name))} there, {_shown(requested[name])} asked"
        for name in requested
        if stored.get(name) != requested[name]
    ]
    if different:
        raise UsageError(
            f"{folder} holds another set: {'; '.join(different)}. Choose another --out, or remove"
            " the folder."
        )
    manifest = Manifest(folder, record)
    if not manifest.path.is_file() or hash_file(manifest.path) != record["file_sha256"]:
        raise DataError(
            f"{manifest.path} is not the file that {path} was written for; remove the folder and"
            " prepare again."
        )
    return manifest


def prepare(
    corpus: Corpus,
    *,
    out: Path,
    tokenizers: Sequence[str] = (),
    limit: int | None = None,
    seed: int | None = None,
    data: str | None = None,
    unique: bool | None = None,
    terminal: Terminal | None = None,
) -> Manifest:
    """Read a training set, leave out unusable rows, and write rows and manifest.

    Args:
        out: folder of the result.
        tokenizers: measure the length if the corpus bounds it (default: the paper's).
        limit: write at most so many rows of each part.
        seed: seed of subset, order and label noise (default: the corpus's, 42 as in the paper's
            code).
        data: rows in the dataset's own schema instead of the hub: a file, a folder of
            `datasets.save_to_disk`, or a folder with one file for each part.
        unique: leave out rows with a repeated question (default: the corpus's).

    Raises:
        UsageError: the folder holds another set, an argument is out of range, a local file is
            missing, or a tokenizer cannot be loaded.
        DataError: the hub cannot be reached or refuses, the disk is too small, the number of rows
            has changed, a row lacks a column, or no row is left.
    """
    terminal = terminal or Terminal(quiet=True)
    requested = request(
        corpus, tokenizers=tokenizers, limit=limit, seed=seed, data=data, unique=unique
    )
    finished = find(out, requested)
    if finished is not None:
        terminal.say(f"{slug(corpus)} is there already: {out}")
        return finished
    reading = Reading(corpus, requested)
    opened = sources.open_parts(corpus, out, data=data, limit=limit, terminal=terminal)
    with _rows_file(out) as file:
        offsets: list[int] = []
        parts = []
        for source in opened:
            for row in read_part(source, reading, terminal):
                offsets.append(file.tell())
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            parts.append(source.to_dict())
        if not offsets:
            raise DataError(f"{slug(corpus)}: no row is left; {reading.complaint()}")
        order = (
            range(len(offsets))
            if corpus.shuffle is None
            else row_order(corpus.shuffle, len(offsets), requested["seed"])
        )
        verified = _verify(corpus, file, offsets, data)
        hashes = _write_in_order(file, offsets, order, out / "rows.jsonl")
    content = {
        "name": slug(corpus),
        "title": corpus.title,
        "domain": corpus.domain,
        "request": requested,
        "parts": parts,
        "rows": len(offsets),
        **hashes,
        **reading.to_dict(),
        "order": f"shuffled as {corpus.shuffle} does" if corpus.shuffle else "as read",
        "redistributable": corpus.redistributable,
        "states": corpus.states,
        "ours": corpus.ours,
        "paper_rows": corpus.paper_rows,
        "verified": verified,
        "contamination": None,
        "environment": environment(),
        "generators": _versions("reasoning-gym", "pyfiglet") if corpus.make else {},
    }
    if not corpus.redistributable:
        write_text(out / ".gitignore", "# rows that may not be passed on\n*\n")
    return Manifest(out, write_record(out / "manifest.json", "manifest", content))


def _verify(
    corpus: Corpus, file: IO[bytes], offsets: Sequence[int], data: str | None
) -> str | None:
    """Compare the rows with known ones. Local rows may differ; the manifest says so then."""
    if corpus.verify is None:
        return None
    pairs = []
    for offset in offsets:
        file.seek(offset)
        row = json.loads(file.readline())
        pairs.append((row["prompt"], row["completion"]))
    try:
        return corpus.verify(pairs)
    except DataError as error:
        if data is None:
            raise
        return f"not the known rows: {error}"


@contextmanager
def _rows_file(folder: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside the result. A full disk raises ProbtuneError, and a new folder
    that stays empty is removed.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".rows.") as file:
            yield file
    except OSError as error:
        raise ProbtuneError(
            f"cannot write to {folder}: {error.strerror or error}. Downloads stay in the cache;"
            " make room, or choose another --out."
        ) from error
    finally:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _write_in_order(
    file: IO[bytes], offsets: Sequence[int], order: Sequence[int], path: Path
) -> dict[str, Any]:
    """Copy lines in an order to a file that appears whole or not at all, and return its hashes."""
    content, whole = hashlib.sha256(), hashlib.sha256()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as target:
            for index in order:
                file.seek(offsets[index])
                line = file.readline()
                row = json.loads(line)
                # equal to probtune.records.digest over the rows that probtune.data.rows reads
                pair = {"completion": row["completion"], "prompt": row["prompt"]}
                content.update(
                    json.dumps(pair, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                )
                whole.update(line)
                target.write(line)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return {
        "sha256": content.hexdigest(),
        "file_sha256": whole.hexdigest(),
        "bytes": path.stat().st_size,
    }


def _versions(*packages: str) -> dict[str, str]:
    return {package: metadata.version(package) for package in packages}


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
