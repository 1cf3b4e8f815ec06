"""One run after another: train, measure on held-out rows, choose a rate, evaluate. Each step leaves
a file, and is not repeated.

    OUT/<cell>/<mode>/plan.json            the identity of this reproduction
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
from ...evaluation.backends.opening import fingerprint
from ...records import read_record, write_record, write_text
from ...settings import TuneSettings
from ...terminal import Terminal
from ..corpora import locate
from .plan import CellPlan, Run

__all__ = ["cell_folder", "choose", "evaluated", "open_cell", "run_one", "run_plan"]


def cell_folder(out: Path, plan: CellPlan) -> Path:
    """Return the folder of a cell; a trial's holds the model's name, so that none is a cell's."""
    if plan.trial is not None:
        return out / "trials" / plan.recipe.backbone.name / plan.recipe.cell / plan.mode
    return out / plan.recipe.cell / plan.mode


def open_cell(plan: CellPlan, out: Path) -> Path:
    """Return the folder of a cell, after checking that it holds no other reproduction.

    Raises:
        UsageError: the folder holds another one; the message names the difference.
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
    if plan.trial is not None:
        identity |= plan.trial.flags()
        identity["weights"] = fingerprint(plan.recipe.backbone.hub)
    if path.is_file():
        stored = read_record(path, "reproduction-plan")["identity"]
        for name, value in identity.items():
            if stored.get(name) != value and not _only_more(name, stored.get(name), value):
                raise UsageError(
                    f"{folder} holds another reproduction: its {name} is {stored.get(name)!r}, not"
                    f" {value!r}; choose another --out."
                )
        return folder
    write_record(path, "reproduction-plan", {"identity": identity})
    return folder


def evaluated(recipe: str, out: Path = Path("runs/reproduction")) -> list[str]:
    """Return `objective=FOLDER` for each evaluation of a recipe in fair mode, seed after seed, as
    `probtune compare` takes them. The base model, which has no seeds, is left out.

    Raises:
        UsageError: the folder holds no evaluation of the recipe.
    """
    from .plan import plan_cell
    from .recipe import read_recipe

    plan = plan_cell(read_recipe(recipe), "fair")
    folder = cell_folder(out, plan)
    folders = [
        f"{run.group}={folder / run.name / 'evaluation'}"
        for run in plan.runs
        if run.trains and (folder / run.name / "evaluation" / "record.json").is_file()
    ]
    if not folders:
        raise UsageError(
            f"{folder} has no evaluation of {plan.recipe.cell}; make them with `probtune reproduce"
            f" {plan.recipe.cell}`."
        )
    return folders


def run_plan(plan: CellPlan, out: Path, terminal: Terminal, *, keep_models: bool = False) -> None:
    """Carry out the runs of a cell, one after another. Finished runs are not repeated.

    Args:
        keep_models: keep models after their evaluation.

    Raises:
        ProbtuneError: a run failed; finished results are saved, and the same call goes on.
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
    """Carry out one run, and return its record `done.json`. A candidate is measured on held-out
    rows, and not evaluated.
    """
    target = folder / run.name
    done = target / "done.json"
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
    settings = _settings(run, folder, target, rate, small=plan.trial is not None)
    if run.trains:
        model = str(_train(settings, target, plan.processes, terminal))
        content["trained_as"] = settings.objective
    else:
        model = settings.model
    if run.candidate:
        content["heldout"] = _measure(settings, model, target, terminal)
    if run.probe:
        content["likelihood"] = _likelihood(settings, model, target, terminal)
    if run.evaluation is not None and not run.candidate:
        _evaluate(run, model, target, terminal)
    record = write_record(done, "reproduction-run", content)
    if run.trains and not run.candidate and not keep_models:
        _drop(model)
    return record


def _settings(
    run: Run, folder: Path, target: Path, rate: float | None, *, small: bool = False
) -> TuneSettings:
    """Return a run's settings, with quantiles as numbers and the chosen rate.

    Args:
        small: read few rows where nothing depends on their number, as in a trial.
    """
    from ...objectives import objective as read_objective

    settings = run.training
    if run.trains and "base_quantile" in read_objective(settings.objective).kinds:
        settings = replace(settings, objective=_with_quantiles(settings.objective, folder, run))
    return replace(
        settings,
        learning_rate=rate or settings.learning_rate,
        probe_examples=8 if small else 128,  # the probe of `train` is not used here
        all=False,
        out=str(target / "training"),
    )


def _with_quantiles(text: str, folder: Path, run: Run) -> str:
    """Return an objective whose thresholds are the base model's quantiles over training tokens."""
    import numpy as np

    from ...objectives import objective as read_objective

    base = (
        "base" if (folder / "base" / "likelihood.json").is_file() else f"base-{run.backbone.name}"
    )
    percentiles = read_record(folder / base / "likelihood.json", "probe")["percentiles"]
    fixed = read_objective(text).fixed(
        lambda share: float(np.interp(100.0 * share, np.arange(101), percentiles))
    )
    return str(fixed)


