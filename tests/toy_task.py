"""A benchmark of our own for the tests of the engine: one-digit sums, asked in words."""

from __future__ import annotations

import sys
from types import ModuleType

from probtune.errors import DataError
from probtune.evaluation.grading.base import Grade
from probtune.evaluation.tasks import table
from probtune.evaluation.tasks.base import Decoding, Protocol, Question, Source, Task


def read(rows):
    for number, row in enumerate(rows, 1):
        if "prompt" not in row:
            raise DataError(f"row {number} has no column 'prompt'.")
    return [
        Question(
            id=f"q{number}",
            text=row["prompt"],
            gold=row["completion"],
            cluster=row.get("cluster"),
            texts={"reference": row["reference"]} if "reference" in row else {},
            protocols=tuple(row.get("protocols", ("strict", "reference"))),
        )
        for number, row in enumerate(rows)
    ]


def grade_first(items, /, *, progress=None):
    """Strict: the first word."""
    answers = []
    for item in items:
        words = item.text.split()
        answer = words[0] if words and words[0].isdigit() else None
        how = "none" if answer is None else "whole"
        answers.append(
            Grade(float(answer == item.gold), answer, how, {"length": float(len(words))})
        )
    if progress is not None:
        progress(len(answers))
    return answers


def grade_any(items, /, *, progress=None):
    """Reference: any word; never abstains."""
    return [Grade(float(item.gold in item.text.split()), item.text, "last") for item in items]


def toy(name="toy", *, redistributable=True, samples=3, temperature=1.0, **changes):
    decoding = Decoding(6, temperature=temperature, samples=samples, stop=("say",))
    return Task(
        **{
            "name": name,
            "domain": "math",
            "title": name.title(),
            "source": Source("ours/toy", "test", 6, "MIT", redistributable=redistributable),
            "read": read,
            "protocols": {
                "strict": Protocol(decoding, grade_first, "the first word"),
                "reference": Protocol(decoding, grade_any, "any word"),
            },
            "example": {"prompt": "ask 1 + 1 = ", "completion": "2"},
            "example_response": "2",
            "paper": {("Tiny-1", "base"): 10.0, ("Tiny-1", "nll()"): 20.0},
            "local": f"{name}.jsonl",
            **changes,
        }
    )


def install(monkeypatch, *tasks):
    """Put tasks into the table of benchmarks for one test."""
    for task in tasks:
        module = ModuleType(f"probtune.evaluation.tasks.{task.name}")
        module.TASK = task
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(table._MODULES, task.name, task.name)
