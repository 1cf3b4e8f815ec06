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
from pathlib import Path
from typing import Any

import numpy as np

from probtune.numbers import signed
from probtune.probe.choosing import METRICS
from probtune.statistics import mean

from ...blocks import Table, aligned, write
from .trainings import DOCUMENTS, picked, read, run_missing

__all__ = ["ARMS", "CELLS", "page"]

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
        return
    if not options.summary:
        run_missing(RESULTS, CELLS, below=20, rows=128, arms=ARMS, tests=TESTS)
    print(aligned(page(read(RESULTS))))


if __name__ == "__main__":
    main()
