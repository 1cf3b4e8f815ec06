"""Command line of the bench."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from probtune.terminal import Terminal

from ..blocks import aligned
from . import after_scout, fit, page, policies, summary, table
from .bench import Run, shards
from .design import carry_design, confirmation, design, second_confirmation
from .families import FAMILIES, MIXED, external
from .real import estimates, stated, trainings

_EPILOG = """
what it does
  Every cell is a base model (family, level of capability), a kind and rate of bad demonstrations,
  and a budget. All objectives are trained in it at three learning rates, for every seed. A finished
  (cell, seed) is one file under OUT; running again goes on where it stopped, so Ctrl-C is safe.

examples
  python -m benchmarks.choice                          run the grid, resuming (70 minutes, 1 core)
  python -m benchmarks.choice --batches 1              40 cells, a quarter of an hour
  python -m benchmarks.choice --confirm                the held-out cells kept for confirmation
  python -m benchmarks.choice --merge --fit --page     table, rule and documents from what was run
  python -m benchmarks.choice --summary                what the committed table says, in seconds
  python -m benchmarks.choice --family mine.py:poems --out runs/poems
                                                       a family of your own, 5 levels, all noises
  python -m benchmarks.choice --device cuda --width 256 --letters 16 --out runs/large
                                                       larger models (not tested on a GPU by us)
"""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.choice",
        description="Which objective for which model and data: a bench of tiny controlled cells.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument(
        "--out", type=Path, default=Path("runs/choice"), help="folder of the run"
    )
    arguments.add_argument(
        "--batches", type=int, default=4, help="batches of 40 cells, 1 to 6 (default 4)"
    )
    arguments.add_argument("--seeds", default="0,1,2", help="seeds, by commas (default 0,1,2)")
    arguments.add_argument("--limit", type=int, help="stop after this many (cell, seed)")
    arguments.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="FILE:FUNCTION",
        help="run this family instead of the built-in ones; may be repeated",
    )
    arguments.add_argument("--width", type=int, default=32, help="width of the model (default 32)")
    arguments.add_argument(
        "--letters", type=int, default=12, help="letters of the alphabet, 4 to 16"
    )
    arguments.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    arguments.add_argument(
        "--carry", action="store_true", help="run the few cells for sizes not seen in the fit"
    )
    arguments.add_argument(
        "--confirm", action="store_true", help="run the held-out cells kept for confirmation"
    )
    arguments.add_argument(
        "--confirm-again",
        action="store_true",
        help="run cells of several templates, with kinds, bases and a size of their own",
    )
    arguments.add_argument(
        "--table", type=Path, default=table.RESULTS, help="the table to write or read"
    )
    arguments.add_argument(
        "--merge", action="store_true", help="write the table from OUT, run nothing"
    )
    arguments.add_argument(
        "--fit", action="store_true", help="fit the rule on the development cells"
    )
    arguments.add_argument("--summary", action="store_true", help="print what the table says")
    arguments.add_argument("--page", action="store_true", help="write tables and figure into docs/")
    return arguments


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    terminal = Terminal()
    try:
        if not (options.merge or options.fit or options.summary or options.page):
            return _run(options, terminal)
        if options.merge:
            columns, metadata = table.build(shards(options.out))
            table.save(options.table, columns, metadata)
            terminal.say(f"{len(columns['seed'])} rows in {options.table}")
        if options.fit:
            terminal.say(f"rule written to {fit.write(options.table)}")
        if options.page:
            page.write_all(options.table)
            terminal.say(f"written: {page.DOCUMENT}")
        if options.summary:
            summary.show(options.table, terminal)
            terminal.show("\nAfter a scout, on this bench's cells:", wrap=False)
            terminal.show(after_scout.text(table.load(options.table)), wrap=False)
            terminal.show("\nPolicies on its held-out cells:", wrap=False)
            terminal.show(policies.text(table.load(options.table)), wrap=False)
            terminal.show("\nThe estimate of wrong rows on a real model:", wrap=False)
            terminal.show(estimates.summary(estimates.read()), wrap=False)
            terminal.show("\nTrainings on the same, in points over NLL:", wrap=False)
            terminal.show(trainings.summary(trainings.read()), wrap=False)
            terminal.show("\nThe range that auto states for its gain, there:", wrap=False)
            terminal.show(aligned(stated.table()), wrap=False)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what is finished is kept, run again to go on.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, terminal: Terminal) -> int:
    torch.set_num_threads(options.threads)
    families = dict(external(path) for path in options.family)
    taken = set(families) & set(FAMILIES)
    if taken:
        raise ValueError(f"a family named {', '.join(sorted(taken))} is there already; rename it.")
    run = Run(
        options.out,
        seeds=[int(seed) for seed in options.seeds.split(",")],
        width=options.width,
        letters=options.letters,
        device=options.device,
        families={**MIXED, **families},
    )
    if options.carry:
        cells = carry_design()
    elif options.confirm_again:
        cells = second_confirmation()
    elif options.confirm:
        cells = list(confirmation())
    else:
        cells = design(options.batches, names=tuple(families or FAMILIES))
    done = run.all(cells, terminal, limit=options.limit)
    left = len(run.todo(cells))
    terminal.say(f"{done} (cell, seed) run, {left} left, under {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
