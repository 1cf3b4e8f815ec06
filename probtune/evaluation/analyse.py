"""Phase 3: numbers and intervals, from graded lines alone. It needs no model, no torch and no rows
of a benchmark.

The unit is the question, or the cluster of questions that are not independent; never the sample.
Three rates always accompany the accuracy: responses without an answer, cut off at the limit, and
ending in a loop. Models trained with different objectives may differ in these.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..files import hash_file
from ..records import SCHEMA_VERSION
from .generate import load_generations, question_hashes
from .graded import graded_path, read_graded
from .grading.base import VERSION
from .grading.judge import JudgeGrader
from .items import item_lists
from .samples import check_samples, read_samples
from .tasks.base import Task
from .tasks.table import DOMAINS, TASKS

__all__ = [
    "Measured",
    "analyse",
    "disagreement",
    "load_measured",
    "paper_figures",
    "passes",
]

Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Measured:
    """One benchmark under one protocol, as graded."""

    task: Task
    protocol: str
    folder: Path
    record: Mapping[str, Any]
    """Record of the generation."""
    header: Mapping[str, Any]
    """Header of the graded file."""
    lines: Sequence[Mapping[str, Any]]
    scores: Scores = field(default_factory=dict)
    """Question -> the headline's number for each sample."""
    clusters: Mapping[str, str] | None = None
    """Question -> label; None where every question is independent."""

    def values(self, name: str) -> dict[str, list[float]]:
        """Return question -> one number per sample: a key of the line, or of its metrics."""
        values: dict[str, list[float]] = {}
        for line in self.lines:
            value = line[name] if name in line else line["metrics"].get(name)
            if value is not None:
                values.setdefault(line["question"], []).append(float(value))
        return values


def load_measured(root: Path) -> list[Measured]:
    """Return every graded benchmark of an evaluation's folder, in the order of the table of tasks.

    Raises:
        DataError: grades are missing, come from another version of the graders, or belong to other
            samples; a sample is missing or occurs twice. The message holds the command that mends
            it.
    """
    measured = []
    for folder, record in load_generations(root):
        if record["task"] not in TASKS:
            raise DataError(
                f"{folder} holds a benchmark {record['task']!r} that this version does not know."
            )
        path = folder / "samples.jsonl"
        check_samples(
            path, read_samples(path), question_hashes(record), record["decoding"]["samples"]
        )
        for protocol in record["protocols"]:
            grader = TASKS[record["task"]].protocols[protocol].grader
            if isinstance(grader, JudgeGrader) and not graded_path(folder, protocol).is_file():
                continue  # judged later, with --judge
            measured.append(_measured(root, folder, record, protocol))
    if not measured:
        raise DataError(f"the answers in {root} wait for a judge: `probtune eval --judge URL …`.")
    order = {name: index for index, name in enumerate(TASKS)}
    protocols = {"strict": 0, "reference": 1}
    return sorted(
        measured, key=lambda m: (order.get(m.task.name, len(order)), protocols.get(m.protocol, 2))
    )


def _measured(
    root: Path,
    folder: Path,
    record: Mapping[str, Any],
    protocol: str,
) -> Measured:
    path = graded_path(folder, protocol)
    again = f"grade it: `probtune eval --phase grade --out {root}`."
    if not path.is_file():
        raise DataError(f"{folder} is not graded under the {protocol} protocol; {again}")
    header, lines = read_graded(path)
    if header["schema"] > SCHEMA_VERSION:
        raise DataError(f"{path} has schema {header['schema']}; install a newer probtune.")
    if header["grader"] != VERSION:
        raise DataError(
            f"{path} was graded by version {header['grader']} of the graders, this is version"
            f" {VERSION}; their numbers do not compare. To mend it, {again}"
        )
    if header["samples_sha256"] != hash_file(folder / "samples.jsonl"):
        raise DataError(
            f"{path} is of other samples than {folder / 'samples.jsonl'} holds; {again}"
        )
    counted = [q for q in record["questions"] if protocol in q["protocols"]]
    number = record["decoding"]["samples"]
    graded = {(line["question"], line["sample"]) for line in lines}
    for question in counted:
        for sample in range(number):
            if (question["id"], sample) not in graded:
                raise DataError(
                    f"{path} lacks question {question['id']!r}, sample {sample}; {again}"
                )
    if len(lines) != len(counted) * number:
        raise DataError(f"{path} has grades of questions that do not count; {again}")
    clusters = {q["id"]: q["cluster"] or q["id"] for q in counted}
    one_each = len(set(clusters.values())) == len(clusters)
    task = TASKS[record["task"]]
    measured = Measured(
        task, protocol, folder, record, header, lines, {}, None if one_each else clusters
    )
    return replace(measured, scores=measured.values(task.headline))


