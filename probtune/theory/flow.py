"""Gradient flow of softmax logits, exactly: any objective, any label law, any number of classes.

    dz_j/dt = q_j w(p_j) - p_j W,     W = sum over y of q_y w(p_y),     p = softmax(z)

q is the label law and w the objective's token weight, the function that training uses. The
equations are integrated in float64 by SciPy's LSODA, which changes between a stiff and a non-stiff
method by itself, to a relative error of 1e-11 per step. Time is the integral of the learning rate.

In the symmetric state (all wrong classes alike) one number is left, v = log(p / (1 - p)):

    dv/dt = K/(K-1) [(1-eps) (1-p) w(p) - eps p w(r)],     r = (1-p) / (K-1)

and whole grids of it are integrated at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, log_softmax, logit, softmax

from ..errors import UsageError
from ..objectives import Objective
from ..objectives import objective as read_objective
from .checks import arrays, check_law, check_noise, check_p, check_time
from .closed import FixedPoint

__all__ = [
    "Trajectory",
    "crossings",
    "flow_probability",
    "integrate",
    "logit_velocity",
    "memorisation_time",
    "overtaking_time",
    "passage_time",
    "probability_velocity",
    "rate",
    "resting_points",
]

_TOLERANCE = 1e-11
_CALLS = 30_000
_RESTS = 1e-9
"""Speed of every logit below which a flow has come to rest."""


class Trajectory(NamedTuple):
    """A flow of one context."""

    time: np.ndarray
    """(T,), from 0; it ends early where an event ended the flow."""
    logits: np.ndarray
    """(T, K)."""
    ended: str | None
    """None: the whole time passed. `"reached"`: the wanted probability. `"rest"`: a fixed point."""

    @property
    def p(self) -> np.ndarray:
        """Probabilities of all classes, (T, K)."""
        return softmax(self.logits, axis=-1)


def logit_velocity(
    logits: ArrayLike,  # (..., K)
    law: ArrayLike,  # (..., K)
    objective: Objective | str,
) -> np.ndarray:
    """Return dz/dt, the exact right-hand side, (..., K). It sums to 0 over the classes."""
    logits, law = np.asarray(logits, dtype=np.float64), np.asarray(law, dtype=np.float64)
    logp = log_softmax(logits, axis=-1)
    pull = law * _weight(read_objective(objective), logp)
    return pull - np.exp(logp) * pull.sum(-1, keepdims=True)


def probability_velocity(
    logits: ArrayLike,  # (..., K)
    law: ArrayLike,  # (..., K)
    objective: Objective | str,
) -> np.ndarray:
    """Return dp/dt = p (dz/dt - sum over k of p_k dz_k/dt), (..., K)."""
    velocity = logit_velocity(logits, law, objective)
    p = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return p * (velocity - (p * velocity).sum(-1, keepdims=True))


def integrate(
    logits: ArrayLike,  # (K,)
    law: ArrayLike,  # (K,)
    objective: Objective | str,
    time: float | ArrayLike,
    *,
    reaches: tuple[int, float] | None = None,
    to_rest: bool = False,
) -> Trajectory:
    """Integrate the flow of one context.

    Args:
        logits: the start, (K,).
        law: probabilities of the labels, (K,).
        objective: or its text.
        time: how long, or the times to report at (the first must be 0).
        reaches: end when the probability of a class passes a level, as (class, level).
        to_rest: end when all logits move slower than 1e-9.

    Raises:
        UsageError: the law is none, a value is not finite, or the flow cannot be integrated (a
            weight that jumps, which holds the flow at its edge).
    """
    objective = read_objective(objective)
    logits, law = np.asarray(logits, dtype=np.float64), np.asarray(law, dtype=np.float64)
    if logits.ndim != 1 or logits.shape != law.shape:
        raise UsageError(f"logits and law must both be (K,), got {logits.shape} and {law.shape}.")
    check_law(law)
    times = np.asarray(time, dtype=np.float64)
    times = np.linspace(0.0, float(times), 201) if times.ndim == 0 else times
    if not (np.isfinite(times).all() and times[0] == 0.0 and (np.diff(times) > 0).all()):
        raise UsageError(f"time must be positive, or times that rise from 0, got {time!r}.")
    events = []
    if reaches is not None:
        index, level = reaches
        events.append(("reached", lambda t, z: softmax(z)[index] - level))
    if to_rest:
        events.append(
            ("rest", lambda t, z: np.abs(logit_velocity(z, law, objective)).max() - _RESTS)
        )
    for _, event in events:
        event.terminal = True
    solution = _solve(
        lambda t, z: logit_velocity(z, law, objective),
        logits,
        times,
        objective,
        events=[event for _, event in events],
    )
    ended = None
    at, states = solution.t, solution.y.T
    if solution.status == 1:
        which = next(i for i, hits in enumerate(solution.t_events) if len(hits))
        ended = events[which][0]
        at = np.append(at[at < solution.t_events[which][0]], solution.t_events[which][0])
        states = np.vstack([states[: len(at) - 1], solution.y_events[which][0]])
    return Trajectory(at, states, ended)


def rate(p: ArrayLike, *, objective: Objective | str, noise: ArrayLike, classes: ArrayLike) -> Any:
    """Return dp/dt in the symmetric state for any objective; `risk_reduction_rate` is its closed
    form for the power family.
    """
    p, noise, classes = arrays(p, noise, classes)
    check_p(p)
    check_noise(noise, classes)
    speed = _symmetric(read_objective(objective), logit(p), noise, classes)
    return (p * (1.0 - p) * speed)[()]


def flow_probability(
    time: ArrayLike,
    p: ArrayLike,
    *,
    objective: Objective | str,
    noise: ArrayLike,
    classes: ArrayLike,
) -> Any:
    """Return the probability of the right class after `time` from p, in the symmetric state.

    All arguments but the objective may be arrays; the whole grid is integrated at once, and the
    Jacobian is diagonal.
    """
    objective = read_objective(objective)
    time, p, noise, classes = arrays(time, p, noise, classes)
    check_p(p)
    check_noise(noise, classes)
    check_time(time)
    if not time.any():
        return p[()]
    shape = p.shape
    time, p, noise, classes = (np.atleast_1d(x).ravel() for x in (time, p, noise, classes))
    solution = _solve(
        lambda s, v: time * _symmetric(objective, v, noise, classes),
        logit(p),
        np.asarray([0.0, 1.0]),
        objective,
        diagonal=True,
    )
    return expit(solution.y[:, -1]).reshape(shape)[()]


def passage_time(
    start: float, end: float, *, objective: Objective | str, noise: float, classes: int
) -> float:
    """Return the time in which the symmetric flow takes p from `start` to `end`; infinite where
    it rests before, or runs the other way.
    """
    from scipy.integrate import quad

    objective = read_objective(objective)
    check_p(np.asarray([start, end]))
    check_noise(noise, classes)
    if start == end:
        return 0.0
    low, high = sorted((float(logit(start)), float(logit(end))))
    sign = 1.0 if end > start else -1.0

    def speed(v: ArrayLike) -> np.ndarray:
        x = np.atleast_1d(np.asarray(v, dtype=np.float64))
        return sign * _symmetric(objective, x, np.full_like(x, noise), np.full_like(x, classes))

    jumps = [float(logit(q)) for q in _jumps(objective, classes) if low < logit(q) < high]
    edges = [low, *jumps, high]
    total = 0.0
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        inner = np.linspace(a, b, 2003)[1:-1]  # a jump belongs to the stretch that keeps it
        if not (speed(inner) > 0).all():
            return float("inf")
        # In panels: the integrand falls exponentially from an end, over many orders of magnitude.
        for left in np.arange(a, b, 1.0):
            right = min(left + 1.0, b)
            total += quad(lambda v: 1.0 / speed(v)[0], left, right, epsrel=1e-12, limit=200)[0]
    return total


def resting_points(*, objective: Objective | str, noise: float, classes: int) -> list[FixedPoint]:
    """Return all p strictly between 0 and 1 where the symmetric flow of any objective rests,
    from 1e-12 to 1 - 1e-12, in rising order.

    A jump of the weight at which the flow turns round is a resting point too. Stretches without
    any gradient (below a threshold) are not points, and are not listed.
    """
    objective = read_objective(objective)
    check_noise(noise, classes)

    def speed(v: np.ndarray) -> np.ndarray:
        return _symmetric(objective, v, np.full_like(v, noise), np.full_like(v, classes))

    return [FixedPoint(p, rises_before) for p, rises_before in _sign_changes(speed)]


def crossings(
    first: Objective | str, second: Objective | str, *, noise: float, classes: int
) -> list[float]:
    """Return all p at which two objectives lower the clean risk equally fast, from 1e-12 to
    1 - 1e-12.

    `crossover` is the closed form for -p and NLL.
    """
    first, second = read_objective(first), read_objective(second)
    check_noise(noise, classes)

    def difference(v: np.ndarray) -> np.ndarray:
        eps, k = np.full_like(v, noise), np.full_like(v, classes)
        return _symmetric(first, v, eps, k) - _symmetric(second, v, eps, k)

    return [p for p, _ in _sign_changes(difference)]


def overtaking_time(
    p: float,
    first: Objective | str,
    second: Objective | str,
    *,
    noise: float,
    classes: int,
    limit: float = 1e4,
) -> float:
    """Return the time when `first` overtakes `second`, both started at p; infinite if it does
    not within `limit`, and 0 if it leads from the start.

    The inverse of `budget_crossover`, for any two objectives.
    """
    first, second = read_objective(first), read_objective(second)
    check_p(np.asarray([p]))
    check_noise(noise, classes)

    def velocity(t: float, v: np.ndarray) -> np.ndarray:
        eps, k = np.full(1, noise), np.full(1, float(classes))
        return np.concatenate([_symmetric(first, v[:1], eps, k), _symmetric(second, v[1:], eps, k)])

    start = np.full(2, logit(p))
    lead = velocity(0.0, start)
    if lead[0] >= lead[1]:
        return 0.0

    def overtakes(t: float, v: np.ndarray) -> float:
        return v[0] - v[1] if t > 0 else -1.0

    overtakes.terminal, overtakes.direction = True, 1.0  # type: ignore[attr-defined]
    solution = _solve(
        velocity, start, np.asarray([0.0, limit]), first, events=[overtakes], diagonal=True
    )
    return float(solution.t_events[0][0]) if len(solution.t_events[0]) else float("inf")


def memorisation_time(
    p: float,
    *,
    objective: Objective | str,
    classes: int,
    correct: bool,
    to: float = 0.5,
) -> float:
    """Return the time until a context with one label gives it the probability `to`.

    The start gives p to the right class and (1-p) / (K-1) to each other one; the label is the right
    class (`correct`) or one of the others. With one label per context all objectives follow the
    same path through the logits, dz = w(p_y) (onehot - p) dt, and the token weight only sets the
    clock: the path is integrated for NLL, and the time is the integral of 1 / w(p_y) along it.

    Example:
        >>> [round(memorisation_time(0.45, objective=f, classes=10, correct=c), 2)
        ...  for f in ("nll", "p") for c in (True, False)]
        [0.34, 3.07, 0.72, 17.12]
    """
    objective = read_objective(objective)
    check_p(np.asarray([p, to]))
    check_noise(0.0, classes)
    if not correct and classes == 2:
        p, correct = 1.0 - p, True  # the wrong class is the only other one: the same problem
    r = (1.0 - p) / (classes - 1.0)
    if (p if correct else r) >= to:
        return 0.0
    # Classes that are alike move alike: the label, the right class (where it is not the label),
    # and the rest, `count` of each.
    start = np.log([p, r]) if correct else np.log([r, p, r])
    count = np.asarray([1.0, classes - 1.0] if correct else [1.0, 1.0, classes - 2.0])

    def label_logp(z: np.ndarray) -> float:
        return float(z[0] - np.logaddexp.reduce(z + np.log(count)))

    def velocity(s: float, state: np.ndarray) -> np.ndarray:
        z = state[:-1]
        move = -np.exp(z - np.logaddexp.reduce(z + np.log(count)))
        move[0] += 1.0
        weight = _weight(objective, np.asarray(label_logp(z)))
        with np.errstate(divide="ignore"):
            return np.append(move, 1.0 / weight)

    def believed(s: float, state: np.ndarray) -> float:
        return label_logp(state[:-1]) - np.log(to)

    believed.terminal = True  # type: ignore[attr-defined]
    if not np.isfinite(velocity(0.0, np.append(start, 0.0))[-1]):
        return float("inf")  # below a threshold: no gradient ever
    limit = 10.0 + 4.0 * abs(float(logit(to)) - float(start[0]))
    solution = _solve(
        velocity, np.append(start, 0.0), np.asarray([0.0, limit]), objective, events=[believed]
    )
    return float(solution.y_events[0][0][-1]) if len(solution.y_events[0]) else float("inf")


def _weight(objective: Objective, logp: np.ndarray) -> np.ndarray:
    """Return the token weight that training uses, on arrays."""
    return objective.token_weight(torch.from_numpy(np.array(logp))).numpy()


def _symmetric(
    objective: Objective, v: np.ndarray, noise: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return dv/dt of the symmetric state, v = logit(p)."""
    logp, log_rest = log_expit(v), log_expit(-v)
    up = (1.0 - noise) * np.exp(log_rest) * _weight(objective, logp)
    # Where there is no noise, an infinite weight at r -> 0 pulls nothing.
    of_wrong = _weight(objective, np.where(noise > 0, log_rest - np.log(classes - 1.0), 0.0))
    return classes / (classes - 1.0) * (up - noise * np.exp(logp) * of_wrong)


