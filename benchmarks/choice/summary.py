"""The table of results as tables: the same numbers for the terminal and for the documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from probtune.terminal import Terminal

from ..blocks import Table
from .findings import (
    calibration_table,
    decision_table,
    line_table,
    noise_kind_table,
    noise_table,
    phase_table,
    picks_table,
    rule_table,
    worst_table,
)
from .fit import METRIC
from .standing import (
    CONFIRMATION,
    HELD_OUT,
    choosers_table,
    headline_table,
    interval,
    objectives_table,
    paired_table,
    percents,
    protocol_table,
    splits_table,
    standing,
)
from .table import Grid, load

__all__ = ["CARRY", "TABLES", "show"]

CARRY = Path(__file__).with_name("carry.parquet")


def carry_table(_: Grid) -> Table:
    """Auto at a size and vocabulary that it was not fitted on."""
    grid = _cached(CARRY)
    rows = []
    for metric in METRIC:
        scores = standing(grid, np.arange(len(grid.cells)), metric=metric)
        for name in ("always NLL", "always -p", "paper's rule (mean p)", "auto"):
            s = scores[name][0]
            rows.append(
                [
                    metric,
                    name,
                    interval(s.regret),
                    f"{s.high:.1f}",
                    interval(s.gain, sign=True),
                    percents(s.loses),
                ]
            )
    header = ["answers", "chooser", "mean regret [95 %]", "95 % of cells below"]
    return [*header, "gain over NLL [95 %]", "loses > 1 to NLL"], rows


def overview(grid: Grid) -> Table:
    """Return what was run."""
    hours = grid.run["seconds"].sum() / 3600.0
    split = {name: int(grid.where(name).size) for name in ("development", *HELD_OUT, CONFIRMATION)}
    rows = [
        ["cells, seeds", f"{len(grid.cells)}, {len(grid.seeds)}"],
        [
            "development, held-out family, kind, both, confirmation",
            ", ".join(map(str, split.values())),
        ],
        ["objectives x learning rates", "{} x {}".format(*grid.scores["accuracy"].shape[2:])],
        ["models trained", f"{grid.scores['accuracy'].size:,}"],
        ["core-hours of fine-tuning", f"{hours:.2f}"],
        ["bases that did not reach a level", str(len(grid.metadata["failed"]))],
    ]
    return ["", ""], rows


TABLES: dict[str, tuple[str, Callable[[Grid], Table]]] = {
    "decision_greedy": (
        "What auto says, greedy answers",
        lambda g: decision_table(g, metric="greedy"),
    ),
    "decision_sampled": (
        "What auto says, sampled answers",
        lambda g: decision_table(g, metric="sampled"),
    ),
    "confirmed": (
        "What auto was to reach, and reaches: cells of the confirmation",
        lambda g: headline_table(g, split=CONFIRMATION),
    ),
    "headline": (
        "What auto was to reach, and reaches: held-out cells, second look",
        lambda g: headline_table(g, split=HELD_OUT),
    ),
    "overview": ("What was run", overview),
    "choosers_greedy": (
        "Choosers, held-out cells, greedy answers (points of accuracy)",
        lambda g: choosers_table(g, split=HELD_OUT, metric="greedy"),
    ),
    "choosers_sampled": (
        "Choosers, held-out cells, sampled answers (points of accuracy)",
        lambda g: choosers_table(g, split=HELD_OUT, metric="sampled"),
    ),
    "confirm_greedy": (
        "Choosers, cells of the confirmation, greedy answers",
        lambda g: choosers_table(g, split=CONFIRMATION, metric="greedy"),
    ),
    "confirm_sampled": (
        "Choosers, cells of the confirmation, sampled answers",
        lambda g: choosers_table(g, split=CONFIRMATION, metric="sampled"),
    ),
    "paired": (
        "Auto against the plain rules, held-out cells",
        lambda g: paired_table(g, split=HELD_OUT),
    ),
    "confirm_paired": (
        "Auto against the plain rules, cells of the confirmation",
        lambda g: paired_table(g, split=CONFIRMATION),
    ),
    "splits": ("By part of the design", splits_table),
    "objectives": (
        "Every objective always, held-out cells",
        lambda g: objectives_table(g, split=HELD_OUT),
    ),
    "phase_greedy": (
        "-p less NLL, greedy, points (cells)",
        lambda g: phase_table(g, metric="greedy"),
    ),
    "phase_sampled": (
        "-p less NLL, sampled, points (cells)",
        lambda g: phase_table(g, metric="sampled"),
    ),
    "line": ("Measured winners and the theory's crossover", line_table),
    "noise": ("Estimated label noise, by capability", noise_table),
    "noise_kinds": ("Estimated label noise, by kind", noise_kind_table),
    "protocols": (
        "Mean regret by protocol, held-out cells, greedy",
        lambda g: protocol_table(g, split=HELD_OUT),
    ),
    "rule": ("The fitted rule", rule_table),
    "picks": ("What auto takes, held-out cells", picks_table),
    "calibration": ("Gains stated and reached, single runs", calibration_table),
    "worst": ("Where auto fails, greedy", lambda g: worst_table(g, split=HELD_OUT)),
    "carry": ("Another size and vocabulary", carry_table),
}
"""Name of a block -> (title, table)."""


def show(path: Path, terminal: Terminal) -> None:
    """Print every table."""
    grid = _cached(path)
    for name, (title, make) in TABLES.items():
        if name == "carry" and not CARRY.is_file():
            continue
        header, rows = make(grid)
        terminal.table(title, header, rows)


@cache
def _cached(path: Path) -> Grid:
    return load(path)
