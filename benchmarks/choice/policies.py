"""Policies after a scout on the bench's held-out cells, by what counts: the paired gain over NLL
and over the best fixed objective, the worst cell, and the regret as a bracket.

auto        the rule of `probtune.probe.after_scout`, where the bench stands for the scout
auto with inliers  the same with inliers(nll()) and inliers(power(0.5)) in its family, as if the
            pass over all rows that they need were free
select      both arms trained in full; the better one on validation rows with the cell's own noise
always      one objective everywhere; the best fixed one is the best on development cells
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from probtune.probe.after_scout import TAKEN
from probtune.probe.choosing import NLL

from ..blocks import Table, aligned
from . import after_scout
from .after_scout import CANDIDATES, HELD_OUT, METRICS, gains, seen, taken, worst_kind
from .regret import accuracy, crossed_regret, naive_regret, resampled
from .rules import paper_rule
from .selecting import selected
from .standing import interval
from .table import Grid

__all__ = ["DOCUMENT", "SECOND", "coverage", "page", "policies", "second", "text"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "choosing-an-objective.md"

SECOND = Path(__file__).with_name("second.parquet")
"""Results of the second confirmation."""

_ARMS = ((NLL, "power(0.5)"), (NLL, "outlier_half"))


def policies(grid: Grid, metric: str, fitted: Grid) -> dict[str, np.ndarray]:
    """Return policy -> index of the objective it takes, (C, S).

    Args:
        fitted: the grid whose development cells choose.
    """
    shape = (len(grid.cells), len(grid.seeds))
    with_inliers = after_scout.chosen(
        fitted, metric, (*after_scout.FAMILY, "outlier", "outlier_half")
    )
    by_paper = [[grid.index(paper_rule(f).objective) for f in cell] for cell in grid.features]
    return {
        "auto": np.broadcast_to(taken(grid, TAKEN[metric])[:, None], shape),
        "auto with inliers": np.broadcast_to(taken(grid, with_inliers)[:, None], shape),
        **{f"select:{','.join(arms)}": selected(grid, arms, metric) for arms in _ARMS},
        "paper's rule": np.array(by_paper),
        **{f"always {name}": np.full(shape, grid.index(name)) for name in CANDIDATES},
    }


def page(grid: Grid) -> Table:
    """Every policy on the held-out cells, the confirmation included."""
    return _table(grid, HELD_OUT, grid)


def second(grid: Grid, fitted: Grid) -> Table:
    """Every policy on the cells of the second confirmation; nothing was chosen on them."""
    return _table(grid, ("second confirmation",), fitted)


def _table(grid: Grid, splits: tuple[str, ...], fitted: Grid) -> Table:
    """The rivals are the paper's rule, and the best fixed objectives of development: of all, and of
    those that need p alone.
    """
    cells = grid.where(splits)
    family = np.array([grid.cells[c]["family"] for c in cells])
    development = fitted.where("development")
    rows = []
    for metric in METRICS:
        values = accuracy(grid, metric=METRICS[metric])
        chosen = policies(grid, metric, fitted)
        points = {
            name: 100.0 * np.take_along_axis(values, index[..., None], -1)[cells, :, 0].mean(1)
            for name, index in chosen.items()
        }
        of_development = accuracy(fitted, metric=METRICS[metric])[development]
        fixed = {
            name: of_development[..., fitted.index(name)].mean() for name in (*CANDIDATES, NLL)
        }
        best = max(fixed, key=fixed.__getitem__)
        best_of_p = max((n for n in fixed if "outlier" not in n), key=fixed.__getitem__)
        base = 100.0 * values[cells][..., grid.index(NLL)].mean(1)
        points[f"always {NLL}"] = base
        rivals = (f"always {best}", f"always {best_of_p}", "paper's rule")
        for name, index in chosen.items():
            gain = points[name] - base
            regret = [f(values[cells], index[cells]).mean() for f in (crossed_regret, naive_regret)]
            against = (
                "-"
                if name == rival
                else interval(resampled(points[name] - points[rival], family), sign=True)
                for rival in rivals
            )
            rows.append(
                [
                    *(metric, f"`{name}`" + (" (best fixed)" if name == rivals[0] else "")),
                    interval(resampled(gain, family), sign=True),
                    *against,
                    "[{:.1f}, {:.1f}]".format(*regret),
                    f"{gain.min():+.1f}",
                    f"{(gain < -1.0).mean():.0%}",
                ]
            )
    header = [f"answers, {len(cells)} cells", "policy", "gain over NLL [95 %]"]
    header += ["over the best fixed", "over the best fixed of p", "over the paper's rule"]
    return [*header, "regret", "worst cell", "lose > 1"], rows


def text(grid: Grid) -> str:
    """The table for the terminal, and how well the stated ranges cover."""
    lines = [aligned(page(grid))]
    for metric in METRICS:
        share, width = coverage(grid, metric)
        lines.append(
            f"{metric}: ranges from the other kinds hold {share:.0%} of a kind's runs"
            f" (asked: 90 %), {width:.0f} points wide"
        )
    return "\n".join(lines)


def coverage(grid: Grid, metric: str) -> tuple[float, float]:
    """Return (share of runs in the stated range, mean width in points) of the ranges that the other
    kinds of noise give for each kind: what the product states, seen from a kind it does not know.
    """
    cells = grid.where(HELD_OUT)
    cells = cells[seen(grid)[cells]]
    kinds = np.array([grid.cells[c]["kind"] for c in cells])
    runs = gains(grid, grid.index(TAKEN[metric].wrong), metric)[cells]
    inside, widths = [], []
    for kind in sorted(set(kinds)):
        low, high = worst_kind(runs[kinds != kind], kinds[kinds != kind])
        inside.append((runs[kinds == kind] >= low) & (runs[kinds == kind] <= high))
        widths.append(np.full(inside[-1].shape, high - low))
    flat = np.concatenate([part.ravel() for part in inside])
    return float(flat.mean()), float(np.concatenate([w.ravel() for w in widths]).mean())
