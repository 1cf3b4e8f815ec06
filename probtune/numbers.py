"""Numbers as text, with their intervals: for the terminal, for reports, for `print`. Standard
library only.

An estimate is a mapping with `value`, `low`, `high` and, for `plus_minus`, `standard_error`, as a
record holds it; None and NaN are no value, and are shown as `-`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "in_points",
    "interval",
    "lead",
    "negative",
    "number",
    "p_value",
    "percent",
    "plus_minus",
    "points",
    "signed",
    "signed_points",
]

Estimate = Mapping[str, Any]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number: whole ones with commas, and what would round to zero in scientific notation.

    >>> number(12345), number(0.25), number(0.00004), number(None)
    ('12,345', '0.250', '4.0e-05', '-')
    """
    if _is_missing(value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    assert value is not None
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"


def plus_minus(estimate: Estimate, digits: int = 3, *, spec: str | None = None) -> str:
    """Return "value ± standard error". Arguments as in `interval`."""
    value = _text(estimate["value"], digits, spec)
    if _is_missing(estimate["standard_error"]):
        return value
    return f"{value} ± {_text(estimate['standard_error'], digits, spec)}"


def interval(
    estimate: Estimate,
    digits: int = 3,
    *,
    spec: str | None = None,
    share: bool = False,
    nonnegative: bool = False,
    unit: str = "",
) -> str:
    """Return "value unit [low, high]".

    Args:
        digits: as in `number`.
        spec: Python's format specification instead, such as `.3g`.
        share: cut the interval off at 0 and 1: a t interval of a share may reach beyond.
        nonnegative: cut it off at 0, as of an NLL.

    >>> interval({"value": 0.9, "low": 0.7, "high": 1.1}, 2, share=True)
    '0.90 [0.70, 1.00]'
    """
    if share or nonnegative:
        estimate = _within(estimate, 1.0 if share else math.inf)
    value = _text(estimate["value"], digits, spec) + (f" {unit}" if unit else "")
    if _is_missing(estimate["low"]) or _is_missing(estimate["value"]):
        return value
    low, high = (_text(estimate[end], digits, spec) for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def signed(estimate: Estimate, digits: int = 3, *, unit: str = "") -> str:
    """Return "+value unit [+low, +high]", of a difference."""
    return interval(estimate, spec=f"+.{digits}f", unit=unit)


def points(estimate: Estimate | None, digits: int = 2) -> str:
    """Return a share, a number from 0 to 1, in points of 100, with the part of its interval in that
    range.
    """
    if estimate is None:
        return "-"
    return interval(in_points(estimate, share=True), spec=f".{digits}f")


def signed_points(estimate: Estimate | None, digits: int = 2) -> str:
    """Return a difference of shares in points of 100."""
    return "-" if estimate is None else signed(in_points(estimate), digits)


def lead(difference: Estimate) -> str:
    """Return a difference of shares in points of 100, with as many digits as show on which side of
    0 the interval lies.

    >>> lead({"value": 0.1, "low": -0.1, "high": 0.3})
    '+10.0 points [-10.0, +30.0]'
    >>> lead({"value": 0.0004, "low": 0.0002, "high": 0.0006})
    '+0.04 points [+0.02, +0.06]'
    """
    scaled = in_points(difference)
    low, high = scaled["low"], scaled["high"]
    digits = 1
    if low is not None and high is not None and not low <= 0 <= high:
        digits = next((d for d in range(1, 6) if all(round(x, d) for x in scaled.values())), 6)
    return signed(scaled, digits, unit="points")


def percent(estimate: Estimate | None) -> str:
    """Return a share as a percentage, without its interval."""
    if estimate is None or _is_missing(estimate["value"]):
        return "-"
    return f"{100 * estimate['value']:.1f} %"


def p_value(value: float | None) -> str:
    """Return a p-value."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def in_points(estimate: Estimate, *, share: bool = False) -> dict[str, Any]:
    """Return value and interval times 100; of a share, the part of the interval from 0 to 100."""
    scaled = {k: None if estimate[k] is None else 100 * estimate[k] for k in _ENDS}
    return _within(scaled, 100.0) if share else scaled


def negative(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate of the opposite difference, in which 0 has no sign.

    >>> negative({"value": 0.0, "low": -1.0, "high": 0.0})
    {'value': 0.0, 'low': 0.0, 'high': 1.0}
    """
    value, low, high = (None if estimate[k] is None else 0.0 - estimate[k] for k in _ENDS)
    return {**estimate, "value": value, "low": high, "high": low}


_ENDS = ("value", "low", "high")


def _within(estimate: Estimate, most: float) -> dict[str, Any]:
    low, high = estimate["low"], estimate["high"]
    return {
        **estimate,
        "low": low if _is_missing(low) else max(low, 0.0),
        "high": high if _is_missing(high) else min(high, most),
    }


def _text(value: float | None, digits: int, spec: str | None) -> str:
    if _is_missing(value):
        return "-"
    return number(value, digits) if spec is None else format(value, spec)


def _is_missing(value: float | None) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
