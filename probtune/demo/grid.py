"""The demo's grid: seeds x capability levels x label noise, each cell one run of `probtune tune`.

Every seed is a new pre-training, new data and a new data order. Within a cell all objectives start
from the same weights and see the same rows in the same order for the same number of steps, at the
same learning rate.
"""

from __future__ import annotations

import ctypes
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ProbtuneError, UsageError
from ..files import remove_leftovers
from ..lock import LOCK, is_fresh, locked
from ..records import environment, read_record, write_record
from ..statistics import Estimate, mean
from ..terminal import Terminal

__all__ = ["FAST", "FULL", "RECIPE", "STANDARD", "Cell", "Plan", "cores", "run"]

HELD_OUT_ROWS = 500
RECIPE = {
    "training_rows": 256,
    "epochs": 30.0,
    "learning_rate": 2e-3,
    "batch_size": 64,
    "gradient_accumulation": 1,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
}
"""One recipe for every objective and level. Thirty passes over 256 rows: repetition is what lets
noise be memorised.
"""


@dataclass(frozen=True)
class Cell:
    """One capability level with one kind and rate of label noise."""

    level: str
    noise: str
    rate: float
    objectives: tuple[str, ...]

    @property
    def name(self) -> str:
        """For folders and progress."""
        return f"{self.level}-{self.noise}-{self.rate:g}" if self.rate else f"{self.level}-clean"


@dataclass(frozen=True)
class Plan:
    """Seeds, cells and recipe of a demo."""

    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    recipe: dict[str, Any] = field(default_factory=lambda: dict(RECIPE))


_PAIR = ("nll()", "p()")
_THREE = (*_PAIR, "power(0.5)")
_MANY = (
    "power(-0.5)",
    "nll()",
    "power(0.5)",
    "p()",
    "power(2.0)",
    "power(10.0)",
    "above(0.2, nll())",
)

STANDARD = Plan(
    seeds=(0, 1, 2, 3, 4),
    cells=(
        Cell("weak", "slip", 0.4, _THREE),
        Cell("intermediate", "slip", 0.4, _THREE),
        Cell("strong", "slip", 0.4, _THREE),
        Cell("strong", "slip", 0.0, _PAIR),
    ),
)
FAST = Plan(
    seeds=(0, 1), cells=(Cell("weak", "slip", 0.4, _PAIR), Cell("strong", "slip", 0.4, _PAIR))
)
FULL = Plan(
    seeds=STANDARD.seeds,
    cells=(
        *(Cell(level, "slip", 0.4, _MANY) for level in ("weak", "intermediate", "strong")),
        *(Cell(level, "slip", 0.0, _THREE) for level in ("weak", "intermediate", "strong")),
        *(Cell(level, "slip", rate, _THREE) for rate in (0.1, 0.2) for level in ("weak", "strong")),
        *(
            Cell(level, noise, rate, _THREE)
            for noise, rate in (("token", 0.2), ("answer", 0.4), ("terse", 0.4))
            for level in ("weak", "strong")
        ),
    ),
)


def run(folder: Path, plan: Plan, terminal: Terminal, bases: Path | None = None) -> dict[str, Any]:
    """Pre-train, tune and measure all cells, on all cores; returns the demo's record, also in
    DIR/record.json.

    Finished parts are kept under `folder` and not done again; the pre-trained bases may lie in
    another folder, `bases`, for several plans to share. A seed whose pre-training fails is left
    out, and the record says so.
    """
    with locked(folder):
        return _run(folder, plan, terminal, bases or folder)


