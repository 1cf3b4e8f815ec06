"""Closed forms: gradient flow of one context's logits under symmetric label noise.

One context, K classes, logits z, p = softmax(z). A share eps of the labels is wrong, evenly over
the other K - 1 classes. The power family f(p) = (1 - p^alpha) / alpha (NLL at alpha = 0, -p at
alpha = 1) follows dz/dt = -dL/dz. From a start where all wrong classes are alike they stay alike,
r = (1 - p) / (K - 1) each, and the probability p of the right class obeys

    dp/dt = G_alpha(p) = K/(K-1) p (1-p) [(1-eps) (1-p) p^alpha - eps p r^alpha].

Time is the integral of the learning rate. Derivations: docs/theory.md. All functions take arrays
that broadcast, and return arrays of that shape (a number for numbers); every one is compared with
the simulation of `probtune.theory.flow` to 1e-8 in the tests.

The forms are ours but for these: the escort distribution is Theorem 3.1 of "How Fast Should a
Model Commit to Supervision? Training Reasoning Models on the Tsallis Loss Continuum", 2026,
https://arxiv.org/abs/2604.25907, and noise tolerance of -p is Ghosh, Kumar and Sastry, 2017,
https://arxiv.org/abs/1712.09482.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, hyp2f1, logit

from ..errors import UsageError
from .checks import arrays, check_law, check_noise, check_p, check_time

__all__ = [
    "FixedPoint",
    "budget_crossover",
    "crossover",
    "escape_law",
    "escape_time",
    "escort",
    "fixed_point",
    "flow_time",
    "noise_at_crossover",
    "probability_after",
    "risk_reduction_rate",
]

_BISECTIONS = 64


class FixedPoint(NamedTuple):
    """A probability at which the flow rests."""

    p: Any
    stable: Any
    """True: the flow ends there. False: below it the right class loses mass, above it gains."""


def risk_reduction_rate(
    p: ArrayLike, *, alpha: ArrayLike, noise: ArrayLike, classes: ArrayLike
) -> Any:
    """Return G_alpha(p), the speed at which the clean risk 1 - p falls; negative where it rises.

    Args:
        p: probability of the right class, in [0, 1].
        alpha: of the power family; 0 is NLL, 1 is -p.
        noise: share of wrong labels eps, in [0, (K - 1) / K).
        classes: K, at least 2.

    Raises:
        UsageError: a value out of range, or alpha <= -1 at p = 0 or 1, where the rate diverges.

    Example:
        >>> round(float(risk_reduction_rate(0.9, alpha=0, noise=0.3, classes=10)), 3)
        -0.02
        >>> round(float(risk_reduction_rate(0.9, alpha=1, noise=0.3, classes=10)), 3)
        0.006
    """
    p, alpha, noise, classes = arrays(p, alpha, noise, classes)
    check_p(p, closed=True)
    check_noise(noise, classes)
    if ((alpha <= -1.0) & ((p == 0.0) | (p == 1.0))).any():
        raise UsageError("the rate diverges at p = 0 and p = 1 for alpha <= -1; give 0 < p < 1.")
    right = (1.0 - noise) * (1.0 - p) ** 2 * p ** (1.0 + alpha)
    wrong = noise * p**2 * (1.0 - p) ** (1.0 + alpha) * (classes - 1.0) ** -alpha
    return (classes / (classes - 1.0) * (right - wrong))[()]


def crossover(*, noise: ArrayLike, classes: ArrayLike) -> Any:
    """Return p_x: below it NLL lowers the clean risk faster, above it -p, at the same step size.

        p_x = 2 (1-eps) / [1 + kappa + sqrt((1 + kappa)^2 - 4 kappa (1-eps))],
        kappa = 1 - eps K/(K-1)

    It is near 1 - sqrt(eps) and hardly depends on K. Without noise it is 1: NLL is never slower.

    Raises:
        UsageError: noise outside [0, (K - 1) / K), or fewer than 2 classes.

    Example:
        >>> round(float(crossover(noise=0.1, classes=10)), 3)
        0.721
    """
    noise, classes = arrays(noise, classes)
    check_noise(noise, classes)
    kappa = _kappa(noise, classes)
    clean = 1.0 - noise
    # The smaller root of kappa p^2 - (1 + kappa) p + (1 - eps) = 0, without cancellation; the
    # discriminant is (1 - kappa)^2 + 4 kappa eps, which cannot be negative.
    root = np.sqrt((1.0 - kappa) ** 2 + 4.0 * kappa * noise)
    return (2.0 * clean / (1.0 + kappa + root))[()]


def noise_at_crossover(p: ArrayLike, *, classes: ArrayLike) -> Any:
    """Return the noise rate above which -p lowers the clean risk faster than NLL.

    It is the inverse of `crossover`.

        eps_x = (1-p)^2 / (1 - K/(K-1) p (1-p))

    Example:
        >>> round(float(noise_at_crossover(crossover(noise=0.2, classes=10), classes=10)), 12)
        0.2
    """
    p, classes = arrays(p, classes)
    check_p(p)
    check_noise(0.0, classes)
    return ((1.0 - p) ** 2 / (1.0 - classes / (classes - 1.0) * p * (1.0 - p)))[()]


def fixed_point(*, alpha: ArrayLike, noise: ArrayLike, classes: ArrayLike) -> FixedPoint:
    """Return the p between 0 and 1 at which G_alpha vanishes.

        p* / (1 - p*) = [(1-eps) (K-1)^alpha / eps]^(1 / (1-alpha))

    Stable for alpha < 1: NLL ends at 1 - eps, and a larger alpha ends closer to 1. For alpha = 1
    there is none in between, and the flow ends at 1. For alpha > 1 it is unstable: a right class
    that starts below it is lost.
    """
    alpha, noise, classes = arrays(alpha, noise, classes)
    check_noise(noise, classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log1p(-noise) - np.log(noise) + alpha * np.log(classes - 1.0)
        p = expit(odds / (1.0 - alpha))
    return FixedPoint(np.where(alpha == 1.0, 1.0, p)[()], (alpha <= 1.0)[()])


def flow_time(
    start: ArrayLike, end: ArrayLike, *, alpha: float, noise: ArrayLike, classes: ArrayLike
) -> Any:
    """Return the time that the flow takes from p = `start` to `end`, infinite if it never arrives.

    With v = log(p / (1-p)) and kappa = 1 - eps K/(K-1):

        NLL:  H(end) - H(start) = K/(K-1) T,        H = [v - log|1 - eps (1 + e^v)| / eps] / (1-eps)
        -p:   F(end) - F(start) = K/(K-1) kappa T,  F = 2 v + 2 sinh v
        any alpha at eps = 0:  the integral of p^(-1-alpha) (1-p)^(-2)

    Raises:
        UsageError: a value out of range; noise with an alpha other than 0 and 1, which has no
            closed form (use `flow.passage_time`).
    """
    start, end, noise, classes = arrays(start, end, noise, classes)
    for p in (start, end):
        check_p(p)
    check_noise(noise, classes)
    scale = (classes - 1.0) / classes
    if alpha == 0.0:
        time = scale * (_h(logit(end), noise) - _h(logit(start), noise))
    elif alpha == 1.0:
        time = scale / _kappa(noise, classes) * (_f(logit(end)) - _f(logit(start)))
    elif (noise == 0.0).all():
        time = scale * (_clean(end, alpha) - _clean(start, alpha))
    else:
        raise UsageError(
            f"with noise there is a closed form for alpha = 0 and 1 only, got {alpha:g}; integrate"
            " with probtune.theory.passage_time."
        )
    rest = fixed_point(alpha=alpha, noise=noise, classes=classes).p if alpha < 1.0 else 1.0
    passes = (start - rest) * (end - rest) <= 0.0  # a fixed point lies between, or at an end
    never = (time < 0.0) | (passes & (start != end))
    return np.where(never, np.inf, time)[()]


def escape_time(
    p: ArrayLike,
    *,
    alpha: float,
    noise: ArrayLike = 0.0,
    classes: ArrayLike = 2,
    to: float = 0.5,
) -> Any:
    """Return the time that a target of probability `p` needs to become likely: `flow_time(p, to)`.

    `classes = 2` is the confident conflict: all other mass on one class. A large number is a
    diffuse model.

    Example:
        >>> [round(float(escape_time(1e-2, alpha=a)), 1) for a in (0, 0.5, 1)]
        [2.8, 10.4, 54.1]
    """
    return flow_time(p, to, alpha=alpha, noise=noise, classes=classes)


def escape_law(p: ArrayLike, *, alpha: float, noise: ArrayLike, classes: ArrayLike) -> Any:
    """Return the leading term of `escape_time` for p -> 0.

        NLL: (K-1)/K log(1/p) / (1-eps)     alpha < 1: (K-1)/K / (alpha (1-eps) p^alpha)
        -p:  (K-1)/K / (kappa p)            alpha > 1 with noise: infinite, the right class is lost

    For alpha < 0 the time stays bounded as p -> 0, and there is no such law.
    """
    p, noise, classes = arrays(p, noise, classes)
    check_p(p)
    check_noise(noise, classes)
    scale = (classes - 1.0) / classes
    if alpha < 0.0:
        raise UsageError(
            f"alpha must not be negative, got {alpha:g}: the escape time has no limit law, it stays"
            " bounded as p -> 0."
        )
    if alpha == 0.0:
        return (scale * -np.log(p) / (1.0 - noise))[()]
    if alpha == 1.0:
        return (scale / (_kappa(noise, classes) * p))[()]
    time = scale * p**-alpha / (alpha * (1.0 - noise))
    return np.where((alpha > 1.0) & (noise > 0.0), np.inf, time)[()]


def probability_after(
    time: ArrayLike, p: ArrayLike, *, alpha: float, noise: ArrayLike, classes: ArrayLike
) -> Any:
    """Return the probability of the right class that NLL (alpha = 0) or -p (1) reaches in `time`.

    `flow_time` inverted by bisection in the logit of p, to the last digit. Other alphas:
    `flow.flow_probability`.
    """
    time, p, noise, classes = arrays(time, p, noise, classes)
    check_p(p)
    check_noise(noise, classes)
    check_time(time)
    return expit(_logit_after(time, logit(p), alpha, noise, classes))[()]


def budget_crossover(time: ArrayLike, *, noise: ArrayLike, classes: ArrayLike) -> Any:
    """Return the starting probability at which NLL and -p end alike after `time`.

    Below it NLL ends with the lower clean risk, above it -p. It starts at `crossover` for time -> 0
    and falls like (K-1) / (K kappa time): a longer training moves it towards the weak end. Without
    noise it is 1, since NLL is never behind.

    Example:
        >>> round(float(budget_crossover(30, noise=0.3, classes=10)), 3)
        0.069
    """
    time, noise, classes = arrays(time, noise, classes)
    check_noise(noise, classes)
    check_time(time)
    low = np.full(time.shape, -700.0)
    with np.errstate(divide="ignore"):
        high = logit(np.asarray(crossover(noise=noise, classes=classes)))
    # Without noise the upper end is infinite; any finite bracket converges to it, and 1 is given.
    high = np.where(noise == 0.0, 700.0, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        ahead = _logit_after(time, middle, 0.0, noise, classes) > _logit_after(
            time, middle, 1.0, noise, classes
        )
        low, high = np.where(ahead, middle, low), np.where(ahead, high, middle)
    return np.where(noise == 0.0, 1.0, expit((low + high) / 2.0))[()]


def escort(
    law: ArrayLike,  # (..., K)
    *,
    alpha: float,
) -> np.ndarray:
    """Return the resting point of a power objective under a label law q: p_j ~ q_j^(1 / (1-alpha)).

    NLL rests at q itself, so it is calibrated to the labels, wrong ones included; alpha in (0, 1)
    sharpens, alpha < 0 flattens. For alpha >= 1 the stable points are vertices: all mass on one
    class.

    Raises:
        UsageError: alpha >= 1.
    """
    if alpha >= 1.0:
        raise UsageError(
            f"alpha must be below 1, got {alpha:g}: from 1 on the flow ends in a vertex, with all"
            " mass on one class."
        )
    law = np.asarray(law, dtype=np.float64)
    check_law(law)
    with np.errstate(divide="ignore"):
        power = np.log(law) / (1.0 - alpha)
    power = np.exp(power - power.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def _kappa(noise: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return 1.0 - noise * classes / (classes - 1.0)


def _h(v: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return H of NLL, exact also for noise -> 0, where -log(1 - eps x) / eps -> x."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        x = 1.0 + np.exp(v)
        inside = noise * x
        log = np.where(inside < 1.0, np.log1p(-np.minimum(inside, 1.0)), np.log(inside - 1.0))
        return (v + np.where(noise == 0.0, x, -log / noise)) / (1.0 - noise)


def _f(v: np.ndarray) -> np.ndarray:
    """Return F of -p."""
    with np.errstate(over="ignore"):
        return 2.0 * v + 2.0 * np.sinh(v)


def _clean(p: np.ndarray, alpha: float) -> np.ndarray:
    """Return the integral of p^(-1-alpha) (1-p)^(-2): hypergeometric, or partial fractions for
    alpha = 0, 1, 2, ..., where the hypergeometric form has a pole.
    """
    if alpha >= 0 and alpha == int(alpha):
        m = int(alpha) + 1
        total = m * logit(p) + 1.0 / (1.0 - p)
        for j in range(m - 1):
            total = total + (j + 1) * p ** (j - m + 1.0) / (j - m + 1.0)
        return total
    return -(p**-alpha) / alpha * hyp2f1(-alpha, 2.0, 1.0 - alpha, p)


def _logit_after(
    time: np.ndarray, v: np.ndarray, alpha: float, noise: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return the logit of p that the flow reaches from the logit v."""
    rate = classes / (classes - 1.0)
    if alpha == 0.0:
        integral, target = (lambda x: _h(x, noise)), _h(v, noise) + rate * time
        with np.errstate(divide="ignore"):
            rest = np.where(noise > 0.0, np.log1p(-noise) - np.log(noise), np.inf)
        # dv/dt = K/(K-1) (1 - eps - p) / (1 - p), below K/(K-1) on the way up.
        low = np.where(v <= rest, v, rest)
        high = np.where(v <= rest, np.minimum(rest, v + rate * time), v)
        falls = v > rest
    elif alpha == 1.0:
        speed = rate * _kappa(noise, classes)
        integral, target = _f, _f(v) + speed * time
        low, high, falls = v, v + speed * time / 4.0, np.zeros(v.shape, dtype=bool)
    else:
        raise UsageError(
            f"a closed form is known for alpha = 0 and 1, got {alpha:g}; integrate with"
            " probtune.theory.flow_probability."
        )
    low, high = low + np.zeros_like(target), high + np.zeros_like(target)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        before = integral(middle) < target  # not there yet
        up = before ^ falls
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return (low + high) / 2.0
