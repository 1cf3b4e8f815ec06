"""Calibration of a model at three levels: its tokens, the letters of a multiple choice, and the
answers that its samples agree on. `divergence`, `options` and `sampled` measure; `calibration`
computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from ..data.prompts import PromptSpec
from ..statistics import ratio
from .calibration import (
    entropy_gap,
    option_calibration,
    reliability,
    risk_coverage,
    token_calibration,
    vote_calibration,
)
from .diversity import majority
from .sampled import Sampled
from .tasks.base import Question, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["of_letters", "of_tokens", "of_votes"]

_RISKS = (0.25, 0.5, 0.75, 1.0)

Progress = Callable[[int], None] | None


def of_tokens(
    model: PreTrainedModel, rows: Sequence[Encoded], *, progress: Progress = None
) -> dict[str, Any]:
    """Return `calibration.token_calibration` of the supervised tokens, with `nll` and `brier` of
    the whole distribution, `entropy_gap`, and the table of `reliability`. The row is the unit.
    """
    from .divergence import confidences

    tokens = confidences(model, rows, progress=progress)
    item = tokens.example
    counts = np.bincount(item, minlength=tokens.rows)
    measures = token_calibration(tokens.confidence, tokens.correct, item)

    def per_token(values: np.ndarray) -> Any:
        return ratio(np.bincount(item, weights=values, minlength=tokens.rows), counts)

    return {
        **measures,
        "brier_top": measures["brier"],
        "brier": per_token(tokens.brier),
        "nll": per_token(-tokens.logp),
        "entropy_gap": entropy_gap(-tokens.logp, tokens.entropy, item),
        "reliability": reliability(tokens.confidence, tokens.correct, items=item),
        "number": len(tokens.logp),
        "rows": tokens.rows,
    }


def of_letters(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    questions: Sequence[Question],
    prompt: PromptSpec,
    *,
    max_length: int | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Return `calibration.option_calibration` of a multiple choice's letters, `reliability`, and
    error rates among the surest answers. The cluster of questions is the unit.
    """
    from .options import START, option_logprobs

    logprobs, golds = option_logprobs(
        model, tokenizer, questions, prompt, max_length=max_length, progress=progress
    )
    clusters = [question.cluster or question.id for question in questions]
    tops, hits = [], []
    for row, gold in zip(logprobs, golds, strict=True):
        p = np.exp(np.array(row) - max(row))
        tops.append(float(p.max() / p.sum()))
        hits.append(float(int(p.argmax()) == gold))
    return {
        "name": task.name,
        "title": task.title,
        "prompt": prompt.to_dict(),
        "start": START,
        **option_calibration(logprobs, golds, clusters=clusters),
        "reliability": reliability(tops, hits, items=clusters),
        "risks": _risks(tops, hits),
        "number": len(questions),
    }


def of_votes(sampled: Sampled) -> dict[str, Any]:
    """Return `calibration.vote_calibration` of free answers, `reliability`, and error rates among
    the surest answers.
    """
    votes = [majority(a, c) for a, c in zip(sampled.answers, sampled.correct, strict=True)]
    shares, hits = [vote.share for vote in votes], [vote.first for vote in votes]
    return {
        "name": sampled.measured.task.name,
        "title": sampled.measured.task.title,
        "protocol": sampled.measured.protocol,
        "samples": sampled.samples,
        **vote_calibration(sampled.answers, sampled.correct, clusters=sampled.clusters),
        "reliability": reliability(shares, hits, items=sampled.clusters),
        "risks": _risks(shares, hits),
        "number": len(sampled.answers),
    }


def _risks(probs: Sequence[float], hits: Sequence[float]) -> list[dict[str, float]]:
    """Return the error rates among the surest quarter, half, three quarters and all."""
    curve = risk_coverage(probs, hits)
    return [
        {"coverage": share, "risk": float(curve.risk[max(0, round(share * len(hits)) - 1)])}
        for share in _RISKS
    ]
