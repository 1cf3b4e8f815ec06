"""One run after another: train, measure on held-out rows, choose a rate, evaluate; each step is
kept, and not done again.

    OUT/<cell>/<mode>/plan.json            what makes it this reproduction
    OUT/<cell>/<mode>/<run>/training/      the folder of `probtune train`
    OUT/<cell>/<mode>/<run>/heldout.json   a candidate's answers to the held-out rows
    OUT/<cell>/<mode>/<run>/likelihood.json
    OUT/<cell>/<mode>/<run>/evaluation/    the folder of `probtune eval`
    OUT/<cell>/<mode>/<group>/choice.json  the learning rate of an objective
    OUT/<cell>/<mode>/<run>/done.json
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import ProbtuneError, UsageError
from ...records import read_record, write_record, write_text
from ...settings import TuneSettings
from ...terminal import Terminal
from ..corpora import locate
from .plan import CellPlan, Run

__all__ = ["cell_folder", "choose", "evaluated", "open_cell", "run_one", "run_plan"]


def cell_folder(out: Path, plan: CellPlan) -> Path:
    return out / plan.recipe.cell / plan.mode


def open_cell(plan: CellPlan, out: Path) -> Path:
    """The cell's folder, after a look whether it holds this reproduction.

    Raises:
        UsageError: it holds another one, with what differs.
    """
    folder = cell_folder(out, plan)
    path = folder / "plan.json"
    identity = {
        "cell": plan.recipe.cell,
        "mode": plan.mode,
        "deviations": list(plan.deviations),
        "runs": [run.name for run in plan.runs],
        "processes": plan.processes,
    }
    if path.is_file():
        there = read_record(path, "reproduction-plan")["identity"]
        for name, value in identity.items():
            if there.get(name) != value and not _only_more(name, there.get(name), value):
                raise UsageError(
                    f"{folder} holds another reproduction: its {name} is {there.get(name)!r}, here"
                    f" {value!r}; choose another --out."
                )
        return folder
    write_record(path, "reproduction-plan", {"identity": identity})
    return folder


def evaluated(recipe: str, out: Path = Path("runs/reproduction")) -> list[str]:
    """`objective=FOLDER` for each evaluation of a recipe in fair mode, seed after seed: what
    `probtune compare` takes. The base model, which has no seeds, is left out.

    Raises:
        UsageError: nothing of the recipe was evaluated there.
    """
    from .plan import plan_cell
    from .recipe import read_recipe

    plan = plan_cell(read_recipe(recipe), "fair")
    folder = cell_folder(out, plan)
    found = [
        f"{run.group}={folder / run.name / 'evaluation'}"
        for run in plan.runs
        if run.trains and (folder / run.name / "evaluation" / "record.json").is_file()
    ]
    if not found:
        raise UsageError(
            f"{folder} has no evaluation of {plan.recipe.cell}; make them with `probtune reproduce"
            f" {plan.recipe.cell}`."
        )
    return found


def run_plan(plan: CellPlan, out: Path, terminal: Terminal, *, keep_models: bool = False) -> None:
    """Every run of a cell, one after another. What was finished is not done again.

    Args:
        keep_models: leave models where they are once they were evaluated.

    Raises:
        ProbtuneError: a run failed; the others' results are kept, and the same call goes on.
    """
    folder = open_cell(plan, out)
    for stage in plan.stages():
        for run in stage:
            run_one(plan, run, folder, terminal, keep_models=keep_models)
            if run.candidate and run is plan.candidates(run.group)[-1]:
                choose(plan, run.group, folder, terminal, keep_models=keep_models)


def run_one(
    plan: CellPlan, run: Run, folder: Path, terminal: Terminal, *, keep_models: bool = False
) -> dict[str, Any]:
    """One run to its end: its record `done.json`. A candidate is measured, and not evaluated."""
    place = folder / run.name
    done = place / "done.json"
    if done.is_file():
        return read_record(done, "reproduction-run")
    terminal.say(f"{plan.recipe.cell}, {plan.mode}: {run.name}")
    rate = run.learning_rate
    if run.trains and rate is None:
        rate = _chosen_rate(plan, run, folder)
    model = run.backbone.hub
    content: dict[str, Any] = {
        "cell": plan.recipe.cell,
        "mode": plan.mode,
        "run": run.name,
        "backbone": run.backbone.name,
        "objective": run.objective or "base",
        "variant": dict(run.variant or {}),
        "seed": run.seed,
        "learning_rate": rate,
    }
    settings = _settings(run, folder, place, rate)
    if run.trains:
        model = str(_train(settings, place, plan.processes, terminal))
        content["trained_as"] = settings.objective
    else:
        model = settings.model
    if run.candidate:
        content["heldout"] = _measure(settings, model, place, terminal)
    if run.probe:
        content["likelihood"] = _likelihood(settings, model, place, terminal)
    if run.evaluation is not None and not run.candidate:
        _evaluate(run, model, place, terminal)
    record = write_record(done, "reproduction-run", content)
    if run.trains and not run.candidate and not keep_models:
        _drop(model)
    return record


def _settings(run: Run, folder: Path, place: Path, rate: float | None) -> TuneSettings:
    """A run's settings, with quantiles as numbers and the rate that was chosen."""
    from ...objectives import objective as read_objective

    settings = run.training
    if run.trains and read_objective(settings.objective).open_cuts():
        settings = replace(settings, objective=_with_quantiles(settings.objective, folder, run))
    return replace(
        settings,
        learning_rate=rate or settings.learning_rate,
        probe_examples=128,  # what the probe of `train` finds is not used
        all=False,
        out=str(place / "training"),
    )