def _jumps(objective: Objective, classes: float) -> list[float]:
    """Return the p of the right class at which its weight, or that of a wrong class, jumps."""
    of_wrong = [1.0 - q * (classes - 1.0) for q in objective.thresholds]
    return sorted({q for q in (*objective.thresholds, *of_wrong) if 0.0 < q < 1.0})


def _sign_changes(function: Any) -> list[tuple[float, bool]]:
    """Return (p, True if the function was positive before) at each change of sign over logit(p)."""
    edge = float(logit(1e-12))
    v = np.linspace(edge, -edge, 20_001)
    values = function(v)
    if not np.isfinite(values).all():
        raise UsageError("a weight is not finite on the way; take a larger alpha.")
    nonzero = np.flatnonzero(values)
    changes = []
    for i, j in zip(nonzero[:-1], nonzero[1:], strict=True):
        if np.sign(values[i]) == np.sign(values[j]) or j - i > 2:
            continue  # no change, or a stretch without gradient between
        low, high = v[i], v[j]
        for _ in range(80):
            middle = (low + high) / 2.0
            same = np.sign(function(np.asarray([middle]))[0]) == np.sign(values[i])
            low, high = (middle, high) if same else (low, middle)
        changes.append((float(expit((low + high) / 2.0)), bool(values[i] > 0)))
    return changes


