"""Forgetting: the drop on benchmarks that were not the target of a fine-tuning, paired by question,
from two evaluation folders.

    forgetting = mean over the benchmarks of (base - tuned)

The divergence from the base model is measured in `divergence`, held-out text in `documents`.

Reference: Chen et al., "Retaining by Doing: The Role of On-Policy Data in Mitigating Forgetting",
2025, https://arxiv.org/abs/2510.18874 (drop on non-target tasks beside the gain on the target).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..statistics import macro_difference, paired_difference, rate
from .analyse import Measured, load_measured
from .tasks.table import find_tasks

__all__ = ["drop_on_tasks"]


def drop_on_tasks(
    base: Path, tuned: Path, *, protocol: str = "strict", target: str = ""
) -> dict[str, Any]:
    """Return base minus tuned for every benchmark that both folders hold under a protocol.

    Args:
        target: benchmarks and domains that the tuning aimed at; reported separately.

    Returns:
        `tasks` (name, title, target, questions, `base`, `tuned` and `drop` as estimates),
        `forgetting` (the mean drop over the others) and `gain` (the mean of tuned - base over the
        targets), each None without benchmarks, with their p-values.

    Raises:
        DataError: an evaluation is incomplete, or the questions differ.
        UsageError: the folders share no benchmark under this protocol.
    """
    targets = {task.name for task in find_tasks(target)} if target else set()
    before = {m.task.name: m for m in load_measured(base) if m.protocol == protocol}
    after = {m.task.name: m for m in load_measured(tuned) if m.protocol == protocol}
    shared = [name for name in before if name in after]
    if not shared:
        raise UsageError(
            f"{base} and {tuned} share no benchmark under the {protocol} protocol; evaluate both on"
            " the same ones."
        )
    lost = sorted(targets - set(shared))
    if lost:
        raise UsageError(f"--target names {', '.join(lost)}, which the folders do not both hold.")
    rows = [_row(before[name], after[name], name in targets) for name in shared]
    others = [name for name in shared if name not in targets]
    return {
        "protocol": protocol,
        "base": str(base),
        "tuned": str(tuned),
        "tasks": rows,
        "forgetting": _mean(before, after, others),
        "gain": _mean(after, before, sorted(targets, key=shared.index)),
        "only_in_one": sorted({*before} ^ {*after}),
    }


def _row(before: Measured, after: Measured, target: bool) -> dict[str, Any]:
    if before.record["prompt"] != after.record["prompt"]:
        raise DataError(
            f"{before.folder} and {after.folder} were asked in different words; the drop would"
            " be that of the prompt, too. Evaluate both with the same --prompt-format."
        )
    try:
        drop = paired_difference(before.scores, after.scores, clusters=before.clusters)
    except ValueError as error:
        raise DataError(f"{before.folder} and {after.folder}: {error}") from None
    return {
        "name": before.task.name,
        "title": before.task.title,
        "target": target,
        "questions": len(before.scores),
        "base": rate(before.scores, clusters=before.clusters),
        "tuned": rate(after.scores, clusters=after.clusters),
        "drop": drop,
    }


def _mean(
    first: dict[str, Measured], second: dict[str, Measured], names: Collection[str]
) -> dict[str, Any] | None:
    """Return the mean of first - second over benchmarks; None without benchmarks."""
    if not names:
        return None
    mean = macro_difference(
        {name: first[name].scores for name in names},
        {name: second[name].scores for name in names},
        clusters={name: first[name].clusters for name in names},
    )
    return {"difference": mean.difference, "p_value": mean.p_value, "benchmarks": list(names)}
