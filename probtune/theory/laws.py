"""Label laws: the probabilities of a context's label under noise, imbalance and gaps.

A law is an array (..., K) of label probabilities; a transition matrix (K, K) holds one law per true
class. A row may sum to less than 1: the rest is missing, and trains nothing.

References:
    Ghosh, Kumar and Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks",
    2017, https://arxiv.org/abs/1712.09482 (uniform and class-conditional noise). Patrini et al.,
    "Making Deep Neural Networks Robust to Label Noise", 2017, https://arxiv.org/abs/1609.03683
    (pair flips).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError
from .checks import check_law, check_noise

__all__ = [
    "confident_conflict",
    "drawn",
    "long_tail",
    "missing",
    "pair_flips",
    "structured",
    "uniform",
]


def uniform(*, noise: float, classes: int) -> np.ndarray:
    """Return the law under which a share `noise` of the labels is wrong, spread evenly. (K, K).

    >>> uniform(noise=0.3, classes=4)[0].round(3).tolist()
    [0.7, 0.1, 0.1, 0.1]
    """
    return structured(noise=noise, classes=classes, alternatives=classes - 1)


def structured(*, noise: float, classes: int, alternatives: int) -> np.ndarray:
    """Return the law under which wrong labels fall on the next `alternatives` classes. (K, K).

    A language model's vocabulary is large and its plausible mistakes are few: `alternatives + 1` is
    the effective number of classes.
    """
    classes = _whole("classes", classes, 2)
    alternatives = _whole("alternatives", alternatives, 1)
    if alternatives >= classes:
        raise UsageError(
            f"alternatives must be below the number of classes {classes}, got {alternatives}."
        )
    check_noise(noise, alternatives + 1)
    law = (1.0 - noise) * np.eye(classes)
    right = np.arange(classes)[:, None]
    law[right, (right + np.arange(1, alternatives + 1)) % classes] = noise / alternatives
    return law


def pair_flips(*, noise: float, classes: int) -> np.ndarray:
    """Return the law under which wrong labels of class c are c + 1, noise below 1/2. (K, K)."""
    return structured(noise=noise, classes=classes, alternatives=1)


def confident_conflict(
    p: ArrayLike,  # (N, K)
    truth: ArrayLike,  # (N,)
    *,
    noise: float,
    strength: float = 4.0,
) -> np.ndarray:
    """Return a law whose labels contradict the contexts that the model is sure of. (N, K).

    Context i is mislabelled with probability sigmoid(b + strength * p_i), where p_i is the model's
    probability of the truth and b makes the mean equal `noise`; the wrong label is the model's most
    probable other class. `strength = 0` has the same noise rate everywhere.
    """
    from scipy.optimize import brentq

    p, truth = np.asarray(p, dtype=np.float64), np.asarray(truth)
    check_law(p)
    if not 0.0 <= noise < 1.0:
        raise UsageError(f"noise must lie in [0, 1), got {noise}.")
    rows = np.arange(len(truth))
    of_truth = p[rows, truth]
    rates = np.zeros_like(of_truth)
    if noise > 0:
        rate = lambda b: 1.0 / (1.0 + np.exp(-(b + strength * of_truth)))  # noqa: E731
        limit = abs(strength) + 50.0
        rates = rate(brentq(lambda b: rate(b).mean() - noise, -limit, limit))
    others = p.copy()
    others[rows, truth] = -1.0
    law = np.zeros_like(p)
    law[rows, truth] = 1.0 - rates
    law[rows, others.argmax(1)] += rates
    return law


def long_tail(*, classes: int, ratio: float) -> np.ndarray:
    """Return frequencies of classes that fall geometrically; the last is `ratio` times rarer than
    the first. (K,), sums to 1.

    Reference: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019,
    https://arxiv.org/abs/1901.05555.
    """
    classes = _whole("classes", classes, 2)
    if not ratio >= 1.0:
        raise UsageError(f"ratio must be at least 1 (most to least frequent), got {ratio}.")
    frequency = ratio ** (-np.arange(classes) / (classes - 1))
    return frequency / frequency.sum()


def missing(law: ArrayLike, share: ArrayLike) -> np.ndarray:
    """Return a law with missing targets: each label y survives with probability 1 - share_y.

    A number drops labels at random, which slows training and moves no fixed point; an array (K,) or
    (..., K) drops some labels more than others, which moves the fixed points towards those that
    are kept.
    """
    law, share = np.asarray(law, dtype=np.float64), np.asarray(share, dtype=np.float64)
    check_law(law)
    if not ((share >= 0) & (share < 1)).all():
        raise UsageError(
            f"the share that is missing must lie in [0, 1), got {share.min()} to {share.max()}."
        )
    return law * (1.0 - share)


def drawn(
    law: ArrayLike,  # (N, K)
    *,
    copies: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the frequencies of `copies` labels drawn per context. (N, K).

    `copies = 1` is a dataset as it is, each context with its one label, however often training
    passes over it; `copies -> infinity` is the law itself.
    """
    law = np.asarray(law, dtype=np.float64)
    check_law(law)
    copies = _whole("copies", copies, 1)
    absent = np.clip(1.0 - law.sum(-1, keepdims=True), 0.0, None)
    full = np.concatenate([law, absent], axis=-1)
    counts = rng.multinomial(copies, full / full.sum(-1, keepdims=True))
    return counts[..., :-1] / copies


def _whole(name: str, value: int, least: int) -> int:
    if int(value) != value or value < least:
        raise UsageError(f"{name} must be a whole number of at least {least}, got {value}.")
    return int(value)
