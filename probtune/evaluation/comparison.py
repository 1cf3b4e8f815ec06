"""Comparison of evaluated models on the same questions.

Every difference is paired by question, or by cluster where questions are not independent. Several
folders of one label are the seeds of one objective. The interval then covers other seeds as well as
other questions, by a model with both as random effects.

References:
    Miller, "Adding Error Bars to Evals", 2024, https://arxiv.org/abs/2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..records import environment
from .analyse import Measured, Scores, disagreement, load_measured, passes
from .items import item_lists
from .tasks.table import DOMAINS, TASKS

__all__ = ["compare_runs", "read_runs"]

Runs = Mapping[str, Sequence[Path]]

Key = tuple[str, str]
"""(task, protocol)."""
_OVER_SEEDS = "random effects of seeds and questions"


def read_runs(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Parse `label=DIR` or `DIR` into folders by label.

    Raises:
        UsageError: a folder holds no evaluation or is named twice, only one label is named, or
            labels have different numbers of folders.
    """
    runs: dict[str, list[Path]] = {}
    for text in texts:
        label, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        if not (path / "run.json").is_file():
            raise UsageError(f"{path} holds no evaluation; give folders of `probtune eval`.")
        if any(path.resolve() == other.resolve() for paths in runs.values() for other in paths):
            raise UsageError(f"{path} is named twice; a comparison needs different evaluations.")
        label = label if equals else path.resolve().name.removeprefix("eval-")
        runs.setdefault(label, []).append(path)
    if len(runs) < 2:
        raise UsageError(
            f"a comparison needs two labels, got {', '.join(runs)}; give label=DIR for each."
        )
    numbers = {label: len(paths) for label, paths in runs.items()}
    if len(set(numbers.values())) > 1:
        said = ", ".join(f"{label} has {number}" for label, number in numbers.items())
        raise UsageError(
            f"folders of one label are its seeds, paired in the order given: {said}; give as many"
            " for each."
        )
    return runs


def compare_runs(runs: Runs, *, protocols: str = "strict,reference") -> dict[str, Any]:
    """Compare the labels with each other on every benchmark that all of them hold.

    Returns:
        `labels`, `protocols` (each with `scores`, `differences` and `pass_at_k`), `disagreement`
        and `cautions`. Differences are first - second; domains come after their benchmarks.

    Raises:
        DataError: the runs share no benchmark, or differ in questions or graders.
    """
    measured = {
        label: [{(m.task.name, m.protocol): m for m in load_measured(path)} for path in paths]
        for label, paths in runs.items()
    }
    everywhere = [one for seeds in measured.values() for one in seeds]
    common = [key for key in everywhere[0] if all(key in one for one in everywhere)]
    chosen = [part.strip() for part in protocols.split(",") if part.strip()]
    common = [key for key in common if key[1] in chosen]
    if not common:
        raise DataError(
            f"the evaluations have no benchmark in common under {' or '.join(chosen)}; run the"
            " same --tasks and --protocol for each."
        )
    left_out = sorted({key for one in everywhere for key in one if key[1] in chosen} - {*common})
    cautions = [
        f"left out, because not every evaluation has it: {task} ({protocol})."
        for task, protocol in left_out
    ]
    for key in common:
        cautions += _check(key, [one[key] for one in everywhere])
    return {
        "labels": [
            {
                "name": label,
                "folders": [str(path) for path in runs[label]],
                "models": [next(iter(one.values())).record["model"] for one in seeds],
            }
            for label, seeds in measured.items()
        ],
        "protocols": {
            protocol: _protocol(
                {
                    label: [
                        {task: one[task, p] for task, p in common if p == protocol} for one in seeds
                    ]
                    for label, seeds in measured.items()
                }
            )
            for protocol in dict.fromkeys(protocol for _, protocol in common)
        },
        "disagreement": _disagreements(measured, list(dict.fromkeys(task for task, _ in common))),
        "cautions": list(dict.fromkeys(cautions)),
        "items": item_lists(
            {
                label: {task: seeds[0][task, p] for task, p in common if p == common[0][1]}
                for label, seeds in measured.items()
            }
        ),
        "environment": environment(),
    }


