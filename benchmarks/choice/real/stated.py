"""Does the range that `auto` states for its gain hold on a real model, which had no part in it?

    python -m benchmarks.choice.real.stated              the table, from what was run
    python -m benchmarks.choice.real.stated --page       the same into the document

The range comes from the bench of small models: 90 % of single runs, in the worst kind of wrong
rows. A run is a training of `trainings` with what `auto` takes, or one order of `orders`, in which
what it takes for greedy answers is also read with sampled ones. Where it takes NLL, or weighs rows,
it states no range.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from probtune.probe.after_scout import stated_gain, taken_for
from probtune.probe.choosing import METRICS, NLL, Gain
from probtune.statistics import wilson

from ...blocks import Table, aligned, write
from . import orders, trainings

__all__ = ["runs", "stated", "table"]


def stated(objective: str, way: str, metric: str) -> Gain | None:
    """The range of an objective that `auto` takes for one way of drawing answers, read with one.

    >>> stated("anneal(nll(), nll_on_special(power(0.5)), 0.17, 0.17)", "greedy", "sampled").low > 0
    True
    >>> stated("nll()", "greedy", "greedy"), stated("inliers(nll())", "greedy", "greedy")
    (None, None)
    """
    if "inliers(" in objective:
        return None
    for case in ("wrong", "right"):
        taken = taken_for(way, case, knows_form="anneal(" not in objective)
        if taken != NLL and taken in objective.replace(NLL, ""):
            return stated_gain(case, taken, metric)
    return None


def runs(metric: str) -> Iterator[tuple[str, Gain, float]]:
    """(bench, range, gain over NLL in points) of every run in which `auto` states a range."""
    for line in trainings.read():
        if span := stated(line["auto"][metric], metric, metric):
            yield "trainings", span, trainings.gains_of(line, metric)["auto"]
    for line in orders.read(orders.RESULTS):
        if span := stated(line["auto"]["greedy"], "greedy", metric):
            for order in orders.ORDERS:
                yield "other orders", span, orders.gain_of(line, order, metric)


def table() -> Table:
    """Share of the runs in their range, with its 95 % interval, and below it."""
    rows = []
    for metric in METRICS:
        of = list(runs(metric))
        for bench in dict.fromkeys(name for name, *_ in of):
            part = [(s, gain) for name, s, gain in of if name == bench]
            inside = wilson(np.array([s.low <= gain <= s.high for s, gain in part], float))
            below = sum(gain < s.low for s, gain in part)
            share = f"{inside.value:.0%} [{inside.low:.0%}, {inside.high:.0%}]"
            rows.append([bench, metric, str(len(part)), share, str(below)])
    return ["trainings", "answers", "runs", "in the stated range [95 %]", "below it"], rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.stated")
    parser.add_argument("--page", action="store_true", help="write the table into docs/ and stop")
    if parser.parse_args().page:
        write(trainings.DOCUMENTS / "choice-bench.md", "stated", table())
    else:
        print(aligned(table()))


if __name__ == "__main__":
    main()
