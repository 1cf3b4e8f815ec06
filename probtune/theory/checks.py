"""Checks of the theory's arguments: each names the rule and the value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError

__all__ = ["arrays", "check_law", "check_noise", "check_p", "check_time"]

_SUM_TOLERANCE = 1e-9


def arrays(*values: ArrayLike) -> tuple[np.ndarray, ...]:
    """Return the values in float64, broadcast together."""
    return tuple(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)))


def check_p(p: np.ndarray, *, closed: bool = False) -> None:
    """Raise unless every p lies in (0, 1), or in [0, 1] if `closed`."""
    inside = (p >= 0.0) & (p <= 1.0) if closed else (p > 0.0) & (p < 1.0)
    if not inside.all():
        raise UsageError(
            f"a probability must lie {'in [0, 1]' if closed else 'strictly between 0 and 1'}, got"
            f" {p[~inside].flat[0]:g}."
        )


def check_time(time: np.ndarray) -> None:
    """Raise unless every time is finite and not negative."""
    if not (np.isfinite(time) & (time >= 0.0)).all():
        raise UsageError(f"time must be finite and not negative, got {time.min():g}.")


def check_law(law: ArrayLike) -> None:
    """Raise unless every law has probabilities that sum to 1, or less where labels are missing.

    Raises:
        UsageError: with the first row at fault.
    """
    law = np.asarray(law, dtype=np.float64)
    sums = law.sum(-1)
    wrong = (law < 0).any(-1) | ~(sums <= 1.0 + _SUM_TOLERANCE) | ~(sums > 0)
    if wrong.any():
        row = np.argwhere(np.atleast_1d(wrong))[0].tolist()
        raise UsageError(
            "probabilities of labels must not be negative and must sum to 1 (less where labels are"
            f" missing, more than 0); row {row[0] if len(row) == 1 else row} sums to"
            f" {np.atleast_1d(sums)[tuple(row)]:.9g}."
        )


def check_noise(noise: ArrayLike, classes: ArrayLike) -> None:
    """Raise unless 0 <= noise < (K - 1) / K: beyond it a wrong label is as likely as the right one.

    Raises:
        UsageError: with the limit.
    """
    noise, classes = np.asarray(noise, dtype=np.float64), np.asarray(classes, dtype=np.float64)
    if not (classes >= 2).all():
        raise UsageError(f"classes must be at least 2, got {classes.min():g}.")
    limit = (classes - 1.0) / classes
    noise, limit = np.broadcast_arrays(noise, limit)
    wrong = ~((noise >= 0) & (noise < limit))
    if wrong.any():
        raise UsageError(
            f"noise must lie in [0, (K - 1) / K) = [0, {limit[wrong].flat[0]:.6g}), got"
            f" {noise[wrong].flat[0]:g}: from there on no class is more often right than wrong."
        )
