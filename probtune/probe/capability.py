"""The probe: where a model stands on the model-capability continuum for given data, before any
training.

One forward pass of the base model over a sample of the training data gives the probability of every
target token. Its mean is the paper's measure (Eq. 5); the rest shows what the mean hides: a tail of
tokens the model excludes, an end token it never predicts, targets it confidently contradicts.

References:
    Li et al., "Beyond Log Likelihood", 2025, https://arxiv.org/abs/2510.00526, Eq. 5 and Tables
    5-6. The paper gives no numeric limits between model-weak, -intermediate and -strong; those of
    `verdict` are ours. How well an objective is chosen without a scout is in docs/choice-bench.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.chat import added_tokens
from ..data.encoding import Encoded
from ..models.loading import TokenTable, token_table
from ..numbers import interval, percent
from ..statistics import Estimate, bootstrap_ratio, ratio, wilson
from ..texts import token_kind
from .choosing import NLL, Gain, auto
from .features import features

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Plan",
    "Probe",
    "Suggestion",
    "TokenClass",
    "describe",
    "expected_rows",
    "sample",
    "special_targets",
    "suggest",
    "summarize",
    "verdict",
]

CONFIDENT_ENTROPY = math.log(2.0)
"""Below the entropy of a fair coin, the model has all but decided on a token."""

_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_BINS = 50


class TokenClass(NamedTuple):
    """Target probabilities of one kind of token, or of one stretch of the response."""

    name: str
    tokens: int
    mean_p: Estimate
    below_0_1: Estimate
    """Share of its tokens with p < 0.1."""


class Plan(NamedTuple):
    """The training that is planned: the choice of an objective depends on it."""

    steps: int
    """Optimizer steps."""
    epochs: float
    learning_rate: float
    decoding: str = "greedy"
    """Way of drawing answers from the model: `greedy` or `sampled` (temperature 1)."""

    @classmethod
    def usual(cls, rows: int) -> Plan:
        """The defaults of `probtune tune`: one epoch of batches of 32 rows."""
        return cls(math.ceil(rows / 32), 1.0, 5e-5)


class Suggestion(NamedTuple):
    """An objective with its reason in words and numbers; see `probtune.probe.choosing.auto`."""

    objective: str
    """The first of the two, if undecided."""
    verdict: str
    """Place on the continuum: `model-weak`, `model-strong` or `model-intermediate`."""
    reason: str
    cautions: tuple[str, ...] = ()
    runner_up: str = ""
    expected_gain: Gain | None = None
    """Over NLL, in points of accuracy, with a 90 % interval for one run."""
    undecided: bool = False
    race: tuple[str, ...] = ()
    """Objectives to compare, if undecided (`select:A,B`)."""
    race_share: float = 0.0
    """Share of the steps after which the bench compared them."""

    def __str__(self) -> str:
        named = f"undecided between {' and '.join(self.race)}" if self.undecided else self.objective
        text = f"{self.verdict}: {named}. {self.reason}"
        return "\n".join([text, *self.cautions])


@dataclass(frozen=True)
class Probe:
    """Statistics of the base model's probabilities on the data, and the objective they suggest.
    Intervals are 95 %, with the sequence as the unit of resampling.
    """

    examples: int
    of_examples: int
    tokens: int
    mean_p: Estimate
    nll: Estimate
    token_accuracy: Estimate
    entropy: Estimate
    above_0_55: Estimate
    below_0_1: Estimate
    below_0_001: Estimate
    confident_conflict: Estimate
    """Share of tokens with p < 0.1 where the entropy is below ln 2: the model is sure of something
    else.
    """
    expected_rows: Estimate
    """Share of the rows that the model expects; see `expected_rows`."""
    quantiles: dict[str, float]
    percentiles: tuple[float, ...]
    """Percentiles of p, from 0 to 100: 101 numbers."""
    histogram: tuple[int, ...]
    """Number of tokens per bin of p, 50 equal bins from 0 to 1."""
    classes: tuple[TokenClass, ...]
    positions: tuple[TokenClass, ...]
    end_token: TokenClass | None
    """The tokens that end a response; None if the data has none."""
    features: dict[str, float]
    """Numbers behind the suggestion; `probtune.probe.features.DESCRIPTIONS` explains each."""
    suggestion: Suggestion
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a mapping, for a record."""
        return asdict(self)

    def __repr__(self) -> str:
        return (
            f"Probe(mean p {_with_interval(self.mean_p)}, {self.tokens} target tokens of"
            f" {self.examples} rows, {self.suggestion.verdict}: {self.suggestion.objective})"
        )

    def _repr_html_(self) -> str:
        from .notebook import probe_html

        return probe_html(self)

    def __str__(self) -> str:
        lines = [
            (
                f"mean p {_with_interval(self.mean_p)} over {self.tokens} target tokens of"
                f" {self.examples} rows; p < 0.1 for {percent(self.below_0_1._asdict())}, top-1"
                f" {percent(self.token_accuracy._asdict())}"
            ),
            str(self.suggestion),
        ]
        return "\n".join(lines)


