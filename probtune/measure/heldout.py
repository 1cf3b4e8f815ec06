"""Measurement of a model on held-out rows: how probable the right tokens are, whether generated
answers are right, and whether they end.

Two ways to draw answers are measured, because an objective that suits one may not suit the other.
*Greedy*: the most probable token each time, graded as `exact_match`. *Sampled*, at temperature 1:
where the answer is the whole response, its probability under the model, which is exactly how often
a drawn answer would be that text; where it stands at the end of a working, answers are drawn and
graded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from ..kernels import IGNORE_INDEX
from ..models.generation import Continuation, continue_prompts
from ..models.loading import TokenTable
from ..models.ranks import ALONE, Ranks, shared_table
from ..statistics import Estimate, ratio, share
from .answers import exact_match, read_rule
from .ends import loops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["METRICS", "RATES", "Generation", "HeldOut", "measure", "passes"]

METRICS = {
    "exact_match": "exact match of the generated answer",
    "sampled": "probability that an answer drawn at temperature 1 is right",
    "token_accuracy": "share of target tokens that are the most probable token",
    "mean_p": "mean probability of the target tokens",
    "nll": "mean negative log-likelihood of the target tokens, in nats",
}
"""Name -> what it is. For all but `nll`, higher is better."""

RATES = {
    "stops": "share of generated answers that ended with an end token",
    "cut_off": "share of generated answers that reached the limit of new tokens",
    "loops": "share of generated answers that ended in a loop",
    "readable": "share of generated answers in which a short answer could be read",
    "end_p": "mean probability of the end token after the right response",
}
"""Name -> what it is; `probtune.measure.ends` has the rules. For `cut_off` and `loops`, lower is
better."""


@dataclass(frozen=True)
class Generation:
    """Settings of the answers that are generated for a measurement."""

    max_new_tokens: int
    """Length limit of an answer."""
    answer_rule: str
    """Rule to find the short answer, or `none`."""
    rows_without_rule: int = 0
    """Rows that are answered where the rule is `none`, to see how answers end."""
    draws: int = 0
    """Answers drawn at temperature 1 for each row, where the probability of the right one is not
    known exactly."""
    seed: int = 0

    def rows(self, number: int) -> int:
        """Return how many of `number` rows are answered."""
        return min(number, self.rows_without_rule) if self.answer_rule == "none" else number

    @property
    def drawn(self) -> int:
        """Answers to draw for each row that has a short answer."""
        return 0 if self.answer_rule in ("none", "whole") else self.draws


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
    sampled: list[float] | None = None
    """Probability of the right answer, or the share of drawn answers that were right."""
    ended: list[bool | None] | None = None
    """None for rows that were not answered; so too in the two lists that follow."""
    loops: list[bool | None] | None = None
    readable: list[bool | None] | None = None
    end_p: list[float | None] | None = None
    """Probability of the row's end token; None for rows without one."""
    max_new_tokens: int | None = None

    def estimate(self, metric: str) -> Estimate:
        """Return a metric or a rate with its standard error; items are the unit, so tokens of one
        item do not count as independent. The interval of a share lies in [0, 1].
        """
        sums, counts = self.sums(metric), self.counts(metric)
        return ratio(sums, counts) if metric == "nll" else share(sums, counts)

    def sums(self, metric: str) -> list[float]:
        """Return the metric summed over each item: over its tokens, where tokens are counted."""
        sums: dict[str, Any] = {
            "exact_match": self.exact,
            "sampled": self.sampled,
            "token_accuracy": self.top1,
            "mean_p": self.p,
            "nll": self.nll,
            "stops": self.ended,
            "cut_off": [None if x is None else not x for x in self.ended or []],
            "loops": self.loops,
            "readable": self.readable,
            "end_p": self.end_p,
        }
        return [0.0 if value is None else float(value) for value in sums[metric] or []]

    def counts(self, metric: str) -> list[int]:
        """Return what the sums are divided by; 0 for an item that does not count."""
        if metric in ("token_accuracy", "mean_p", "nll"):
            return self.tokens
        items: dict[str, Any] = {
            "exact_match": self.exact,
            "sampled": self.sampled,
            "loops": self.loops,
            "readable": self.readable,
            "end_p": self.end_p,
        }
        return [int(value is not None) for value in items.get(metric, self.ended) or []]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that were measured."""
        missing = {
            name
            for name, items in (("exact_match", self.exact), ("sampled", self.sampled))
            if items is None
        }
        return tuple(name for name in METRICS if name not in missing)

    @property
    def rates(self) -> tuple[str, ...]:
        """The rates that were measured."""
        return tuple(name for name in RATES if any(self.counts(name)))

    def to_dict(self) -> dict[str, Any]:
        """Estimates and items, for a record."""
        items: dict[str, Any] = {
            "tokens": self.tokens, "nll": self.nll, "p": self.p, "top1": self.top1
        }  # fmt: skip
        if self.exact is not None:
            items |= {"exact": self.exact, "prediction": self.predictions}
        for name in _LATER:
            if getattr(self, name) is not None:
                items[name] = getattr(self, name)
        return {
            "metrics": {name: self.estimate(name) for name in self.metrics},
            "rates": {name: self.estimate(name) for name in self.rates},
            "answer_rule": self.answer_rule,
            "max_new_tokens": self.max_new_tokens,
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
            max_new_tokens=record.get("max_new_tokens"),
            **{name: items.get(name) for name in _LATER},
        )


_LATER = ("sampled", "ended", "loops", "readable", "end_p")
"""Lists that records of earlier versions do not have."""


def passes(rows: int, generation: Generation) -> int:
    """Return how often a row is finished in a measurement, for a progress bar: by the forward pass,
    and by every answer that is generated for it.
    """
    return rows + generation.rows(rows) + rows * generation.drawn


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    *,
    generation: Generation,
    progress: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
) -> HeldOut:
    """Measure one model on held-out rows.

    Args:
        progress: called with the number of rows finished since the last call; see `passes`.
        ranks: the processes that share the work; all of them return the whole.
    """
    started = time.monotonic()
    table = shared_table(model, rows, ranks, progress=progress)
    logp = table.per_example(table.logp)
    columns: dict[str, Any] = {"exact": None, "predictions": None}

    def answers(some: Sequence[Encoded], seed: int | None = None) -> list[Continuation]:
        return continue_prompts(
            model,
            tokenizer,
            [row.prompt_ids for row in some],
            max_new_tokens=generation.max_new_tokens,
            stop={row.end for row in rows if row.end is not None},
            seed=seed,
            progress=progress,
        )

    number = generation.rows(len(rows))
    if number:
        some = ranks.share(rows[:number])
        written = ranks.joined(answers(some) if some else [])
        rest = [None] * (len(rows) - number)
        columns["ended"] = [*(answer.ended for answer in written), *rest]
        columns["loops"] = [*(not a.ended and loops(a.ids) for a in written), *rest]
        if generation.answer_rule != "none":
            texts = [answer.text for answer in written]
            columns |= _graded(texts, rows, generation.answer_rule)
    if generation.answer_rule == "whole":
        columns["sampled"] = _response_p(table, rows)
    if generation.drawn:
        right = np.zeros(len(rows))
        # Whole draws to each process: a draw depends on its seed and on the rows before it.
        for draw in ranks.share(range(generation.drawn)):
            drawn = answers(rows, seed=generation.seed + draw)
            right += _graded([a.text for a in drawn], rows, generation.answer_rule)["exact"]
        right = np.sum(ranks.gathered(right), axis=0)
        columns["sampled"] = (right / generation.drawn).tolist()
    return HeldOut(
        tokens=table.counts.tolist(),
        nll=(-logp).tolist(),
        p=table.per_example(np.exp(table.logp)).tolist(),
        top1=table.per_example(table.is_top1).astype(int).tolist(),
        end_p=_end_p(table, rows),
        answer_rule=generation.answer_rule,
        max_new_tokens=generation.max_new_tokens if number else None,
        seconds=time.monotonic() - started,
        **columns,
    )


def _graded(texts: Sequence[str], rows: Sequence[Encoded], rule: str) -> dict[str, Any]:
    """Return texts graded against the rows' responses: `predictions`, `exact`, `readable`."""
    find = read_rule(rule)
    answers = [find(text) for text in texts]
    return {
        "predictions": list(texts),
        "exact": [
            exact_match(answer, find(row.response))
            for answer, row in zip(answers, rows, strict=True)
        ],
        "readable": [answer is not None for answer in answers],
    }


def _response_p(table: TokenTable, rows: Sequence[Encoded]) -> list[float]:
    """Return the probability of each row's (last) response with its end token."""
    ends = np.cumsum(table.counts)
    sizes = [int((row.labels[len(row.prompt_ids) :] != IGNORE_INDEX).sum()) for row in rows]
    return [
        float(np.exp(table.logp[end - size : end].sum()))
        for end, size in zip(ends, sizes, strict=True)
    ]


def _end_p(table: TokenTable, rows: Sequence[Encoded]) -> list[float | None]:
    """Return the probability of each row's last target token where that is its end token."""
    last = np.cumsum(table.counts) - 1
    return [
        float(np.exp(table.logp[at])) if table.token[at] == row.end else None
        for at, row in zip(last, rows, strict=True)
    ]
