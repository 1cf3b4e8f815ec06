"""The tables of regret: choosers on some cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..blocks import Table
from .evaluate import RACED, choices, choosers, raced
from .fit import METRIC
from .regret import PROTOCOLS, Score, accuracy, resampled, score
from .table import Grid

__all__ = [
    "CONFIRMATION",
    "HELD_OUT",
    "Split",
    "cached_choices",
    "choosers_table",
    "headline_table",
    "interval",
    "objectives_table",
    "paired_table",
    "percents",
    "protocol_table",
    "splits_table",
    "standing",
]

HELD_OUT = ("family", "kind", "both")
CONFIRMATION = "confirmation"

Split = str | tuple[str, ...]

_MADE: dict[tuple[int, str, str], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}


def cached_choices(grid: Grid, name: str, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a chooser's choices in every cell, from the cache after the first time."""
    key = (id(grid), name, metric)
    if key not in _MADE:
        _MADE[key] = choices(grid, choosers(metric)[name])
    return _MADE[key]


def standing(
    grid: Grid, cells: np.ndarray, *, metric: str = "greedy", protocol: str = "validation"
) -> dict[str, tuple[Score, float, float]]:
    """Chooser -> (score, mean cost, share of cells and seeds where it races)."""
    values = accuracy(grid, metric=METRIC[metric], protocol=protocol)[cells]
    family = np.array([grid.cells[c]["family"] for c in cells])
    nll = grid.index("nll()")
    scores = {}
    for name in choosers(metric):
        chosen, undecided, cost = cached_choices(grid, name, metric)
        plain = name in ("always NLL", "always -p")
        scores[name] = (
            score(values, chosen[cells], family, nll),
            0.0 if plain else float(cost[cells].mean()),
            float(undecided[cells].mean()),
        )
    for name, (of, share) in RACED.items():
        chosen, cost = raced(grid, of, share)
        scores[name] = (score(values, chosen[cells], family, nll), float(cost[cells].mean()), 1.0)
    return scores


def choosers_table(grid: Grid, *, split: Split, metric: str) -> Table:
    """Regret, losses and cost of every chooser."""
    header = [
        "chooser",
        "mean regret [95 %]",
        "95 % of cells below",
        "naive regret",
        "gain over NLL [95 %]",
        "loses > 1 to NLL",
        "cost",
    ]
    cells = grid.where(split)
    rows = []
    for name, (s, cost, _) in (standing(grid, cells, metric=metric) if cells.size else {}).items():
        rows.append(
            [
                name,
                interval(s.regret),
                f"{s.high:.1f}",
                f"{s.naive[0]:.2f}, {s.naive_high:.1f}",
                interval(s.gain, sign=True),
                percents(s.loses),
                f"{100 * cost:.1f} %",
            ]
        )
    return header, rows


def objectives_table(grid: Grid, *, split: Split) -> Table:
    """Return every objective as if it were always chosen, for both metrics."""
    cells = grid.where(split)
    family = np.array([grid.cells[c]["family"] for c in cells])
    header = ["always"]
    for metric in METRIC:
        header += [f"{metric}: accuracy", "mean regret [95 %]", "95 % below", "loses > 1 to NLL"]
    rows = []
    for o, name in enumerate(grid.objectives):
        row = [f"`{name}`"]
        for metric in METRIC:
            values = accuracy(grid, metric=METRIC[metric])[cells]
            s = score(values, np.full(values.shape[:2], o), family, grid.index("nll()"))
            row += [
                f"{100 * values[..., o].mean():.1f}",
                interval(s.regret),
                f"{s.high:.1f}",
                f"{100 * s.loses[0]:.0f} %",
            ]
        rows.append(row)
    return header, rows


def paired_table(grid: Grid, *, split: Split) -> Table:
    """Accuracy of auto less that of the plain rules, paired by cell."""
    cells = grid.where(split)
    if not cells.size:
        return ["no such cells"], []
    family = np.array([grid.cells[c]["family"] for c in cells])
    rivals = ("always NLL", "always -p", "paper's rule (mean p)", "theory's crossover")
    rows = []
    for metric in METRIC:
        values = accuracy(grid, metric=METRIC[metric])
        reached = {}
        for name in (*rivals, "auto"):
            chosen = cached_choices(grid, name, metric)[0]
            picked = np.take_along_axis(values, chosen[..., None], -1)[..., 0]
            reached[name] = 100.0 * picked.mean(1)[cells]
        rows.append(
            [
                metric,
                *(
                    interval(resampled(reached["auto"] - reached[r], family), sign=True)
                    for r in rivals
                ),
            ]
        )
    return ["auto less, points [95 %]", *rivals], rows


