"""A judge's verdicts on the answers to instructions in an evaluation's folder, against the
benchmark's own answers or those of another model.

Every verdict is written at once to `judged.<key>.jsonl` beside the samples; the key stands for the
judge, its prompt and both sets of answers. A stopped run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..records import digest
from ..statistics import avg_at_k
from ..terminal import Terminal
from .generate import load_generations
from .grading.judge import Judge, JudgeGrader, length_controlled
from .samples import Sample, read_samples
from .tasks.reading import load_questions
from .tasks.table import TASKS

__all__ = ["judge_answers"]


def judge_answers(
    root: Path,
    judge: Judge,
    *,
    against: Path | None = None,
    protocol: str = "strict",
    data: str | None = None,
    terminal: Terminal,
) -> dict[str, Any]:
    """Judge the answers to instructions in an evaluation's folder.

    Args:
        against: another evaluation's folder; default: the answers that come with the benchmark.
        data: a folder with the benchmark's rows, as `load_questions`.

    Returns:
        `win_rate` (ties half) as an estimate, `length_controlled` as an estimate or the reason for
        its absence, `place` (how far the judge favours the answer shown first), `undecided`,
        lengths, and the judge with its prompt.

    Raises:
        UsageError: a folder holds no answers to instructions.
        DataError: the other folder lacks an answer.
        EvaluationError: the judge does not answer; finished verdicts stay in the file.
    """
    folder, task, answers = _answers(root, protocol)
    questions = {question.id: question for question in load_questions(task, data=data)}
    lost = next((name for name in answers if name not in questions), None)
    if lost is not None:
        raise DataError(f"{folder} answers an instruction {lost!r} that the benchmark lacks.")
    others = {name: question.gold["output"] for name, question in questions.items()}
    if against is not None:
        rivals = _answers(against, protocol)[2]
        lost = next((name for name in answers if name not in rivals), None)
        if lost is not None:
            raise DataError(f"{against} has no answer to instruction {lost!r}; evaluate it again.")
        others = {name: sample.text for name, sample in rivals.items()}
    key = digest([judge.to_dict(), [[n, s.text, others[n]] for n, s in answers.items()]])[:8]
    path = folder / f"judged.{key}.jsonl"
    lines = {line["question"]: line for line in _read(path)}
    missing = [name for name in answers if name not in lines]
    with (
        terminal.track("judging", len(missing)) as advance,
        ThreadPoolExecutor(judge.concurrent) as threads,
        path.open("a", encoding="utf-8") as file,
    ):

        def ask(name: str) -> dict[str, Any]:
            instruction = questions[name].gold["instruction"]
            verdict = judge.compare(instruction, answers[name].text, others[name])
            return {"question": name, **vars(verdict)}

        pending = [threads.submit(ask, name) for name in missing]
        try:
            for one in pending:
                line = one.result()
                decided = not math.isnan(line["preference"])
                line |= {} if decided else {"preference": None, "place": None}
                file.write(json.dumps(line) + "\n")
                file.flush()
                lines[line["question"]] = line
                advance()
        except BaseException:
            for one in pending:
                one.cancel()
            raise
    verdicts = [lines[name] for name in answers]
    preferences = [0.5 if x["preference"] is None else x["preference"] for x in verdicts]
    lengths = [len(answers[x["question"]].text) for x in verdicts]
    other_lengths = [len(others[x["question"]]) for x in verdicts]
    places = [x["place"] for x in verdicts if x["place"] is not None]
    return {
        "answers": str(root),
        "against": str(against) if against is not None else f"the answers of {task.title}",
        "task": task.name,
        "protocol": protocol,
        "judge": judge.to_dict(),
        "weighted": all(x["weighted"] for x in verdicts),
        "instructions": len(verdicts),
        "undecided": sum(x["preference"] is None for x in verdicts),
        "win_rate": avg_at_k(preferences),
        "place": avg_at_k(places),
        "length": sum(lengths) / len(lengths),
        "other_length": sum(other_lengths) / len(lengths),
        "length_controlled": _controlled(preferences, lengths, other_lengths, list(answers)),
        "verdicts": str(path),
    }


def _controlled(
    preferences: list[float], lengths: list[int], other_lengths: list[int], names: list[str]
) -> Mapping[str, Any] | str:
    estimate = length_controlled(preferences, lengths, other_lengths, [int(name) for name in names])
    if isinstance(estimate, str):
        return estimate
    value, error = estimate
    return {
        "value": value,
        "standard_error": error,
        "low": value - 1.96 * error,
        "high": value + 1.96 * error,
        "n": len(preferences),
    }


def _answers(root: Path, protocol: str) -> tuple[Path, Any, dict[str, Sample]]:
    """Return (folder of the generation, task, instruction -> first answer)."""
    for folder, record in load_generations(root):
        task = TASKS.get(record["task"])
        if task is None or protocol not in record["protocols"]:
            continue
        if isinstance(task.protocols[protocol].grader, JudgeGrader):
            samples = read_samples(folder / "samples.jsonl")
            return folder, task, {s.question: s for s in samples if s.sample == 0}
    raise UsageError(
        f"{root} holds no answers to instructions under the {protocol} protocol; run `probtune eval"
        f" MODEL --tasks alpaca_eval --phase generate --out {root}`."
    )


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the verdicts of a file; a last line that was cut off is removed from the file."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    for line in whole.splitlines():
        yield json.loads(line)
