"""Recipes -> runs, each a model, rows, objective, seed, learning rate and evaluation, in one of two
modes.

    fair       prompts shared by training and evaluation, the learning rate of each objective chosen
               on held-out rows, the recipe's seeds
    faithful   as the paper's code ran: every deviation that applies, one rate, one run
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UsageError
from ...evaluation.settings import EvalSettings
from ...settings import TuneSettings
from ..corpora import corpus
from .backbones import BACKBONES, Backbone
from .deviations import CUT_OFFS, DEVIATIONS, LOG1M_OFFSET
from .recipe import Recipe

if TYPE_CHECKING:
    from .trial import Trial

__all__ = ["CellPlan", "Mode", "Run", "active_deviations", "plan_cell"]

Mode = Literal["fair", "faithful"]
_ONLY_PROBED = ("table-5", "table-6")
"""Tables of the base model's probabilities, which need no training and no evaluation."""


@dataclass(frozen=True)
class Run:
    """One model to measure: the base model, or one that is trained first."""

    name: str
    """Folder of the run below that of the cell."""
    backbone: Backbone
    training: TuneSettings
    """Settings with this run's objective; for a base model only model, data and prompts count."""
    evaluation: EvalSettings | None
    """None: not evaluated on benchmarks."""
    objective: str | None = None
    """Objective as the recipe names it; None for the base model."""
    seed: int = 0
    learning_rate: float | None = None
    """None: chosen by the sweep of the same group."""
    group: str = ""
    """Variant and objective: runs of one group differ in seed and learning rate alone."""
    variant: Mapping[str, Any] | None = None
    candidate: bool = False
    """True for one of several learning rates, which is evaluated only if it is chosen."""
    probe: bool = False
    """True if the mean p of the training rows is measured."""

    @property
    def trains(self) -> bool:
        return self.objective is not None


@dataclass(frozen=True)
class CellPlan:
    """Runs of one recipe, in their order of execution."""

    recipe: Recipe
    mode: Mode
    deviations: tuple[str, ...]
    runs: tuple[Run, ...]
    processes: int
    """Devices that train one model together."""
    notes: tuple[str, ...]
    """Differences from the paper's run that remain in faithful mode."""
    trial: Trial | None = None
    """The user's own model, rows and limits, with which the paper's numbers do not compare."""

    @property
    def rounded(self) -> bool:
        """True if each pass is rounded before the passes are averaged."""
        return any(DEVIATIONS[name].plan == "rounded" for name in self.deviations)

    def stages(self) -> list[list[Run]]:
        """Return the runs in stages, each independent of its own stage and dependent on earlier
        ones: base models (thresholds may need their quantiles), runs with a rate, then runs that
        wait for the choice of a rate.
        """
        stages = (
            [run for run in self.runs if not run.trains],
            [run for run in self.runs if run.trains and run.learning_rate is not None],
            [run for run in self.runs if run.trains and run.learning_rate is None],
        )
        return [stage for stage in stages if stage]

    def candidates(self, group: str) -> list[Run]:
        """Return the runs of one objective that compete in their learning rate."""
        return [run for run in self.runs if run.candidate and run.group == group]


