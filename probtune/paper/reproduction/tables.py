"""Table of the paper beside ours: difference, interval, verdict.

    ours        the average over seeds, with a 95 % interval over seeds and questions; with one run
                over questions alone, which a note states
    difference  ours - paper; its interval adds the paper's own error, sqrt(p (1 - p) / n) for n
                questions, since the paper prints none and ran once

    agrees       the paper's number lies in our interval, which reaches at most 5 points to either
                 side
    differs      zero lies outside the interval of the difference
    cannot tell  all other cases: the interval is too wide, or the paper's number lies just outside
                 ours

The comparison of objectives follows the same rule on p() - nll(), paired by seed and question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError
from ...evaluation.analyse import Measured, load_measured
from ...evaluation.tasks.table import TASKS
from ...records import read_record
from . import printed
from .judged import is_judged, judgements
from .plan import CellPlan, Run
from .run import cell_folder
from .trial import summary

__all__ = ["RESOLUTION", "RULE", "Verdict", "cell_table", "check_complete", "verdict"]

RESOLUTION = 5.0
"""Points to either side; with a wider interval no number agrees."""
_Z = 1.959963984540054

RULE = (
    "agrees: the paper's number lies in our 95 % interval (seeds and questions), which reaches at"
    f" most {RESOLUTION:g} points to either side; differs: the interval of the difference, the"
    " paper's own sampling error included, excludes zero; cannot tell: anything else."
)


class Verdict(NamedTuple):
    """Comparison of our number with the paper's, in points."""

    difference: float
    low: float
    high: float
    word: str


class _Number(NamedTuple):
    """Number with its interval, in points."""

    value: float
    low: float
    high: float


def verdict(ours: _Number, paper: float, paper_error: float) -> Verdict:
    """Compare two numbers by the rule above; all in points.

    >>> verdict(_Number(32.0, 30.0, 34.0), 32.75, 0.9).word
    'agrees'
    >>> verdict(_Number(20.0, 18.0, 22.0), 32.75, 0.9).word
    'differs'
    >>> verdict(_Number(32.0, 12.0, 52.0), 32.75, 0.9).word
    'cannot tell'
    """
    difference = ours.value - paper
    half = (ours.high - ours.low) / 2
    reach = math.hypot(half, _Z * paper_error)
    low, high = difference - reach, difference + reach
    if math.isnan(reach):
        return Verdict(difference, low, high, "cannot tell")
    if not low <= 0 <= high:
        word = "differs"
    elif ours.low <= paper <= ours.high and half <= RESOLUTION:
        word = "agrees"
    else:
        word = "cannot tell"
    return Verdict(difference, low, high, word)


def cell_table(plan: CellPlan, out: Path) -> dict[str, Any]:
    """Return the numbers of a cell's finished runs, for the record.

    Returns:
        `rows`: one per variant, objective and benchmark (or `average`, `mean p`, `share p > 0.55`);
        `objectives`: p() - nll() in the same form; `missing`: unfinished runs.
    """
    folder = cell_folder(out, plan)
    done = [run for run in plan.runs if _finished(folder, run)]
    missing = [run.name for run in plan.runs if run not in done]
    protocol = plan.runs[0].evaluation.protocols[0] if plan.runs[0].evaluation else "strict"
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, str], list[list[Measured]]] = {}
    for (variant, objective), runs in _grouped(done).items():
        rows += _likelihood_rows(plan, folder, variant, objective, runs)
        measured = [graded for run in runs if (graded := _measured(folder, run)) is not None]
        if measured:
            scores[variant, objective] = measured
            for which in dict.fromkeys(one.protocol for one in measured[0]):
                rows += _benchmark_rows(plan, variant, objective, which, measured)
    if is_judged(plan):
        rows += _judged_rows(plan, folder)
    trial = plan.trial
    return {
        "cell": plan.recipe.cell,
        "title": plan.recipe.title if trial is None else _trial_title(plan),
        "shows": list(plan.recipe.shows) if trial is None else [],
        "trial": trial and {**trial.to_dict(), "model": plan.recipe.backbone.name},
        "mode": plan.mode,
        "deviations": list(plan.deviations),
        "backbone": plan.recipe.backbone.label,
        "protocol": protocol,
        "rows": rows,
        "objectives": _objective_rows(plan, scores, protocol),
        "choices": _choices(plan, folder),
        "notes": [
            *([summary(plan)] if trial is not None else []),
            *plan.notes,
            *_cautions(plan, scores),
        ],
        "missing": missing,
    }


def _trial_title(plan: CellPlan) -> str:
    return f"{plan.recipe.backbone.name}, by the protocol of {plan.recipe.cell}"


