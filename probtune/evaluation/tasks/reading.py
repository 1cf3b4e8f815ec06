"""Rows of a benchmark -> questions. Rows come from the hub, a local file or a generator; their
columns, number, ids and golds are checked before anything expensive.

Rows stay in memory and in the cache of the hub's libraries; none is ever written into a project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...data.hub import first_line, gated_message
from ...data.messages import kind_of
from ...data.readers import read_source
from ...errors import DataError, UsageError
from .base import Question, Task

__all__ = ["load_questions"]

Caution = Callable[[str], None]


def load_questions(
    task: Task,
    *,
    data: str | None = None,
    limit: int | None = None,
    caution: Caution | None = None,
    read: Callable[[list[Any]], list[Question]] | None = None,
) -> list[Question]:
    """Load the questions of a benchmark.

    Args:
        data: a file with rows in the dataset's own schema (.jsonl, .json, .parquet), or a folder
            that holds it under the task's `local` name. Default: the hub, or the task's generator.
        limit: return so many questions, the first of the benchmark.
        caution: called with a warning, for example that a local file has another number of rows.
        read: step from rows to questions, instead of the task's.

    Raises:
        UsageError: the local file does not exist, or limit is below 1.
        DataError: the dataset cannot be reached, has other columns or another number of rows, or a
            row has no gold; the message names the row and the way out.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}.")
    where, rows = _rows(task, data, caution)
    _check_rows(task, where, rows)
    if task.source.rows and len(rows) != task.source.rows:
        size = f"{where} has {len(rows)} rows, but {task.title} has {task.source.rows}"
        if data is None:
            raise DataError(f"{size}: the dataset has changed, and results would not compare.")
        if caution is not None:
            caution(f"{size}; results compare only with results on the same rows.")
    try:
        questions = (read or task.read)(rows)
    except DataError as error:
        raise DataError(f"{where}, {error}") from None
    _check_questions(where, questions)
    return questions[:limit]


def _rows(
    task: Task, data: str | None, caution: Caution | None
) -> tuple[str, list[Mapping[str, Any]]]:
    if data is not None:
        path = _local(task, Path(data).expanduser())
        return str(path), _listed(task, path, caution)
    if task.make is not None:
        return task.source.dataset, list(task.make())
    return task.source.dataset, _from_hub(task, caution)


def _local(task: Task, path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder.")
    if path.is_dir():
        if task.local is None:
            raise UsageError(f"{task.name} is not read from a folder; name its file with --data.")
        if not (path / task.local).is_file():
            raise UsageError(
                f"{path} has no {task.local}, which {task.name} is read from; put its rows there,"
                " in the schema of " + (task.source.url or task.source.dataset) + "."
            )
        path = path / task.local
    return path


def _listed(task: Task, path: Path, caution: Caution | None) -> list[Any]:
    """Read the rows of a file; in a JSON object with several lists, the list of the task."""
    key, expected = task.source.config, task.source.md5
    if expected is not None and caution is not None:
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != expected:
            caution(
                f"{path} is not the file that the paper's code was run on (MD5 {digest}, not"
                f" {expected})."
            )
    if key is not None and path.suffix == ".json":
        content = _json(path)
        lists = content if isinstance(content, Mapping) else {}
        lists = {name: value for name, value in lists.items() if isinstance(value, list)}
        if key in lists:
            return lists[key]
        if len(lists) > 1:
            raise DataError(f"{path} has no list {key!r}; it has {', '.join(map(repr, lists))}.")
    return [row for _, row in read_source(str(path), "test", None)]


def _json(path: Path) -> Any:
    """Return the content of a file; None if it is no JSON document, which the readers explain."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _from_hub(task: Task, caution: Caution | None) -> list[Mapping[str, Any]]:
    """Read the rows of a hub dataset at the pinned commit."""
    import datasets

    source = task.source
    try:
        if source.files is not None:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(
                source.dataset, source.files, repo_type="dataset", revision=source.revision
            )
            return _listed(task, Path(path), caution)
        rows: Any = datasets.load_dataset(
            source.dataset, source.config, split=source.split, revision=source.revision
        )
        return list(rows)
    except (OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        raise DataError(_unreachable(task, error)) from None


def _unreachable(task: Task, error: Exception) -> str:
    reason, dataset = first_line(error), task.source.dataset
    names = {kind.__name__ for kind in type(error).__mro__} | {type(error.__cause__).__name__}
    if "GatedRepoError" in names or "gated" in reason.lower() or "authenticat" in reason.lower():
        url = f"https://huggingface.co/datasets/{dataset}"
        return f"{gated_message(dataset, url)} ({reason})"
    return (
        f"cannot load {task.title} from {dataset}"
        f" (config {task.source.config!r}, split {task.source.split!r}): {reason} Without a"
        " network, name a local file or folder with --data"
        + (f", which holds {task.local}." if task.local else ".")
        + " If HF_HUB_OFFLINE is set, unset it once to download."
    )


def _check_rows(task: Task, where: str, rows: Iterable[Any]) -> None:
    """Refuse rows that are no objects or lack a column that the task reads."""
    empty = True
    for number, row in enumerate(rows, 1):
        empty = False
        if not isinstance(row, Mapping):
            raise DataError(f"{where}, row {number} is not an object but {kind_of(row)}.")
        missing = [name for name in task.source.columns if name not in row]
        if missing:
            raise DataError(
                f"{where}, row {number} has no column {', '.join(map(repr, missing))}, which"
                f" {task.name} needs; its columns are {', '.join(map(repr, row)) or 'none'}."
            )
    if empty:
        raise DataError(f"{where} has no rows.")


def _check_questions(where: str, questions: list[Question]) -> None:
    """Refuse a repeated id, an empty question or an empty gold."""
    first: dict[str, int] = {}
    for number, question in enumerate(questions, 1):
        if question.id in first:
            raise DataError(
                f"{where}: question {number} has the id {question.id!r} of question"
                f" {first[question.id]}; ids must be unique."
            )
        first[question.id] = number
        if question.gold is None or question.gold == "" or question.gold == {}:
            raise DataError(f"{where}: question {number} (id {question.id!r}) has an empty gold.")
        if not question.text.strip():
            raise DataError(f"{where}: question {number} (id {question.id!r}) asks nothing.")
