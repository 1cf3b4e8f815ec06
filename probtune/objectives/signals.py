"""The signals that an objective may need besides p: one table, behind the checks, the errors, the
dataset's columns and the documents. A new signal is a row here and its computation: in
`kernels/distribution.py` if it comes from the logits, else in `training/signals.py`, unless it is a
column of the data as it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

__all__ = [
    "HEAD_SIGNALS",
    "REFERENCE_SIGNALS",
    "SIGNALS",
    "Signal",
    "Signals",
    "columns_of",
    "kind_of",
    "parameter_of",
]


class Signal(NamedTuple):
    """A row of the table."""

    name: str
    parameter: str
    """The name's parameter behind a colon, as K in `top_mass:K`; empty if it has none."""
    source: str
    """`head`: the pass over the logits that gives log p; `data`; `trainer`; or `run`, which fixes
    it once before training.
    """
    kind: str
    """`mask`, `logp`, `weight` or `number`: a tensor in the shape of log p; `scalar`: a tensor
    without a shape; `share`: a float in [0, 1]; or `statistics`.
    """
    meaning: str
    words: str
    """Words for an error: an objective without it needs …"""
    provided: str
    """Its origin, in the words of the documents."""
    column: str = ""
    """The dataset's column that holds it; NAME stands for its parameter."""
    computed_from: tuple[str, ...] = ()
    """Other signals that must be at hand."""
    remedy: str = "ProbTuneTrainer and `probtune tune` provide it."
    """The way out, for an error."""


_DISTRIBUTION = "the whole distribution at every token"
_OTHER_DISTRIBUTION = "the reference model's whole distribution at every token"
_OTHER_PASS = "the head, and a forward pass of the model before training"
_BEFORE = "the log-probabilities of the model before training"
_BETTER = "the log-probabilities of a better model"

_ROWS = (
    Signal(
        "entropy", "", "head", "number",
        "entropy of the distribution, in nats",
        "the entropy of the distribution at every token",
        "the head",
    ),
    Signal(
        "collision", "", "head", "number",
        "the sum of squared probabilities: near 1 where the model is sure",
        "the collision probability at every token",
        "the head",
    ),
    Signal(
        "rank", "", "head", "number",
        "tokens at least as probable as the target, itself included",
        "the target's rank at every token",
        "the head",
    ),
    Signal(
        "top_mass", "K", "head", "number",
        "probability of the K most probable tokens",
        "the probability of the most probable tokens",
        "the head",
    ),
    Signal(
        "top_entropy", "K", "head", "number",
        "entropy of the K most probable tokens, renormalised",
        "the entropy of the most probable tokens",
        "the head",
    ),
    Signal(
        "uniform", "", "head", "number",
        "cross-entropy against the uniform distribution",
        _DISTRIBUTION,
        "the head",
    ),
    Signal(
        "sharpened", "B", "head", "number",
        "sum of q_v log p_v with q = softmax(logits / B), held fixed",
        _DISTRIBUTION,
        "the head",
    ),
    Signal(
        "kl", "", "head", "number",
        "KL divergence of the reference model's distribution from this one",
        _OTHER_DISTRIBUTION,
        _OTHER_PASS,
    ),
    Signal(
        "reverse_kl", "", "head", "number",
        "KL divergence of this distribution from the reference model's",
        _OTHER_DISTRIBUTION,
        _OTHER_PASS,
    ),
    Signal(
        "guided", "ETA", "head", "number",
        "KL divergence from this distribution of its geometric mean with the reference model's,"
        " s^(1 - ETA) r^ETA normalised, held fixed",
        _OTHER_DISTRIBUTION,
        _OTHER_PASS,
    ),
    Signal(
        "special", "", "data", "mask",
        "True if the target is a special token",
        "to know which tokens are special",
        "the tokenizer",
        remedy="ProbTuneTrainer, `probtune tune` and `use_objective` of the integrations provide"
        " it; `probtune.loss` takes it among its signals.",
    ),
    Signal(
        "answer", "", "data", "mask",
        "True if the target belongs to the final answer",
        "to know which tokens are the answer",
        "`tune --answer`; column `answer_mask`",
        column="answer_mask",
    ),
    Signal(
        "column", "NAME", "data", "weight",
        "a number that comes with the data",
        "a number that comes with every row or token of the data",
        "a column of the data",
        column="NAME",
    ),
    Signal(
        "reference", "", "trainer", "logp",
        "log p under the model before training",
        _BEFORE,
        "measured before training, or `--reference`; column `reference_logprobs`",
        column="reference_logprobs",
    ),
    Signal(
        "better", "", "trainer", "logp",
        "log p under another, better model",
        _BETTER,
        "`--better`; column `better_logprobs`",
        column="better_logprobs",
    ),
    Signal(
        "sequence_weight", "", "trainer", "weight",
        "0.05 to 1: low where the token's sequence looks wrong before training",
        f"{_BEFORE} on all rows",
        "two scouts of `probtune tune`, or `reference` over all rows; column `sequence_weight`",
        column="sequence_weight",
        computed_from=("reference",),
    ),
    Signal(
        "old", "", "trainer", "logp",
        "log p under the model as it was at the last refresh",
        "the log-probabilities at the last refresh",
        "a forward pass every `refresh_steps`",
    ),
    Signal(
        "sequence_gain", "", "trainer", "number",
        "mean over the token's sequence of log p - reference, at the step's start",
        _BEFORE,
        "a forward pass per step, and `reference`",
        computed_from=("reference",),
    ),
    Signal(
        "excess_cut", "S", "trainer", "scalar",
        "the cut-off that keeps the share S of the training tokens with the largest"
        " better - reference",
        f"{_BETTER} and of the model before training",
        "the columns",
        computed_from=("better", "reference"),
    ),
    Signal(
        "step", "", "trainer", "statistics",
        "a `StepStatistics`: the tokens of the whole optimizer step",
        "the probabilities of all tokens of the optimizer step",
        "a forward pass per step",
    ),
    Signal(
        "progress", "", "trainer", "share",
        "the share of the training steps that is done",
        "to know how much of the training is done, since it changes over training",
        "the trainer's steps",
        remedy="ProbTuneTrainer, `probtune tune` and `use_objective` of the integrations provide"
        " it; in a loop of your own take .at(progress) at every step.",
    ),
    Signal(
        "base_quantile", "S", "run", "share",
        "the p below which a share S of the training tokens lies under the base model",
        "the base model's probabilities on the training data for its cut-off",
        "the probe of `probtune tune`",
        remedy="`probtune tune` fixes it; elsewhere read the quantile from `probtune probe --all`"
        " and write above(q, f) or below(q, f).",
    ),
)  # fmt: skip

