"""What the table says, as tables: the same numbers for the terminal and for the documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from probtune.choosing import auto, read_rule
from probtune.features import DESCRIPTIONS
from probtune.terminal import Terminal

from ..blocks import Table
from .bases import LEVELS
from .evaluate import RACED, choices, choosers, index_of, raced
from .fit import METRIC
from .noise import RATES
from .regret import PROTOCOLS, Score, accuracy, crossed_regret, resampled, score
from .table import Grid, load

__all__ = ["CARRY", "HELD_OUT", "TABLES", "overview", "show", "standing"]

HELD_OUT = ("family", "kind", "both")
CONFIRMATION = "confirmation"
CARRY = Path(__file__).with_name("carry.parquet")


_MADE: dict[tuple[int, str, str], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}


def made(grid: Grid, name: str, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A chooser's choices in every cell; they are asked for many times."""
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
    found = {}
    for name in choosers(metric):
        chosen, undecided, cost = made(grid, name, metric)
        plain = name in ("always NLL", "always -p")
        found[name] = (
            score(values, chosen[cells], family, nll),
            0.0 if plain else float(cost[cells].mean()),
            float(undecided[cells].mean()),
        )
    for name, (of, share) in RACED.items():
        chosen, cost = raced(grid, of, share)
        found[name] = (score(values, chosen[cells], family, nll), float(cost[cells].mean()), 1.0)
    return found


def choosers_table(grid: Grid, *, split: str | tuple[str, ...], metric: str) -> Table:
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
                _interval(s.regret),
                f"{s.high:.1f}",
                f"{s.naive[0]:.2f}, {s.naive_high:.1f}",
                _interval(s.gain, sign=True),
                _percents(s.loses),
                f"{100 * cost:.1f} %",
            ]
        )
    return header, rows


def objectives_table(grid: Grid, *, split: str | tuple[str, ...]) -> Table:
    """Every objective as if it were always chosen, for both metrics."""
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
                _interval(s.regret),
                f"{s.high:.1f}",
                f"{100 * s.loses[0]:.0f} %",
            ]
        rows.append(row)
    return header, rows


def paired_table(grid: Grid, *, split: str | tuple[str, ...]) -> Table:
    """Accuracy of auto less that of the plain rules, paired by cell."""
    cells = grid.where(split)
    family = np.array([grid.cells[c]["family"] for c in cells])
    rivals = ("always NLL", "always -p", "paper's rule (mean p)", "theory's crossover")
    rows = []
    for metric in METRIC:
        values = accuracy(grid, metric=METRIC[metric])
        reached = {}
        for name in (*rivals, "auto"):
            chosen = made(grid, name, metric)[0]
            picked = np.take_along_axis(values, chosen[..., None], -1)[..., 0]
            reached[name] = 100.0 * picked.mean(1)[cells]
        rows.append(
            [
                metric,
                *(
                    _interval(resampled(reached["auto"] - reached[r], family), sign=True)
                    for r in rivals
                ),
            ]
        )
    return ["auto less, points [95 %]", *rivals], rows


def headline_table(grid: Grid, *, split: str | tuple[str, ...]) -> Table:
    """What auto was to reach on held-out cells, and what it reaches."""
    cells = grid.where(split)
    if not cells.size:
        return ["no such cells"], []
    found = {metric: standing(grid, cells, metric=metric) for metric in METRIC}

    def row(target: str, of: Callable[[str], tuple[str, bool]]) -> list[str]:
        said = [of(metric) for metric in METRIC]
        return [target, *(f"{text}: {'yes' if met else 'no'}" for text, met in said)]

    def auto_of(metric: str) -> Score:
        return found[metric]["auto"][0]

    def beats(rival: str) -> Callable[[str], tuple[str, bool]]:
        def of(metric: str) -> tuple[str, bool]:
            theirs = found[metric][rival][0].regret
            apart = auto_of(metric).regret[2] < theirs[1]
            return f"{_interval(auto_of(metric).regret)} against {_interval(theirs)}", apart

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
            lambda m: (f"{100 * found[m]['auto'][1]:.1f} %", found[m]["auto"][1] <= 0.01),
        ),
        ["races", *(f"in {100 * found[m]['auto'][2]:.0f} % of cells and seeds" for m in METRIC)],
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
            found = standing(grid, cells, metric=metric)
            nll, auto = found["always NLL"][0], found["auto"][0]
            row += [
                _interval(nll.regret),
                _interval(auto.regret),
                f"{auto.high:.1f}",
                f"{100 * auto.loses[0]:.0f} %",
            ]
        rows.append(row)
    return header, rows