def analyse(root: Path, *, backbone: str | None = None) -> dict[str, Any]:
    """Return the numbers of an evaluation's folder.

    Args:
        backbone: the backbone whose figures in the paper are set beside ours; default: read from
            the model's name.

    Returns:
        `tasks` (one per benchmark: `protocols` with their numbers, `disagreement`, `paper`),
        `domains` (macro averages) and `items` (the first answer to each question). Shares are 0 to
        1; the paper's figures are in points.

    Raises:
        DataError: as `load_measured`.
        UsageError: the paper has no such backbone.
    """
    measured = load_measured(root)
    by_task: dict[str, dict[str, Measured]] = {}
    for one in measured:
        by_task.setdefault(one.task.name, {})[one.protocol] = one
    model = measured[0].record["model"]
    chosen = _backbone([one.task for one in measured], model, backbone)
    tasks = []
    for name, protocols in by_task.items():
        task = TASKS[name]
        source = next(iter(protocols.values())).record["source"]
        tasks.append(
            {
                "task": name,
                "title": task.title,
                "domain": task.domain,
                "headline": task.headline,
                "licence": source["licence"],
                "redistributable": source["redistributable"],
                "source": source,
                "protocols": {protocol: _numbers(one) for protocol, one in protocols.items()},
                "disagreement": disagreement(protocols),
                "paper": paper_figures(task, chosen),
            }
        )
    return {
        "model": model,
        "paper_backbone": chosen,
        "tasks": tasks,
        "domains": _domains(by_task, chosen),
        "items": item_lists(
            {
                protocol: {
                    name: protocols[protocol]
                    for name, protocols in by_task.items()
                    if protocol in protocols
                }
                for protocol in dict.fromkeys(one.protocol for one in measured)
            }
        ),
    }


def _numbers(one: Measured) -> dict[str, Any]:
    """Return all numbers of one benchmark under one protocol."""
    from ..statistics import avg_at_k, minimum_detectable_difference, rate

    lines, clusters = one.lines, one.clusters
    score = rate(one.scores, clusters=clusters)
    error = score.standard_error
    spread = math.nan if math.isnan(error) or error == 0 else 2 * error**2 * score.n
    decoding = one.record["decoding"]
    shares = Counter(line["extraction"] for line in lines)
    errors = Counter(line["error"] for line in lines if line["error"])
    no_answer = {
        question: [float(answer is None) for answer in answers]
        for question, answers in _answers(lines).items()
    }
    tokens = one.values("tokens")
    return {
        "questions": len(one.scores),
        "clusters": score.n,
        "samples": decoding["samples"],
        "temperature": decoding["temperature"],
        "max_new_tokens": decoding["max_new_tokens"],
        "prompt": one.record["prompt"],
        "folder": f"{one.folder.parent.name}/{one.folder.name}",
        "grader": dict(one.header["versions"]),
        "score": score,
        "no_answer": rate(no_answer, clusters=clusters),
        "truncated": _maybe(one.values("truncated"), clusters),
        "repeats": _maybe(one.values("repeats"), clusters),
        "tokens": avg_at_k(tokens, clusters=clusters) if tokens else None,
        "pass_at_k": passes(one),
        "detectable": (
            None if math.isnan(spread) else minimum_detectable_difference(score.n, spread)
        ),
        "extraction": {name: count / len(lines) for name, count in shares.most_common()},
        "errors": {name: count / len(lines) for name, count in errors.most_common()},
        "also": {
            name: avg_at_k(one.values(name), clusters=clusters)
            for name in one.task.also
            if one.values(name)
        },
    }


