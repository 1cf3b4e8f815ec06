"""The probe after a scout: the same measures on rows that the scout has not seen, the estimate
of wrong rows and the choice that follows from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from .after_scout import after_scout, both_ways
from .capability import Plan, Suggestion, special_targets, summarize, verdict
from .choosing import NLL, Choice
from .noise import Noise, Others, estimate
from .scout import Behind, Scouted, scout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..models.looks import Look
    from ..models.spread import Spread

__all__ = [
    "END_TOKEN",
    "FORM_KNOWN",
    "expects_ends",
    "expects_form",
    "for_the_base",
    "noise_after",
    "noise_of",
    "probe_after_scout",
]

END_TOKEN = 0.5
"""Mean p of the end tokens under the base model below which special tokens keep NLL: an objective
that trusts the model learns to stop slowly, or never, from a model that does not expect the end.
"""

FORM_KNOWN = 0.75
"""NLL goes first where the base model expects at most this share of the rows that it expects after
the scout. It was 0.5 until a development cell at 0.56 (mixed-sentences in benchmarks/choice/real)
was better off with NLL first.

The choice is made where the scout left the model; the training begins where the base model stands,
and an objective that trusts the model learns next to nothing from tokens that it does not expect.
One improbable token in every row is enough, so rows are counted and not tokens.
"""
FIRST_SHARE, MOST_FIRST = 0.1, 0.5
"""Shares of the steps: NLL's at least where it goes first, and at most."""

_WEIGHED = "inliers("
_LISTED = 200
"""Rows that look wrong, named in the record at most."""


