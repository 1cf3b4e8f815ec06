"""`probtune reproduce`: plan and cost, the runs, then the paper's table beside our numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...terminal import Terminal

if TYPE_CHECKING:
    from ...evaluation.grading.judge import Judge
    from ...pipeline.launch import Job
    from ..reproduction.cost import Cost
    from ..reproduction.plan import CellPlan, Run

from .options import Reproduce
from .results import finish
from .trials import run_trials, trial_of, trial_plans

__all__ = ["reproduce"]


def reproduce(options: Reproduce) -> None:
    terminal = Terminal()
    if options.list:
        return _list(terminal)
    if options.target is None:
        raise UsageError("name a cell, a table or a figure; probtune reproduce --list shows all.")
    out = Path(options.out)
    if options.miniature:
        if trial_of(options).chosen:
            raise UsageError("--miniature has models and rows of its own; a trial does without it.")
        return _miniature(options, out, terminal)
    plans = _plans(options)
    if options.one is not None:
        return _one(plans, options, out, terminal)
    judge = _judge(options)
    if options.report:
        return finish(plans, out, terminal, judge)
    if plans[0].trial is not None:
        return run_trials(plans, options, out, terminal, judge)
    cost = _show_plan(plans, options, terminal)
    if options.dry_run:
        return _dry_run(plans, terminal)
    from ..reproduction import checks

    checks.check_packages(plans)
    checks.check_hub(plans, out)
    devices = [] if options.slurm else checks.accelerators()
    if not options.slurm:
        for plan in plans:
            checks.check_memory(plan, devices)
    checks.check_disk(cost, out)
    _ask(options)
    from ...terminal import quiet_libraries

    quiet_libraries()
    if options.slurm or len(devices) > max(plan.processes for plan in plans):
        _launch(plans, options, out, len(devices), terminal)
    else:
        from ..reproduction.run import run_plan

        for plan in plans:
            run_plan(plan, out, terminal, keep_models=options.keep_models)
    finish(plans, out, terminal, judge)


def _judge(options: Reproduce) -> Judge | None:
    from ...evaluation.grading.judge import Judge

    if options.judge is None:
        return None
    if options.judge_model is None:
        raise UsageError("--judge needs the name of its model: --judge-model NAME.")
    return Judge(options.judge, options.judge_model, key_variable=options.judge_key)


def _plans(options: Reproduce) -> list[CellPlan]:
    """Plan each cell. Without --gpus, faithful mode takes the number of devices of the paper's run,
    since its micro-batches matter, and fair mode as many as the memory needs.
    """
    from ..reproduction.checks import accelerators
    from ..reproduction.cost import DEVICE_BYTES, cost_of
    from ..reproduction.plan import plan_cell
    from ..reproduction.recipe import find_recipes

    trial = trial_of(options)
    if trial.chosen:
        return trial_plans(trial, options, _planned(options))
    devices = [] if options.dry_run or options.slurm or options.gpus else accelerators()
    room = min(devices, default=DEVICE_BYTES)
    plans = []
    assert options.target is not None
    for recipe in find_recipes(options.target):
        planned = _planned(options)
        if options.gpus is None and options.mode == "faithful":
            planned["processes"] = recipe.processes
        plan = plan_cell(recipe, options.mode, **planned)
        needed = cost_of(plan, device_bytes=room).devices
        if options.gpus is None and needed > plan.processes:
            plan = plan_cell(recipe, options.mode, **{**planned, "processes": needed})
        plans.append(plan)
    return plans


def _planned(options: Reproduce) -> dict[str, Any]:
    return {
        "target": options.target,
        "add": options.add,
        "leave_out": options.without,
        "processes": options.gpus,
        "seeds": _seeds(options.seeds),
        "backend": options.backend,
    }


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes numbers such as 0,1,2, got {text!r}.") from None


def _list(terminal: Terminal) -> None:
    from ..reproduction.deviations import DEVIATIONS
    from ..reproduction.recipe import all_recipes

    terminal.table(
        "Cells; `reproduce` takes a cell, a domain, a table, a figure, or `all`",
        ["cell", "model", "shows", "objectives", "deviations"],
        [
            [
                recipe.cell,
                recipe.backbone.hub,
                ", ".join(recipe.shows),
                str(len(recipe.objectives)),
                str(len(recipe.deviations)),
            ]
            for recipe in all_recipes()
        ],
        words=True,
    )
    terminal.table(
        "Deviations of the paper's code; --mode faithful switches on all that apply, --with and"
        " --without one of them",
        ["name", "what the code does"],
        [[deviation.name, deviation.what] for deviation in DEVIATIONS.values()],
        words=True,
    )


def _show_plan(plans: Sequence[CellPlan], options: Reproduce, terminal: Terminal) -> Cost:
    from ..reproduction.cost import ASSUMPTIONS, Cost, cost_of

    total, rows = Cost(), []
    for plan in plans:
        cost = cost_of(plan, keep_models=options.keep_models)
        total += cost
        rows.append([plan.recipe.cell, str(len(plan.runs)), *_figures(cost, plan.processes)])
    if len(plans) > 1:
        runs = sum(len(plan.runs) for plan in plans)
        most = max(plan.processes for plan in plans)
        rows.append(["all", str(runs), *_figures(total, most)])
    notes = [
        f"deviations  {plan.recipe.cell}: {', '.join(plan.deviations)}"
        for plan in plans
        if plan.deviations
    ]
    notes = notes if len(notes) <= 3 else []
    notes += [note for plan in plans for note in plan.notes]
    if total.unknown_downloads:
        notes.append(f"Size of the download unknown: {', '.join(total.unknown_downloads)}.")
    terminal.table(
        f"{options.target}, {options.mode}",
        [
            *("cell", "runs", "trainings", "GPU hours", "for training", "answers"),
            *("memory GB", "devices", "disk GB"),
        ],
        rows,
        notes=[*notes, "Estimates: " + "; ".join(ASSUMPTIONS) + "."],
    )
    return total


def _figures(cost: Cost, devices: int) -> list[str]:
    return [
        str(cost.trainings),
        f"{cost.hours:.1f}",
        f"{cost.training_hours:.1f}",
        f"{cost.generations:,}",
        f"{cost.peak_bytes / 1e9:.0f}",
        str(devices),
        f"{cost.disk_bytes / 1e9:.0f}",
    ]


def _dry_run(plans: Sequence[CellPlan], terminal: Terminal) -> None:
    from ...terminal import quiet_libraries
    from ..reproduction.checks import resolve

    quiet_libraries()
    for plan in plans:
        prompts = resolve(plan)
        if len(plans) > 1:
            continue
        for text in prompts:
            terminal.show(text, wrap=False)
        for run in plan.runs:
            terminal.show(_described(run), wrap=False)
    terminal.show(
        f"every option of {len(plans)} cells resolves: settings, training sets, benchmarks,"
        " prompts, deviations. Nothing was fetched or run."
    )


def _described(run: Run) -> str:
    if not run.trains:
        return f"{run.name:40s} {run.backbone.hub}"
    rate = "the rate chosen by the sweep" if run.learning_rate is None else f"{run.learning_rate:g}"
    return f"{run.name:40s} {run.training.objective}, rate {rate}, seed {run.seed}"


def _ask(options: Reproduce) -> None:
    """Ask on a terminal whether to begin."""
    if options.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if input("Begin? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was run; --dry-run shows every run, --yes begins without asking.")


def _one(plans: Sequence[CellPlan], options: Reproduce, out: Path, terminal: Terminal) -> None:
    """Carry out one job: `CELL::RUN`, or `CELL::GROUP/choice`, the choice of a learning rate."""
    from ...terminal import quiet_libraries
    from ..reproduction.run import choose, open_cell, run_one

    quiet_libraries()
    assert options.one is not None
    cell, _, name = options.one.partition("::")
    for plan in plans:
        if plan.recipe.cell != cell:
            continue
        folder = open_cell(plan, out)
        for run in plan.runs:
            if run.name == name:
                run_one(plan, run, folder, terminal, keep_models=options.keep_models)
                return
            if f"{run.group}/choice" == name:
                choose(plan, run.group, folder, terminal, keep_models=options.keep_models)
                return
    raise UsageError(f"there is no run {options.one!r}; --dry-run shows all.")


def _launch(
    plans: Sequence[CellPlan],
    options: Reproduce,
    out: Path,
    devices: int,
    terminal: Terminal,
) -> None:
    from ...pipeline.launch import launch_local, launch_slurm, slurm_options
    from ..reproduction.run import open_cell

    for plan in plans:  # a folder of another reproduction is refused once, not by every job
        open_cell(plan, out)
    waves = _waves(plans, options, out)
    logs = out / "logs"
    if options.slurm:
        launch_slurm(waves, slurm_options(options.slurm), logs, terminal)
    else:
        launch_local(waves, range(devices), logs, terminal)


def _waves(plans: Sequence[CellPlan], options: Reproduce, out: Path) -> list[list[Job]]:
    """Return the jobs, wave after wave: base models, rates, choices, other seeds."""
    from ...pipeline.launch import Job

    waves: list[list[Job]] = [[], [], [], []]
    for plan in plans:
        names: tuple[dict[str, None], ...] = ({}, {}, {}, {})
        for run in plan.runs:
            which = 0 if not run.trains else 1 if run.learning_rate is not None else 3
            names[which][run.name] = None
            if run.candidate:
                names[2][f"{run.group}/choice"] = None
        for wave, jobs in zip(waves, names, strict=True):
            for name in jobs:
                command = [*_command(plan, options, out), "--run", f"{plan.recipe.cell}::{name}"]
                wave.append(Job(tuple(command), plan.processes))
    return [wave for wave in waves if wave]


def _command(plan: CellPlan, options: Reproduce, out: Path) -> list[str]:
    """Return this command as that of a job, without its run."""
    command = [sys.executable, "-m", "probtune", "reproduce", options.target, "--yes"]
    command += ["--mode", plan.mode, "--out", str(out.absolute()), "--gpus", str(plan.processes)]
    for flag, values in (("--with", options.add), ("--without", options.without)):
        for value in values:
            command += [flag, value]
    command += ["--seeds", options.seeds] if options.seeds else []
    command += ["--backend", options.backend] if options.backend else []
    return [*command, *(["--keep-models"] if options.keep_models else [])]


def _miniature(options: Reproduce, out: Path, terminal: Terminal) -> None:
    """Take the same path with tiny models and example rows."""
    from ...terminal import quiet_libraries

    quiet_libraries()
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ..reproduction.miniature import miniature
    from ..reproduction.recipe import find_recipes
    from ..reproduction.run import run_plan

    out = out / "miniature"
    plans = []
    assert options.target is not None
    for recipe in find_recipes(options.target):
        files = out / "files" / recipe.cell
        plan = miniature(recipe, options.mode, files, terminal, **_planned(options))
        run_plan(plan, out, terminal, keep_models=options.keep_models)
        plans.append(plan)
    finish(plans, out, terminal, _judge(options))
