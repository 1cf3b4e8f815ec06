"""The share of rows that look wrong, from a model that knows their form (after a scout).

A wrong row contradicts the model where the model is sure, and its prompt does not speak for it.
Both are measured against the same model, so templates, lengths and languages cancel. With p the
probability of a target, p_top that of the model's favourite in its place, and p_other that of the
same target behind the prompt of another row,

    a token is far           log p_top - log p > 4.5 nats and p_top > 0.3
    a token is supported     log p - log p_other >= 1 nat: the prompt made it more likely
    a row is supported       S = sum over its tokens of log p - log p_other is at least half of the
                             median over rows (and 1 nat), or S / (sum of -log p_other) >= 0.2: the
                             prompt takes away a fifth of the surprise

A row looks wrong if it has a token that is far and not supported (a slip), or if the row as a whole
is not supported and the model would not have written it, one of its targets lying a nat or more
behind the favourite (the answer to another question). What a model stumbles over but could not have
guessed without the prompt does not count. Nor does a slip behind such a stumble, a supported token
that is 3 nats behind, in the same row: a model that has lost its way expects how its own answer
would go on (having left a word out of a list, it is sure too early that the list is over).

A row also looks wrong if it is *cut short*, ending where the model would go on: its end token lies
more than 0.4 nats behind a favourite with p_top > 0.3. That is asked only where the model knows the
ends of these rows, the median of their p being at least 0.9. The limit is near, since eight steps
are enough to learn that a share of the rows is cut: their ends have p = 0.1 to 0.4 after them. Of
ends that are less certain many right ones lie as far behind (of clean rows 15 % at a median of 0.8,
10 % even 2 nats at 0.66, in one scout that had not settled).

And a row looks wrong if its answer is its question once more, or says itself twice, an *echo*,
whatever the model says of it (`probtune.probe.echoes`).

The estimate is *known* only if the prompts matter to the model: of the rows that do not look wrong
the median has a support of 3 nats and of 0.3 of its surprise, and of all rows at least 40 % are
supported where they stand and would not be written behind the other prompt. A model that cannot
know the answers fails. A prompt may also matter to a model that is as often wrong as right, as on
long worked answers or on facts that it half knows: of the tokens of rows that do not look wrong it
must itself write three quarters, and a fifth of these rows, (nearly) every token of them, or 97 %
of their tokens (long rows are seldom written whole), and no more than half of the rows may look
wrong. Nor may right rows shade into wrong ones: what a model half knows is supported by anything
between nothing and all, and a limit that runs through the midst of it tells nothing. Where more
than a twentieth of the rows have too little support, those that the model would not write either
and that have at most twice the support asked for must be fewer than half as many (with one row more
of either). Nor may more than a tenth of the rows be answers that their prompts do not support
although they do not look wrong: the model has learnt an answer that it gives to many prompts, and
cannot say whether that is a usual answer or a common mistake.

The other prompt is one with another answer. Where answers are few, as yes and no, and the row that
it comes from looks wrong, its right answer may be this one. A row that the model would write behind
the prompt of a row that looks wrong says nothing of the prompts, and is left out of these measures.

Rows that look wrong may *repeat* each other: a mistake that is made often is an answer of three or
more of them, each token of it within 4.5 nats of the favourite, while most rows with this answer
look wrong or are not supported by their prompts.

Where all rows have one prompt, or none, the prompt's support cannot be measured. There a token
counts if it is 2 nats behind a favourite and the entropy of all other tokens, renormalised, is
above 1.5 nats (0.27 log V with a vocabulary of less than 260 tokens), so that a model that
hesitates between a few answers accuses nobody; the estimate is known if the model, left to itself,
would write (nearly) every token of at least half of the rows that do not look wrong.

The sum of log p - log p_other over a row is its pointwise mutual information with the prompt.
Ethayarajh et al., "Understanding Dataset Difficulty with V-Usable Information", 2022,
https://arxiv.org/abs/2110.08420, find mislabelled examples by it, with two models that are trained
on all of the data, one of them without prompts; here one model is asked twice.

Rows are listed by the excess of their surprise over what the model expected of itself,

    sum over tokens of (-log p - H)  /  sqrt(sum of variances + 1/4),

without special tokens, 2 more for a row that its prompt does not support at all, falling to nothing
at the median support, and 2 more for one that looks wrong, 4 for one that is cut short, 6 for an
echo. The limits were set by hand on tasks of benchmarks/choice/real and on the demo;
docs/choosing-an-objective.md has the figures. No torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..statistics import Estimate, wilson

__all__ = ["Noise", "Others", "estimate"]

FAVOURITE = 0.3
FAR = 4.5
SUPPORT = 1.0
STUMBLE = 3.0
"""Nats that a token which its prompt supports lies behind the favourite, where a model stumbles."""
EXPLAINED = 0.2
TYPICAL_SHARE = 0.5
TYPICAL = 3.0
TYPICALLY_EXPLAINED = 0.3
POWER = 0.4
KNOWN_WRITES = 0.2
KNOWN_TOKENS = 0.97
LEAST_TOKENS = 0.75
KNOWN_SHARE = 0.5
KNOWN_UNMOVED = 0.1
HALFWAY = 2.0
"""Times the support that is asked for, below which a row that the model would not write is halfway
between a right one and a wrong one.
"""
KNOWN_HALFWAY = 0.5
"""Rows halfway for each with too little support, from which these cannot be told."""
FEW = 0.05
"""Share of rows with too little support up to which it does not matter whether they can be told."""
UNSUPPORTED = 2.0
KNOWN_ENDS = 0.9
"""Median p of the end tokens from which a row that ends elsewhere looks wrong."""
CUT = 0.4
"""Nats that an end token lies behind what the model would rather write, in a row cut short."""
LOOKS_WRONG, CUT_SHORT, ECHO = 2.0, 4.0, 6.0
"""Added to the excess of a row that looks wrong, of one that is cut short, of an echo."""
OFTEN = 3
"""Rows that look wrong and have one answer, from which it is a mistake that is made often."""
LEAST_SURPRISE = 0.5
"""Nats; a share of less is no measure."""
FAR_ALONE = 2.0
"""Nats behind the favourite where prompts cannot be exchanged."""
SHORT_LIST = 1.5
SHORT_LIST_SHARE = 0.27
WRITES = 1.0
LIKELY = 0.1
"""The model would nearly write a token itself that lies at most `WRITES` nats behind its favourite
and has a probability above `LIKELY`.
"""
KNOWN_ROWS = 0.5
"""Share, of the rows that do not look wrong, that the model would write itself, from which the
estimate is known where prompts cannot be exchanged.
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
    cut_short: np.ndarray
    """True for those of them that end where the model would go on, (rows,)."""
    echoes: np.ndarray
    """True for those of them whose answer repeats their question or itself, (rows,)."""
    power: float | None = None
    """Share of the rows that their own prompt supports and that the model would not write behind
    another one; None where prompts cannot be exchanged.
    """
    usual_tokens: float = 1.0
    """Share of tokens that the model would write itself, in rows that do not look wrong."""

    unmoved: float = 0.0
    """Share of rows that do not look wrong although their prompts do not support them."""

    halfway: float = 0.0
    """Rows halfway between right and wrong ones for each that looks wrong since its prompt supports
    it too little, with one more of either; 0 where the latter are few.
    """

    repeated: float = 0.0
    """Share of rows that look wrong with an answer that many of them have and that the model nearly
    expects.
    """

    tells_ends: bool = True
    """False where the rows have end tokens that the model does not know yet: it cannot see which
    rows are cut short.
    """

    @property
    def contradicting(self) -> Estimate:
        """Share of rows that look wrong and are not cut short."""
        return wilson((self.suspicious & ~self.cut_short).astype(float))

    @property
    def hesitates(self) -> bool:
        """True if the model is right too seldom, in rows that do not look wrong, to accuse any."""
        usual = max(1, int((~self.suspicious).sum()))
        writes = self.writes * len(self.suspicious) / usual
        seldom = writes < KNOWN_WRITES and self.usual_tokens < KNOWN_TOKENS
        return seldom or self.usual_tokens < LEAST_TOKENS

    def worst_first(self) -> list[int]:
        """Return the indices of the rows that look wrong, those with the largest excess first."""
        order = np.argsort(-self.excess, kind="stable")
        return [int(i) for i in order if self.suspicious[i]]


