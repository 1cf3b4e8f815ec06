"""The demo in words: what it is about to do, and the table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..numbers import interval, signed
from ..reports.verdict import verdicts
from ..terminal import Terminal
from .grid import Plan

__all__ = ["introduction", "show", "show_real"]


def introduction(plan: Plan) -> str:
    """Return what will run, in words."""
    trainings = len(plan.seeds) * sum(len(cell.objectives) for cell in plan.cells)
    return (
        f"{len(plan.seeds)} tiny models are pre-trained from scratch to several levels of"
        f" capability on adding numbers in an unfamiliar notation, then fine-tuned {trainings}"
        " times."
    )


def show(record: Mapping[str, Any], terminal: Terminal) -> None:
    """Print one row per cell: means over seeds with 95 % intervals, the paired difference p() -
    nll(), and the winner.
    """
    seeds = len(record["seeds"])
    objectives = list(
        dict.fromkeys(n for cell in record["cells"] for n in cell["exact_match"] if n != "base")
    )
    rows = []
    for cell in record["cells"]:
        results = cell["exact_match"]
        row = [
            f"{cell['level']} {cell['mean_p']['value']:.2f}",
            _noise(cell),
            f"{results['base']['estimate']['value']:.2f}",
        ]
        row += [
            _two_lines(interval(results[name]["estimate"], spec=".2f")) if name in results else ""
            for name in objectives
        ]
        pair = _pair(cell)
        row += (
            [_two_lines(signed(pair["difference"], 2)), _side(pair["by_seed"])]
            if pair
            else ["", ""]
        )
        regret = _two_lines(signed(cell["auto"]["regret"]["estimate"], 2))
        rows.append([*row, cell["winner"] or "none", _takes(cell), regret])
    terminal.table(
        f"Exact match on {record['recipe']['held_out_rows']} clean problems, mean over {seeds}"
        " seeds, 95 % intervals",
        [
            "level, mean p",
            "noise",
            "before",
            *objectives,
            "p() - nll() [95 %]",
            "seeds",
            "winner",
            "auto takes",
            "its regret [95 %]",
        ],
        rows,
    )
    for line in _reading(record):
        terminal.show(line, wrap=False)


def show_real(
    record: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], terminal: Terminal
) -> None:
    """Print one row per model of each cell of the real demo, and what was found in each.

    Args:
        runs: the cells' own records, in their order.
    """
    rows = []
    for cell in record["cells"]:
        for name, arm in cell["arms"].items():
            first = name == "base"
            rows.append(
                [
                    cell["name"] if first else "",
                    f"{name} *" if name == cell["takes"] else name,
                    *(interval(arm[metric], spec=".2f", share=True) for metric in _REAL_COLUMNS),
                ]
            )
    terminal.table(
        f"{record['model']}, {record['recipe']['held_out_rows']} right held-out rows, shares with"
        " 95 % intervals; * what auto takes",
        ["cell", "model", "greedy", "sampled", "stops", "p(end)"],
        rows,
    )
    for cell, run in zip(record["cells"], runs, strict=True):
        looks = cell["looks_wrong"]
        seen = "cannot be told" if looks is None else f"{looks['value']:.2f}"
        terminal.show(
            f"{cell['name']}: mean p {cell['mean_p']['value']:.2f}, after the scout"
            f" {cell['mean_p_after_scout']['value']:.2f}; looks wrong {seen} (truth"
            f" {cell['rate']:g}); auto takes {cell['takes']}, regret"
            f" {cell['regret']['exact_match']:.2f} greedy, {cell['regret']['sampled']:.2f} sampled."
        )
        for line in verdicts(run):
            terminal.show(f"  {line}")
    cpu = sum(cell["timing"]["cpu_seconds"] for cell in record["cells"]) / 60
    wall = sum(cell["timing"]["seconds"] for cell in record["cells"]) / 60
    cores = record["environment"]["cores"]
    terminal.show(
        f"{wall:.0f} minutes; {cpu:.0f} of CPU, which is {cpu / cores:.0f} on {cores} idle cores."
        " One seed and one learning rate: what is possible, not how much."
    )


_REAL_COLUMNS = ("exact_match", "sampled", "stops", "end_p")


def _two_lines(text: str) -> tuple[str, ...]:
    """Return a number and its interval as the two lines of a cell."""
    return tuple(text.split(" ", 1))


def _noise(cell: Mapping[str, Any]) -> str:
    return f"{cell['noise']} {cell['rate']:g}" if cell["rate"] else "none"


def _takes(cell: Mapping[str, Any]) -> str:
    """Return what `auto` took, with the number of seeds."""
    takes = Counter(cell["auto"]["takes"])
    return ", ".join(f"{name} {n}/{takes.total()}" for name, n in takes.most_common())


def _pair(cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the paired difference p() - nll() of a cell, if both were trained."""
    pairs = (
        row for row in cell["differences"] if (row["first"], row["second"]) == ("p()", "nll()")
    )
    return next(pairs, None)


def _reading(record: Mapping[str, Any]) -> list[str]:
    """Return what was measured, and what it does not show."""
    recipe = record["recipe"]
    seeds = len(record["seeds"])
    lines = []
    for cell in record["cells"]:
        pair = _pair(cell)
        if pair is None or pair["difference"]["low"] is None:
            continue
        low, high = pair["difference"]["low"], pair["difference"]["high"]
        verdict = "NLL and -p are not told apart"
        if low > 0 or high < 0:
            verdict = "-p beats NLL" if low > 0 else "NLL beats -p"
        said = ", ".join(
            f"{name} {n}/{seeds}" for name, n in Counter(cell["verdicts"]).most_common()
        )
        lines.append(
            f"  {cell['level']:13s} noise {_noise(cell):10s} {verdict}; the probe said {said}"
        )
    return [
        "Measured:",
        *lines,
        "Mean p is the base model's, over the training rows. seeds: how many lie on the mean's",
        "side of 0. A winner beats every other objective of its row, the interval above 0. auto's",
        "regret: what the best objective of the row got, less what auto's choice got.",
        "Not shown here:",
        "  -p's lead at the strong end comes from not memorising wrong labels. It needs label",
        f"  noise and repetition ({recipe['epochs']:g} passes over {recipe['training_rows']} rows);"
        " without them expect a tie, or a small lead of NLL.",
        "  One recipe serves every objective: a lower learning rate would shrink NLL's loss at",
        "  the strong end. A model of 0.1 million parameters shows the mechanism, not its size.",
        *(f"Left out: {reason}" for reason in record["failed"].values()),
    ]


def _side(by_seed: list[float]) -> str:
    """Return how many seeds lie on the side of their mean."""
    sign = 1 if sum(by_seed) > 0 else -1
    return f"{sum(sign * x > 0 for x in by_seed)}/{len(by_seed)}"
