"""The parts that each kind of record must have, with their types: checked when it is read.

What a stage or a report works with stands here; further fields are free. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SHAPES", "lacking"]

_NUMBER = (int, float)
_NUMBER_OR_NULL = (int, float, type(None))
_MAPPING_OR_NULL = (dict, type(None))

_ESTIMATE = {"value": _NUMBER_OR_NULL, "low": _NUMBER_OR_NULL, "high": _NUMBER_OR_NULL}
_SUGGESTION = {
    "objective": str,
    "verdict": str,
    "reason": str,
    "cautions": [str],
    "undecided": bool,
    "race": (list, type(None)),
    "race_share": _NUMBER_OR_NULL,
}
_PROBE = {
    "examples": int,
    "tokens": int,
    "mean_p": _ESTIMATE,
    "percentiles": [_NUMBER],
    "histogram": list,
    "classes": list,
    "positions": list,
    "end_token": _MAPPING_OR_NULL,
    "features": {"steps": _NUMBER},
    "suggestion": _SUGGESTION,
}
_HELDOUT = {
    "metrics": dict,
    "answer_rule": str,
    "seconds": _NUMBER,
    "items": {"tokens": [int], "nll": [_NUMBER], "p": [_NUMBER], "top1": [int]},
}
_TRAIN = {"objective": str, "steps": int, "loss": _NUMBER_OR_NULL, "log": [dict]}

SHAPES: Mapping[str, Any] = {
    "run": {"settings": dict, "hashes": dict},
    "probe": _PROBE,
    "scout": {"scout": dict, "noise": dict, "probe": {"suggestion": _SUGGESTION}},
    "race": {"objective": str, "reason": str, "steps": int, "rows": int, "scores": dict},
    "race-leg": {"score": {"token_accuracy": _NUMBER, "mean_p": _NUMBER}},
    "train": _TRAIN,
    "heldout": _HELDOUT,
    "tokens": {"indices": [int], "rows": [{"token": [int], "p": str, "h": str, "r": str}]},
    "tune": {
        "settings": {"model": str},
        "data": {"source": str, "heldout": {"rows": int}, "items": list},
        "probe": _PROBE,
        "choice": {"objective": str, "reason": str},
        "runs": [{"name": str, "train": _MAPPING_OR_NULL, "heldout": _HELDOUT}],
        "comparisons": [{"first": str, "second": str, "metric": str, "difference": _ESTIMATE}],
    },
    "sweep": {
        "settings": dict,
        "seeds": [int],
        "learning_rates": [_NUMBER],
        "metric": str,
        "reference": str,
        "results": [{"objective": str, "learning_rate": _NUMBER, "score": _ESTIMATE}],
        "folders": dict,
    },
    "demo": {"seeds": [int], "failed": dict, "recipe": dict, "cells": [dict]},
    "eval-run": {"identity": dict, "tasks": list, "protocols": list},
}
"""Kind -> key -> type, types, a mapping of the same form, or a list of one of these."""


def lacking(value: Any, shape: Any, where: str = "") -> str | None:
    """Return what a value lacks of a shape, in words; None if it has all of it.

    >>> lacking({"a": [1, "x"]}, {"a": [int]})
    "'a[1]' is 'x', expected int"
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return f"{where!r} is {_short(value)}, expected an object"
        for key, inner in shape.items():
            name = f"{where}.{key}" if where else key
            if key not in value:
                return f"{name!r} is missing"
            missing = lacking(value[key], inner, name)
            if missing is not None:
                return missing
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where!r} is {_short(value)}, expected a list"
        for index, item in enumerate(value):
            missing = lacking(item, shape[0], f"{where}[{index}]")
            if missing is not None:
                return missing
        return None
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        named = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        return f"{where!r} is {_short(value)}, expected {named}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