def _maybe(values: Scores, clusters: Mapping[str, str] | None) -> Any:
    """Return a rate over the questions that have values; None without any."""
    from ..statistics import rate

    return rate(values, clusters=clusters) if values else None


def _answers(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    answers: dict[str, list[str | None]] = {}
    for line in lines:
        answers.setdefault(line["question"], []).append(line["answer"])
    return answers


def passes(one: Measured) -> dict[str, Any] | None:
    """Return k -> pass@k; None where questions have one sample, or scores between 0 and 1."""
    from ..statistics import pass_at_k

    if one.record["decoding"]["samples"] < 2 or not _binary(one):
        return None
    return {str(k): v for k, v in pass_at_k(one.scores, clusters=one.clusters).items()}


def _binary(one: Measured) -> bool:
    return all(value in (0.0, 1.0) for values in one.scores.values() for value in values)


def disagreement(protocols: Mapping[str, Measured]) -> dict[str, Any] | None:
    """Return how often two protocols judge the same response differently; None where they do not
    judge the same responses.
    """
    from ..statistics import rate

    if set(protocols) != {"strict", "reference"}:
        return None
    strict, reference = protocols["strict"], protocols["reference"]
    if strict.folder != reference.folder:
        return None
    other = {(line["question"], line["sample"]): line for line in reference.lines}
    differs: dict[str, list[float]] = {}
    stricter: dict[str, list[float]] = {}
    for line in strict.lines:
        counterpart = other.get((line["question"], line["sample"]))
        if counterpart is None:  # a question that counts under one protocol only
            continue
        differs.setdefault(line["question"], []).append(
            float(line["score"] != counterpart["score"])
        )
        stricter.setdefault(line["question"], []).append(
            float(line["score"] < counterpart["score"])
        )
    if not differs:
        return None
    clusters = strict.clusters
    return {
        "rate": rate(differs, clusters=clusters),
        "only_reference": rate(stricter, clusters=clusters),
    }


def _domains(
    by_task: Mapping[str, Mapping[str, Measured]], backbone: str | None
) -> list[dict[str, Any]]:
    """Return the macro averages of the domains with two or more measured benchmarks."""
    from ..statistics import macro_average

    averaged = []
    for domain, names in DOMAINS.items():
        present = [name for name in names if name in by_task]
        if len(present) < 2:
            continue
        averages = {}
        for protocol in ("strict", "reference"):
            measured = {
                name: by_task[name][protocol] for name in present if protocol in by_task[name]
            }
            if len(measured) == len(present):
                average = macro_average(
                    {name: one.scores for name, one in measured.items()},
                    clusters={n: one.clusters for n, one in measured.items() if one.clusters},
                )
                averages[protocol] = average.without_spread()
        paper: dict[str, list[float]] = {}
        for name in present:
            for objective, value in paper_figures(TASKS[name], backbone).items():
                paper.setdefault(objective, []).append(value)
        averaged.append(
            {
                "domain": domain,
                "tasks": present,
                "missing": [name for name in names if name not in by_task],
                "score": averages,
                "paper": {
                    objective: sum(values) / len(values)
                    for objective, values in paper.items()
                    if len(values) == len(present)
                },
            }
        )
    return averaged


def paper_figures(task: Task, backbone: str | None) -> dict[str, float]:
    """Return objective -> the paper's figure for a backbone, in points."""
    return {objective: value for (name, objective), value in task.paper.items() if name == backbone}


def _backbone(tasks: Sequence[Task], model: str, requested: str | None) -> str | None:
    """Return the paper's name of a backbone: the requested one, or the longest that the model's
    name contains.
    """
    names = {backbone for task in tasks for backbone, _ in task.paper}
    plain = {_plain(name): name for name in names}
    if requested is not None:
        if _plain(requested) not in plain:
            raise UsageError(
                f"--paper-backbone {requested!r}: the paper has no figures of it for these"
                f" benchmarks; it has {', '.join(sorted(names)) or 'none'}."
            )
        return plain[_plain(requested)]
    matching = [name for name in plain if name in _plain(model)]
    return plain[max(matching, key=len)] if matching else None


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
