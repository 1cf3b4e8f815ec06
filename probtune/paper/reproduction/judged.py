"""Judgements on instructions: the answers of p() against those of nll(), seed by seed, by a judge
that the user names. The paper names none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...evaluation.grading.judge import Judge
from ...records import read_record, write_record
from ...terminal import Terminal
from .plan import CellPlan, Run
from .run import cell_folder

__all__ = ["is_judged", "judge_pairs", "judgements"]


def is_judged(plan: CellPlan) -> bool:
    """True if a judge decides this cell."""
    return plan.recipe.evaluation.tasks == "instructions"


def judge_pairs(plan: CellPlan, out: Path, judge: Judge, terminal: Terminal) -> None:
    """Judge every pair of answers that this judge has not judged yet.

    Raises:
        UsageError: no pair has answers yet.
        EvaluationError: the judge does not answer; finished verdicts are saved.
    """
    from ...evaluation.judging import judge_answers

    folder = cell_folder(out, plan)
    pairs = _pairs(plan, folder)
    if not pairs:
        raise UsageError(f"{folder} has no answers of p() and nll() with the same seed to judge.")
    for first, second in pairs:
        path = folder / first.name / "judgement.json"
        if path.is_file() and read_record(path, "judgement")["judge"] == judge.to_dict():
            continue
        assert first.evaluation is not None
        judgement = judge_answers(
            folder / first.name / "evaluation",
            judge,
            against=folder / second.name / "evaluation",
            protocol=first.evaluation.protocols[0],
            data=first.evaluation.data,
            terminal=terminal,
        )
        write_record(path, "judgement", judgement)


def judgements(plan: CellPlan, folder: Path) -> list[dict[str, Any]]:
    """Return the judgements, seed by seed."""
    paths = [folder / first.name / "judgement.json" for first, _ in _pairs(plan, folder)]
    return [read_record(path, "judgement") for path in paths if path.is_file()]


def _pairs(plan: CellPlan, folder: Path) -> list[tuple[Run, Run]]:
    """Return the pairs (p(), nll()) of the same seed that both have answers."""
    answered: dict[tuple[str, int], Run] = {}
    for run in plan.runs:
        if run.objective and (folder / run.name / "evaluation" / "run.json").is_file():
            answered[run.objective, run.seed] = run
    return [
        (run, answered["nll()", seed])
        for (objective, seed), run in answered.items()
        if objective == "p()" and ("nll()", seed) in answered
    ]