def _finished(folder: Path, run: Run) -> bool:
    if not (folder / run.name / "done.json").is_file():
        return False
    return not run.candidate or (folder / run.group / "choice.json").is_file()


def _grouped(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        variant = run.group.rpartition("/")[0] if run.trains else run.name.removeprefix("base")
        groups.setdefault((variant, run.objective or "base"), []).append(run)
    return groups


def _measured(folder: Path, run: Run) -> list[Measured] | None:
    """Return a run's graded benchmarks; None for rates that were not chosen, and for answers that
    wait for a judge.
    """
    evaluation = folder / run.name / "evaluation"
    return load_measured(evaluation) if (evaluation / "record.json").is_file() else None


def _benchmark_rows(
    plan: CellPlan,
    variant: str,
    objective: str,
    protocol: str,
    seeds: Sequence[Sequence[Measured]],
) -> list[dict[str, Any]]:
    by_task: dict[str, list[Measured]] = {}
    for one in (one for seed in seeds for one in seed if one.protocol == protocol):
        by_task.setdefault(one.task.name, []).append(one)
    rows = []
    errors = []
    for name, measured in by_task.items():
        paper = TASKS[name].paper.get((_label(plan), objective)) if not variant else None
        ours = _task_number(measured, rounded=plan.rounded and protocol == "reference")
        errors.append(_paper_error(paper, len(measured[0].scores)))
        title = TASKS[name].title
        rows.append(_row(variant, objective, protocol, title, ours, paper, errors[-1], len(seeds)))
        for also in _ALSO.get(name, {}).get(protocol, ()):
            ours = _task_number([_as(one, also) for one in measured], rounded=False)
            paper = _similarity(plan, objective) if not variant else None
            error = _paper_error(paper, len(measured[0].scores))
            rows.append(
                _row(variant, objective, protocol, _SIMILARITY, ours, paper, error, len(seeds))
            )
    if "figlet" in by_task:
        return rows
    paper = printed.average(_cell(plan), objective) if not variant else None
    if len(by_task) > 1:
        if paper is not None and any(math.isnan(error) for error in errors):
            errors = [_paper_error(paper, len(m[0].scores)) for m in by_task.values()]
        error = math.sqrt(sum(e * e for e in errors)) / len(errors)
        ours = _macro_number(by_task)
        rows.append(_row(variant, objective, protocol, "average", ours, paper, error, len(seeds)))
    return rows


_DIFFERENCE = "p() - nll()"
_SIMILARITY = "Jaro-Winkler x 100"
_ALSO: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "figlet": {"strict": ("jaro_winkler",), "reference": ("jaro_winkler_reference",)}
}


def _as(one: Measured, name: str) -> Measured:
    """Return the same benchmark with another of its numbers as the score."""
    return replace(one, scores=one.values(name))


def _similarity(plan: CellPlan, objective: str) -> float | None:
    from ...evaluation.tasks.figlet import JARO_WINKLER

    if plan.recipe.domain == "ablations":
        return printed.average(_cell(plan), objective)
    return JARO_WINKLER.get((_label(plan), objective))


def _row(
    variant: str,
    objective: str,
    protocol: str,
    what: str,
    ours: _Number,
    paper: float | None,
    error: float,
    runs: int,
) -> dict[str, Any]:
    comparison = None if paper is None else verdict(ours, paper, error)
    if objective != _DIFFERENCE:  # a share has no part of its interval beyond 0 and 100
        ours = _Number(*(min(max(value, 0.0), 100.0) for value in ours))
    return {
        "variant": variant,
        "objective": objective,
        "protocol": protocol,
        "what": what,
        "runs": runs,
        "ours": ours,
        "paper": paper,
        "paper_error": None if paper is None else error,
        "verdict": comparison,
    }


def _task_number(measured: Sequence[Measured], *, rounded: bool) -> _Number:
    from ...statistics import rate, two_level_bootstrap

    if rounded:
        values = [_rounded(one) for one in measured]
    else:
        values = []
    if len(measured) > 1:
        of_seeds = [one.scores for one in measured]
        estimate = two_level_bootstrap(of_seeds, clusters=measured[0].clusters).random_effects
        estimate = estimate.without_spread()
    else:
        estimate = rate(measured[0].scores, clusters=measured[0].clusters)
    number = _Number(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)
    if values:
        shift = sum(values) / len(values) - number.value
        number = _Number(*(end + shift for end in number))
    return number


def _rounded(one: Measured) -> float:
    """Return the mean over passes of each pass's accuracy rounded to 0.1, in points."""
    passes = zip(*one.scores.values(), strict=True)
    accuracies = [round(100 * sum(answers) / len(answers), 1) for answers in passes]
    return sum(accuracies) / len(accuracies)


