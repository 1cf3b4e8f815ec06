"""`--objective select:A,B`: train every arm in full, and take the one that does better on the
held-out rows.

It costs a whole training for each arm. On the bench of small models it gains more on average than
every rule that looks before training (docs/choosing-an-objective.md). All arms have
the same rows in the same order, the same steps and the same seed. Of arms that are level the first
is taken, so name the safe one first. `auto` may be an arm.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..measure.compare import difference
from ..measure.heldout import METRICS, HeldOut
from ..models.ranks import splits_rows
from ..numbers import lead as points
from ..numbers import number
from ..objectives import Objective, objective_list
from ..objectives import objective as read_objective
from ..objectives.text import split_list
from ..records import read_record, write_record
from ..settings import TuneSettings
from ..terminal import Terminal

__all__ = [
    "as_launched",
    "cost",
    "is_select",
    "named_objectives",
    "read_arms",
    "remove_models",
    "select",
    "selection_metric",
]

_PREFIX = "select:"


def as_launched(suggested: Objective, terminal: Terminal) -> Objective:
    """Return what is trained for the probe's choice: NLL where it weighs sequences and accelerate's
    launcher splits each of them over processes. Says so.
    """
    if not splits_rows() or "sequence_weight" not in suggested.needs:
        return suggested
    terminal.say(
        f"Context parallelism splits sequences, which {suggested} weighs: training nll() instead."
        " Mend the rows that look wrong, or leave them out, before."
    )
    return read_objective("nll")


def is_select(text: str) -> bool:
    """True if the setting names arms to select from."""
    return text.strip().startswith(_PREFIX)


def read_arms(text: str) -> tuple[Objective | None, ...]:
    """Return the arms of a text such as `select:auto,power(0.5)`; None stands for `auto`.

    >>> read_arms("select:nll, above(0.2, p)")
    (nll(), above(0.2, p()))

    Raises:
        UsageError: fewer than two arms, or one of them twice.
        ObjectiveError: an arm cannot be read.
    """
    names = [name.strip() for name in split_list(text.strip().removeprefix(_PREFIX))]
    arms = tuple(None if name == "auto" else read_objective(name) for name in names if name)
    if len(arms) < 2:
        raise UsageError(
            f"--objective {text} selects from two arms or more, as select:nll,power(0.5), got"
            f" {len(arms)}."
        )
    if len(set(arms)) < len(arms):
        raise UsageError(f"--objective {text} names an arm twice; name each arm once.")
    return arms


def named_objectives(
    settings: TuneSettings, objective: Objective | None = None, compare: Sequence[Objective] = ()
) -> tuple[tuple[Objective | None, ...], tuple[Objective, ...]]:
    """Return (the arms to choose from after training, None for the probe's choice; the further
    objectives to train and compare), as the settings name them.

    Args:
        objective, compare: objectives of your own, in place of the texts in the settings.

    Raises:
        UsageError, ObjectiveError: as `read_arms`.
    """
    text = settings.objective
    if objective is not None:
        arms: tuple[Objective | None, ...] = (objective,)
    elif is_select(text):
        arms = read_arms(text)
    else:
        arms = (None if text == "auto" else read_objective(text),)
    if not compare and settings.compare.strip():
        compare = objective_list(settings.compare)
    return arms, tuple(compare)


def cost(arms: Sequence[Objective], steps: int, rows: int) -> str:
    """Return what a selection will cost, in words."""
    number = len(arms)
    named = " and ".join(map(str, arms))
    if number == 1:
        return f"auto takes {named}, which is an arm already, so one training is enough."
    return (
        f"select trains {number} arms in full, {named}: {number} x the cost of one ({number} x"
        f" {steps} steps). The {rows} held-out rows decide; of equals the first is taken."
    )


def selection_metric(results: Mapping[str, HeldOut], decoding: str) -> str:
    """Return the metric that decides.

    For greedy answers exact match, or token accuracy where no arm gets an answer right or rows have
    no short answer. For sampled ones the probability of the right answer where it is exact, else
    mean p, which one drawn answer for each row is too noisy to beat.
    """
    arms = list(results.values())
    if decoding == "sampled":
        exact = all(arm.sampled is not None and arm.answer_rule == "whole" for arm in arms)
        return "sampled" if exact else "mean_p"
    right = all(arm.exact is not None for arm in arms) and any(any(arm.exact or ()) for arm in arms)
    return "exact_match" if right else "token_accuracy"


def select(
    path: Path, results: Mapping[str, HeldOut], *, decoding: str, steps: int
) -> dict[str, Any]:
    """Take the arm with the best held-out rows, and write the record of it.

    Args:
        results: the arms' measurements, in the order in which the user named them.
        decoding: how answers will be drawn, `greedy` or `sampled`.

    Returns:
        The record: `objective`, `reason`, `metric`, `decoding`, `arms` with their estimates,
        `runner_up`, the paired `difference` to it, and the cost (`trainings`, `steps` of each).
    """
    if path.is_file():
        return read_record(path, "select")
    metric = selection_metric(results, decoding)
    estimates = {name: arm.estimate(metric) for name, arm in results.items()}
    first, second = sorted(estimates, key=lambda name: -estimates[name].value)[:2]
    lead = difference(results[first], results[second], metric)
    listed = ", ".join(f"{name} {number(e.value)}" for name, e in estimates.items())
    reason = (
        f"{METRICS[metric][0].upper()}{METRICS[metric][1:]}, {len(results[first].tokens)} held-out"
        f" rows, {decoding} answers: {listed}."
    )
    if lead.value == 0.0:
        reason += f" {first} is level with {second} and was named first."
    else:
        told = "told apart" if lead.excludes_zero else "not told apart"
        reason += f" {first} leads {second} by {points(lead._asdict())}, {told} from 0."
    content = {
        "objective": first,
        "reason": reason,
        "decoding": decoding,
        "metric": metric,
        "arms": estimates,
        "runner_up": second,
        "difference": lead,
        "trainings": len(results),
        "steps": steps,
    }
    return write_record(path, "select", content)


def remove_models(folders: Sequence[Path]) -> None:
    """Remove the models of arms that were not taken; their records stay."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
