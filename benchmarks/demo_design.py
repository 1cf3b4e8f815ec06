"""Variations of the demo's design, as Markdown tables for docs/log.md.

    python benchmarks/demo_design.py pretraining    # steps until addition is learnt: 4 minutes
    python benchmarks/demo_design.py recipe         # rows, passes, noise, rate: 15 minutes

Seeds 100 to 107, which neither the demo nor its check (demo_seeds.py) uses.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from probtune.demo import grid
from probtune.demo.pretraining import learn_familiar, make_model, make_optimizer
from probtune.errors import ProbtuneError
from probtune.statistics import mean
from probtune.terminal import Terminal

SEEDS = tuple(range(100, 108))
INITIALISATIONS = ((0.02, 0.98), (0.05, 0.98), (0.05, 0.95), (0.1, 0.95))
"""(standard deviation of the initial weights, beta2 of AdamW)"""
RECIPES = (
    # rows, passes, slip rate, learning rate
    (256, 30.0, 0.4, 2e-3),
    (256, 30.0, 0.5, 2e-3),
    (384, 20.0, 0.4, 2e-3),
    (384, 20.0, 0.5, 2e-3),
    (384, 20.0, 0.5, 1e-3),
    (512, 20.0, 0.5, 2e-3),
)


def steps_to_learn(deviation: float, beta2: float, seed: int) -> str:
    """Return the steps until addition is learnt, or that it is not."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = make_model(deviation)
    rng = np.random.default_rng([seed, 1])
    try:
        return str(learn_familiar(model, make_optimizer(model, 3e-3, beta2), rng, seed))
    except ProbtuneError:
        return "not learnt"


def pretraining() -> None:
    """Print the steps for each initialisation."""
    print("| standard deviation | beta2 | steps, seeds 100-107 |\n|---|---|---|")
    with ProcessPoolExecutor(grid.cores(), get_context("spawn")) as pool:
        for deviation, beta2 in INITIALISATIONS:
            arguments = zip(*((deviation, beta2, seed) for seed in SEEDS), strict=True)
            steps = ", ".join(pool.map(steps_to_learn, *arguments))
            print(f"| {deviation} | {beta2} | {steps} |", flush=True)


def recipe(out: Path) -> None:
    """Print exact match at both noisy ends for each recipe."""
    print("| rows | passes | noise | rate | level | NLL | -p | -p minus NLL [95 %] | seeds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rows, passes, noise, rate in RECIPES:
        changes = {"training_rows": rows, "epochs": passes, "learning_rate": rate}
        cells = tuple(
            replace(cell, rate=noise, objectives=("nll()", "p()"))
            for cell in grid.STANDARD.cells
            if cell.rate and cell.level in ("weak", "strong")
        )
        name = f"{rows}x{passes:g}-{noise:g}-{rate:g}"
        plan = grid.Plan(SEEDS, cells, recipe={**grid.RECIPE, **changes})
        record = grid.run(out / name, plan, Terminal(), bases=out / "bases")
        for cell in record["cells"]:
            (pair,) = cell["differences"]
            difference = mean(pair["by_seed"])
            sign = 1 if difference.value > 0 else -1
            same = sum(sign * x > 0 for x in pair["by_seed"])
            means = [cell["exact_match"][o]["estimate"]["value"] for o in ("nll()", "p()")]
            print(
                f"| {rows} | {passes:g} | {noise:g} | {rate:g} | {cell['level']} |"
                f" {means[0]:.2f} | {means[1]:.2f} | {difference.value:+.2f}"
                f" [{difference.low:+.2f}, {difference.high:+.2f}] | {same}/{len(SEEDS)} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=("pretraining", "recipe"))
    parser.add_argument("--out", type=Path, default=Path("runs/demo-design"))
    options = parser.parse_args()
    if options.question == "pretraining":
        pretraining()
    else:
        recipe(options.out)


if __name__ == "__main__":
    main()