def _train(settings: TuneSettings, target: Path, processes: int, terminal: Terminal) -> Path:
    """Train unless that is done, and return the folder of the model."""
    from ...objectives import objective as read_objective
    from ...pipeline import slug, train

    model = settings.folder / slug(read_objective(settings.objective)) / "model"
    if (model.parent / "train.json").is_file():
        return model
    if processes == 1:
        train(settings, terminal, locate=locate)
        return model
    config = target / "settings.yaml"
    write_text(config, _yaml(settings))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--main_process_port", "0"),  # any free port, since several may run on one machine
        *("--mixed_precision", "bf16" if settings.weights == "float32" else "no"),
        *("--dynamo_backend", "no", "--use_fsdp", "--fsdp_version", "2"),
        *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
        *("--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_reshard_after_forward", "true"),
        *("-m", "probtune", "train", "--config", str(config)),
    ]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ProbtuneError(
            f"training on {processes} devices ended with status {status}; see its messages above."
            f" Finished steps are saved under {target}, and the same command goes on."
        )
    return model


def _yaml(settings: TuneSettings) -> str:
    import yaml

    return yaml.safe_dump(dataclasses.asdict(settings), allow_unicode=True, sort_keys=False)


def _measure(
    settings: TuneSettings, model: str, target: Path, terminal: Terminal
) -> dict[str, Any]:
    """Return the measure that chooses a learning rate: right answers on the held-out rows, or token
    accuracy if rows have no short answer.
    """
    path = target / "heldout.json"
    if path.is_file():
        record = read_record(path, "heldout")
    else:
        from ...pipeline.measuring import measure_heldout
        from ...pipeline.preparation import prepare

        prepared = prepare(settings, terminal, locate=locate)
        heldout = measure_heldout(
            model, prepared, settings, terminal, label="measuring on held-out rows"
        )
        record = write_record(path, "heldout", heldout.to_dict())
    metric = "exact_match" if "exact_match" in record["metrics"] else "token_accuracy"
    return {"metric": metric, **record["metrics"][metric], "nll": record["metrics"]["nll"]["value"]}


def _likelihood(
    settings: TuneSettings, model: str, target: Path, terminal: Terminal
) -> dict[str, Any]:
    """Return the mean p of all training tokens (the paper's Eq. 5) under a model."""
    path = target / "likelihood.json"
    if path.is_file():
        record = read_record(path, "probe")
    else:
        from ...pipeline import probe_only

        whole = replace(settings, model=model, all=True, out=str(path), objective="nll()")
        record = probe_only(whole, terminal, locate=locate)
    return {
        "mean_p": record["mean_p"],
        "above_0_55": record["above_0_55"],
        "tokens": record["tokens"],
    }


def _evaluate(run: Run, model: str, target: Path, terminal: Terminal) -> None:
    from ...evaluation.evaluate import evaluate

    assert run.evaluation is not None
    evaluate(replace(run.evaluation, model=model, out=str(target / "evaluation")), terminal)


def choose(
    plan: CellPlan, group: str, folder: Path, terminal: Terminal, *, keep_models: bool = False
) -> dict[str, Any]:
    """Choose the learning rate of an objective by its candidates on held-out rows; ties go to the
    smaller rate. The chosen model is evaluated; then the models are removed.

    Raises:
        ProbtuneError: a candidate is not measured yet.
    """
    path = folder / group / "choice.json"
    if path.is_file():
        return read_record(path, "reproduction-choice")
    candidates = plan.candidates(group)
    measurements = []
    for run in candidates:
        record = folder / run.name / "done.json"
        if not record.is_file():
            raise ProbtuneError(
                f"{plan.recipe.cell}: {run.name} is not finished, so no rate can be chosen for"
                f" {group}; the same command goes on with it."
            )
        measurements.append((run, read_record(record, "reproduction-run")["heldout"]))
    best, heldout = max(
        measurements, key=lambda pair: (pair[1]["value"], -(pair[0].learning_rate or 0.0))
    )
    rates = {f"{run.learning_rate:g}": measured["value"] for run, measured in measurements}
    terminal.say(f"{group}: learning rate {best.learning_rate:g}, by {heldout['metric']}.")
    if best.evaluation is not None:
        target = folder / best.name
        settings = _settings(best, folder, target, best.learning_rate, small=plan.trial is not None)
        model = _train(settings, target, plan.processes, terminal)
        _evaluate(best, str(model), target, terminal)
    record = write_record(
        path,
        "reproduction-choice",
        {
            "run": best.name,
            "learning_rate": best.learning_rate,
            "metric": heldout["metric"],
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


def _only_more(name: str, stored: Any, planned: Any) -> bool:
    """True if the plan only adds runs to the stored ones."""
    return name == "runs" and isinstance(stored, list) and set(stored) <= set(planned)


def _drop(model: str) -> None:
    if Path(model).is_dir():
        shutil.rmtree(model, ignore_errors=True)
