"""`probtune sweep`: the runs of a sweep, here or on a scheduler, and their comparison."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..numbers import interval
from ..options import arguments_of
from ..settings import TuneSettings
from .options import SWEPT
from .tuning import seeds_of, settings_of

if TYPE_CHECKING:
    from ..pipeline.sweep import Runs
    from ..terminal import Terminal

__all__ = ["sweep"]


def sweep(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    _check_swept(settings)
    seeds = seeds_of(options.seeds)
    rates = _numbers(options.learning_rates)
    from ..objectives import objective_list
    from ..terminal import Terminal, quiet_libraries

    quiet_libraries()
    from ..pipeline.sweep import gather, runs_of, unfinished

    folder = Path(settings.out) if settings.out is not None else _default(settings)
    texts = [options.objectives] if options.objectives.startswith(("auto", "select:")) else None
    names = texts or [str(member) for member in objective_list(options.objectives)]
    runs = runs_of(settings, names, rates, seeds, folder)
    terminal = Terminal()
    if options.commands:
        for run in unfinished(runs).values():
            words = ["probtune", "tune", *arguments_of(run)]
            terminal.show(shlex.join(words), wrap=False)
        return
    terminal.say(
        f"{len(runs)} runs ({len(rates)} learning rates, {len(seeds)} seeds) of {len(names)}"
        f" objectives each, {len(runs) - len(unfinished(runs))} finished."
    )
    _run(unfinished(runs), options, folder, terminal)
    _show(gather(runs, folder), folder, terminal)


def _check_swept(settings: TuneSettings) -> None:
    """Refuse a configuration that fixes what is swept."""
    plain = TuneSettings(settings.model, settings.data)
    for name, flag in SWEPT.items():
        if (value := getattr(settings, name)) != getattr(plain, name):
            raise UsageError(
                f"--config fixes {name}: {value!r}, which a sweep varies; name it by {flag}."
            )


def _default(settings: TuneSettings) -> Path:
    return settings.folder.with_name(f"sweep-{settings.folder.name}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--learning-rates must be numbers as 1e-5,3e-5, got {text!r}.") from None


def _run(runs: Runs, options: argparse.Namespace, folder: Path, terminal: Terminal) -> None:
    """Run what is not finished: one after another in this process, or by submitit."""
    if not runs:
        return
    from ..paper.corpora import locate
    from ..pipeline import tune
    from ..pipeline.launch import launch_local, launch_slurm, slurm_options
    from ..pipeline.sweep import jobs_of

    logs = folder / "logs"
    if options.slurm:
        launch_slurm([jobs_of(runs)], slurm_options(options.slurm), logs, terminal)
    elif options.devices > 1:
        launch_local([jobs_of(runs)], range(options.devices), logs, terminal)
    else:
        for number, ((rate, seed), run) in enumerate(runs.items(), start=1):
            terminal.say(f"\nrun {number} of {len(runs)}: learning rate {rate:g}, seed {seed}")
            tune(run, terminal, locate=locate)


def _show(record: dict[str, Any], folder: Path, terminal: Terminal) -> None:
    from ..reports.sweep import sweep_sentences
    from ..reports.verdict import METRIC_NAMES

    rates = [f"{rate:g}" for rate in record["learning_rates"]]
    rows = []
    for result in record["results"]:
        difference = result["difference"]
        rows.append(
            [
                result["objective"],
                *(f"{result['by_rate'][rate]:.3f}" for rate in rates),
                f"{result['learning_rate']:g}",
                interval(result["score"], spec=".3f", share=True),
                "" if difference is None else interval(difference, spec="+.3f"),
            ]
        )
    terminal.table(
        f"{METRIC_NAMES[record['metric']]}: rates on half of the held-out rows, results on the"
        f" other {record['reported_rows']}",
        [
            "",
            *(f"lr {rate}" for rate in rates),
            *("taken", "score [95 %]", f"minus {record['reference']} [95 %]"),
        ],
        rows,
    )
    for line in sweep_sentences(record):
        terminal.show(line)
    terminal.show(f"record  {folder / 'sweep.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)
