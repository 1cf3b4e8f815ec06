"""Write the tables of docs/choice-bench.md between their marks, and its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from probtune.reports.figures import PALETTE, save, styled
from probtune.theory.closed import crossover

from ..blocks import write
from .fit import METRIC
from .regret import accuracy
from .summary import CARRY, TABLES
from .table import Grid, load

__all__ = ["DOCUMENT", "FIGURE", "diagram", "write_all"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "choice-bench.md"
FIGURE = DOCUMENT.with_name("choosing.svg")

_TIE = 1.0
"""Points within which two objectives count as equal."""
_SIZES = (_TIE, 5.0, 20.0)
"""Leads at which the dots of the figure become larger."""


def write_all(path: Path) -> None:
    """Write every table and the figure, from a table of results."""
    grid = load(path)
    for name, (_, make) in TABLES.items():
        if name != "carry" or CARRY.is_file():
            write(DOCUMENT, name, make(grid))
    save(diagram(grid), str(FIGURE))


def diagram(grid: Grid) -> Any:
    """Capability over noise: who leads in every cell, over the theory's crossover."""
    rng = np.random.default_rng(0)
    noise = np.array([c["rate"] for c in grid.cells]) + rng.uniform(-0.008, 0.008, len(grid.cells))
    p = grid.run["mean_p_clean"].mean(1)
    line = np.linspace(0.0, 0.55, 100)
    with styled() as pyplot:
        figure, both = pyplot.subplots(1, 2, figsize=(8.4, 4.2), layout="constrained", sharey=True)
        for axes, metric in zip(both, METRIC, strict=True):
            values = accuracy(grid, metric=METRIC[metric]).mean(1)
            lead = 100.0 * (values[:, grid.index("p()")] - values[:, grid.index("nll()")])
            sides = {
                "NLL leads by more than 1 point": (lead < -_TIE, PALETTE[0]),
                "-p leads by more than 1 point": (lead > _TIE, PALETTE[1]),
                "within 1 point": (np.abs(lead) <= _TIE, "#aaaaaa"),
            }
            size = np.searchsorted(_SIZES, np.abs(lead))
            for name, (mask, colour) in sides.items():
                for step in np.unique(size[mask]):
                    among = mask & (size == step)
                    axes.plot(
                        *(noise[among], p[among], "o"),
                        color=colour,
                        markersize=3 + 2 * step,
                        markeredgewidth=0,
                        alpha=0.75,
                        label=name if step == size[mask].min() else None,
                    )
            axes.plot(
                line,
                crossover(noise=line, classes=10),
                color="#333333",
                linestyle="--",
                linewidth=1.2,
                label="theory: crossover at the start",
            )
            axes.set(
                xlim=(-0.03, 0.55),
                ylim=(0, 1.02),
                xlabel="share of bad demonstrations",
                title=f"{metric} answers",
            )
        both[0].set_ylabel("mean p of right targets before training")
        handles, names = both[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
        return figure