def _check(key: Key, measured: Sequence[Measured]) -> list[str]:
    """Refuse runs that cannot be compared, and return cautions about those that can."""
    first = measured[0]
    name = f"{key[0]} ({key[1]})"
    cautions = []
    for other in measured[1:]:
        if other.header["versions"] != first.header["versions"]:
            wrong = next(
                library
                for library in {**first.header["versions"], **other.header["versions"]}
                if first.header["versions"].get(library) != other.header["versions"].get(library)
            )
            raise DataError(
                f"{name} was graded with another {wrong} in {first.folder} than in {other.folder};"
                " grade both again: `probtune eval --phase grade --out DIR`."
            )
        lonely = set(first.scores) ^ set(other.scores)
        if lonely:
            raise DataError(
                f"{name}: question {min(lonely)!r} is in one of {first.folder} and {other.folder}"
                " only; evaluate both on the same rows."
            )
        if other.record["prompt"] != first.record["prompt"]:
            cautions.append(f"{name}: the models were not asked in the same form of prompt.")
        for what in ("temperature", "max_new_tokens", "samples"):
            ours, theirs = first.record["decoding"][what], other.record["decoding"][what]
            if ours != theirs:
                cautions.append(f"{name}: {what} is not the same ({ours} and {theirs}).")
    return cautions


def _protocol(measured: Mapping[str, Sequence[Mapping[str, Measured]]]) -> dict[str, Any]:
    """Return scores and differences under one protocol; `measured` is label -> seeds -> task."""
    labels = list(measured)
    tasks = list(measured[labels[0]][0])
    scores, differences, curves = [], [], []
    for task in tasks:
        by_label = {label: [seed[task] for seed in seeds] for label, seeds in measured.items()}
        first = by_label[labels[0]][0]
        title = TASKS[task].title
        estimates = {label: _estimate(seeds) for label, seeds in by_label.items()}
        scores.append(
            {
                "task": task,
                "title": title,
                "n": len(set(first.clusters.values())) if first.clusters else len(first.scores),
                "scores": estimates,
            }
        )
        differences += _with_holm(
            [
                {"task": task, "title": title, "first": a, "second": b,
                 **_difference(by_label[a], by_label[b])}
                for a, b in combinations(labels, 2)
            ]
        )  # fmt: skip
        by_k = {label: _curve(seeds) for label, seeds in by_label.items()}
        if all(by_k.values()):
            curves.append({"task": task, "title": title, "curves": by_k})
    for domain, names in DOMAINS.items():
        present = [name for name in names if name in tasks]
        if len(present) > 1:
            row, rows = _macro(domain, present, len(names), measured)
            scores.append(row)
            differences += _with_holm(rows)
    return {"scores": scores, "differences": differences, "pass_at_k": curves}


def _estimate(seeds: Sequence[Measured]) -> Any:
    """Return a label's score over questions, or over seeds and questions."""
    from ..statistics import rate, two_level_bootstrap

    if len(seeds) == 1:
        return rate(seeds[0].scores, clusters=seeds[0].clusters)
    estimate = two_level_bootstrap([one.scores for one in seeds], clusters=seeds[0].clusters)
    return estimate.random_effects


def _difference(first: Sequence[Measured], second: Sequence[Measured]) -> dict[str, Any]:
    """Return the difference of two labels on one benchmark, paired by question and by seed."""
    from ..statistics import (
        detectable_difference,
        difference_over_seeds,
        mcnemar,
        mcnemar_interval,
        paired_difference,
        sign_flip_test,
        two_level_difference,
    )

    exact: tuple[float, float] | None = None
    clusters = first[0].clusters
    a, b = _over_seeds(first), _over_seeds(second)
    over_questions = paired_difference(a, b, clusters=clusters)
    difference: dict[str, Any] = {"seed_sd": None, "difference": over_questions}
    if len(first) > 1:
        both = two_level_difference(
            [one.scores for one in first], [one.scores for one in second], clusters=clusters
        )
        difference = {
            "seed_sd": both.seed_sd,
            "bootstrap": both.bootstrap,
            "over_questions": over_questions,
        }
        task = first[0].task.name
        over_both = difference_over_seeds(
            [{task: one.scores} for one in first],
            [{task: one.scores} for one in second],
            clusters={task: clusters} if clusters else None,
        )
        difference |= {
            "difference": over_both.difference,
            "test": _OVER_SEEDS,
            "p_value": over_both.p_value,
        }
    values = [x for scores in (a, b) for samples in scores.values() for x in samples]
    single = all(len(samples) == 1 for scores in (a, b) for samples in scores.values())
    if len(first) > 1:
        pass  # a test over questions alone would call the luck of these seeds a difference
    elif single and clusters is None and set(values) <= {0.0, 1.0}:
        difference["test"] = "exact McNemar"
        right = [[x[question][0] == 1.0 for question in a] for x in (a, b)]
        difference["p_value"] = mcnemar(*right)
        exact = mcnemar_interval(*right)
    else:
        difference["test"] = "sign flips"
        difference["p_value"] = sign_flip_test(a, b, clusters=clusters)
    smallest = detectable_difference(difference["difference"])
    estimate = difference["difference"].without_spread()
    if exact is not None and not math.isnan(estimate.low):
        # Where the exact test cannot tell the two apart, the interval must not either.
        low, high = min(estimate.low, exact[0]), max(estimate.high, exact[1])
        estimate = estimate._replace(low=max(low, -1.0), high=min(high, 1.0))
    difference["difference"] = estimate
    difference["detectable"] = None if math.isnan(smallest) else smallest
    return difference


