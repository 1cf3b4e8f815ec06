"""Trials of `probtune reproduce`: a cell's protocol on the user's model and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...terminal import Terminal
from .options import Reproduce
from .results import finish

if TYPE_CHECKING:
    from ...evaluation.grading.judge import Judge
    from ..reproduction.plan import CellPlan
    from ..reproduction.trial import Trial

__all__ = ["run_trials", "trial_of", "trial_plans"]


def trial_of(options: Reproduce) -> Trial:
    """Return the options that change a cell's model, rows and questions."""
    from ..reproduction.trial import Trial

    return Trial(
        model=options.model,
        limit_train=options.limit_train,
        limit_eval=options.limit_eval,
        samples=options.samples,
        train_data=options.train_data,
        eval_data=options.eval_data,
        tasks=options.tasks,
        max_new_tokens=options.max_new_tokens,
        learning_rates=_rates(options.rates),
        step_rows=options.step_rows,
    )


def trial_plans(trial: Trial, options: Reproduce, planned: Mapping[str, Any]) -> list[CellPlan]:
    """Plan the trial of each cell.

    Raises:
        UsageError: several devices or a cluster are asked for; a trial is one process.
    """
    from ..reproduction.recipe import find_recipes
    from ..reproduction.trial import plan_trial

    if options.slurm or (options.gpus or 1) > 1:
        raise UsageError("a trial runs in one process; leave out --slurm and --gpus.")
    assert options.target is not None
    return [
        plan_trial(recipe, options.mode, trial, **planned)
        for recipe in find_recipes(options.target)
    ]


def run_trials(
    plans: Sequence[CellPlan],
    options: Reproduce,
    out: Path,
    terminal: Terminal,
    judge: Judge | None,
) -> None:
    """Show the plans, and carry them out."""
    from ..reproduction import checks

    for plan in plans:
        _show(plan, terminal)
        prompts = checks.resolve(plan)
        if options.dry_run:
            for text in prompts:
                terminal.show(text, wrap=False)
    if options.dry_run:
        return terminal.show("every option resolves. Nothing was fetched or run.")
    checks.check_packages(plans)
    from ...terminal import quiet_libraries
    from ..reproduction.run import cell_folder, run_plan
    from ..reproduction.trial import with_rows

    quiet_libraries()
    for plan in plans:
        run_plan(
            with_rows(plan, cell_folder(out, plan), terminal),
            out,
            terminal,
            keep_models=options.keep_models,
        )
    finish(plans, out, terminal, judge)


def _show(plan: CellPlan, terminal: Terminal) -> None:
    from ..reproduction.trial import summary

    trained = [run for run in plan.runs if run.trains]
    terminal.table(
        f"trial of {plan.recipe.cell}, {plan.mode}",
        ["model", "trainings", "objectives", "rates", "seeds", "rows a step", "held out"],
        [
            [
                plan.recipe.backbone.name,
                str(len(trained)),
                ", ".join(plan.recipe.objectives),
                ", ".join(f"{rate:g}" for rate in plan.recipe.learning_rates),
                ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in trained)),
                str(plan.recipe.training.batch_size * plan.recipe.training.gradient_accumulation),
                f"{plan.recipe.training.heldout or 0:g}",
            ]
        ],
        notes=[summary(plan), *plan.notes],
        words=True,
    )


def _rates(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--rates takes numbers such as 1e-4,3e-4, got {text!r}.") from None