class Others(NamedTuple):
    """The same targets behind the prompts of other rows."""

    logp: np.ndarray
    """log p of the targets, (tokens,)."""
    top_logp: np.ndarray
    """log p of the most probable tokens, (tokens,)."""
    donors: np.ndarray
    """Index of the row whose prompt it is, (rows,)."""


def estimate(
    *,
    logp: np.ndarray,  # (tokens,) log p of the targets
    top_logp: np.ndarray,  # (tokens,) log p of the most probable tokens
    entropy: np.ndarray,  # (tokens,) nats
    variance: np.ndarray,  # (tokens,) variance of the surprise under the model, nats^2
    example: np.ndarray,  # (tokens,) index of the row
    special: np.ndarray,  # (tokens,) True for special tokens: only a row's last one is looked at
    rows: int,
    vocabulary: int,
    others: Others | None = None,
    answers: np.ndarray | None = None,  # (rows,) the same integer for rows with the same targets
    echoes: np.ndarray | None = None,  # (rows,) True for answers that repeat
) -> Noise:
    """Estimate the share of wrong rows.

    Rows without a token that is not special look wrong only if they are cut short.

    Args:
        others: the same targets behind other rows' prompts; None where prompts cannot be exchanged.
        answers: for `Noise.repeated`, which is 0 without them.
        echoes: rows that look wrong whatever the model says; see `probtune.probe.echoes`.

    Twenty rows of one token: the model is sure of 19, and the prompt speaks for them. The last is
    improbable, and just as improbable behind another prompt.

        >>> sure, favourite, far = np.log(0.98), np.log(0.9), np.log(0.001)
        >>> noise = estimate(
        ...     logp=np.array([sure] * 19 + [far]),
        ...     top_logp=np.array([sure] * 19 + [favourite]),
        ...     entropy=np.array([0.1] * 19 + [0.7]),
        ...     variance=np.array([0.3] * 19 + [3.0]),
        ...     example=np.arange(20), special=np.zeros(20, bool), rows=20,
        ...     vocabulary=50_000,
        ...     others=Others(np.full(20, far), np.full(20, favourite), np.roll(np.arange(20), 1)),
        ... )
        >>> noise.known, noise.share.value, noise.worst_first(), noise.power
        (True, 0.05, [19], 0.95)
    """
    cut_short, tells_ends = _cut_short(logp, top_logp, example, special, rows)
    echoes = np.zeros(rows, bool) if echoes is None else echoes
    certain = echoes | cut_short
    text = ~special
    logp, top_logp, entropy, variance, example = (
        column[text] for column in (logp, top_logp, entropy, variance, example)
    )

    def per_row(values: np.ndarray) -> np.ndarray:
        return np.bincount(example, weights=values, minlength=rows)

    behind = top_logp - logp
    unlikely_token = (behind >= WRITES) | (logp <= np.log(LIKELY))
    unlikely = per_row(unlikely_token)
    writes = float((unlikely == 0).mean()) if rows else 0.0
    excess = per_row(-logp - entropy) / np.sqrt(per_row(variance) + 0.25)
    if others is None:
        short_list = min(SHORT_LIST, SHORT_LIST_SHARE * np.log(vocabulary))
        no_list = _entropy_of_the_rest(top_logp, entropy) > short_list
        suspicious = certain | (per_row(_far(top_logp, logp, FAR_ALONE) & no_list) > 0)
        excess += _of_wrong(suspicious, cut_short, echoes)
        known = bool((unlikely == 0).sum() >= KNOWN_ROWS * max(1, (~suspicious).sum()))
        share = wilson(suspicious.astype(float))
        masks = suspicious, cut_short, echoes
        return Noise(share, known, writes, excess, *masks, tells_ends=tells_ends)
    lift = logp - others.logp[text]
    lifts = per_row(lift)
    explained = lifts / np.maximum(per_row(-others.logp[text]), LEAST_SURPRISE)
    far = _far(top_logp, logp, FAR)
    stumbles = (behind >= STUMBLE) & (lift >= SUPPORT)
    slips = per_row(far & (lift < SUPPORT) & ~_later(stumbles, example)) > 0
    unlikely_here = per_row(behind >= WRITES) > 0
    unlikely_there = per_row(others.top_logp[text] - others.logp[text] >= WRITES) > 0

    def judged(compared: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """(typical support, each row's in units of what is asked for, the rows that look wrong)."""
        typical = max(float(np.median(lifts[compared])), 1e-9)
        enough = max(SUPPORT, TYPICAL_SHARE * typical)
        support = np.maximum(lifts / enough, explained / EXPLAINED)
        suspicious = certain | slips | ((support < 1) & unlikely_here)
        return typical, support, suspicious

    *_, suspicious = judged(np.ones(rows, bool))
    compared = ~suspicious[others.donors] | unlikely_there
    compared |= not compared.any()
    typical, support, suspicious = judged(compared)
    supported = support >= 1
    power = float((supported & unlikely_there)[compared].mean())
    right = compared & ~suspicious
    known = (
        bool(right.any())
        and float(np.median(lifts[right])) >= TYPICAL
        and float(np.median(explained[right])) >= TYPICALLY_EXPLAINED
        and power >= POWER
    )
    supported |= ~compared & ~suspicious
    too_little = int((suspicious & ~certain & ~supported).sum())
    between = int((supported & ~suspicious & unlikely_here & (support < HALFWAY)).sum())
    halfway = (between + 1) / (too_little + 1) if too_little > FEW * rows else 0.0
    excess += UNSUPPORTED * (1.0 - np.clip(lifts / typical, 0.0, 1.0))
    excess += _of_wrong(suspicious, cut_short, echoes)
    usual = ~suspicious[example]
    usual_tokens = float((~unlikely_token[usual]).mean()) if usual.any() else 0.0
    share = wilson(suspicious.astype(float))
    unmoved = float((~supported & ~suspicious).mean())
    noise = Noise(
        *(share, known, writes, excess, suspicious, cut_short, echoes),
        *(power, usual_tokens, unmoved, halfway),
        tells_ends=tells_ends,
    )
    if answers is not None:
        odd = (suspicious | ~supported) & ~certain
        repeated = _repeated(answers, odd & suspicious & (per_row(far) == 0), odd)
        noise = noise._replace(repeated=repeated)
    tells = share.value <= KNOWN_SHARE and unmoved <= KNOWN_UNMOVED and halfway < KNOWN_HALFWAY
    return noise._replace(known=known and tells and not noise.hesitates)


def _cut_short(
    logp: np.ndarray, top_logp: np.ndarray, example: np.ndarray, special: np.ndarray, rows: int
) -> tuple[np.ndarray, bool]:
    """Return (True for rows that end where the model would go on, (rows,); whether it knows where
    such rows end, without which it is none of them).
    """
    last = np.full(rows, -1)
    last[example[special]] = np.flatnonzero(special)  # of several the last one stays
    ends = last[last >= 0]
    cut = np.zeros(rows, bool)
    knows = len(ends) == 0 or bool(np.median(logp[ends]) >= np.log(KNOWN_ENDS))
    if knows:
        cut[example[ends]] = _far(top_logp[ends], logp[ends], CUT)
    return cut, knows


def _of_wrong(suspicious: np.ndarray, cut_short: np.ndarray, echoes: np.ndarray) -> np.ndarray:
    """Added to the excess of each row: something where it looks wrong, (rows,)."""
    return np.select([echoes, cut_short, suspicious], [ECHO, CUT_SHORT, LOOKS_WRONG])


def _repeated(answers: np.ndarray, expected: np.ndarray, odd: np.ndarray) -> float:
    """Share of rows that are expected wrong rows, and have an answer that at least `OFTEN` of these
    have and of which most rows are odd.
    """
    of_all = np.bincount(answers)
    of_expected, of_odd = (np.bincount(answers[x], minlength=len(of_all)) for x in (expected, odd))
    often = (of_expected >= OFTEN) & (2 * of_odd > of_all)
    return float((expected & often[answers]).mean())


def _later(tokens: np.ndarray, example: np.ndarray) -> np.ndarray:
    """True for a token behind one of these tokens in its row; rows are ascending.

    >>> _later(np.array([True, False, False, True]), np.array([0, 0, 1, 1]))
    array([False,  True, False, False])
    """
    before = np.cumsum(tokens) - tokens
    begins = np.diff(example, prepend=-1) > 0
    return before > np.maximum.accumulate(np.where(begins, before, 0))


def _far(top_logp: np.ndarray, logp: np.ndarray, nats: float) -> np.ndarray:
    """True where the model has a favourite and the target is more than `nats` behind it."""
    return (top_logp > np.log(FAVOURITE)) & (top_logp - logp > nats)


def _entropy_of_the_rest(top_logp: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """Entropy in nats of the distribution without its most probable token, renormalised:
    (H - h(p_top)) / (1 - p_top) with h the entropy of a coin.
    """
    top = np.exp(top_logp)
    rest = np.maximum(-np.expm1(top_logp), 1e-9)
    coin = -top * top_logp - rest * np.log(rest)
    return np.maximum(entropy - coin, 0.0) / rest
