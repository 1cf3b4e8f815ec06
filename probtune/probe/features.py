"""Features of a model and its data before training: a base model's probabilities on its training
data as a few named numbers, from which an objective is chosen.

    features(logp=..., entropy=..., is_top1=..., token=..., example=..., position=...,
             steps=..., epochs=..., learning_rate=...)

All come from one row per target token, as `probtune.models.loading.TokenTable` has them, and the
planned training. The unit is the sequence where noise is meant: a demonstration is bad, not a
token. What each number means is said in `DESCRIPTIONS`; how well the noise estimate agrees with
injected noise is measured in docs/choice-bench.md. No torch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, UsageError

__all__ = [
    "DESCRIPTIONS",
    "LEAST_WEIGHT",
    "Noise",
    "features",
    "label_noise",
    "sequence_outliers",
    "sequence_weights",
]

DESCRIPTIONS: dict[str, str] = {
    "sequences": "sequences probed",
    "tokens": "target tokens probed",
    "mean_p": "mean probability of the target tokens, the paper's measure",
    "median_p": "median probability of the target tokens",
    "p_10": "10 % quantile of the target probabilities",
    "below_0_1": "share of target tokens with p < 0.1",
    "below_0_001": "share of target tokens with p < 0.001",
    "top1": "share of target tokens that are the model's first choice",
    "entropy": "mean entropy of the distributions, nats",
    "surprise": "mean of -log p, nats",
    "overconfidence": "surprise less entropy, nats: 0 if the data look drawn from the model",
    "confident_conflict": "share of target tokens with p < 0.1 and entropy below ln 2",
    "sequence_p": "median over sequences of their mean p: what most demonstrations look like",
    "sequence_low": "10 % quantile over sequences of their mean p",
    "sequence_right": "share of sequences whose every token is the model's first choice",
    "token_low": "share of target tokens whose token has mean p < 0.1 over the data",
    "position_low": "share of target tokens whose position has mean p < 0.1 over the data",
    "first_p": "mean p of the first target token of each sequence",
    "end_p": "mean p of the last target token of each sequence",
    "noise": "estimated share of sequences with wrong labels; 0 where it cannot be told",
    "noise_separation": "distance of the outlying sequences, in standard deviations; 0: none found",
    "noise_known": "1 if the estimate can be trusted, 0 if the model knows too little to tell",
    "usual_p": "mean p of the tokens of sequences that do not look wrong",
    "usual_low": "share of their tokens with p < 0.1: what is still to be learnt",
    "steps": "planned optimizer steps",
    "epochs": "planned passes over the data",
    "learning_rate": "planned learning rate",
}
"""Name -> meaning of every feature, in the order they are given."""

LOW = 0.1
_CONFIDENT = math.log(2.0)
_DEEPEST = -50.0


class Noise(NamedTuple):
    """An estimate of label noise per sequence."""

    rate: float
    """Share of sequences that look wrong."""
    separation: float
    """Distance between the two groups of sequences in pooled standard deviations."""
    known: bool
    """True if there are two groups, or one that the model agrees with."""
    suspect: np.ndarray
    """(sequences,) probability that a sequence is of the upper group."""


def features(
    *,
    logp: ArrayLike,  # (tokens,)
    entropy: ArrayLike,  # (tokens,) nats
    is_top1: ArrayLike,  # (tokens,)
    token: ArrayLike,  # (tokens,) id or class
    example: ArrayLike,  # (tokens,) which sequence
    position: ArrayLike,  # (tokens,) from 0, within its sequence
    steps: float,
    epochs: float,
    learning_rate: float,
) -> dict[str, float]:
    """Return the features of `DESCRIPTIONS` by name.

    Args:
        logp, entropy, is_top1, token, example, position: columns of a `TokenTable`.
        steps, epochs, learning_rate: the planned training.

    Raises:
        DataError: no tokens, columns of different length, or values that are no log-probabilities.
        UsageError: a planned number that is not positive.

    Example:
        >>> values = features(logp=[-0.1, -0.2, -3.0], entropy=[0.3, 0.4, 0.1], is_top1=[1, 1, 0],
        ...                  token=[5, 6, 7], example=[0, 0, 1], position=[0, 1, 0],
        ...                  steps=10, epochs=1, learning_rate=1e-3)
        >>> round(values["mean_p"], 3), round(values["confident_conflict"], 3)
        (0.591, 0.333)
    """
    columns = {
        "logp": np.asarray(logp, dtype=np.float64),
        "entropy": np.asarray(entropy, dtype=np.float64),
        "is_top1": np.asarray(is_top1, dtype=np.float64),
        "token": np.asarray(token, dtype=np.int64),
        "example": np.asarray(example, dtype=np.int64),
        "position": np.asarray(position, dtype=np.int64),
    }
    _check(columns)
    planned = {"steps": steps, "epochs": epochs, "learning_rate": learning_rate}
    for name, value in planned.items():
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be a positive number, got {value}.")
    _, seq = np.unique(columns["example"], return_inverse=True)
    counts = np.bincount(seq).astype(np.float64)
    lp, p, h = columns["logp"], np.exp(columns["logp"]), columns["entropy"]
    low = p < LOW
    surprise = -np.maximum(lp, _DEEPEST)
    sequence_p = np.bincount(seq, weights=p) / counts
    last = columns["position"] == _largest(columns["position"], seq)[seq]
    noise = label_noise(lp, h, seq)
    usual = noise.suspect[seq] < 0.5
    values = {
        "sequences": float(counts.size),
        "tokens": float(p.size),
        "mean_p": p.mean(),
        "median_p": np.median(p),
        "p_10": np.quantile(p, 0.1),
        "below_0_1": low.mean(),
        "below_0_001": (p < 1e-3).mean(),
        "top1": columns["is_top1"].mean(),
        "entropy": h.mean(),
        "surprise": surprise.mean(),
        "overconfidence": (surprise - h).mean(),
        "confident_conflict": (low & (h < _CONFIDENT)).mean(),
        "sequence_p": np.median(sequence_p),
        "sequence_low": np.quantile(sequence_p, 0.1),
        "sequence_right": (np.bincount(seq, weights=columns["is_top1"]) == counts).mean(),
        "token_low": (_group_mean(p, columns["token"]) < LOW).mean(),
        "position_low": (_group_mean(p, columns["position"]) < LOW).mean(),
        "first_p": p[columns["position"] == 0].mean() if (columns["position"] == 0).any() else 0.0,
        "end_p": p[last].mean(),
        "noise": noise.rate,
        "noise_separation": noise.separation,
        "noise_known": float(noise.known),
        "usual_p": p[usual].mean() if usual.any() else p.mean(),
        "usual_low": low[usual].mean() if usual.any() else low.mean(),
        **planned,
    }
    return {name: float(values[name]) for name in DESCRIPTIONS}


def sequence_outliers(
    logp: np.ndarray,  # (tokens,)
    example: np.ndarray,  # (tokens,) which sequence
) -> np.ndarray:
    """Return how far each sequence's mean surprise lies above the median, in robust standard
    deviations.

    z = (s - median) / (1.4826 MAD + 0.1), s the mean of -log p over the sequence. The 0.1 nat keeps
    a model that knows nearly everything from calling every unlikely token an outlier.
    """
    counts = np.bincount(example)
    s = np.bincount(example, weights=-np.maximum(logp, _DEEPEST)) / np.maximum(counts, 1)
    present = s[counts > 0]
    middle = np.median(present)
    spread = 1.4826 * np.median(np.abs(present - middle)) + 0.1
    return np.where(counts > 0, (s - middle) / spread, 0.0)


_OUTLYING, _SOFTNESS = 2.0, 0.5
LEAST_WEIGHT = 0.05
"""Weight of a row that looks wrong: an estimate that errs costs little, and teaches a little."""


def sequence_weights(
    logp: np.ndarray,  # (tokens,)
    example: np.ndarray,  # (tokens,) which sequence
) -> np.ndarray:
    """Return a weight per sequence, 0.05 + 0.95 / (1 + exp((z - 2) / 0.5)) with z of
    `sequence_outliers`: 1 for the usual, 0.05 for one that stands out.
    """
    z = sequence_outliers(logp, example)
    scale = 1.0 + np.exp(np.clip((z - _OUTLYING) / _SOFTNESS, -50, 50))
    return LEAST_WEIGHT + (1.0 - LEAST_WEIGHT) / scale


WORST_SHARE = 0.1
_SEPARATED = 2.5
"""Pooled standard deviations."""
_SURPRISED = 3.0
"""Nats."""
_MOST = 0.6
"""Share of the sequences that can be wrong and still be told from the right ones."""
_ITERATIONS = 60


def label_noise(
    logp: np.ndarray,  # (tokens,)
    entropy: np.ndarray,  # (tokens,)
    example: np.ndarray,  # (tokens,) sequences from 0, none missing
) -> Noise:
    """Return the share of sequences with wrong labels, from how they stand out under the base
    model.

    A sequence's score is its worst confident surprise: -log p - H (what the target costs beyond
    what the model expected), averaged over the tenth of its tokens where that is largest, at least
    one, so that long responses do not look worse than short ones. Scores are parted into two normal
    groups by expectation maximisation; the upper group is suspect if it lies more than 2.5 pooled
    standard deviations above the lower one, and holds the noise. Where even the usual sequence
    surprises the model (the lower group's mean score above 3 nats, or more than 60 % of the
    sequences in the upper group), wrong labels cannot be told from what the model does not know
    yet: `known` is False and the rate 0.
    """
    surprise = -np.maximum(logp, _DEEPEST) - entropy
    score = _worst(surprise, example)
    low, high = np.quantile(score, [0.25, 0.95])
    if high - low < 1e-6 or score.size < 4:
        return Noise(0.0, 0.0, bool(low < _SURPRISED), np.zeros(score.size))
    mean = np.array([low, high])
    variance = np.full(2, score.var() / 4.0 + 0.05)
    share = np.array([0.8, 0.2])
    belongs = np.zeros((score.size, 2))
    for _ in range(_ITERATIONS):
        log = np.log(share) - 0.5 * (np.log(variance) + (score[:, None] - mean) ** 2 / variance)
        belongs = np.exp(log - log.max(1, keepdims=True))
        belongs /= belongs.sum(1, keepdims=True)
        total = belongs.sum(0) + 1e-9
        share = total / total.sum()
        mean = (belongs * score[:, None]).sum(0) / total
        variance = (belongs * (score[:, None] - mean) ** 2).sum(0) / total + 0.02
    upper = int(mean.argmax())
    separation = float(abs(mean[1] - mean[0]) / math.sqrt(variance.mean()))
    # Where most sequences surprise the model, it is the few that it likes that are odd: rows in a
    # format it knows better than the one asked for, for example.
    parted = separation >= _SEPARATED
    known = bool(mean[1 - upper] < _SURPRISED and not (parted and share[upper] > _MOST))
    suspect = belongs[:, upper]
    if not parted or not known:
        return Noise(0.0, separation, known, np.zeros(score.size))
    return Noise(float(share[upper]), separation, known, suspect)


def _worst(surprise: np.ndarray, example: np.ndarray) -> np.ndarray:
    """Return the mean of the largest tenth of each sequence's values, at least one."""
    order = np.lexsort((-surprise, example))
    counts = np.bincount(example)
    rank = np.arange(order.size) - (np.cumsum(counts) - counts)[example[order]]
    taken = np.maximum(1, np.round(WORST_SHARE * counts))
    among = rank < taken[example[order]]
    return np.bincount(example[order][among], weights=surprise[order][among]) / taken


def _check(columns: dict[str, np.ndarray]) -> None:
    lengths = {name: column.shape for name, column in columns.items()}
    if any(column.ndim != 1 for column in columns.values()) or len(set(lengths.values())) != 1:
        said = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        raise DataError(f"columns must be 1-dimensional and of one length, got {said}.")
    if columns["logp"].size == 0:
        raise DataError("no target tokens: the probe needs at least one sequence with a response.")
    logp = columns["logp"]
    wrong = ~(logp <= 1e-6)
    if wrong.any():
        raise DataError(
            f"logp must be log-probabilities, at most 0; {int(wrong.sum())} are not, the first is"
            f" {logp[wrong][0]:g}."
        )
    if not np.isfinite(columns["entropy"]).all():
        raise DataError("entropy must be finite; got NaN or infinity from the base model.")


def _group_mean(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean of each element's group."""
    _, index = np.unique(group, return_inverse=True)
    return (np.bincount(index, weights=values) / np.bincount(index))[index]


def _largest(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    largest = np.full(int(group.max()) + 1, -1)
    np.maximum.at(largest, group, values)
    return largest
