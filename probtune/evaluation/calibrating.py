"""Calibration of a model: of its tokens, of the letters of a multiple choice, of the answers its
samples agree on. What is measured comes from `divergence`, `options` and `sampled`; what is made of
it, from `calibration`.
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
    """`calibration.token_calibration` of the supervised tokens, with `nll` and `brier` of the whole
    distribution, `entropy_gap`, and the table of `reliability`. The row is the unit.
    """
    from .divergence import confidences

    found = confidences(model, rows, progress=progress)
    item = found.example
    counts = np.bincount(item, minlength=found.rows)
    measures = token_calibration(found.confidence, found.correct, item)

    def per_token(values: np.ndarray) -> Any:
        return ratio(np.bincount(item, weights=values, minlength=found.rows), counts)

    return {
        **measures,
        "brier_top": measures["brier"],
        "brier": per_token(found.brier),
        "nll": per_token(-found.logp),
        "entropy_gap": entropy_gap(-found.logp, found.entropy, item),
        "reliability": reliability(found.confidence, found.correct, items=item),
        "number": len(found.logp),
        "rows": found.rows,
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
    """`calibration.option_calibration` of a multiple choice's letters, `reliability` and error
    rates of the surest. The cluster of questions is the unit.
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


def of_votes(found: Sampled) -> dict[str, Any]:
    """`calibration.vote_calibration` of free answers, `reliability`, error rates of the surest."""
    votes = [majority(a, c) for a, c in zip(found.answers, found.correct, strict=True)]
    shares, hits = [vote.share for vote in votes], [vote.first for vote in votes]
    return {
        "name": found.measured.task.name,
        "title": found.measured.task.title,
        "protocol": found.measured.protocol,
        "samples": found.samples,
        **vote_calibration(found.answers, found.correct, clusters=found.clusters),
        "reliability": reliability(shares, hits, items=found.clusters),
        "risks": _risks(shares, hits),
        "number": len(found.answers),
    }


def _risks(probs: Sequence[float], hits: Sequence[float]) -> list[dict[str, float]]:
    """Error rates among the surest quarters."""
    found = risk_coverage(probs, hits)
    return [
        {"coverage": share, "risk": float(found.risk[max(0, round(share * len(hits)) - 1)])}
        for share in _RISKS
    ]
