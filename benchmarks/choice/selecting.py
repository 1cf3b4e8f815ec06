"""`--objective select:A,B` on the bench, beside short races of the same objectives: run

    python -m benchmarks.choice.selecting            print the table
    python -m benchmarks.choice.selecting --write    and write it into docs/choice-bench.md

An arm is selected as `probtune tune` does it: on held-out rows with the cell's own noise (the
bench's validation rows), by the share of right answers for greedy decoding and by mean p for
sampled answers, the first of equals. The gain is that on the bench's clean test rows. Every
objective has its best learning rate by the same validation rows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..blocks import Table, aligned, write
from . import table
from .after_scout import HELD_OUT, METRICS, gains
from .evaluate import raced
from .regret import accuracy

DOCUMENT = Path(__file__).parents[2] / "docs" / "choice-bench.md"
ARMS = (
    ("nll()", "power(0.5)"),
    ("nll()", "p()"),
    ("nll()", "power(0.5)", "p()"),
    ("outlier", "outlier_half"),
)
"""`outlier` is `inliers(nll())`, `outlier_half` is `inliers(power(0.5))`; the first of equals is
taken."""
_JUDGED_BY = {"greedy": "validation_exact", "sampled": "validation_p"}
SHARES = (0.05, 0.2)
"""Shares of the steps of the races beside it."""


def selected(grid: table.Grid, arms: Sequence[str], metric: str) -> np.ndarray:
    """Index of the arm that validation takes, (C, S)."""
    columns = np.array([grid.index(name) for name in arms])
    judged = accuracy(grid, metric=_JUDGED_BY[metric])[..., columns]
    return columns[judged.argmax(-1)]


def policies(grid: table.Grid, metric: str) -> dict[str, tuple[np.ndarray, str]]:
    """Name -> (index of what is trained to the end, (C, S); trainings that it costs)."""
    named = {}
    for arms in ARMS:
        of = ", ".join(f"`{name}`" for name in arms)
        named[f"select {of}"] = (selected(grid, arms, metric), f"{len(arms)}")
        for share in SHARES if "outlier" not in arms else ():
            chosen, _ = raced(grid, arms, share)
            trainings = 1 + (len(arms) - 1) * share
            named[f"race of {of}, {share:.0%}"] = (chosen, f"{trainings:.2f}")
    for name in ("power(0.5)", "p()", "outlier", "outlier_half"):
        named[f"always `{name}`"] = (
            np.full(grid.scores["accuracy"].shape[:2], grid.index(name)),
            "1",
        )
    return named


def page(grid: table.Grid) -> Table:
    """Return the table over held-out and confirmation cells."""
    cells = grid.where(HELD_OUT)
    header = ["answers", "policy", "trainings", "gain over NLL", "worst cell", "lose > 1"]
    rows = []
    for metric in METRICS:
        for name, (chosen, trainings) in policies(grid, metric).items():
            means = gains(grid, chosen, metric)[cells].mean(1)
            rows.append(
                [
                    *(metric, name, trainings, f"{means.mean():+.1f}"),
                    *(f"{means.min():+.1f}", f"{(means < -1.0).mean():.0%}"),
                ]
            )
    return header, rows


def main() -> None:
    grid = table.load()
    print(aligned(page(grid)))
    if "--write" in sys.argv[1:]:
        write(DOCUMENT, "selecting", page(grid))


if __name__ == "__main__":
    main()
