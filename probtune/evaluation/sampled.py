"""The graded samples of an evaluation's folder, question by question, as `diversity` and
`calibration` take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..terminal import Terminal
from .analyse import Measured, load_measured
from .samples import read_samples

__all__ = ["Sampled", "load_sampled"]


class Sampled:
    """The samples of one benchmark, question by question."""

    def __init__(self, measured: Measured, samples: int):
        self.measured, self.samples = measured, samples
        texts = {s.key: s.text for s in read_samples(measured.folder / "samples.jsonl")}
        lines: dict[str, list[Mapping[str, Any]]] = {}
        for line in measured.lines:
            lines.setdefault(line["question"], []).append(line)
        self.texts = [[texts[q, x["sample"]] for x in rows] for q, rows in lines.items()]
        self.correct = [[float(x["score"]) for x in rows] for rows in lines.values()]
        # All right answers equal the gold, so they are one answer in whatever form.
        self.answers = [[_answer(x) for x in rows] for rows in lines.values()]
        clusters = measured.clusters
        self.clusters = None if clusters is None else [clusters[question] for question in lines]


def _answer(line: Mapping[str, Any]) -> tuple[str, ...] | str | None:
    if line["answer"] is None:
        return None
    return ("right",) if line["score"] == 1 else " ".join(line["answer"].split())


def load_sampled(root: Path, protocol: str, terminal: Terminal, *, least: int = 2) -> list[Sampled]:
    """Return the benchmarks whose questions have several samples, each right or wrong.

    Raises:
        UsageError: no benchmark is of this kind.
    """
    sampled, left_out = [], []
    for measured in load_measured(root):
        if measured.protocol != protocol:
            continue
        samples = measured.record["decoding"]["samples"]
        if samples < least or any(line["score"] not in (0, 1) for line in measured.lines):
            left_out.append(measured.task.name)
        else:
            sampled.append(Sampled(measured, samples))
    if not sampled:
        raise UsageError(
            f"{root} holds no benchmark with {least} or more answers per question that are right or"
            f" wrong under the {protocol} protocol; draw more with `probtune eval -k`."
        )
    if left_out:
        terminal.say(
            f"Left out {', '.join(left_out)}: they have one answer per question, or scores between"
            " right and wrong."
        )
    return sampled