def noise_table(grid: Grid) -> Table:
    """The estimate of label noise against what was injected, by level of capability."""
    header = [
        "level",
        "mean p (clean)",
        "known",
        "error where known",
        "rank correlation where known",
        "error, all",
    ]
    rows = []
    for levels, name in [((level,), f"{level:g}") for level in LEVELS] + [(LEVELS, "all")]:
        cells = [i for i, c in enumerate(grid.cells) if c["level"] in levels]
        truth = grid.run["true_noise"][cells].ravel()
        seen = [f for c in cells for f in grid.features[c]]
        guess = np.array([f["noise"] for f in seen])
        known = np.array([f["noise_known"] for f in seen]) > 0
        error = np.abs(guess - truth)
        rank = spearmanr(guess[known], truth[known]).statistic if known.sum() > 5 else float("nan")
        rows.append(
            [
                name,
                f"{grid.run['mean_p_clean'][cells].mean():.2f}",
                f"{100 * known.mean():.0f} %",
                f"{error[known].mean():.3f}" if known.any() else "-",
                f"{rank:.2f}" if known.sum() > 5 else "-",
                f"{error.mean():.3f}",
            ]
        )
    return header, rows


def noise_kind_table(grid: Grid) -> Table:
    """The same by kind of noise, where the estimate calls itself known."""
    kinds = sorted({c["kind"] for c in grid.cells})
    rows = []
    for kind in kinds:
        cells = [i for i, c in enumerate(grid.cells) if c["kind"] == kind]
        truth = grid.run["true_noise"][cells].ravel()
        seen = [f for c in cells for f in grid.features[c]]
        known = np.array([f["noise_known"] for f in seen]) > 0
        difference = (np.array([f["noise"] for f in seen]) - truth)[known]
        rows.append(
            [
                kind,
                str(known.sum()),
                f"{truth[known].mean():.3f}",
                f"{difference.mean():+.3f}",
                f"{np.abs(difference).mean():.3f}",
            ]
        )
    return ["kind", "probes", "mean true rate", "mean error", "mean absolute error"], rows


def phase_table(grid: Grid, *, metric: str) -> Table:
    """-p less NLL in points, by level and rate, over all cells."""
    values = accuracy(grid, metric=METRIC[metric]).mean(1)
    lead = 100.0 * (values[:, grid.index("p()")] - values[:, grid.index("nll()")])
    rows = []
    for level in LEVELS:
        row = [f"{level:g}"]
        for rate in RATES:
            cells = [
                i for i, c in enumerate(grid.cells) if (c["level"], c["rate"]) == (level, rate)
            ]
            row.append(f"{lead[cells].mean():+.1f} ({len(cells)})" if cells else "-")
        rows.append(row)
    return ["level \\ noise", *(f"{100 * r:g} %" for r in RATES)], rows


def protocol_table(grid: Grid, *, split: str | tuple[str, ...]) -> Table:
    """How much hangs on how the learning rate is chosen."""
    rows = []
    for protocol in PROTOCOLS:
        found = standing(grid, grid.where(split), protocol=protocol)
        names = ("always NLL", "always -p", "paper's rule (mean p)", "auto")
        rows.append([protocol, *(_interval(found[n][0].regret) for n in names)])
    return ["learning rate chosen by", "always NLL", "always -p", "paper's rule", "auto"], rows


