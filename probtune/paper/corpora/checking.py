"""Contamination of a prepared set, measured against benchmarks and written into its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...data.readers import read_source
from ...records import write_record
from ...terminal import Terminal
from .contamination import SIZES, overlap
from .preparing import Manifest

__all__ = ["check_against", "questions_of"]

_RECORD = ("kind", "schema", "written")


def questions_of(
    names: str, *, data: str | None = None, terminal: Terminal
) -> dict[str, list[tuple[str, str]]]:
    """Return benchmark -> (id, text) of its questions.

    Args:
        names: tasks and domains, such as `math500,olympiadbench` or `math`.
        data: a folder with the benchmarks' rows instead of the hub.

    Raises:
        UsageError: a name is no task and no domain.
        DataError: a benchmark's rows cannot be read.
    """
    from ...evaluation.tasks.reading import load_questions
    from ...evaluation.tasks.table import find_tasks

    return {
        task.name: [
            (question.id, question.text)
            for question in load_questions(task, data=data, caution=terminal.say)
        ]
        for task in find_tasks(names)
    }


def check_against(
    manifest: Manifest,
    benchmarks: Mapping[str, Sequence[tuple[str, str]]],
    *,
    sizes: Sequence[int] = SIZES,
    terminal: Terminal | None = None,
) -> Manifest:
    """Measure the overlap with benchmarks, and write it into the manifest beside earlier
    measurements against others.
    """
    terminal = terminal or Terminal(quiet=True)
    with terminal.track("comparing with benchmarks", manifest.rows) as advance:

        def rows() -> Iterator[tuple[str, str, str]]:
            for _, row in read_source(str(manifest.path), "train", None):
                advance()
                yield row["id"], row["prompt"], row["completion"]

        report = overlap(rows(), benchmarks, sizes=sizes)
    earlier = (manifest.record["contamination"] or {}).get("found", [])
    new = {(entry["n"], entry["benchmark"]) for entry in report["found"]}
    report["found"] += [e for e in earlier if (e["n"], e["benchmark"]) not in new]
    content: dict[str, Any] = {
        name: value for name, value in manifest.record.items() if name not in _RECORD
    }
    content["contamination"] = report
    record = write_record(manifest.folder / "manifest.json", "manifest", content)
    return Manifest(manifest.folder, record)