SIGNALS: dict[str, Signal] = {row.name: row for row in _ROWS}
"""Name, without a parameter -> signal."""

HEAD_SIGNALS = frozenset(row.name for row in _ROWS if row.source == "head")
"""Names of what comes from the pass over the logits."""

REFERENCE_SIGNALS = frozenset(row.name for row in _ROWS if row.provided == _OTHER_PASS)
"""Names of the part of it that needs the reference model's whole distribution as well."""


class Signals(dict[str, Any]):
    """The signals of a batch: name, with its parameter behind a colon -> value; see `SIGNALS`."""


def kind_of(name: str) -> str:
    """Return a signal's name without its parameter.

    >>> kind_of("top_mass:2"), kind_of("entropy")
    ('top_mass', 'entropy')
    """
    return name.partition(":")[0]


def parameter_of(name: str) -> str:
    """Return a signal's parameter; empty if it has none.

    >>> parameter_of("top_mass:2"), parameter_of("entropy")
    ('2', '')
    """
    return name.partition(":")[2]


def columns_of(needs: Iterable[str], present: Collection[str] = ()) -> dict[str, str]:
    """Return signal -> name of the dataset's column, for the signals that are columns, with those
    that others are computed from.

    Args:
        present: columns that the data have, which are not computed from others.

    >>> columns_of(["column:quality", "sequence_gain", "entropy"])
    {'column:quality': 'quality', 'reference': 'reference_logprobs'}
    >>> columns_of(["sequence_weight"], present=["sequence_weight"])
    {'sequence_weight': 'sequence_weight'}
    """
    columns: dict[str, str] = {}
    for name in needs:
        row = SIGNALS[kind_of(name)]
        if row.column not in present:
            columns |= columns_of(row.computed_from, present)
        if row.column:
            columns[name] = parameter_of(name) if row.column == row.parameter else row.column
    return columns