def sample(examples: Sequence[Any], size: int | None, *, seed: int) -> Sequence[Any]:
    """`size` of the rows at random, in their order; all of them for None."""
    if size is None or size >= len(examples):
        return examples
    chosen = np.random.default_rng(seed).choice(len(examples), size=size, replace=False)
    return [examples[i] for i in sorted(chosen)]


def describe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    *,
    of_examples: int,
    seed: int = 0,
    plan: Plan | None = None,
    progress: Callable[[int], None] | None = None,
) -> Probe:
    """Return the probe of rows that are tokenized already. Arguments as in `probe`."""
    started = time.monotonic()
    table = token_table(model, rows, progress=progress)
    measured = summarize(table, tokenizer, of_examples=of_examples, seed=seed, plan=plan)
    return replace(measured, seconds=time.monotonic() - started)


def summarize(
    table: TokenTable,
    tokenizer: PreTrainedTokenizerBase,
    *,
    of_examples: int,
    seed: int = 0,
    plan: Plan | None = None,
) -> Probe:
    """Return the probe of what was measured already. Arguments as in `probe`."""
    started = time.monotonic()
    p = np.exp(table.logp)

    def share(of: np.ndarray) -> Estimate:
        return bootstrap_ratio(table.per_example(of), table.counts, seed=seed)

    def group(name: str, among: np.ndarray) -> TokenClass:
        counts = table.per_example(among)
        return TokenClass(
            name,
            int(among.sum()),
            ratio(table.per_example(p * among), counts),
            ratio(table.per_example((p < 0.1) & among), counts),
        )

    classes = _token_classes(table, tokenizer)
    ends = _end_tokens(table, tokenizer)
    stretches = _stretches(table)
    measured = {
        "mean_p": share(p),
        "nll": share(-table.logp),
        "token_accuracy": share(table.is_top1),
        "entropy": share(table.entropy),
        "above_0_55": share(p > 0.55),
        "below_0_1": share(p < 0.1),
        "below_0_001": share(p < 1e-3),
        "confident_conflict": share((p < 0.1) & (table.entropy < CONFIDENT_ENTROPY)),
        "expected_rows": wilson(expected_rows(table, tokenizer).astype(float)),
    }
    plan = plan or Plan.usual(of_examples)
    numbers = features(
        logp=table.logp,
        entropy=table.entropy,
        is_top1=table.is_top1,
        token=table.token,
        example=table.example,
        position=table.position,
        steps=plan.steps,
        epochs=plan.epochs,
        learning_rate=plan.learning_rate,
    )
    return Probe(
        examples=table.num_examples,
        of_examples=of_examples,
        tokens=int(p.size),
        **measured,
        quantiles={f"{q:g}": float(np.quantile(p, q)) for q in _QUANTILES},
        percentiles=tuple(np.percentile(p, np.arange(101)).tolist()),
        histogram=tuple(np.histogram(p, bins=_BINS, range=(0.0, 1.0))[0].tolist()),
        classes=tuple(group(name, classes == name) for name in sorted(set(classes.tolist()))),
        positions=tuple(group(name, among) for name, among in stretches),
        end_token=group("end", ends) if ends.any() else None,
        features=numbers,
        suggestion=suggest(numbers, measured["mean_p"], measured["below_0_1"], plan.decoding),
        seconds=time.monotonic() - started,
    )