def active_deviations(
    recipe: Recipe, mode: Mode, *, add: Collection[str] = (), leave_out: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the deviations that are on, in their order of application.

    Raises:
        UsageError: a name is unknown.
    """
    for name in (*add, *leave_out):
        if name not in DEVIATIONS:
            close = get_close_matches(name, DEVIATIONS, n=2, cutoff=0.4)
            meant = f"Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(
                f"there is no deviation {name!r}. {meant} Known: {', '.join(DEVIATIONS)}."
            )
    on = set(recipe.deviations if mode == "faithful" else ())
    on = (on | (set(add) & set(recipe.deviations))) - set(leave_out)
    return tuple(name for name in DEVIATIONS if name in on)


def plan_cell(
    recipe: Recipe,
    mode: Mode = "fair",
    *,
    target: str = "all",
    add: Collection[str] = (),
    leave_out: Collection[str] = (),
    processes: int | None = None,
    seeds: Sequence[int] | None = None,
    backend: str | None = None,
) -> CellPlan:
    """Plan the reproduction of a recipe.

    Args:
        target: the user's target; for a table of base models nothing is trained.
        add, leave_out: deviations to switch on (where they apply) and off.
        processes: devices that train one model together, over which micro-batches are spread.
        seeds, backend: values that replace the recipe's.

    Raises:
        UsageError: an option is unknown, or the batch cannot be spread over the devices.
    """
    on = active_deviations(recipe, mode, add=add, leave_out=leave_out)
    special = {DEVIATIONS[name].plan for name in on}
    chosen_seeds = tuple(seeds or recipe.seeds)
    if "one seed" in special:
        chosen_seeds = chosen_seeds[:1]
    count = processes or 1
    only_probed = target in _ONLY_PROBED
    domain = corpus(recipe.training.data.removeprefix("corpus:")).domain
    runs: list[Run] = []
    for variant in recipe.variants():
        model = BACKBONES[variant["backbone"]] if "backbone" in variant else recipe.backbone
        training = _spread(_training(recipe, model, on, variant), count, recipe)
        evaluation = replace(
            recipe.evaluation,
            model=model.hub,
            phase="generate" if domain == "instructions" else "all",
            **{k: v for name in on for k, v in DEVIATIONS[name].evaluation.items()},
            **({"backend": backend} if backend else {}),
        )
        base = "base" if model is recipe.backbone else f"base-{model.name}"
        if base not in {run.name for run in runs}:
            probe = only_probed or recipe.likelihood or bool({*recipe.shows} & {*_ONLY_PROBED})
            probe = probe or any(_is_quantile(objective) for objective in recipe.objectives)
            runs.append(
                Run(base, model, training, evaluation if not only_probed else None, probe=probe)
            )
        if only_probed:
            continue
        for objective in recipe.objectives:
            runs += _of_objective(
                recipe, model, training, evaluation, objective, variant, chosen_seeds, special
            )
    return CellPlan(recipe, mode, on, tuple(runs), count, _notes(recipe, on, count))


def _training(
    recipe: Recipe, model: Backbone, on: Sequence[str], variant: Mapping[str, Any]
) -> TuneSettings:
    """Return the recipe's settings, changed by its deviations and then by the variant."""
    domain = corpus(recipe.training.data.removeprefix("corpus:")).domain
    changes: dict[str, Any] = {"model": model.hub, "compare": ""}
    if model is not recipe.backbone:
        changes["prompt_format"] = model.family
    extra = dict(recipe.training.training)
    for name in on:
        changed = dict(DEVIATIONS[name].training(domain, model))
        extra |= changed.pop("training", {})
        changes |= changed
    for name, value in variant.items():
        if name == "max_grad_norm":
            extra[name] = value
        elif name != "backbone":
            changes[name] = value
    return replace(recipe.training, **changes, training=extra)


def _spread(settings: TuneSettings, processes: int, recipe: Recipe) -> TuneSettings:
    """Spread the rows of a step over several devices."""
    accumulation, rest = divmod(settings.gradient_accumulation, processes)
    if rest:
        rows = settings.batch_size * settings.gradient_accumulation
        raise UsageError(
            f"{recipe.cell}: {rows} rows a step, {settings.batch_size} at a time, cannot be spread"
            f" evenly over {processes} devices; choose a number that divides"
            f" {settings.gradient_accumulation}."
        )
    return replace(settings, gradient_accumulation=accumulation)


def _of_objective(
    recipe: Recipe,
    model: Backbone,
    training: TuneSettings,
    evaluation: EvalSettings,
    objective: str,
    variant: Mapping[str, Any],
    seeds: Sequence[int],
    special: Collection[str],
) -> list[Run]:
    """Return the runs of one objective: rates at the first seed, then the other seeds."""
    from ...objectives import objective as read_objective
    from ...pipeline import slug

    trained = _cut(objective) if "cut-offs" in special else objective
    if "offset" in special:
        trained = trained.replace("log1m()", f"log1m({LOG1M_OFFSET})")
    meant = read_objective(trained)
    rates = recipe.learning_rates
    if "one rate" in special or "learning_rate" in variant:
        rates = (training.learning_rate,)
    if "own rate" in special and objective in recipe.learning_rate_of:
        rates = (recipe.learning_rate_of[objective],)
    group = "/".join((*_slugs(variant), slug(read_objective(objective))))
    runs = []
    for seed in seeds:
        swept = len(rates) > 1
        for rate in rates if swept and seed == seeds[0] else (None,) if swept else rates:
            name = f"seed-{seed}" if rate is None or not swept else f"rate-{rate:g}-seed-{seed}"
            settings = replace(
                training,
                objective=str(meant),
                seed=seed,
                learning_rate=rate or training.learning_rate,
            )
            runs.append(
                Run(
                    f"{group}/{name}",
                    model,
                    settings,
                    replace(evaluation, seed=seed),
                    objective,
                    seed,
                    rate,
                    group,
                    variant,
                    candidate=swept and rate is not None,
                    probe=recipe.likelihood,
                )
            )
    return runs


def _is_quantile(text: str) -> bool:
    from ...objectives import objective

    return "base_quantile" in objective(text).kinds


def _cut(text: str) -> str:
    """Return a quantile threshold with the paper's number."""
    from ...objectives import bottom, objective, top

    member = objective(text)
    if isinstance(member, top):
        return f"above({CUT_OFFS[round(100 * (1 - member.share))]}, {member.f})"
    if isinstance(member, bottom):
        return f"below({CUT_OFFS[round(100 * member.share)]}, {member.f})"
    return text


def _slugs(variant: Mapping[str, Any]) -> list[str]:
    from ..corpora.table import slug

    def plain(name: str, value: Any) -> str:
        if name == "data":
            return slug(corpus(str(value).removeprefix("corpus:")))
        return f"{value:g}" if isinstance(value, float) else str(value)

    return [f"{name}-{plain(name, value)}" for name, value in variant.items()]


def _notes(recipe: Recipe, on: Sequence[str], processes: int) -> tuple[str, ...]:
    notes = []
    if "summed-micro-batches" in on and processes != recipe.processes:
        notes.append(
            f"{recipe.cell}: the paper's run spreads its micro-batches over {recipe.processes}"
            f" devices, this one over {processes}: the sum before clipping is"
            f" {recipe.processes / processes:g} times as large. --gpus {recipe.processes} makes it"
            " the same."
        )
    return tuple(notes)
