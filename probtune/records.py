"""Records, which a stage writes and the next one reads: JSON files with a kind, a schema version
and the environment.

A record is a plain mapping, so that a report can be made without torch, on another machine, years
later. Standard library only. The fields of each kind are described in docs/records.md.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import write_text
from .shapes import SHAPES, lacking

__all__ = [
    "SCHEMA_VERSION",
    "Digest",
    "digest",
    "environment",
    "make_record",
    "read_record",
    "write_record",
    "write_text",
]

SCHEMA_VERSION = 1

_PACKAGES = (
    "probtune",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "numpy",
    "scipy",
)


def write_record(path: Path, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write one record and return it. The file appears whole or not at all; NaN becomes null."""
    record = make_record(kind, content)
    write_text(
        path, json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    )
    return record


def make_record(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `write_record` would write, for a caller that only shows it."""
    return {
        "kind": kind,
        "schema": SCHEMA_VERSION,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **_plain(content),
    }


def read_record(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a record back.

    Raises:
        DataError: the file cannot be read, is no record, is of another kind, has a newer schema, or
            lacks a part that its kind has; with the part and the way out.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the record {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise DataError(
            f"{path} is not a record: it is not JSON. Was it edited or cut off? {_again(kind)}"
        ) from None
    if not isinstance(record, dict) or "kind" not in record or "schema" not in record:
        raise DataError(
            f"{path} is not a record of probtune: it has no 'kind' and 'schema'. {_again(kind)}"
        )
    schema = record["schema"]
    if not isinstance(record["kind"], str) or type(schema) is not int or schema < 1:
        raise DataError(
            f"{path} is not a whole record: kind {record['kind']!r} and schema {schema!r} are none."
            f" {_again(kind)}"
        )
    if schema > SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema {record['schema']}, newer than {SCHEMA_VERSION}; install a newer"
            " probtune to read it."
        )
    if kind is not None and record["kind"] != kind:
        raise DataError(f"{path} is a record of kind {record['kind']!r}, expected {kind!r}.")
    missing = lacking(record, SHAPES.get(record["kind"], {}))
    if missing is not None:
        raise DataError(
            f"{path} is not a whole record of kind {record['kind']!r}: {missing}."
            f" {_again(record['kind'])}"
        )
    return record


def _again(kind: str | None) -> str:
    """Return the way out of a record that cannot be used."""
    if kind in ("run", "eval-run", "plan"):
        return "It says what its folder holds; put it back, or choose another --out."
    again = "emove it, and the command that wrote it writes it again."
    return f"R{again}" if kind else f"If probtune wrote it, r{again} Else name a run's folder."


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 over the canonical JSON of each part, in order.

    >>> digest([{"b": 1, "a": 2}]) == digest([{"a": 2, "b": 1}])
    True
    """
    whole = Digest()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


class Digest:
    """`digest` of parts that come one after another."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._encode = json.JSONEncoder(
            sort_keys=True, ensure_ascii=False, separators=(",", ":")
        ).encode

    def update(self, part: Any) -> None:
        """Take one more part."""
        self.take(self.written(part))

    def written(self, part: Any) -> bytes:
        """Return the text of a part that the hash is over."""
        return self._encode(part).encode() + b"\n"

    def take(self, written: bytes) -> None:
        """Take parts that are written already."""
        self._sha.update(written)

    def hexdigest(self) -> str:
        """Return the hash of all parts so far."""
        return self._sha.hexdigest()


def environment() -> dict[str, Any]:
    """Versions and hardware. Looks at torch only if it is loaded already, and imports nothing."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    content = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "versions": versions,
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        content["threads"] = torch.get_num_threads()
        content["accelerators"] = [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ]
    return content


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """Return the value as JSON types: tuples become lists, paths text, named tuples mappings, NaN
    and infinities null.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} does not belong in a record")
