"""The demo in words: what it is about to do, and the table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..terminal import Terminal
from .grid import Plan

__all__ = ["introduction", "show"]


def introduction(plan: Plan) -> str:
    """What will run."""
    trainings = len(plan.seeds) * sum(len(cell.objectives) for cell in plan.cells)
    return (
        f"{len(plan.seeds)} tiny models are pre-trained from scratch to several levels of"
        f" capability on adding numbers in an unfamiliar notation, then fine-tuned {trainings}"
        " times."
    )


def show(record: Mapping[str, Any], terminal: Terminal) -> None:
    """One row per cell: means over seeds with 95 % intervals, the paired difference p() - nll(),
    and the winner.
    """
    seeds = len(record["seeds"])
    objectives = list(
        dict.fromkeys(n for cell in record["cells"] for n in cell["exact_match"] if n != "base")
    )
    rows = []
    for cell in record["cells"]:
        found = cell["exact_match"]
        row = [
            cell["level"],
            f"{cell['mean_p']['value']:.2f}",
            f"{cell['noise']} {cell['rate']:g}" if cell["rate"] else "none",
            f"{found['base']['estimate']['value']:.2f}",
        ]
        row += [
            _with_half_width(found[name]["estimate"]) if name in found else ""
            for name in objectives
        ]
        pair = next(
            (d for d in cell["differences"] if (d["first"], d["second"]) == ("p()", "nll()")), None
        )
        row += [_signed(pair["difference"]) if pair else "", _side(pair["by_seed"]) if pair else ""]
        verdicts = Counter(cell["verdicts"]).most_common()
        row += [
            cell["winner"] or "none",
            ", ".join(f"{v} {n}/{seeds}" if len(verdicts) > 1 else v for v, n in verdicts),
        ]
        rows.append(row)
    terminal.table(
        f"Exact match on {record['recipe']['held_out_rows']} clean problems, mean over {seeds}"
        " seeds ± half of the 95 % interval",
        [
            "level",
            "mean p",
            "noise",
            "before",
            *objectives,
            "p() - nll() [95 %]",
            "seeds",
            "winner",
            "the probe says",
        ],
        rows,
    )
    for line in _reading(record):
        terminal.show(line)


def _reading(record: Mapping[str, Any]) -> list[str]:
    """What was measured, and what it does not show."""
    recipe = record["recipe"]
    lines = []
    for cell in record["cells"]:
        pair = next(
            (d for d in cell["differences"] if (d["first"], d["second"]) == ("p()", "nll()")), None
        )
        if pair is None or pair["difference"]["low"] is None:
            continue
        low, high = pair["difference"]["low"], pair["difference"]["high"]
        noise = f"{cell['noise']} noise {cell['rate']:g}" if cell["rate"] else "clean labels"
        verdict = (
            "-p beats NLL"
            if low > 0
            else "NLL beats -p"
            if high < 0
            else "NLL and -p are not told apart"
        )
        lines.append(f"  {cell['level']}, {noise}: {verdict}.")
    return [
        "Measured:",
        *lines,
        (
            "seeds: how many lie on the side of the mean. A winner beats each other objective of"
            " its row, interval above 0."
        ),
        (
            f"Not shown: without label noise or repetition (here {recipe['epochs']:g} passes over"
            f" {recipe['training_rows']} rows) the strong end is a tie; one recipe serves"
        ),
        (
            "every objective, and a lower learning rate would shrink NLL's loss at the strong end;"
            " 0.1M parameters show the mechanism, not its size."
        ),
        *(f"Left out: {reason}" for reason in record["failed"].values()),
    ]


def _with_half_width(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:.2f}"
    return f"{found['value']:.2f} ± {(found['high'] - found['low']) / 2:.2f}"


def _signed(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:+.2f}"
    return f"{found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _side(by_seed: list[float]) -> str:
    """How many seeds lie on the side of their mean."""
    sign = 1 if sum(by_seed) > 0 else -1
    return f"{sum(sign * x > 0 for x in by_seed)}/{len(by_seed)}"