def _with_quantiles(text: str, folder: Path, run: Run) -> str:
    """Thresholds as the base model's quantiles over all training tokens."""
    import numpy as np

    from ...objectives import objective as read_objective

    base = (
        "base" if (folder / "base" / "likelihood.json").is_file() else f"base-{run.backbone.name}"
    )
    found = read_record(folder / base / "likelihood.json", "probe")["percentiles"]
    fixed = read_objective(text).fixed(
        lambda share: float(np.interp(100.0 * share, np.arange(101), found))
    )
    return str(fixed)


def _train(settings: TuneSettings, place: Path, processes: int, terminal: Terminal) -> Path:
    """The folder of the trained model."""
    from ...objectives import objective as read_objective
    from ...pipeline import slug, train

    model = settings.folder / slug(read_objective(settings.objective)) / "model"
    if (model.parent / "train.json").is_file():
        return model
    if processes == 1:
        train(settings, terminal, locate=locate)
        return model
    config = place / "settings.yaml"
    write_text(config, _yaml(settings))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--main_process_port", "0"),  # a free one: several may run on one machine
        *("--mixed_precision", "bf16" if settings.weights == "float32" else "no"),
        *("--dynamo_backend", "no", "--use_fsdp", "--fsdp_version", "2"),
        *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
        *("--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_reshard_after_forward", "true"),
        *("-m", "probtune", "train", "--config", str(config)),
    ]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ProbtuneError(
            f"training on {processes} devices ended with status {status}; its messages"
            f" stand above. What was finished is kept under {place}; the same command goes on."
        )
    return model


def _yaml(settings: TuneSettings) -> str:
    import yaml

    return yaml.safe_dump(dataclasses.asdict(settings), allow_unicode=True, sort_keys=False)