def _run(folder: Path, plan: Plan, terminal: Terminal, bases: Path) -> dict[str, Any]:
    started = time.monotonic()
    _check_plan(folder, plan)
    remove_leftovers(folder, below=True)
    total = len(plan.seeds) * (1 + sum(len(cell.objectives) for cell in plan.cells))
    workers = max(1, min(cores(), len(plan.seeds) * len(plan.cells), 8))
    failed: dict[int, str] = {}
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        # Workers keep freed memory: giving it back after every tensor costs a tenth of the time.
        os.environ.setdefault(name, str(256 * 2**20))
    with (
        ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start_worker
        ) as pool,
        terminal.track("demo", total) as advance,
    ):
        tasks: dict[Future[Any], tuple[int, Cell | None]] = {
            pool.submit(_pretrain, bases, seed): (seed, None) for seed in plan.seeds
        }
        try:
            while tasks:
                for task in wait(tasks, return_when=FIRST_COMPLETED).done:
                    seed, cell = tasks.pop(task)
                    if cell is not None:
                        task.result()
                        advance(len(cell.objectives), note=f"seed {seed} {cell.name}")
                    elif isinstance(task.exception(), ProbtuneError):
                        failed[seed] = str(task.exception())
                        advance(
                            1 + sum(len(c.objectives) for c in plan.cells),
                            note=f"seed {seed} left out",
                        )
                    else:
                        task.result()
                        advance(1, note=f"seed {seed} pre-trained")
                        for new in plan.cells:
                            tasks[pool.submit(_tune, folder, bases, seed, new, plan.recipe)] = (
                                seed,
                                new,
                            )
        except BaseException:
            workers_left = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers_left:  # each would finish its cell first
                worker.terminate()
            raise
    seeds = [seed for seed in plan.seeds if seed not in failed]
    if not seeds:
        raise ProbtuneError(f"no seed could be pre-trained: {next(iter(failed.values()))}")
    return write_record(
        folder / "record.json",
        "demo",
        {
            "environment": environment(),
            "seeds": seeds,
            "failed": failed,
            "recipe": {**plan.recipe, "held_out_rows": HELD_OUT_ROWS},
            "cells": [_summarise(folder, seeds, cell) for cell in plan.cells],
            "seconds": time.monotonic() - started,
        },
    )


def _check_plan(folder: Path, plan: Plan) -> None:
    path = folder / "plan.json"
    content = json.loads(json.dumps(asdict(plan)))
    if path.is_file():
        recorded = read_record(path, "plan")
        if {key: recorded.get(key) for key in content} != content:
            raise UsageError(
                f"{folder} holds another demo (other seeds, cells or recipe); choose another --out."
            )
    elif not is_fresh(folder):
        raise UsageError(f"{folder} exists and is not a demo of probtune; choose another --out.")
    else:
        write_record(path, "plan", content)


