"""Objectives after first steps of NLL, and the share of these steps, on development cells.

    python -m benchmarks.choice.real.first_steps               run what is missing, resuming
    python -m benchmarks.choice.real.first_steps --summary     the table of what was run
    python -m benchmarks.choice.real.first_steps --page        the same into the document

`auto` chooses where its scout left the model, but the training begins at the base, so NLL goes
first where the base does not expect the rows (`probtune.probe.warmed`). These cells, trained as in
`trainings`, are tasks and kinds of wrong rows that may shape a decision (`DEVELOPMENT`); only tasks
whose wrong rows a scout sees, since elsewhere `auto` takes NLL. 256 test rows, so that a difference
of greedy answers has a standard error of 2 to 3 points.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from probtune.numbers import signed
from probtune.probe.choosing import METRICS
from probtune.statistics import mean

from ...blocks import Table, aligned, write
from . import orders
from .noise import HELD_OUT as KINDS_HELD_OUT
from .tasks import HELD_OUT as TASKS_HELD_OUT
from .trainings import DOCUMENTS, picked, read, run_missing

__all__ = ["ARMS", "CELLS", "after_nll", "followed", "page"]

RESULTS = Path(__file__).with_name("first_steps.jsonl")
TESTS = 256
CELLS = (
    *(("count-on", "other_row", 0.4, 0), ("steps", "other_row", 0.4, 0)),
    *(("mixed-sentences", "other_row", 0.4, 0), ("count-on", "slip", 0.2, 0)),
    *(("steps", "slip", 0.2, 0), ("mixed-sentences", "slip", 0.2, 0)),
)
_AFTER = ("power(0.5)", "p()", "affine(0.1, 0.9)")
_SHARES = (0.17, 0.33)
ARMS = (
    "nll()",
    *(f"anneal(nll(), nll_on_special({f}), {s}, {s})" for s in _SHARES for f in _AFTER),
    "nll_on_special(affine(0.1, 0.9))",
    "inliers(nll())",
    "inliers(anneal(nll(), nll_on_special(power(0.5)), 0.17, 0.17))",
    "inliers(anneal(nll(), nll_on_special(p()), 0.17, 0.17))",
)


def followed(line: dict[str, Any], metric: str) -> float | None:
    """Gain in points of power(0.5) over p(), both behind first steps of NLL, in a cell of
    `trainings` or `orders`; None where `auto` takes another objective or NLL does not go first.
    """
    arm = line["auto"]["greedy"]
    pair = (arm, arm.replace("power(0.5)", "p()"))
    if not arm.startswith("anneal(") or pair[0] == pair[1]:
        return None
    runs = line["orders"].values() if "orders" in line else [line["arms"]]
    if any(pair[1] not in arms for arms in runs):
        return None
    first, second = (np.mean([picked(arms[a], metric) for arms in runs]) for a in pair)
    return float(100 * (first - second))


def after_nll() -> Table:
    """power(0.5) against p() behind first steps of NLL: mean over cells with its 95 % interval."""
    rows = []
    benches = {"trainings": read(), "other orders": read(orders.RESULTS)}
    for metric, bench in product(METRICS, benches):
        gains: dict[str, list[float]] = {"development": [], "held out": []}
        for line in benches[bench]:
            held_out = line["task"] in TASKS_HELD_OUT or line["kind"] in KINDS_HELD_OUT
            gain = followed(line, metric)
            if gain is not None:
                gains["held out" if held_out else "development"].append(gain)
        for which, of in gains.items():
            more = sum(gain > 0 for gain in of)
            interval = signed(mean(np.array(of))._asdict(), 1)
            rows.append([metric, bench, which, str(len(of)), str(more), interval])
    return ["answers", "cells of", "", "number", "more with power(0.5)", "by [95 %]"], rows


def page(lines: list[dict[str, Any]]) -> Table:
    """Gain of every arm over NLL in points, in each cell and on average with its 95 % interval."""
    header = ["objective", "answers"]
    header += [f"{r['task']}, {r['kind']} {r['true']:.0%}" for r in lines] + ["mean [95 %]"]
    rows = []
    for arm in ARMS[1:]:
        for metric in METRICS:
            of = [
                100 * (picked(r["arms"][arm], metric) - picked(r["arms"]["nll()"], metric))
                for r in lines
            ]
            rows.append(
                [
                    *(f"`{arm}`", metric, *(f"{gain:+.1f}" for gain in of)),
                    signed(mean(np.array(of))._asdict(), 1),
                ]
            )
    return header, rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.first_steps")
    parser.add_argument("--summary", action="store_true", help="print the table, run nothing")
    parser.add_argument("--page", action="store_true", help="write the table into docs/ and stop")
    options = parser.parse_args()
    if options.page:
        write(DOCUMENTS / "choice-bench.md", "first-steps", page(read(RESULTS)))
        write(DOCUMENTS / "choice-bench.md", "after-nll", after_nll())
        return
    if not options.summary:
        run_missing(RESULTS, CELLS, below=20, rows=128, arms=ARMS, tests=TESTS)
    print("\n\n".join(map(aligned, (page(read(RESULTS)), after_nll()))))


if __name__ == "__main__":
    main()