def _measure(settings: TuneSettings, model: str, place: Path, terminal: Terminal) -> dict[str, Any]:
    """What chooses a learning rate: right answers on the held-out rows, or token accuracy where
    there is no short answer.
    """
    path = place / "heldout.json"
    if path.is_file():
        found = read_record(path, "heldout")
    else:
        from ...pipeline.measuring import measure_heldout
        from ...pipeline.preparation import prepare

        prepared = prepare(settings, terminal, locate=locate)
        heldout = measure_heldout(
            model, prepared, settings, terminal, label="measuring on held-out rows"
        )
        found = write_record(path, "heldout", heldout.to_dict())
    metric = "exact_match" if "exact_match" in found["metrics"] else "token_accuracy"
    return {"metric": metric, **found["metrics"][metric], "nll": found["metrics"]["nll"]["value"]}


def _likelihood(
    settings: TuneSettings, model: str, place: Path, terminal: Terminal
) -> dict[str, Any]:
    """Mean p of all training tokens (the paper's Eq. 5) under a model."""
    path = place / "likelihood.json"
    if path.is_file():
        found = read_record(path, "probe")
    else:
        from ...pipeline import probe_only

        whole = replace(settings, model=model, all=True, out=str(path), objective="nll()")
        found = probe_only(whole, terminal, locate=locate)
    return {"mean_p": found["mean_p"], "above_0_55": found["above_0_55"], "tokens": found["tokens"]}


def _evaluate(run: Run, model: str, place: Path, terminal: Terminal) -> None:
    from ...evaluation.evaluate import evaluate

    assert run.evaluation is not None
    evaluate(replace(run.evaluation, model=model, out=str(place / "evaluation")), terminal)


def choose(
    plan: CellPlan, group: str, folder: Path, terminal: Terminal, *, keep_models: bool = False
) -> dict[str, Any]:
    """The learning rate of an objective, by its candidates on held-out rows; ties go to the smaller
    rate. The chosen model is evaluated, the others are removed.

    Raises:
        ProbtuneError: a candidate is not measured yet.
    """
    path = folder / group / "choice.json"
    if path.is_file():
        return read_record(path, "reproduction-choice")
    candidates = plan.candidates(group)
    found = []
    for run in candidates:
        record = folder / run.name / "done.json"
        if not record.is_file():
            raise ProbtuneError(
                f"{plan.recipe.cell}: {run.name} is not finished, so that no rate can be chosen for"
                f" {group}; the same command goes on with it."
            )
        found.append((run, read_record(record, "reproduction-run")["heldout"]))
    best, held = max(found, key=lambda pair: (pair[1]["value"], -(pair[0].learning_rate or 0.0)))
    rates = {f"{run.learning_rate:g}": measured["value"] for run, measured in found}
    terminal.say(f"{group}: learning rate {best.learning_rate:g}, by {held['metric']}.")
    if best.evaluation is not None:
        place = folder / best.name
        settings = _settings(best, folder, place, best.learning_rate)
        model = _train(settings, place, plan.processes, terminal)
        _evaluate(best, str(model), place, terminal)
    record = write_record(
        path,
        "reproduction-choice",
        {
            "run": best.name,
            "learning_rate": best.learning_rate,
            "metric": held["metric"],
            "rates": rates,
        },
    )
    if not keep_models:
        for run in candidates:
            for model in (folder / run.name / "training").glob("*/model"):
                _drop(str(model))
    return record


def _chosen_rate(plan: CellPlan, run: Run, folder: Path) -> float:
    path = folder / run.group / "choice.json"
    if not path.is_file():
        rates = ", ".join(f"{other.learning_rate:g}" for other in plan.candidates(run.group))
        raise ProbtuneError(
            f"{plan.recipe.cell}: {run.name} needs the learning rate that the runs at {rates}"
            " choose, and they are not finished; the same command goes on with them."
        )
    return read_record(path, "reproduction-choice")["learning_rate"]


def _only_more(name: str, there: Any, here: Any) -> bool:
    """Whether a plan only has further runs."""
    return name == "runs" and isinstance(there, list) and set(there) <= set(here)


def _drop(model: str) -> None:
    if Path(model).is_dir():
        shutil.rmtree(model, ignore_errors=True)
