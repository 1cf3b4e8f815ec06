"""Measurement of a model on held-out rows: NLL, mean p, token accuracy, and exact match of
generated short answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from ..models.generation import generate
from ..models.loading import token_table
from ..statistics import Estimate, mean, ratio
from .answers import exact_match, read_rule

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["METRICS", "HeldOut", "measure"]

METRICS = {
    "exact_match": "exact match of the generated answer",
    "token_accuracy": "share of target tokens that are the most probable token",
    "mean_p": "mean probability of the target tokens",
    "nll": "mean negative log-likelihood of the target tokens, in nats",
}
"""Name -> what it is. For all but `nll`, higher is better."""


@dataclass(frozen=True)
class HeldOut:
    """One model on the held-out rows, item by item, so that models can be paired."""

    tokens: list[int]
    nll: list[float]
    """Summed over the item's target tokens."""
    p: list[float]
    top1: list[int]
    exact: list[bool] | None
    """None where the data has no short answers."""
    predictions: list[str] | None
    answer_rule: str
    seconds: float

    def estimate(self, metric: str) -> Estimate:
        """Return a metric with its standard error; items are the unit, so tokens of one item do not
        count as independent.
        """
        if metric == "exact_match":
            return mean(np.asarray(self.exact if self.exact is not None else [], dtype=np.float64))
        return ratio(self.sums(metric), self.tokens)

    def sums(self, metric: str) -> list[float]:
        """Return the metric summed over each item's tokens (for `exact_match`, over the item
        itself).
        """
        sums: dict[str, Any] = {
            "exact_match": self.exact,
            "token_accuracy": self.top1,
            "mean_p": self.p,
            "nll": self.nll,
        }
        return [float(value) for value in sums[metric] or []]

    def counts(self, metric: str) -> list[int]:
        """Return what the sums are divided by."""
        return [1] * len(self.tokens) if metric == "exact_match" else self.tokens

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that were measured."""
        return tuple(name for name in METRICS if name != "exact_match" or self.exact is not None)

    def to_dict(self) -> dict[str, Any]:
        """Estimates and items, for a record."""
        items = {"tokens": self.tokens, "nll": self.nll, "p": self.p, "top1": self.top1}
        if self.exact is not None:
            items |= {"exact": self.exact, "prediction": self.predictions}
        return {
            "metrics": {name: self.estimate(name) for name in self.metrics},
            "answer_rule": self.answer_rule,
            "seconds": self.seconds,
            "items": items,
        }

    @staticmethod
    def from_dict(record: dict[str, Any]) -> HeldOut:
        """Return the inverse of `to_dict`."""
        items = record["items"]
        return HeldOut(
            tokens=items["tokens"],
            nll=items["nll"],
            p=items["p"],
            top1=items["top1"],
            exact=items.get("exact"),
            predictions=items.get("prediction"),
            answer_rule=record["answer_rule"],
            seconds=record["seconds"],
        )


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    *,
    answer_rule: str,
    max_new_tokens: int,
    progress: Callable[[int], None] | None = None,
) -> HeldOut:
    """Measure one model on held-out rows.

    Args:
        answer_rule: how to find the short answer, or `none` to generate nothing.
        max_new_tokens: length limit of a generated response.
        progress: called with the number of rows finished since the last call; every row is finished
            once by the forward pass and, with answers, once more by generation.
    """
    started = time.monotonic()
    table = token_table(model, rows, progress=progress)
    exact = predictions = None
    if answer_rule != "none":
        find = read_rule(answer_rule)
        prompts = [row.prompt_ids for row in rows]
        predictions = generate(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            stop={row.end for row in rows if row.end is not None},
            progress=progress,
        )
        exact = [
            exact_match(find(text), find(row.response))
            for text, row in zip(predictions, rows, strict=True)
        ]
    return HeldOut(
        tokens=table.counts.tolist(),
        nll=table.per_example(-table.logp).tolist(),
        p=table.per_example(np.exp(table.logp)).tolist(),
        top1=table.per_example(table.is_top1).astype(int).tolist(),
        exact=exact,
        predictions=predictions,
        answer_rule=answer_rule,
        seconds=time.monotonic() - started,
    )
