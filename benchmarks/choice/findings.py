"""Findings beside the regret: who wins where, the noise estimate, the rule and where it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from probtune.probe.choosing import auto, read_rule
from probtune.probe.features import DESCRIPTIONS
from probtune.theory.closed import crossover

from ..blocks import Table
from .bases import LEVELS
from .evaluate import index_of
from .fit import METRIC
from .noise import RATES
from .regret import accuracy, crossed_regret
from .standing import CONFIRMATION, HELD_OUT, Split, cached_choices
from .table import Grid

__all__ = [
    "calibration_table",
    "decision_table",
    "line_table",
    "noise_kind_table",
    "noise_table",
    "phase_table",
    "picks_table",
    "rule_table",
    "worst_table",
]


def noise_table(grid: Grid) -> Table:
    """Return the estimate of label noise against what was injected, by level of capability."""
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
        if not cells:
            continue
        truth = grid.run["true_noise"][cells].ravel()
        seen = [f for c in cells for f in grid.features[c]]
        guess = np.array([f["noise"] for f in seen])
        told = np.array([f["noise_known"] for f in seen]) > 0
        error = np.abs(guess - truth)
        rank = spearmanr(guess[told], truth[told]).statistic if told.sum() > 5 else float("nan")
        rows.append(
            [
                name,
                f"{grid.run['mean_p_clean'][cells].mean():.2f}",
                f"{100 * told.mean():.0f} %",
                f"{error[told].mean():.3f}" if told.any() else "-",
                f"{rank:.2f}" if told.sum() > 5 else "-",
                f"{error.mean():.3f}",
            ]
        )
    return header, rows


def noise_kind_table(grid: Grid) -> Table:
    """Return the same by kind of noise, where the estimate calls itself known."""
    kinds = sorted({c["kind"] for c in grid.cells})
    rows = []
    for kind in kinds:
        cells = [i for i, c in enumerate(grid.cells) if c["kind"] == kind]
        truth = grid.run["true_noise"][cells].ravel()
        seen = [f for c in cells for f in grid.features[c]]
        told = np.array([f["noise_known"] for f in seen]) > 0
        if not told.any():
            continue
        difference = (np.array([f["noise"] for f in seen]) - truth)[told]
        rows.append(
            [
                kind,
                str(told.sum()),
                f"{truth[told].mean():.3f}",
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


def line_table(grid: Grid) -> Table:
    """On which side of the theory's crossover -p leads, where one of the two leads by a point."""
    noise = np.array([c["rate"] for c in grid.cells])
    above = grid.run["mean_p_clean"].mean(1) > crossover(noise=noise, classes=10)
    rows = []
    for metric in METRIC:
        values = accuracy(grid, metric=METRIC[metric]).mean(1)
        lead = 100.0 * (values[:, grid.index("p()")] - values[:, grid.index("nll()")])
        row = [metric]
        for side in (above, ~above):
            for mask in (lead > 1.0, lead < -1.0):
                row.append(str(int((side & mask).sum())))
        rows.append(row)
    header = ["cells", "above the line: -p leads", "NLL leads"]
    return [*header, "below the line: -p leads", "NLL leads"], rows


def worst_table(grid: Grid, *, split: Split, metric: str = "greedy") -> Table:
    """Return the held-out cells with the largest regret of auto."""
    cells = grid.where(split)
    values = accuracy(grid, metric=METRIC[metric])[cells]
    chosen = cached_choices(grid, "auto", metric)[0]
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
    """Return how often the gain of one run lies in the interval that auto states."""
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
    """Return what auto says at typical points."""
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
    """Return the fitted rule that auto uses, in words."""
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
    rows = []
    for name, fit in linear["objectives"].items():
        weights = zip(linear["terms"], fit["weights"], strict=True)
        said = ", ".join(f"{weight:+.1f} {term}" for term, weight in weights)
        rows.append([f"`{name}`", f"{fit['intercept']:+.1f}; {said}"])
    means = zip(linear["terms"], linear["centre"], linear["scale"], strict=True)
    said = ", ".join(f"{term} {mean:.2f} ± {sd:.2f}" for term, mean, sd in means)
    return [*rows, ["terms, mean ± standard deviation", said]]


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
    """Return which objectives auto takes, on held-out cells."""
    header = ["objective"]
    shares = []
    for metric in METRIC:
        header.append(f"{metric}: share of cells and seeds")
        chosen = cached_choices(grid, "auto", metric)[0][grid.where(HELD_OUT)]
        shares.append([float((chosen == o).mean()) for o in range(len(grid.objectives))])
    rows = [
        [f"`{name}`", *(f"{100 * share[o]:.0f} %" for share in shares)]
        for o, name in enumerate(grid.objectives)
        if any(share[o] for share in shares)
    ]
    return header, rows