def probe_after_scout(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Encoded],
    measure: Sequence[Encoded],
    *,
    plan: Plan,
    of_examples: int,
    base_rows: float,
    end_p: float | None,
    steps: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    tokens_of: Callable[[Sequence[Look], np.ndarray], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Send a scout, probe the model under it, and return what the record holds: the scout, the
    estimate of wrong rows with those that look worst, and the probe with its suggestion.

    Args:
        train, measure: rows for the scout and other rows to measure.
        base_rows: share of the rows that the base model expects, before the scout; see
            `probtune.probe.capability.expected_rows`.
        end_p: mean p of the end tokens under the base model, before the scout; None if the rows
            have none.
        steps: the scout's steps before its first look.
        tokens_of: called with the tokens of the measured rows and the excess of each, for what the
            record holds of them.
    """
    started = time.monotonic()
    report = scout(
        model,
        train,
        measure,
        seed=seed,
        planned_steps=plan.steps,
        steps=steps,
        progress=progress,
    )
    table = report.spread.table
    noise = noise_after(report, tokenizer)
    probe = summarize(table, tokenizer, of_examples=of_examples, seed=seed, plan=plan)
    position = verdict(probe.mean_p, probe.below_0_1)
    scout_rows = probe.expected_rows.value
    knows = {
        "knows_ends": expects_ends(end_p),
        "knows_form": expects_form(base_rows, scout_rows),
    }
    choice = after_scout(noise, metric=plan.decoding, **knows)
    objective, why = for_the_base(
        choice.objective,
        base_rows=base_rows,
        scout_rows=scout_rows,
        end_p=end_p,
        scouted=report.first_pass,
        planned=plan.steps,
    )
    suggestion = _suggestion(choice, objective, why, position)
    return {
        "scout": _scout_record(report),
        "noise": _noise_record(noise, measure),
        "decodings": both_ways(noise, **knows),
        "probe": asdict(replace(probe, suggestion=suggestion)),
        "tokens_of_rows": None if tokens_of is None else tokens_of(report.tokens, noise.excess),
        "seconds": time.monotonic() - started,
    }


def noise_after(report: Scouted, tokenizer: PreTrainedTokenizerBase) -> Noise:
    """Estimate the wrong rows among those that were measured under the scout."""
    return noise_of(report.spread, report.others, tokenizer)


def noise_of(spread: Spread, others: Behind | None, tokenizer: PreTrainedTokenizerBase) -> Noise:
    """Estimate the wrong rows from what a model that knows their form says of them.

    Args:
        others: the same targets behind other prompts; None where prompts cannot be exchanged.
    """
    table = spread.table
    return estimate(
        logp=table.logp,
        top_logp=spread.top_logp,
        entropy=table.entropy,
        variance=spread.variance,
        example=table.example,
        special=special_targets(table, tokenizer),
        rows=table.num_examples,
        vocabulary=len(tokenizer),
        others=others and Others(others.spread.table.logp, others.spread.top_logp, others.donors),
        answers=others and others.answers,
        echoes=others and others.echoes,
    )


def expects_ends(end_p: float | None) -> bool:
    """True if a base model expects the end tokens, as far as rows have any: special tokens need not
    keep NLL.

    Args:
        end_p: as in `probe_after_scout`.
    """
    return end_p is None or end_p >= END_TOKEN


def expects_form(base_rows: float, scout_rows: float) -> bool:
    """True if a base model expects so many of the rows that it expects after the scout that NLL
    need not go first. Arguments as in `for_the_base`.
    """
    return base_rows > FORM_KNOWN * scout_rows


def for_the_base(
    objective: str,
    *,
    base_rows: float,
    scout_rows: float,
    end_p: float | None,
    scouted: int,
    planned: int,
) -> tuple[str, str]:
    """Return (the objective for a training that begins where the base model stands, why): of an
    objective chosen after the scout, special tokens and the first steps may keep NLL.

    Args:
        base_rows, scout_rows: shares of the rows that the model expects before and after the scout.
        end_p: as in `probe_after_scout`.
        scouted, planned: steps of the scout (of its first pass over its rows) and of the training.

    >>> shares = {"base_rows": 0.1, "scout_rows": 0.5}
    >>> for_the_base("p()", **shares, end_p=0.9, scouted=8, planned=500)[0]
    'anneal(nll(), p(), 0.1, 0.1)'
    >>> for_the_base("p()", base_rows=0.4, scout_rows=0.5, end_p=0.1, scouted=8, planned=24)[0]
    'nll_on_special(p())'
    >>> for_the_base("inliers(p())", **shares, end_p=None, scouted=8, planned=500)[0]
    'inliers(anneal(nll(), p(), 0.1, 0.1))'
    """
    weighed = objective.startswith(_WEIGHED)
    inner = objective[len(_WEIGHED) : -1] if weighed else objective
    if inner == NLL:
        return objective, ""
    why = ""
    if not expects_ends(end_p):
        inner = f"nll_on_special({inner})"
        why += (
            f". The base model gives its end token p = {end_p:.2f}, so special tokens keep NLL:"
            " else it would not learn to stop"
        )
    if not expects_form(base_rows, scout_rows):
        share = min(max(FIRST_SHARE, round(scouted / max(planned, 1), 2)), MOST_FIRST)
        inner = f"anneal(nll(), {inner}, {share:g}, {share:g})"
        why += (
            f". It expects {base_rows:.0%} of the rows before the scout and {scout_rows:.0%} after"
            f" it (every token at p >= 0.1), so the first {share:.0%} of the steps are NLL's: from"
            " tokens that a model does not expect the other objective learns next to nothing"
        )
    return f"{_WEIGHED}{inner})" if weighed else inner, why


def _suggestion(choice: Choice, objective: str, why: str, position: str) -> Suggestion:
    reason = f"{choice.reason}{why}."
    if choice.expected_gain is not None and choice.objective != NLL:
        reason += (
            f" Expected over NLL: {choice.expected_gain} points of accuracy (90 % range for one"
            " run in the worst kind of wrong rows, from a bench of small models)."
        )
    return Suggestion(objective, position, reason, (), choice.runner_up, choice.expected_gain)


def _scout_record(report: Scouted) -> dict[str, Any]:
    return {
        "steps": report.steps,
        "rows": report.rows,
        "looks": [
            {"steps": steps, "mean_p": p, "end_p": end_p} for steps, p, end_p in report.looks
        ],
    }


def _noise_record(noise: Noise, rows: Sequence[Encoded]) -> dict[str, Any]:
    worst = [
        {
            "where": rows[i].where,
            "excess": float(noise.excess[i]),
            "cut_short": bool(noise.cut_short[i]),
            "echo": bool(noise.echoes[i]),
        }
        for i in noise.worst_first()[:_LISTED]
    ]
    return {
        "share": noise.share._asdict(),
        "known": noise.known,
        "writes": noise.writes,
        "power": noise.power,
        "usual_tokens": noise.usual_tokens,
        "unmoved": noise.unmoved,
        "halfway": noise.halfway,
        "cut_short": float(noise.cut_short.mean()),
        "echoes": float(noise.echoes.mean()),
        "tells_ends": noise.tells_ends,
        "repeated": noise.repeated,
        "rows": len(rows),
        "worst": worst,
    }
