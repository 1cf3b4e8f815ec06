"""Objectives that would train nothing, or anything, on this data, refused by what the probe saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..errors import UsageError
from ..objectives import Objective
from ..objectives.base import parameters

__all__ = ["base_quantile", "check_parameters", "check_weights"]

_LEAST, _MOST = 1e-6, 1e6
"""Token weights relative to NLL's, between which some token must lie, and none above."""


def check_parameters(objective: Objective) -> None:
    """Refuse an objective with a parameter beyond any use, such as a bonus of a thousand million.

    Raises:
        UsageError: with the parameter.
    """
    for value in _numbers(objective):
        if abs(value) > _MOST:
            raise UsageError(
                f"{objective} has the parameter {value:g}, and no learning rate suits one above"
                f" {_MOST:g}; choose a smaller one."
            )


def _numbers(objective: Objective) -> Iterator[float]:
    """Yield the parameters of an objective, and of those in it, that are numbers."""
    for value in parameters(objective):
        if isinstance(value, Objective):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield value


def check_weights(objective: Objective, percentiles: Sequence[float]) -> None:
    """Refuse an objective whose token weights at the base model's probabilities are all nothing, or
    beyond any step size; one that needs more than p is left to the training.

    Args:
        percentiles: of p over the training tokens, 0 to 100.

    Raises:
        UsageError: with the weights and the probabilities.
    """
    if objective.needs:
        return
    p = torch.tensor(list(percentiles), dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    weights = torch.stack(
        [objective.at(progress).token_weight(p.log()).abs() for progress in (0.0, 0.5, 1.0)]
    )
    lowest, highest = float(p.min()), float(p.max())
    most = float(weights.max())
    if most < _LEAST:
        fault = "keeps no token" if most == 0.0 else f"weighs every token by less than {_LEAST:g}"
        raise UsageError(
            f"{objective} {fault} of this data: the base model's p lies between {lowest:.2g} and"
            f" {highest:.2g}. It would train nothing; choose another objective or threshold."
        )
    # NLL of a token has weight 1; powers below zero may be large at small p, which is their point.
    typical = float(weights.median())
    if not torch.isfinite(weights).all() or typical > _MOST:
        raise UsageError(
            f"{objective} weighs half of the tokens by more than {typical:.2g} times NLL; no"
            " learning rate suits that. Choose a smaller parameter."
        )


def base_quantile(percentiles: Sequence[float], share: float) -> float:
    """Return the base model's quantile of p, between the probe's percentiles by a straight line."""
    return float(np.interp(100.0 * share, np.arange(101), percentiles))
