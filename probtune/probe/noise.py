"""The share of rows that look wrong, from a model that knows the form of the data (after a scout).

A wrong row contradicts the model where the model is sure, and it does so in a way that the model's
own doubt does not explain. A token counts against its row where, at the same time,

    the model has a favourite            p of the most probable token > 0.3
    the target is far from it            log p_top - log p > 2 nats
    the doubt is no short list           the entropy of all other tokens, renormalised, > 1.5 nats
                                         (0.27 log V with a vocabulary of less than 260 tokens)

A model that hesitates between a few right answers has a short list, so half-known questions do not
count; nor does one that knows nothing, which has no favourite. The estimate is the share of rows
with such a token. It is *known* only if the model, left to itself, would write (nearly) every token
of at least half of the rows that do not look wrong: else it cannot tell wrong from new. Templates,
lengths and languages cancel, since every token is held against the model's own distribution at that
place.

Rows are listed by the excess of their surprise over what the model expected of itself,

    sum over tokens of (-log p - H)  /  sqrt(sum of variances + 1/4),

without special tokens. The limits were set by hand on six tasks of benchmarks/choice/real and on
the demo; docs/choosing-an-objective.md has the figures. No torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..statistics import Estimate, wilson

__all__ = ["Noise", "estimate"]

FAVOURITE = 0.3
FAR = 2.0
SHORT_LIST = 1.5
SHORT_LIST_SHARE = 0.27
WRITES = 1.0
LIKELY = 0.1
"""The model would nearly write a token itself that lies at most `WRITES` nats behind its favourite
and has a probability above `LIKELY`.
"""
KNOWN_ROWS = 0.5
"""Share, of the rows that do not look wrong, that the model would write itself, from which the
estimate is known.
"""


class Noise(NamedTuple):
    """An estimate of label noise."""

    share: Estimate
    """Share of rows that look wrong, with its 95 % interval over rows."""
    known: bool
    """True if the model knows enough of the data to tell wrong rows from new ones."""
    writes: float
    """Share of rows that the model would write itself."""
    excess: np.ndarray
    """Excess surprise of each row, (rows,): the larger, the more it looks wrong."""
    suspicious: np.ndarray
    """True for the rows that look wrong, (rows,)."""

    def worst_first(self) -> list[int]:
        """Return the indices of the rows that look wrong, those with the largest excess first."""
        order = np.argsort(-self.excess, kind="stable")
        return [int(i) for i in order if self.suspicious[i]]


def estimate(
    *,
    logp: np.ndarray,  # (tokens,) log p of the targets
    top_logp: np.ndarray,  # (tokens,) log p of the most probable tokens
    entropy: np.ndarray,  # (tokens,) nats
    variance: np.ndarray,  # (tokens,) variance of the surprise under the model, nats^2
    example: np.ndarray,  # (tokens,) index of the row
    special: np.ndarray,  # (tokens,) True for special tokens, which are left out
    rows: int,
    vocabulary: int,
) -> Noise:
    """Estimate the share of wrong rows.

    Rows without a token that is not special do not look wrong.

        >>> sure, favourite = np.log(0.98), np.log(0.9)
        >>> noise = estimate(
        ...     logp=np.array([sure] * 9 + [np.log(0.001)]),
        ...     top_logp=np.array([sure] * 9 + [favourite]),
        ...     entropy=np.array([0.1] * 9 + [0.7]),
        ...     variance=np.array([0.3] * 9 + [3.0]),
        ...     example=np.arange(10), special=np.zeros(10, bool), rows=10,
        ...     vocabulary=50_000,
        ... )
        >>> noise.known, noise.share.value, noise.worst_first()
        (True, 0.1, [9])
    """
    text = ~special
    logp, top_logp, entropy, variance, example = (
        column[text] for column in (logp, top_logp, entropy, variance, example)
    )

    def per_row(values: np.ndarray) -> np.ndarray:
        return np.bincount(example, weights=values, minlength=rows)

    short_list = min(SHORT_LIST, SHORT_LIST_SHARE * np.log(vocabulary))
    behind = top_logp - logp
    counts = (
        (top_logp > np.log(FAVOURITE))
        & (behind > FAR)
        & (_entropy_of_the_rest(top_logp, entropy) > short_list)
    )
    suspicious = per_row(counts) > 0
    unlikely = per_row((behind >= WRITES) | (logp <= np.log(LIKELY)))
    writes = float((unlikely == 0).mean()) if rows else 0.0
    excess = per_row(-logp - entropy) / np.sqrt(per_row(variance) + 0.25)
    known = bool((unlikely == 0).sum() >= KNOWN_ROWS * max(1, (~suspicious).sum()))
    return Noise(wilson(suspicious.astype(float)), known, writes, excess, suspicious)


def _entropy_of_the_rest(top_logp: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """Entropy in nats of the distribution without its most probable token, renormalised:
    (H - h(p_top)) / (1 - p_top) with h the entropy of a coin.
    """
    top = np.exp(top_logp)
    rest = np.maximum(-np.expm1(top_logp), 1e-9)
    coin = -top * top_logp - rest * np.log(rest)
    return np.maximum(entropy - coin, 0.0) / rest