def _macro_number(by_task: Mapping[str, Sequence[Measured]]) -> _Number:
    """Return the mean over benchmarks; its error has a part from questions and, with several runs,
    one from their spread.
    """
    from ...statistics import macro_average

    runs = min(len(measured) for measured in by_task.values())
    clusters = {name: m[0].clusters for name, m in by_task.items() if m[0].clusters}
    merged = {
        name: {
            question: [x for one in measured[:runs] for x in one.scores[question]]
            for question in measured[0].scores
        }
        for name, measured in by_task.items()
    }
    estimate = macro_average(merged, clusters=clusters).without_spread()
    half = (estimate.high - estimate.low) / 2
    each = [sum(_mean(m[i]) for m in by_task.values()) / len(by_task) for i in range(runs)]
    half = math.hypot(half, _seed_half(each))
    return _Number(
        100 * estimate.value, 100 * (estimate.value - half), 100 * (estimate.value + half)
    )


def _mean(one: Measured) -> float:
    return sum(sum(x) / len(x) for x in one.scores.values()) / len(one.scores)


def _paper_error(paper: float | None, questions: int) -> float:
    """Return the standard error in points of a share over so many questions."""
    if paper is None:
        return math.nan
    share = min(max(paper / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / questions)


def _objective_rows(
    plan: CellPlan, scores: Mapping[tuple[str, str], list[list[Measured]]], protocol: str
) -> list[dict[str, Any]]:
    """Return the rows of p() - nll(), averaged over the benchmarks."""
    from ...statistics import macro_difference

    rows = []
    for variant in dict.fromkeys(variant for variant, _ in scores):
        first, second = scores.get((variant, "p()")), scores.get((variant, "nll()"))
        if not first or not second:
            continue
        merged = [_merged(seeds, protocol) for seeds in (first, second)]
        if not merged[0] or merged[0].keys() != merged[1].keys():
            continue
        clusters = {
            m.task.name: m.clusters for m in first[0] if m.protocol == protocol and m.clusters
        }
        estimate = macro_difference(merged[0], merged[1], clusters=clusters).difference
        estimate = estimate.without_spread()
        half = (estimate.high - estimate.low) / 2
        runs = min(len(first), len(second))
        each = [_macro(first[i], protocol) - _macro(second[i], protocol) for i in range(runs)]
        half = math.hypot(half, _seed_half(each))
        ours = _Number(
            *(100 * x for x in (estimate.value, estimate.value - half, estimate.value + half))
        )
        paper, error = _paper_difference(plan, variant, first[0], protocol)
        rows.append(_row(variant, _DIFFERENCE, protocol, "average", ours, paper, error, runs))
    return rows


def _macro(measured: Sequence[Measured], protocol: str) -> float:
    means = [_mean(one) for one in measured if one.protocol == protocol]
    return sum(means) / len(means)


def _merged(
    seeds: Sequence[Sequence[Measured]], protocol: str
) -> dict[str, dict[str, list[float]]]:
    merged: dict[str, dict[str, list[float]]] = {}
    for one in (one for seed in seeds for one in seed if one.protocol == protocol):
        into = merged.setdefault(one.task.name, {})
        for question, values in one.scores.items():
            into.setdefault(question, []).extend(values)
    return merged


def _paper_difference(
    plan: CellPlan, variant: str, measured: Sequence[Measured], protocol: str
) -> tuple[float | None, float]:
    """Return the paper's difference of averages, and its standard error as if unpaired."""
    tasks = [one for one in measured if one.protocol == protocol]
    label = _label(plan)
    if variant:
        return None, math.nan
    pairs = [
        (one.task.paper.get((label, "p()")), one.task.paper.get((label, "nll()"))) for one in tasks
    ]
    if all(a is not None and b is not None for a, b in pairs):
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        variances = [
            _paper_error(x, len(one.scores)) ** 2
            for one, pair in zip(tasks, pairs, strict=True)
            for x in pair
        ]
        return sum(differences) / len(differences), math.sqrt(sum(variances)) / len(tasks)
    scaled = printed.SCALING.get(_cell(plan))
    averages = [printed.average(_cell(plan), name) for name in ("p()", "nll()")]
    if scaled is None and all(value is not None for value in averages):
        scaled = (averages[0] or 0.0) - (averages[1] or 0.0)
    questions = sum(len(one.scores) for one in tasks)
    # Without the averages the error of a share of one half is an upper bound.
    return scaled, math.sqrt(2) * _paper_error(50.0, questions)


def _likelihood_rows(
    plan: CellPlan, folder: Path, variant: str, objective: str, runs: Sequence[Run]
) -> list[dict[str, Any]]:
    """Return the rows of mean p of the training tokens, before or after training, times 100."""
    likelihoods = [
        record["likelihood"]
        for run in runs
        if "likelihood" in (record := read_record(folder / run.name / "done.json"))
    ]
    if not likelihoods:
        return []
    cell = _cell(plan)
    rows = []
    for key, what, paper in (
        (
            "mean_p",
            "mean p x 100",
            printed.MEAN_P.get(cell)
            if objective == "base"
            else printed.TRAINED_MEAN_P.get((cell, objective)),
        ),
        (
            "above_0_55",
            "tokens with p > 0.55, %",
            printed.SHARE_ABOVE.get(cell) if objective == "base" else None,
        ),
    ):
        value = sum(one[key]["value"] for one in likelihoods) / len(likelihoods)
        low = min(one[key]["low"] for one in likelihoods)
        high = max(one[key]["high"] for one in likelihoods)
        ours = _Number(100 * value, 100 * low, 100 * high)
        # Over tens of millions of tokens the paper's only error is the rounding to two digits.
        printed_value = None if paper is None else 100 * paper
        rows.append(
            _row(variant, objective, "", what, ours, printed_value, 0.5 / _Z, len(likelihoods))
        )
    return rows


def _choices(plan: CellPlan, folder: Path) -> list[dict[str, Any]]:
    groups = dict.fromkeys(run.group for run in plan.runs if run.candidate)
    return [
        {"group": group, **{k: record[k] for k in ("learning_rate", "metric", "rates")}}
        for group in groups
        if (folder / group / "choice.json").is_file()
        for record in [read_record(folder / group / "choice.json", "reproduction-choice")]
    ]


def _cautions(plan: CellPlan, scores: Mapping[tuple[str, str], list[list[Measured]]]) -> list[str]:
    cautions = []
    if any(len(seeds) == 1 for (_, name), seeds in scores.items() if name != "base"):
        cautions.append(
            "One run: the interval is over questions alone, and another seed may differ."
        )
    if is_judged(plan):
        cautions.append(
            "The paper names no judge: give one with --judge and --judge-model; a win rate holds"
            " for that judge and our prompt."
        )
    return cautions


def _judged_rows(plan: CellPlan, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of win rates of p() over nll() by the named judge."""
    from ...evaluation.tasks.alpaca_eval import LENGTH_CONTROLLED

    key = (_label(plan), "p()")
    judged = judgements(plan, folder)
    rows = []
    for name, what, paper in (
        ("win_rate", "win rate over nll()", TASKS["alpaca_eval"].paper.get(key)),
        ("length_controlled", "the same, length-controlled", LENGTH_CONTROLLED.get(key)),
    ):
        measured = [one[name] for one in judged if not isinstance(one[name], str)]
        ours = _over_seeds(measured)
        error = _paper_error(paper, 805)
        row = _row("", "p()", "", what, ours, paper, error, len(measured))
        if not measured and row["verdict"]:
            row["verdict"] = row["verdict"]._replace(word="not judged")
        rows.append(row)
    return rows


def _over_seeds(measured: Sequence[Mapping[str, Any]]) -> _Number:
    """Return the mean of estimates on the same questions; its error has a part from questions and
    one from seeds.
    """
    if not measured:
        return _Number(math.nan, math.nan, math.nan)
    runs = len(measured)
    value = sum(one["value"] for one in measured) / runs
    half = sum((one["high"] - one["low"]) / 2 for one in measured) / runs
    half = math.hypot(half, _seed_half([one["value"] for one in measured]))
    return _Number(100 * value, 100 * (value - half), 100 * (value + half))


def _seed_half(values: Sequence[float]) -> float:
    """Return half of the t interval of a mean over seeds; 0 with one seed."""
    from scipy.stats import t

    runs = len(values)
    if runs < 2:
        return 0.0
    mean = sum(values) / runs
    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (runs - 1))
    return float(t.ppf(0.975, runs - 1)) * spread / math.sqrt(runs)


def _cell(plan: CellPlan) -> str:
    """Return the name of the cell in the paper's tables, which hold no trial."""
    return plan.recipe.cell if plan.trial is None else ""


def _label(plan: CellPlan) -> str:
    """Return the name of the backbone in the paper's tables, which hold no trial."""
    if plan.trial is not None:
        return ""
    return plan.recipe.evaluation.paper_backbone or plan.recipe.backbone.label


def check_complete(tables: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tables without any number.

    Raises:
        DataError: no run is finished.
    """
    if not any(table["rows"] for table in tables):
        raise DataError("nothing was measured yet; run the same command without --report.")
