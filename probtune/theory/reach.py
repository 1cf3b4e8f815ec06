"""Range of the short forms: noise rates, classes and probabilities at which a rule that is read off
small noise or many classes stops to hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ..errors import UsageError
from .checks import arrays, check_noise, check_p
from .closed import crossover

__all__ = ["AboveOne", "best_power", "many_classes_reach", "powers_above_one", "square_root_reach"]

_BISECTIONS = 64
_GRID = 4001
_FARTHEST = 700.0
"""Log-odds beyond which float64 has no probability below 1."""


class AboveOne(NamedTuple):
    """Range in which a power above 1 is the fastest."""

    p: Any
    """Probability of the right class above which it is; 1 without noise: nowhere."""
    gain: Any
    """Bound of its lead, as a share of the rate of the best alpha up to 1; reached as p -> 1."""


def best_power(p: ArrayLike, *, noise: ArrayLike, classes: ArrayLike) -> Any:
    """Return the alpha whose rate G_alpha(p) is the largest at this instant.

        alpha* = log[ eps p log r / ((1-eps) (1-p) log p) ] / log(p/r),    r = (1-p) / (K-1)

    G_alpha is a difference of two exponentials in alpha, which rises up to alpha* and falls beyond
    it. Without noise it falls everywhere: alpha* is -inf.

    Args:
        p: probability of the right class, between 1/K and 1.

    Raises:
        UsageError: a value out of range. At p <= 1/K there is no such alpha.

    Example:
        >>> best_power([0.5, 0.9, 0.99], noise=0.1, classes=10).round(2).tolist()
        [-0.35, 0.85, 1.31]
    """
    p, noise, classes = arrays(p, noise, classes)
    check_p(p)
    check_noise(noise, classes)
    if not (p * classes > 1.0).all():
        raise UsageError(f"p must lie above 1/K, got {p[p * classes <= 1.0].flat[0]:g}.")
    right = np.log(p)
    wrong = np.log1p(-p) - np.log(classes - 1.0)
    with np.errstate(divide="ignore"):
        ratio = np.log(noise) - np.log1p(-noise) + right - np.log1p(-p) + np.log(wrong / right)
    return (ratio / (right - wrong))[()]


def powers_above_one(*, noise: ArrayLike, classes: ArrayLike) -> AboveOne:
    """Return the probability above which a power above 1 is the fastest, and the bound of its lead.

        p_1:   (1-eps) (K-1) log p = eps log((1-p) / (K-1))      alpha* of `best_power` is 1
        gain:  eps / ((K-1) (1-eps) - eps)

    For alpha >= 1, (1-p) (1-eps) p^alpha - eps p r^alpha is at most (1-eps) (1-p) p, which bounds
    the lead over alpha = 1; both are equal as p -> 1.

    Raises:
        UsageError: noise outside [0, (K - 1) / K), or fewer than 2 classes.

    Example:
        >>> [round(float(x), 3) for x in powers_above_one(noise=0.2, classes=10)]
        [0.886, 0.029]
    """
    noise, classes = arrays(noise, classes)
    check_noise(noise, classes)
    low, high = np.full(noise.shape, -_FARTHEST), np.full(noise.shape, _FARTHEST)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        # log p and log(1-p) from the log-odds, exact at both ends
        right, wrong = -np.logaddexp(0.0, -middle), -np.logaddexp(0.0, middle)
        left = (1.0 - noise) * (classes - 1.0) * right - noise * (wrong - np.log(classes - 1.0))
        low, high = np.where(left < 0.0, middle, low), np.where(left < 0.0, high, middle)
    p = np.where(noise == 0.0, 1.0, expit(high))
    return AboveOne(p[()], (noise / ((classes - 1.0) * (1.0 - noise) - noise))[()])


def square_root_reach(tolerance: float, *, classes: float) -> float:
    """Return the noise rate up to which 1 - sqrt(eps) is p_x to within `tolerance`.

        p_x = 1 - sqrt(eps) + K/(K-1) eps/2 + O(eps^1.5)

    Raises:
        UsageError: a tolerance that is not positive, or fewer than 2 classes.

    Example:
        >>> round(square_root_reach(0.02, classes=10), 3)
        0.047
    """
    return _reach(
        lambda noise: crossover(noise=noise, classes=classes) - (1.0 - np.sqrt(noise)),
        tolerance,
        classes,
    )


def many_classes_reach(tolerance: float, *, classes: float) -> float:
    """Return the noise rate up to which p_x of K classes is that of the limit K -> inf to within
    `tolerance`.

        K -> inf:  p_x = 2 (1-eps) / (2 - eps + sqrt(eps (4 - 3 eps)))

    Raises:
        UsageError: a tolerance that is not positive, or fewer than 2 classes.

    Example:
        >>> round(many_classes_reach(0.01, classes=2), 3)
        0.026
    """

    def error(noise: np.ndarray) -> np.ndarray:
        root = np.sqrt(noise * (4.0 - 3.0 * noise))
        limit = 2.0 * (1.0 - noise) / (2.0 - noise + root)
        return crossover(noise=noise, classes=classes) - limit

    return _reach(error, tolerance, classes)


def _reach(error: Callable[[np.ndarray], np.ndarray], tolerance: float, classes: float) -> float:
    """Return the noise rate at which an error first exceeds the tolerance, or the largest rate."""
    if not tolerance > 0:
        raise UsageError(f"tolerance must be positive, got {tolerance:g}.")
    check_noise(0.0, classes)
    largest = np.nextafter((classes - 1.0) / classes, 0.0)
    low, high = 0.0, largest
    for _ in range(3):  # each pass narrows the interval by the grid
        noise = np.linspace(low, high, _GRID)
        outside = np.abs(error(noise)) > tolerance
        if not outside.any():
            return float(high)
        first = int(outside.argmax())
        low, high = noise[max(first - 1, 0)], noise[first]
    return float(low)