def expected_rows(table: TokenTable, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """True for the rows whose every target, special tokens aside, has p >= 0.1, (rows,)."""
    unlikely = (table.logp < math.log(0.1)) & ~special_targets(table, tokenizer)
    return table.per_example(unlikely) == 0


def special_targets(table: TokenTable, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """True for the targets that are special tokens, (tokens,)."""
    return np.isin(table.token, list(added_tokens(tokenizer)))


WEAK_LOW_SHARE = 0.25
WEAK_MEAN = 0.35
STRONG_LOW_SHARE = 0.15
STRONG_MEAN = 0.75
"""The limits of `verdict`. They are ours: the paper names the places and gives no numbers."""


def verdict(mean_p: Estimate, below_0_1: Estimate) -> str:
    """Return the place on the continuum, from the mean target probability and the share of tokens
    below 0.1; model-weak or -strong only where the whole 95 % interval lies beyond a limit.

    >>> verdict(Estimate(0.8, 0.01, 0.78, 0.82, 99), Estimate(0.08, 0.01, 0.06, 0.10, 99))
    'model-strong'
    """
    if below_0_1.low > WEAK_LOW_SHARE or mean_p.high < WEAK_MEAN:
        return "model-weak"
    if mean_p.low > STRONG_MEAN and below_0_1.high < STRONG_LOW_SHARE:
        return "model-strong"
    return "model-intermediate"


def suggest(
    features: dict[str, float], mean_p: Estimate, below_0_1: Estimate, decoding: str = "greedy"
) -> Suggestion:
    """Return the objective that `probtune.probe.choosing.auto` chooses from the features, with its
    reason.

    Raises:
        UsageError: a feature is missing, or the decoding is unknown.
    """
    choice = auto(features, metric=decoding)
    reason = f"Mean p {_with_interval(mean_p)}; {choice.reason}."
    if choice.expected_gain is not None and choice.objective != NLL:
        reason += f" Expected over NLL: {choice.expected_gain} points of accuracy."
    reason += f" Runner-up: {choice.runner_up}"
    if choice.runner_up_gain is not None and choice.runner_up != NLL:
        reason += f", expected over NLL: {choice.runner_up_gain}"
    reason += ". (90 % ranges for one run, from a bench of small models.)"
    return Suggestion(
        choice.objective,
        verdict(mean_p, below_0_1),
        reason,
        choice.cautions,
        choice.runner_up,
        choice.expected_gain,
        choice.undecided,
        choice.race,
        choice.race_share,
    )


def _token_classes(table: TokenTable, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return the kind of each target token: special, digits, words, punctuation, whitespace or
    other.
    """
    ids, inverse = np.unique(table.token, return_inverse=True)
    special = set(added_tokens(tokenizer))
    texts = tokenizer.batch_decode([[int(i)] for i in ids], clean_up_tokenization_spaces=False)
    names = [
        "special" if int(i) in special else token_kind(text)
        for i, text in zip(ids, texts, strict=True)
    ]
    return np.asarray(names)[inverse]


def _end_tokens(table: TokenTable, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """True at the special token that ends each row's response."""
    last = table.position == table.counts[table.example] - 1
    before_last = table.position == table.counts[table.example] - 2
    special = special_targets(table, tokenizer)
    # Some chat templates close a turn with the special token and a newline.
    followed = np.zeros_like(last)
    followed[:-1] = last[1:] & ~special[1:]
    return special & (last | (before_last & followed))


def _stretches(table: TokenTable) -> list[tuple[str, np.ndarray]]:
    """Positions in the response, in stretches that double: 1, 2-3, 4-7, ..."""
    power = np.floor(np.log2(table.position + 1)).astype(np.int64)
    stretches = []
    for k in range(int(power.max()) + 1):
        first, last = 2**k, 2 ** (k + 1) - 1
        stretches.append((f"{first}" if first == last else f"{first}-{last}", power == k))
    return [(name, among) for name, among in stretches if among.any()]


def _with_interval(estimate: Estimate) -> str:
    return interval(estimate._asdict(), spec=".3g", share=True)
