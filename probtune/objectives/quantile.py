"""Thresholds given as a share of the tokens; the base model turns it into a probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ObjectiveError
from .base import SHARE, Objective
from .compose import Composed, Incomplete, above, below

__all__ = ["bottom", "top"]


class _Quantile(Incomplete, Composed):
    """What `top` and `bottom` share: no value until the cut-off is known."""

    share: float
    f: Objective

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    def open_cuts(self) -> tuple[Any, ...]:
        return (self, *self.f.open_cuts())

    def incomplete(self) -> ObjectiveError:
        """The error that says how to fix the cut-off."""
        return ObjectiveError(
            f"{self} needs the base model's probabilities on the training data for its cut-off:"
            " `probtune tune` fixes it; elsewhere read the quantile from `probtune probe --all` and"
            " write above(q, f) or below(q, f)."
        )


@dataclass(frozen=True, repr=False)
class top(_Quantile):
    """f(p) on tokens whose current p lies at or above the cut-off that keeps the `share` of the
    training tokens most probable under the base model.

    The cut-off Q is fixed once, before training; the p compared with it is the current one, so the
    share that is kept moves as the model learns.

    Reference: Li et al. 2025, https://arxiv.org/abs/2510.00526, Fig. 5.
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if p >= Q else 0, Q the base model's quantile"
    weight_formula = "w_f(p) if p >= Q else 0"
    summary = "above(Q, f), with Q for a share of the tokens"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Fig. 5"
    also_known_as = ("top_quantile",)
    example = "top(0.5, nll())"
    caution = "the paper's code divides by the kept tokens: the fewer, the larger their weight"

    def fixed(self, quantile: Callable[[float], float]) -> Objective:
        return above(quantile(1.0 - self.share), self.f.fixed(quantile))


@dataclass(frozen=True, repr=False)
class bottom(_Quantile):
    """f(p) on tokens whose current p lies at or below the cut-off that keeps the `share` of the
    training tokens least probable under the base model. See `top`.
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if p <= Q else 0, Q the base model's quantile"
    weight_formula = "w_f(p) if p <= Q else 0"
    summary = "below(Q, f), with Q for a share of the tokens"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Fig. 5"
    also_known_as = ("bottom_quantile",)
    example = "bottom(0.5, nll())"

    def fixed(self, quantile: Callable[[float], float]) -> Objective:
        return below(quantile(self.share), self.f.fixed(quantile))
