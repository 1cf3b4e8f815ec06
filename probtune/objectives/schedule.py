"""Objectives that change over training."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ObjectiveError
from .base import Objective, parameter
from .compose import Composed, Incomplete, mix

__all__ = ["anneal"]


@dataclass(frozen=True, repr=False)
class anneal(Incomplete, Composed):
    """`f` until a share `start` of the optimizer steps is done, `g` from `end` on, and in between
    the mixture that moves linearly from one to the other. With `start = end` it is a switch.

    Step k of n (counted from 0) trains with `at(k / n)`, which is exact when a run is resumed. The
    trainer logs the share of `g` as `anneal`. The objective itself has no value and no weight:
    those are `at(progress)`'s.

    The order NLL first, p later is that of SFT followed by reinforcement learning (q from 1 to 0 on
    the Tsallis continuum): escape first, then resist wrong labels. That it helps token by token is
    untested in the literature that we know.

    Reference: "How Fast Should a Model Commit to Supervision? Training Reasoning Models on the
    Tsallis Loss Continuum", 2026, https://arxiv.org/abs/2604.25907.
    """

    f: Objective
    g: Objective
    start: float = parameter(0.0, low=0.0, high=1.0)
    end: float = parameter(1.0, low=0.0, high=1.0)

    formula = "(1 - s) f(p) + s g(p), s from 0 to 1"
    weight_formula = "(1 - s) w_f(p) + s w_g(p)"
    summary = "moves from f to g between two shares of the training steps"
    source = "Tsallis loss continuum, 2026, https://arxiv.org/abs/2604.25907"
    also_known_as = ("schedule", "curriculum", "warmup")
    example = "anneal(nll(), p(), 0.1, 0.5)"
    caution = "values before and after the change must not be compared; watch NLL and mean p"

    def __post_init__(self):
        super().__post_init__()
        self._check("f", "g")
        if self.start > self.end:
            raise ObjectiveError(
                f"anneal: start = {self.start:g} lies after end = {self.end:g}; swap them."
            )

    def share(self, progress: float) -> float:
        """The share of `g` when a share `progress` of the steps is done."""
        if progress >= self.end:
            return 1.0
        if progress <= self.start:
            return 0.0
        return (progress - self.start) / (self.end - self.start)

    def at(self, progress: float) -> Objective:
        share = self.share(progress)
        f, g = self.f.at(progress), self.g.at(progress)
        return f if share == 0.0 else g if share == 1.0 else mix(1.0 - share, f, g)

    def anneals(self) -> tuple[anneal, ...]:
        return (self, *self.f.anneals(), *self.g.anneals())

    def incomplete(self) -> ObjectiveError:
        return ObjectiveError(
            f"{self} changes over training and has no value of its own; take .at(progress), the"
            " objective in force when that share of the steps is done."
        )
