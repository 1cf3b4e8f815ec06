"""`probtune eval` and `probtune compare`: call one function, print a table and a path."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...numbers import p_value, percent, points, signed_points
from ...options import arguments_of
from ...settings import read_yaml, settings_from
from ...terminal import Terminal
from ..settings import EvalSettings
from .options import Compare

__all__ = ["compare", "evaluate", "next_command", "one_folder_each"]


def evaluate(
    options: argparse.Namespace,
    *,
    read: Callable[[str, type[Any]], dict[str, Any]] = read_yaml,
) -> None:
    """Run `probtune eval`; `read` reads its configuration."""
    if options.list:
        return _list(Terminal(), getattr(options, "tasks", None))
    chosen = {
        name: value
        for name, value in vars(options).items()
        if name in EvalSettings.__dataclass_fields__
    }
    settings = settings_from(chosen, options.config, EvalSettings, read=read)
    if "generate" in settings.phases:
        os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval's bars, beside ours
    terminal = Terminal()
    if not options.models:
        return _evaluate(settings, terminal)
    if settings.model is None:
        raise UsageError("name MODEL first, and further ones by --and.")
    several = one_folder_each(settings, [settings.model, *options.models])
    for one in several:
        _evaluate(one, terminal)
    if "analyse" in settings.phases:
        folders = tuple(f"{one.folder.name}={one.folder}" for one in several)
        out = str(several[0].folder.parent / "comparison")
        compare(Compare(runs=folders, protocol=settings.protocol, out=out))


def one_folder_each(settings: EvalSettings, models: Sequence[str]) -> list[EvalSettings]:
    """Return the settings of each model, with a folder of its own below --out, named by as many of
    the last parts of the model's path as tell it from the others.

    Raises:
        UsageError: a model is named twice.
    """
    if len(set(models)) < len(models):
        raise UsageError("a model is named twice; name each once.")
    parts = [[part for part in Path(model).parts if part not in ("/", "model")] for model in models]
    number = 1
    while len({tuple(one[-number:]) for one in parts}) < len(models) and number < 9:
        number += 1
    root = Path(settings.out or "runs/eval")
    names = ["-".join(one[-number:]) for one in parts]
    return [
        replace(settings, model=model, out=str(root / name))
        for model, name in zip(models, names, strict=True)
    ]


def _evaluate(settings: EvalSettings, terminal: Terminal) -> None:
    """Evaluate one model, print its numbers, and write its report."""
    from ..evaluate import evaluate

    record = evaluate(settings, terminal)
    folder = settings.folder
    if record["kind"] != "eval":
        terminal.show(f"answers and grades  {folder}", wrap=False)
        phase = "grade" if settings.phase == "generate" else "analyse"
        words = arguments_of(replace(settings, phase=phase))
        terminal.show(f"next    {shlex.join(['probtune', 'eval', *words])}", wrap=False)
        return
    from ...records import write_text
    from ...reports.report import render
    from ..reports.parts import MAKERS

    write_text(folder / "report.html", render([record], MAKERS))
    _show(record, terminal)
    terminal.show(f"record  {folder / 'record.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)
    terminal.show(f"next    {next_command(settings)}", wrap=False)


def _list(terminal: Terminal, names: str | None) -> None:
    """List the benchmarks, a line each; of those that are named, all that is known."""
    from ..tasks.table import TASKS, find_tasks

    if names is not None:
        for task in find_tasks(names):
            terminal.show(task.name, wrap=False)
            for what, text in (
                ("domain", task.domain),
                ("rows", f"{task.source.rows:,}"),
                ("answers", _answers(task)),
                ("licence", task.source.licence),
                ("dataset", _dataset(task)),
                ("file", f"{task.local} under --data" if task.local else ""),
            ):
                if text:
                    terminal.show(f"  {what:8s} {text}", wrap=False)
        return
    from ..tasks.questions import GRADERS

    terminal.show("Graders of your own questions (--data FILE --grader NAME)\n")
    terminal.lines([["grader", "right is"], *([n, rule] for n, (rule, *_) in GRADERS.items())])
    terminal.show("\nBenchmarks; --tasks takes their names and domains\n")
    tasks = TASKS.values()
    rows = [[task.name, task.domain, f"{task.source.rows:>6,}", _answers(task)] for task in tasks]
    if terminal.width >= _WIDE:
        header = ["task", "domain", "  rows", "answers", "licence", "dataset", "file under --data"]
        more = [[task.source.licence, _dataset(task), task.local or ""] for task in tasks]
        terminal.lines([header, *(row + rest for row, rest in zip(rows, more, strict=True))])
        return
    terminal.lines([["task", "domain", "  rows", "answers"], *rows])
    terminal.show("\nLicence, dataset and file of some: probtune eval --list --tasks gsm8k,math")


_WIDE = 150
"""Columns from which a line of the list has room for licence, dataset and file."""


def _answers(task: Any) -> str:
    """Return how answers are drawn by the strict protocol."""
    strict = next(iter(task.protocols.values())).decoding
    drawn = "greedy"
    if strict.temperature > 0:
        drawn = f"T = {strict.temperature:g}, {strict.samples} answers"
    return f"{drawn}, {strict.max_new_tokens} tokens"


def _dataset(task: Any) -> str:
    return task.source.dataset + (f" ({task.source.config})" if task.source.config else "")


def next_command(settings: EvalSettings) -> str:
    """Return the command that goes on: a comparison with the newest evaluation beside this one, or
    the same evaluation of another model.
    """
    folder = settings.folder
    records = [
        path
        for path in folder.parent.glob("*/record.json")
        if path.parent.name != folder.name
        and '"kind":"eval"' in path.read_text(encoding="utf-8")[:100]
    ]
    if records:
        newest = max(records, key=lambda path: path.stat().st_mtime).parent
        return shlex.join(["probtune", "compare", str(folder), str(newest)])
    words = arguments_of(replace(settings, model="OTHER_MODEL", out=None))
    return shlex.join(["probtune", "eval", *words])


def _show(record: Mapping[str, Any], terminal: Terminal) -> None:
    from ..reports.parts import own_verdict

    backbone = record["paper_backbone"]
    objectives = list(dict.fromkeys(name for task in record["tasks"] for name in task["paper"]))
    header = ["benchmark", "protocol", "k", "n", "score [95 %]", "no answer", "truncated", "loops"]
    rows = []
    for task in record["tasks"]:
        for index, (protocol, numbers) in enumerate(task["protocols"].items()):
            printed = [
                f"{task['paper'][name]:.2f}" if name in task["paper"] and index == 0 else ""
                for name in objectives
            ]
            rows.append(
                [
                    task["title"] if index == 0 else "",
                    protocol,
                    str(numbers["samples"]),
                    str(numbers["clusters"]),
                    points(numbers["score"]),
                    *(percent(numbers[name]) for name in ("no_answer", "truncated", "repeats")),
                    *printed,
                ]
            )
    for domain in record["domains"]:
        for index, (protocol, numbers) in enumerate(domain["score"].items()):
            printed = [
                f"{domain['paper'][name]:.2f}" if name in domain["paper"] and index == 0 else ""
                for name in objectives
            ]
            name = f"mean of {domain['domain']}" + (" (part)" if domain["missing"] else "")
            rows.append(
                [
                    name if index == 0 else "",
                    protocol,
                    "",
                    "",
                    points(numbers),
                    "",
                    "",
                    "",
                    *printed,
                ]
            )
    notes = ["k answers to each of n independent questions; points of 100, 95 % intervals."]
    for task in record["tasks"]:
        if (numbers := task["disagreement"]) is not None:
            notes.append(
                f"{task['title']}: strict and reference disagree on {percent(numbers['rate'])} of"
                " the answers."
            )
        if task["headline"] != "score":
            notes.append(f"{task['title']}: the score is {task['headline']}.")
    if note := own_verdict(record):
        notes.append(note)
    smallest = [
        f"{task['title']} {100 * numbers['detectable']:.1f}"
        for task in record["tasks"]
        for numbers in [next(iter(task["protocols"].values()))]
        if numbers["detectable"] is not None
    ]
    if smallest:
        notes.append(
            "Smallest difference between two independent models that shows in 80 % of evaluations:"
            f" {', '.join(smallest)} points. `probtune compare` pairs by question and shows smaller"
            " ones."
        )
    terminal.table(
        f"{record['model']}" + (f", beside the paper's {backbone}" if backbone else ""),
        [*header, *(f"paper: {name}" for name in objectives)],
        rows,
        notes=notes,
    )


def compare(options: Compare, *, folders: Sequence[str] | None = None) -> None:
    """Run `probtune compare` on `folders`, or on those that the options name."""
    from ...records import write_record, write_text
    from ...reports.report import render
    from ..comparison import compare_runs, read_runs
    from ..reports.parts import MAKERS

    terminal = Terminal()
    content = compare_runs(read_runs(folders or options.runs), protocols=options.protocol)
    out = Path(options.out)
    record = write_record(out / "record.json", "comparison", content)
    write_text(out / "report.html", render([record], MAKERS))
    for protocol, comparison in record["protocols"].items():
        _show_comparison(record, protocol, comparison, terminal)
    terminal.show(f"record  {out / 'record.json'}", wrap=False)
    terminal.show(f"report  {out / 'report.html'}", wrap=False)


def _show_comparison(
    record: Mapping[str, Any], protocol: str, comparison: Mapping[str, Any], terminal: Terminal
) -> None:
    labels = [label["name"] for label in record["labels"]]
    terminal.table(
        f"{protocol}: scores",
        ["benchmark", "n", *labels],
        [
            [row["title"], str(row["n"]), *(points(row["scores"][label]) for label in labels)]
            for row in comparison["scores"]
        ],
    )
    terminal.table(
        f"{protocol}: first - second, paired by question",
        ["benchmark", "pair", "difference [95 %]", "p", "Holm p", "finds from", "seed sd"],
        [
            [
                row["title"],
                f"{row['first']} - {row['second']}",
                signed_points(row["difference"]),
                p_value(row["p_value"]),
                p_value(row["p_holm"]),
                "-" if row["detectable"] is None else f"{100 * row['detectable']:.1f}",
                "-" if row["seed_sd"] is None else f"{100 * row['seed_sd']:.1f}",
            ]
            for row in comparison["differences"]
        ],
        notes=[
            "Points of 100. p: sign flips, or exact McNemar for one answer each; Holm p: corrected"
            " for the pairs of a benchmark. 'finds from': the smallest difference that shows in"
            " 80 % of evaluations.",
            *record["cautions"],
        ],
    )