def worst_table(grid: Grid, *, split: str | tuple[str, ...], metric: str = "greedy") -> Table:
    """The held-out cells with the largest regret of auto."""
    cells = grid.where(split)
    values = accuracy(grid, metric=METRIC[metric])[cells]
    chosen = made(grid, "auto", metric)[0]
    regret = crossed_regret(values, chosen[cells])
    rows = []
    for i in np.argsort(-regret)[:8]:
        cell, c = grid.cells[cells[i]], cells[i]
        means = values[i].mean(0)
        picked = sorted({grid.objectives[o] for o in chosen[c]})
        rows.append(
            [
                f"{cell['family']}, {cell['kind']} {100 * cell['rate']:g} %, {cell['budget']}",
                f"{grid.features[c][0]['mean_p']:.2f}",
                ", ".join(f"`{o}`" for o in picked),
                f"`{grid.objectives[int(means.argmax())]}`",
                f"{100 * means[grid.index('nll()')]:.1f}",
                f"{100 * means.max():.1f}",
                f"{regret[i]:.1f}",
            ]
        )
    return ["cell", "mean p", "auto took", "best", "NLL", "best reaches", "regret"], rows


def calibration_table(grid: Grid) -> Table:
    """How often the gain of one run lies in the interval that auto states."""
    header = ["cells", "answers", "leaves NLL", "stated gain", "gain reached", "inside its 90 %"]
    rows = []
    for name, split in (
        ("development", "development"),
        ("held out", HELD_OUT),
        ("confirmation", CONFIRMATION),
    ):
        for metric in METRIC:
            values = accuracy(grid, metric=METRIC[metric])
            stated, reached, inside, count = [], [], [], 0
            for c in grid.where(split):
                for s in range(len(grid.seeds)):
                    choice = auto(grid.features[c][s], metric=metric)
                    count += 1
                    if choice.objective == "nll()" or choice.expected_gain is None:
                        continue
                    o = index_of(grid, choice.objective)
                    gain = 100.0 * (values[c, s, o] - values[c, s, grid.index("nll()")])
                    stated.append(choice.expected_gain.points)
                    reached.append(gain)
                    inside.append(choice.expected_gain.low <= gain <= choice.expected_gain.high)
            if not stated:
                continue
            rows.append(
                [
                    name,
                    metric,
                    f"{100 * len(stated) / count:.0f} %",
                    f"{np.mean(stated):+.1f}",
                    f"{np.mean(reached):+.1f}",
                    f"{100 * np.mean(inside):.0f} %",
                ]
            )
    return header, rows


def decision_table(_: Grid, *, metric: str) -> Table:
    """What auto says at typical points."""
    plans = ((0.0, 3), (0.05, 3), (0.2, 3), (0.05, 12), (0.2, 12), (0.4, 12))
    rows = []
    for strength in (0.2, 0.5, 0.7, 0.85, 0.95):
        row = [f"{strength:g}"]
        for noise, epochs in plans:
            case = dict.fromkeys(DESCRIPTIONS, 0.0)
            case |= {"usual_p": strength, "mean_p": strength * (1.0 - noise / 2), "end_p": 1.0}
            case |= {"noise": noise, "epochs": epochs, "steps": 100.0, "sequences": 128.0}
            case |= {"noise_known": 1.0, "usual_low": max(0.0, 0.6 - strength)}
            choice = auto(case, metric=metric)
            if choice.undecided:
                row.append("race " + " / ".join(f"`{o}`" for o in choice.race))
            elif choice.objective == "nll()":
                row.append("`nll()`")
            else:
                gain = choice.expected_gain
                row.append(f"`{choice.objective}` {gain.points:+.0f}" if gain else choice.objective)
        rows.append(row)
    header = ["p of usual rows"]
    return [*header, *(f"{100 * n:g} % noise, {e} passes" for n, e in plans)], rows