def cores() -> int:
    """Return the cores that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    )


_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def _end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() == 1:  # it had ended already
        os._exit(1)


def _start_worker() -> None:
    """Limit a worker to one thread: models so small would let threads wait for each other."""
    _end_with_parent()
    # Ctrl-C reaches the whole group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from ..terminal import quiet_libraries

    torch.set_num_threads(1)
    quiet_libraries()


def _pretrain(bases: Path, seed: int) -> None:
    from .pretraining import pretrain

    pretrain(bases / f"seed-{seed}" / "base", seed)


def _tune(folder: Path, bases: Path, seed: int, cell: Cell, recipe: dict[str, Any]) -> None:
    """Run one cell of one seed, by the same path as `probtune tune MODEL DATA`."""
    from ..pipeline import tune
    from ..settings import TuneSettings
    from .task import ANSWER_RULE

    run_folder = folder / f"seed-{seed}"
    of_trainer = {name: value for name, value in recipe.items() if name != "training_rows"}
    train, heldout = _data(run_folder, seed, cell, recipe["training_rows"])
    settings = TuneSettings(
        model=str(bases / f"seed-{seed}" / "base" / cell.level),
        data=str(train),
        heldout_data=str(heldout),
        objective="auto",
        compare=", ".join(cell.objectives),
        seed=seed,
        answer=ANSWER_RULE,
        draws=0,
        out=str(run_folder / cell.name),
        **of_trainer,
    )
    if not (settings.folder / "record.json").is_file():
        tune(settings, Terminal(quiet=True))
    (settings.folder / LOCK).unlink(missing_ok=True)  # of one that was killed at its very end


def _data(run_folder: Path, seed: int, cell: Cell, training_rows: int) -> tuple[Path, Path]:
    """Training rows with noise and clean held-out rows, without common problems; the same problems
    for all cells.
    """
    import numpy as np

    from .task import Problems, rows_of

    train = Problems.draw(
        training_rows,
        np.random.default_rng([seed, 4]),
        shuffled=True,
        noise=cell.noise,
        rate=cell.rate,
    )
    heldout = Problems.draw(2 * HELD_OUT_ROWS, np.random.default_rng([seed, 5]), shuffled=True)
    paths = []
    for name, problems in (
        ("train", train),
        ("heldout", heldout.without(train.key, HELD_OUT_ROWS)),
    ):
        path = run_folder / "data" / f"{cell.name}.{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(problems)))
        paths.append(path)
    return paths[0], paths[1]


def _summarise(folder: Path, seeds: Sequence[int], cell: Cell) -> dict[str, Any]:
    """Return the cell over seeds: exact match per objective, and the paired difference of every
    pair of objectives.
    """
    records = [
        read_record(folder / f"seed-{seed}" / cell.name / "record.json", "tune") for seed in seeds
    ]
    names = ("base", *cell.objectives)
    exact = {name: [_exact(record, name) for record in records] for name in names}
    pairs = [(a, b) for i, a in enumerate(cell.objectives) for b in cell.objectives[i + 1 :]]
    differences = []
    for a, b in pairs:
        by_seed = [x - y for x, y in zip(exact[b], exact[a], strict=True)]
        differences.append(
            {
                **{"first": b, "second": a, "by_seed": by_seed},
                "difference": mean(by_seed).within(-1.0, 1.0),
            }
        )
    return {
        **asdict(cell),
        "name": cell.name,
        "mean_p": _share([record["probe"]["mean_p"]["value"] for record in records]),
        "below_0_1": _share([record["probe"]["below_0_1"]["value"] for record in records]),
        "verdicts": [record["probe"]["suggestion"]["verdict"] for record in records],
        "exact_match": {
            name: {"by_seed": values, "estimate": _share(values)} for name, values in exact.items()
        },
        "nll": {
            name: mean([_metric(record, name, "nll") for record in records]).within(0.0, math.inf)
            for name in names
        },
        "differences": differences,
        "winner": _winner(cell.objectives, differences),
        "auto": _auto(records, exact),
        "folders": [str(Path(f"seed-{seed}") / cell.name) for seed in seeds],
    }


def _auto(records: Sequence[dict[str, Any]], exact: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return what `auto` took with each seed, what that got, and its regret: the exact match of the
    objective with the best mean over seeds, less that of auto.
    """
    takes = [record["choice"]["objective"] for record in records]
    by_seed = [_exact(record, name) for record, name in zip(records, takes, strict=True)]
    best = max((name for name in exact if name != "base"), key=lambda name: sum(exact[name]))
    regret = [x - y for x, y in zip(exact[best], by_seed, strict=True)]
    return {
        "takes": takes,
        "by_seed": by_seed,
        "estimate": _share(by_seed),
        "regret": {"by_seed": regret, "estimate": mean(regret).within(-1.0, 1.0)},
        "looks_wrong": [
            record["scout"]["noise"]["share"]["value"]
            if record["scout"]["noise"]["known"]
            else None
            for record in records
        ],
    }


def _metric(record: dict[str, Any], name: str, metric: str) -> float:
    run = next(run for run in record["runs"] if run["name"] == name)
    return run["heldout"]["metrics"][metric]["value"]


def _share(values: Sequence[float]) -> Estimate:
    """Return the mean of shares, its interval cut to what a share can be."""
    return mean(values).within(0.0, 1.0)


def _exact(record: dict[str, Any], name: str) -> float:
    return _metric(record, name, "exact_match")


def _winner(objectives: Sequence[str], differences: Sequence[dict[str, Any]]) -> str | None:
    """Return the objective that beats every other with an interval of the paired difference above
    zero, if there is one.
    """

    def beats(a: str, b: str) -> bool:
        for row in differences:
            difference: Estimate = row["difference"]
            if (row["first"], row["second"]) == (a, b):
                return not math.isnan(difference.low) and difference.low > 0
            if (row["first"], row["second"]) == (b, a):
                return not math.isnan(difference.high) and difference.high < 0
        return False

    return next((a for a in objectives if all(beats(a, b) for b in objectives if b != a)), None)
