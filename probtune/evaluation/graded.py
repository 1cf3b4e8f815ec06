"""The file between grading and analysis: a header that names the graders, then one line per sample.

    {"kind": "graded", "schema": 1, "task", "protocol", "grader", "versions", "samples_sha256", ...}
    {"question", "sample", "score", "answer", "extraction", "metrics", "error",
     "truncated", "repeats", "cluster"}

Lines are sorted by question, in the order of the task, then by sample. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..records import SCHEMA_VERSION, write_text

__all__ = ["Graded", "graded_path", "read_graded", "read_header", "write_graded"]


class Graded(NamedTuple):
    """A graded file: its header, and its lines by question and sample."""

    header: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]


def graded_path(folder: Path, protocol: str) -> Path:
    """Return the path of a generation's grades under a protocol."""
    return folder / f"graded.{protocol}.jsonl"


def write_graded(path: Path, header: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a graded file, whole or not at all."""
    head = {"kind": "graded", "schema": SCHEMA_VERSION, **header}
    text = "".join(
        json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        for line in (head, *lines)
    )
    write_text(path, text)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a graded file; None if the file does not exist or has none."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        header = json.loads(first)
    except ValueError:
        return None
    return header if isinstance(header, dict) and header.get("kind") == "graded" else None


def read_graded(path: Path) -> Graded:
    """Read a whole graded file.

    Raises:
        DataError: a line is no JSON, or a sample occurs twice; with the line's number.
    """
    header = read_header(path)
    if header is None:
        raise DataError(f"{path} is not a graded file; make it again with --phase grade.")
    lines = []
    seen: dict[tuple[str, int], int] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if number == 1 or not text:
            continue
        try:
            line = json.loads(text)
            key = line["question"], line["sample"]
            _ = line["score"], line["truncated"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path}:{number} is not a grade; make the file again with --phase grade."
            ) from None
        if key in seen:
            raise DataError(
                f"{path}:{number} holds question {key[0]!r}, sample {key[1]} again (first in"
                f" line {seen[key]}); make the file again with --phase grade."
            )
        seen[key] = number
        lines.append(line)
    return Graded(header, lines)
