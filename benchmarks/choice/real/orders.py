"""Trainings in other orders, on more test rows: is a loss of `auto` one of its choice, or chance?

    python -m benchmarks.choice.real.orders               run what is missing, resuming
    python -m benchmarks.choice.real.orders --summary     the table of what was run
    python -m benchmarks.choice.real.orders --page        the same into the document

A cell of `trainings` is one training of each arm, and most are tested on 96 rows, so a difference
of greedy answers has a standard error of 3 to 5 points. Here every cell in which `auto` leaves NLL
for greedy answers is run anew: rows drawn anew, scouts sent anew, NLL and what `auto` takes, in two
orders of the rows that no other training had, and 960 right rows to test. Where it takes power(0.5)
so is p() in its place, which `first_steps` compares.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from probtune.numbers import signed
from probtune.probe.choosing import METRICS
from probtune.statistics import mean

from ...blocks import Table, aligned, write
from .trainings import DOCUMENTS, cell_of, picked, prepare, read, run_missing, titled

__all__ = ["cells", "gain_of", "means", "page", "run"]

RESULTS = Path(__file__).with_name("orders.jsonl")
TESTS = 960
ORDERS = (1, 2)


def cells() -> list[tuple[str, str, float, int]]:
    """The cells of `trainings` in which `auto` leaves NLL for greedy answers."""
    return [cell_of(line) for line in read() if line["auto"]["greedy"] != "nll()"]


def run(
    model: Any, tokenizer: Any, cell: tuple[str, str, float, int], **options: Any
) -> dict[str, Any]:
    """One cell: NLL, what auto takes for greedy answers, and where that is power(0.5) the same with
    p() in its place, in every order.

    Args:
        options: of `trainings.prepare`.
    """
    started = time.process_time()
    ready = prepare(model, tokenizer, cell, **options)
    taken = ready.line["auto"]["greedy"]
    arms = tuple(dict.fromkeys(("nll()", taken, taken.replace("power(0.5)", "p()"))))
    weighs = any("inliers(" in arm for arm in arms)
    weights = ready.judged() if weighs else np.ones(options["rows"])
    orders = {
        str(order): {arm: ready.trained(arm, weights, order=order) for arm in arms}
        for order in ORDERS
    }
    seconds = round(time.process_time() - started, 1)
    return {**ready.line, "orders": orders, "cpu_seconds": seconds}


def gain_of(line: dict[str, Any], order: int, metric: str) -> float:
    """Gain of what auto takes for greedy answers over NLL, in points."""
    arms = line["orders"][str(order)]
    taken, nll = (picked(arms[arm], metric) for arm in (line["auto"]["greedy"], "nll()"))
    return 100 * (taken - nll)


def page(lines: list[dict[str, Any]]) -> Table:
    """Gains of every cell in points: greedy answers in each order, and the means of both ways."""
    header = ["task", "wrong rows", "seed", "estimate", "nll", "one order", "another", "mean"]
    header += ["mean, sampled answers", "auto takes"]
    rows, of_cell = [], []
    for r, titles in titled(lines):
        greedy, sampled = ([gain_of(r, order, m) for order in ORDERS] for m in METRICS)
        nll = np.mean([picked(r["orders"][str(o)]["nll()"], "greedy") for o in ORDERS])
        of_cell.append((np.mean(greedy), np.mean(sampled)))
        rows.append(
            [
                *(*titles, f"{r['estimate']:.0%}"),
                *(f"{100 * nll:.0f}", *(f"{gain:+.1f}" for gain in greedy)),
                *(f"{gain:+.1f}" for gain in of_cell[-1]),
                f"`{r['auto']['greedy']}`",
            ]
        )
    return header, rows


def means(lines: list[dict[str, Any]]) -> Table:
    """Over cells, each the mean of its orders: gain with its 95 % interval, worst cell, share of
    cells that lose more than a point; and how far two orders of a cell are apart.
    """
    rows = []
    for metric in METRICS if lines else ():
        gains = np.array([[gain_of(r, order, metric) for order in ORDERS] for r in lines])
        of_cell = gains.mean(1)
        apart = np.sqrt(np.mean((gains[:, 0] - gains[:, 1]) ** 2) / 2)
        rows.append(
            [
                *(str(len(lines)), metric, signed(mean(of_cell)._asdict(), 1)),
                *(f"{of_cell.min():+.1f}", f"{(of_cell < -1).mean():.0%}", f"{apart:.1f}"),
            ]
        )
    header = ["cells", "answers", "gain over NLL [95 %]", "worst", "lose > 1", "of one order"]
    return header, rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.orders")
    parser.add_argument("--summary", action="store_true", help="print the tables, run nothing")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/ and stop")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N cells")
    options = parser.parse_args()
    if options.page:
        lines = read(RESULTS)
        write(DOCUMENTS / "choice-bench.md", "orders", page(lines))
        write(DOCUMENTS / "choice-bench.md", "orders-means", means(lines))
        return
    if not options.summary:
        settings: dict[str, Any] = {"below": 20, "rows": 128, "tests": TESTS}
        run_missing(RESULTS, cells(), limit=options.limit, by=run, **settings)
    print("\n\n".join(aligned(table(read(RESULTS))) for table in (page, means)))


if __name__ == "__main__":
    main()