def headline_table(grid: Grid, *, split: Split) -> Table:
    """Return what auto was to reach on held-out cells, and what it reaches."""
    cells = grid.where(split)
    if not cells.size:
        return ["no such cells"], []
    standings = {metric: standing(grid, cells, metric=metric) for metric in METRIC}

    def row(target: str, of: Callable[[str], tuple[str, bool]]) -> list[str]:
        said = [of(metric) for metric in METRIC]
        return [target, *(f"{text}: {'yes' if met else 'no'}" for text, met in said)]

    def auto_of(metric: str) -> Score:
        return standings[metric]["auto"][0]

    def beats(rival: str) -> Callable[[str], tuple[str, bool]]:
        def of(metric: str) -> tuple[str, bool]:
            theirs = standings[metric][rival][0].regret
            apart = auto_of(metric).regret[2] < theirs[1]
            return f"{interval(auto_of(metric).regret)} against {interval(theirs)}", apart

        return of

    rows = [
        row(
            "mean regret at most 1.0",
            lambda m: (f"{auto_of(m).regret[0]:.2f}", auto_of(m).regret[0] <= 1.0),
        ),
        row("95 % of cells below 3", lambda m: (f"{auto_of(m).high:.1f}", auto_of(m).high <= 3.0)),
        row(
            "more than 1 point below NLL in at most 5 % of cells",
            lambda m: (f"{100 * auto_of(m).loses[0]:.1f} %", auto_of(m).loses[0] <= 0.05),
        ),
        row("less regret than always NLL, intervals apart", beats("always NLL")),
        row("than always -p", beats("always -p")),
        row("than the paper's rule", beats("paper's rule (mean p)")),
        row(
            "cost at most 1 % of training",
            lambda m: (f"{100 * standings[m]['auto'][1]:.1f} %", standings[m]["auto"][1] <= 0.01),
        ),
        [
            "races",
            *(f"in {100 * standings[m]['auto'][2]:.0f} % of cells and seeds" for m in METRIC),
        ],
    ]
    return [f"{len(cells)} cells, points of accuracy", *(f"{m} answers" for m in METRIC)], rows


def splits_table(grid: Grid) -> Table:
    """Auto and NLL on the parts of the design."""
    parts: dict[str, tuple[str, ...]] = {
        "development": ("development",),
        "held-out family": ("family",),
        "held-out kind": ("kind",),
        "both held out": ("both",),
        "confirmation": (CONFIRMATION,),
    }
    header = ["cells", "n"]
    for metric in METRIC:
        header += [f"{metric}: NLL regret", "auto regret", "auto 95 % below", "auto loses > 1"]
    rows = []
    for name, split in parts.items():
        cells = grid.where(split)
        if not cells.size:
            continue
        row = [name, str(cells.size)]
        for metric in METRIC:
            scores = standing(grid, cells, metric=metric)
            nll, auto = scores["always NLL"][0], scores["auto"][0]
            row += [
                interval(nll.regret),
                interval(auto.regret),
                f"{auto.high:.1f}",
                f"{100 * auto.loses[0]:.0f} %",
            ]
        rows.append(row)
    return header, rows


def protocol_table(grid: Grid, *, split: Split) -> Table:
    """Return how much hangs on how the learning rate is chosen."""
    rows = []
    for protocol in PROTOCOLS:
        scores = standing(grid, grid.where(split), protocol=protocol)
        names = ("always NLL", "always -p", "paper's rule (mean p)", "auto")
        rows.append([protocol, *(interval(scores[n][0].regret) for n in names)])
    return ["learning rate chosen by", "always NLL", "always -p", "paper's rule", "auto"], rows


def interval(x: tuple[float, float, float], *, sign: bool = False) -> str:
    form = "{:+.2f} [{:+.2f}, {:+.2f}]" if sign else "{:.2f} [{:.2f}, {:.2f}]"
    return form.format(*x)


def percents(x: tuple[float, float, float]) -> str:
    return "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * v for v in x))
