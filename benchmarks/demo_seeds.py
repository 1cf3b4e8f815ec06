"""Check of the demo's claim on fresh seeds.

Runs the two noisy ends of the demo (NLL and -p, slip noise) for the default seeds and for fresh
sets of five, and prints a Markdown table for docs/log.md. The claim, for each set: NLL beats -p at
the weak end and -p beats NLL at the strong end, every seed on the same side and the 95 % interval
of the paired difference over seeds excluding zero.

    python benchmarks/demo_seeds.py [--sets 5] [--first 1000] [--out runs/demo-seeds]

About 100 s per set on 2 cores. Finished sets stay under --out and are not repeated.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from probtune.demo import grid
from probtune.records import environment
from probtune.terminal import Terminal, quiet_libraries

ENDS = tuple(
    replace(cell, objectives=("nll()", "p()"))
    for cell in grid.STANDARD.cells
    if cell.rate and cell.level in ("weak", "strong")
)
EXPECTED = {"weak": -1, "strong": 1}
"""Sign of exact match of p() minus that of nll()."""


def holds(cell: dict) -> bool:
    """True if the claim holds for a cell, by its record."""
    (pair,) = cell["differences"]
    sign = EXPECTED[cell["level"]]
    interval = pair["difference"]
    bound = interval["low"] if sign > 0 else interval["high"]
    return all(sign * x > 0 for x in pair["by_seed"]) and sign * bound > 0


def row(seeds: str, cell: dict) -> str:
    """Return one line of the table."""
    (pair,) = cell["differences"]
    estimate = pair["difference"]
    exact = {
        name: " ".join(f"{x:.3f}" for x in cell["exact_match"][name]["by_seed"])
        for name in ("nll()", "p()")
    }
    interval = f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
    return (
        f"| {seeds} | {cell['level']} | {cell['mean_p']['value']:.2f} | {exact['nll()']} |"
        f" {exact['p()']} | {interval} | {'yes' if holds(cell) else '**no**'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=5, help="fresh sets of five seeds")
    parser.add_argument("--first", type=int, default=1000, help="first fresh seed")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    options = parser.parse_args()
    quiet_libraries()
    sets = [grid.STANDARD.seeds]
    sets += [
        tuple(range(options.first + 5 * k, options.first + 5 * k + 5)) for k in range(options.sets)
    ]
    lines, fresh = [], []
    for seeds in sets:
        name = f"{seeds[0]}-{seeds[-1]}"
        plan = grid.Plan(seeds, ENDS)
        record = grid.run(options.out / name, plan, Terminal())
        lines += [row(name, cell) for cell in record["cells"]]
        lines += [
            f"| {name} | seed {seed} left out | | | | {why} | |"
            for seed, why in record["failed"].items()
        ]
        if seeds != grid.STANDARD.seeds:
            fresh.append(all(holds(cell) for cell in record["cells"]) and not record["failed"])
    machine = environment()
    print("| seeds | level | mean p | NLL, per seed | -p, per seed | -p minus NLL [95 %] | holds |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    print(f"\nThe claim holds for {sum(fresh)} of {len(fresh)} fresh sets.")
    versions = ", ".join(f"{k} {machine['versions'][k]}" for k in ("torch", "transformers", "trl"))
    print(
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, {versions}."
    )


if __name__ == "__main__":
    main()
