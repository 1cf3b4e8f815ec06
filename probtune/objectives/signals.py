"""The signals that an objective may need besides p: one table, behind the checks, the errors and
the documents. A new signal is a row here and the computation where it comes from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["HEAD_SIGNALS", "SIGNALS", "Signal", "Signals", "kind_of", "parameter_of"]


class Signal(NamedTuple):
    """A row of the table."""

    name: str
    parameter: str
    """What follows the name behind a colon, as K in `top_mass:K`; empty if nothing does."""
    source: str
    """`head`: the pass over the logits that gives log p; `data`; or `trainer`."""
    meaning: str
    """Its value, per token in the shape of `logp` unless said otherwise."""
    words: str
    """What an objective lacks without it, for an error."""


_DISTRIBUTION = "the whole distribution at every token"
_BEFORE = "the log-probabilities of the model before training"
_BETTER = "the log-probabilities of a better model"

_ROWS = (
    Signal(
        "entropy", "", "head",
        "entropy of the distribution, in nats",
        "the entropy of the distribution at every token",
    ),
    Signal(
        "collision", "", "head",
        "the sum of squared probabilities: near 1 where the model is sure",
        "the collision probability at every token",
    ),
    Signal(
        "rank", "", "head",
        "tokens at least as probable as the target, itself included",
        "the target's rank at every token",
    ),
    Signal(
        "top_mass", "K", "head",
        "probability of the K most probable tokens",
        "the probability of the most probable tokens",
    ),
    Signal(
        "top_entropy", "K", "head",
        "entropy of the K most probable tokens, renormalised",
        "the entropy of the most probable tokens",
    ),
    Signal(
        "uniform", "", "head",
        "cross-entropy against the uniform distribution",
        _DISTRIBUTION,
    ),
    Signal(
        "sharpened", "B", "head",
        "sum of q_v log p_v with q = softmax(logits / B), held fixed",
        _DISTRIBUTION,
    ),
    Signal(
        "kl", "", "head",
        "KL divergence of the reference model's distribution from this one",
        "the reference model's whole distribution at every token",
    ),
    Signal(
        "reverse_kl", "", "head",
        "KL divergence of this distribution from the reference model's",
        "the reference model's whole distribution at every token",
    ),
    Signal(
        "special", "", "data",
        "True if the target is a special token",
        "to know which tokens are special",
    ),
    Signal(
        "answer", "", "data",
        "True if the target belongs to the final answer",
        "to know which tokens are the answer",
    ),
    Signal(
        "column", "NAME", "data",
        "a number that comes with the data",
        "a number that comes with every row or token of the data",
    ),
    Signal("reference", "", "trainer", "log p under the model before training", _BEFORE),
    Signal("better", "", "trainer", "log p under another, better model", _BETTER),
    Signal(
        "sequence_weight", "", "trainer",
        "0.05 to 1: low where the token's sequence stands out before training",
        f"{_BEFORE} on all rows",
    ),
    Signal(
        "old", "", "trainer",
        "log p under the model as it was at the last refresh",
        "the log-probabilities at the last refresh",
    ),
    Signal(
        "sequence_gain", "", "trainer",
        "mean over the token's sequence of log p - reference, at the step's start",
        _BEFORE,
    ),
    Signal(
        "excess_cut", "S", "trainer",
        "a scalar: the cut-off that keeps the share S of the training tokens with the largest"
        " better - reference",
        f"{_BETTER} and of the model before training",
    ),
    Signal(
        "step", "", "trainer",
        "a `StepStatistics`: the tokens of the whole optimizer step",
        "the probabilities of all tokens of the optimizer step",
    ),
)  # fmt: skip

SIGNALS: dict[str, Signal] = {row.name: row for row in _ROWS}
"""Name, without a parameter -> signal."""

HEAD_SIGNALS = frozenset(row.name for row in _ROWS if row.source == "head")
"""Names of what comes from the pass over the logits."""


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
