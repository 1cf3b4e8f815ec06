"""Phase 2: grade the generated answers. It needs texts and golds only, no model and no torch.

A file of grades names its graders and the hash of its samples. It is written again when either has
changed, and left alone otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import hash_file
from ..terminal import Terminal
from .generate import question_hashes
from .graded import graded_path, read_header, write_graded
from .grading.base import VERSION, Grade, Grader, GradingItem, versions
from .grading.code import CodeGrader
from .grading.judge import Judge, JudgeGrader
from .grading.repetition import repeats
from .samples import check_samples, read_samples
from .tasks.base import Question, Task, counted_under

__all__ = ["grade", "grade_items", "grader_of", "is_current"]


def is_current(folder: Path, protocol: str, grader: Grader) -> bool:
    """True if a generation's grades under a protocol belong to its samples and to these graders."""
    header = read_header(graded_path(folder, protocol))
    return (
        header is not None
        and header.get("versions") == versions()
        and header.get("judge") == _judge(grader)
        and header.get("samples_sha256") == hash_file(folder / "samples.jsonl")
    )


def grader_of(
    task: Task, protocol: str, *, allow_code: bool = False, judge: Judge | None = None
) -> Grader | None:
    """Return a task's grader, with the permission to run programs or with its judge; None if it
    needs a judge and none was named.

    Raises:
        UsageError: it would run a model's programs, and that was not allowed.
    """
    grader = task.protocols[protocol].grader
    if isinstance(grader, JudgeGrader):
        return None if judge is None else replace(grader, judge=judge)
    if not isinstance(grader, CodeGrader):
        return grader
    if not allow_code:
        raise UsageError(
            f"grading {task.name} runs the programs that the model wrote, in contained processes;"
            " allow it with --allow-code."
        )
    return replace(grader, allow_code=True)


def grade(
    folder: Path,
    record: dict[str, Any],
    task: Task,
    protocol: str,
    questions: Sequence[Question],
    grader: Grader,
    terminal: Terminal,
) -> None:
    """Grade one generation under one protocol.

    Args:
        record: the record of the generation.

    Raises:
        DataError: a sample is missing, occurs twice, or belongs to another question or prompt.
    """
    counted = {question.id: question for question in counted_under(questions, protocol)}
    path = folder / "samples.jsonl"
    samples = read_samples(path)
    check_samples(path, samples, question_hashes(record), record["decoding"]["samples"])
    order = {question: index for index, question in enumerate(counted)}
    samples = [sample for sample in samples if sample.question in counted]
    samples.sort(key=lambda s: (order[s.question], s.sample))
    items = [
        GradingItem(s.text, counted[s.question].gold, counted[s.question].options) for s in samples
    ]
    start = time.monotonic()
    grades = grade_items(grader, items, terminal, f"{task.name}: {protocol} grades")
    lines = [
        {
            "question": sample.question,
            "sample": sample.sample,
            "score": verdict.score,
            "answer": verdict.answer,
            "extraction": verdict.extraction,
            "metrics": dict(verdict.metrics),
            "error": verdict.error,
            "truncated": None if sample.finish_reason is None else sample.finish_reason == "length",
            "repeats": repeats(sample.text),
            "cluster": counted[sample.question].cluster,
            "tokens": sample.tokens,
        }
        for sample, verdict in zip(samples, grades, strict=True)
    ]
    header = {
        "task": task.name,
        "protocol": protocol,
        "grader": VERSION,
        "versions": versions(),
        "judge": _judge(grader),
        "samples_sha256": hash_file(path),
        "samples": len(samples),
        "seconds": time.monotonic() - start,
    }
    write_graded(graded_path(folder, protocol), header, lines)


def grade_items(
    grader: Grader, items: Sequence[GradingItem], terminal: Terminal, title: str
) -> list[Grade]:
    """Grade all items, with a bar of this title."""
    with terminal.track(title, len(items)) as advance:
        graded = 0

        def progress(done: int) -> None:
            nonlocal graded
            advance(done - graded)
            graded = done

        grades = grader(items, progress=progress)
        progress(len(items))
    return grades


def _judge(grader: Grader) -> dict[str, Any] | None:
    """Return the judge that a grader asks, for the record."""
    judge = grader.judge if isinstance(grader, JudgeGrader) else None
    return None if judge is None else judge.to_dict()