def _over_seeds(seeds: Sequence[Measured]) -> Scores:
    """Return question -> its samples, or with several seeds its average for each seed."""
    if len(seeds) == 1:
        return seeds[0].scores
    return {
        question: [sum(one.scores[question]) / len(one.scores[question]) for one in seeds]
        for question in seeds[0].scores
    }


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with p-values corrected for their number (Holm)."""
    from ..statistics import holm

    tested = [row for row in rows if not math.isnan(row["p_value"])]
    corrected = dict(zip(map(id, tested), holm([row["p_value"] for row in tested]), strict=True))
    return [{**row, "p_holm": corrected.get(id(row))} for row in rows]


def _macro(
    domain: str,
    tasks: Sequence[str],
    whole: int,
    measured: Mapping[str, Sequence[Mapping[str, Measured]]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the mean over a domain's benchmarks: scores, and differences of all pairs. With
    several seeds, intervals and p-values cover other seeds as well as other questions.
    """
    from ..statistics import difference_over_seeds, macro_average, macro_difference

    any_label = next(iter(measured.values()))[0]
    clusters = {task: any_label[task].clusters for task in tasks if any_label[task].clusters}
    by_label = {
        label: {task: _over_seeds([seed[task] for seed in seeds]) for task in tasks}
        for label, seeds in measured.items()
    }
    by_seed: dict[str, list[Mapping[str, Scores]]] = {
        label: [{task: seed[task].scores for task in tasks} for seed in seeds]
        for label, seeds in measured.items()
    }
    title = f"mean of {domain}" + (f" ({len(tasks)} of {whole})" if len(tasks) < whole else "")
    row = {
        "task": domain,
        "title": title,
        "n": sum(len(any_label[task].scores) for task in tasks),
        "scores": {
            label: (
                macro_average(scores, clusters=clusters)
                if len(measured[label]) == 1
                else difference_over_seeds(
                    by_seed[label], [_zeros(seed) for seed in by_seed[label]], clusters=clusters
                ).difference
            ).without_spread()
            for label, scores in by_label.items()
        },
    }
    rows = []
    for a, b in combinations(by_label, 2):
        if len(by_seed[a]) > 1:
            difference = difference_over_seeds(by_seed[a], by_seed[b], clusters=clusters)
        else:
            difference = macro_difference(by_label[a], by_label[b], clusters=clusters)
        rows.append(
            {
                "task": domain,
                "title": title,
                "first": a,
                "second": b,
                "difference": difference.difference.without_spread(),
                "test": _OVER_SEEDS if len(by_seed[a]) > 1 else "sign flips",
                "p_value": difference.p_value,
                "detectable": None,
                "seed_sd": None,
            }
        )
    return row, rows


def _zeros(benchmarks: Mapping[str, Scores]) -> dict[str, Scores]:
    """Return scores of 0 for the same questions."""
    return {task: dict.fromkeys(scores, [0.0]) for task, scores in benchmarks.items()}


def _curve(seeds: Sequence[Measured]) -> dict[str, float]:
    """Return k -> pass@k, averaged over seeds."""
    curves = [passes(one) for one in seeds]
    if not all(curves):
        return {}
    return {k: sum(one[k].value for one in curves if one) / len(curves) for k in curves[0] or {}}


def _disagreements(
    measured: Mapping[str, Sequence[Mapping[Key, Measured]]], tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """Return how often the two protocols disagree, by benchmark and label, for the first seed."""
    rows = []
    for task in tasks:
        by_label = {
            label: disagreement({p: m for (t, p), m in seeds[0].items() if t == task})
            for label, seeds in measured.items()
        }
        if all(by_label.values()):
            rows.append({"task": task, "title": TASKS[task].title, "labels": by_label})
    return rows