def _solve(
    velocity: Any,
    start: np.ndarray,
    times: np.ndarray,
    objective: Objective,
    *,
    events: Any = None,
    diagonal: bool = False,
) -> Any:
    from scipy.integrate import solve_ivp

    if not np.isfinite(start).all():
        raise UsageError("the start is not finite: a probability of 0 or 1 has no logit.")
    with np.errstate(all="ignore"):  # the checks below name what is not finite
        first = velocity(times[0], start)
    if not np.isfinite(first).all():
        raise UsageError(
            f"the flow of {objective} is not finite at the start: its weight overflows there; start"
            " from a larger p or take a larger alpha."
        )
    band: dict[str, Any] = {"lband": 0, "uband": 0} if diagonal else {}
    calls = 0

    def counted(t: float, state: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > _CALLS:
            raise UsageError(
                f"the flow of {objective} did not get beyond time {t:.6g} in {_CALLS} evaluations:"
                " a weight that jumps can hold a flow at its edge (see resting_points); shorten the"
                " time or take an objective without a threshold."
            )
        with np.errstate(all="ignore"):
            return velocity(t, state)

    solution = solve_ivp(
        counted,
        (times[0], times[-1]),
        start,
        method="LSODA",
        t_eval=times,
        rtol=_TOLERANCE,
        atol=_TOLERANCE,
        events=events or None,
        **band,
    )
    if solution.status < 0 or not np.isfinite(solution.y).all():
        raise UsageError(
            f"the flow of {objective} could not be integrated beyond time {solution.t[-1]:.6g}"
            f" ({solution.message}). A weight that jumps can hold a flow at its edge; a weight that"
            " overflows needs a larger p or alpha."
        )
    return solution
