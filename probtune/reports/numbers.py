"""Numbers with their intervals as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "estimate",
    "interval",
    "number",
    "p_value",
    "percent",
    "points",
    "signed",
    "signed_points",
]


def number(value: float | None, digits: int = 3) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"


def estimate(found: Mapping[str, Any], digits: int = 3) -> str:
    """value ± standard error"""
    if found["standard_error"] is None:
        return number(found["value"], digits)
    return f"{number(found['value'], digits)} ± {number(found['standard_error'], digits)}"


def interval(found: Mapping[str, Any], digits: int = 3) -> str:
    """value [low, high]"""
    if found["low"] is None:
        return number(found["value"], digits)
    return (
        f"{number(found['value'], digits)} [{number(found['low'], digits)},"
        f" {number(found['high'], digits)}]"
    )


def signed_points(found: Mapping[str, Any]) -> str:
    """+value [+low, +high] in points of 100"""
    scaled = {
        key: None if found[key] is None else 100 * found[key] for key in ("value", "low", "high")
    }
    return signed(scaled, 2)


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def signed(found: Mapping[str, Any], digits: int = 3) -> str:
    """+value [+low, +high]"""
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:+.{digits}f}"
    return f"{found['value']:+.{digits}f} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"


def points(found: Mapping[str, Any] | None, digits: int = 2) -> str:
    """An estimate from 0 to 1 in points of 100, with the part of its interval in that range."""
    if found is None or found["value"] is None:
        return "-"
    value = f"{100 * found['value']:.{digits}f}"
    if found["low"] is None:
        return value
    low, high = max(100 * found["low"], 0.0), min(100 * found["high"], 100.0)
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}]"


def percent(found: Mapping[str, Any] | None) -> str:
    """A share as a percentage, without its interval."""
    if found is None or found["value"] is None:
        return "-"
    return f"{100 * found['value']:.1f} %"