def rule_table(_: Grid) -> Table:
    """The fitted rule that auto uses, in words."""
    rule = read_rule()
    rows = []
    for metric in METRIC:
        part = rule[metric]
        limits, left = part["auto"], part["left out"]
        lines = (
            _leaves(part["regimes"]) if limits["form"] == "regimes" else _weights(part["linear"])
        )
        rows += [[metric, *line] for line in lines]
        never = limits["worth_a_race"] > 100
        race = "never races" if never else f"races for {limits['worth_a_race']:g} points or more"
        rows += [
            [metric, "limits", f"may lose {limits['most_lost']:g} points; {race}"],
            [
                metric,
                "families left out",
                f"{left['fit']}: regret {left['regret']:.2f}, below NLL by more than 1 in"
                f" {100 * left['loses']:.0f} % of cells",
            ],
        ]
    return ["answers", "gain over NLL of", "points"], rows


def _weights(linear: dict[str, Any]) -> list[list[str]]:
    found = []
    for name, fit in linear["objectives"].items():
        weights = zip(linear["terms"], fit["weights"], strict=True)
        said = ", ".join(f"{weight:+.1f} {term}" for term, weight in weights)
        found.append([f"`{name}`", f"{fit['intercept']:+.1f}; {said}"])
    means = zip(linear["terms"], linear["centre"], linear["scale"], strict=True)
    said = ", ".join(f"{term} {mean:.2f} ± {sd:.2f}" for term, mean, sd in means)
    return [*found, ["terms, mean ± standard deviation", said]]


def _leaves(node: dict[str, Any], path: str = "") -> list[list[str]]:
    if "term" in node:
        said = f"{path}, " if path else ""
        low = _leaves(node["below"], f"{said}{node['term']} at most {node['at']:g}")
        return low + _leaves(node["above"], f"{said}{node['term']} above {node['at']:g}")
    gains = ", ".join(
        f"`{name}` {mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        for name, (mean, low, high) in node["gains"].items()
    )
    return [[f"{path} ({node['cells']} cells)", gains]]


def picks_table(grid: Grid) -> Table:
    """Which objectives auto takes, on held-out cells."""
    header = ["objective"]
    shares = []
    for metric in METRIC:
        header.append(f"{metric}: share of cells and seeds")
        chosen = made(grid, "auto", metric)[0][grid.where(HELD_OUT)]
        shares.append([float((chosen == o).mean()) for o in range(len(grid.objectives))])
    rows = [
        [f"`{name}`", *(f"{100 * share[o]:.0f} %" for share in shares)]
        for o, name in enumerate(grid.objectives)
        if any(share[o] for share in shares)
    ]
    return header, rows


def carry_table(_: Grid) -> Table:
    """Auto at a size and vocabulary that it was not fitted on."""
    grid = _cached(CARRY)
    rows = []
    for metric in METRIC:
        found = standing(grid, np.arange(len(grid.cells)), metric=metric)
        for name in ("always NLL", "always -p", "paper's rule (mean p)", "auto"):
            s = found[name][0]
            rows.append(
                [
                    metric,
                    name,
                    _interval(s.regret),
                    f"{s.high:.1f}",
                    _interval(s.gain, sign=True),
                    _percents(s.loses),
                ]
            )
    header = ["answers", "chooser", "mean regret [95 %]", "95 % of cells below"]
    return [*header, "gain over NLL [95 %]", "loses > 1 to NLL"], rows


def overview(grid: Grid) -> Table:
    """What was run."""
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


def _interval(x: tuple[float, float, float], *, sign: bool = False) -> str:
    form = "{:+.2f} [{:+.2f}, {:+.2f}]" if sign else "{:.2f} [{:.2f}, {:.2f}]"
    return form.format(*x)


def _percents(x: tuple[float, float, float]) -> str:
    return "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * v for v in x))
