"""Objectives that follow the training: those that change with the share of its steps that is done,
those whose cut-offs the base model fixes before it, and those that look at all tokens of the
optimizer step at once, on every rank.

What the last ones compare with is measured by a forward pass over the step's rows before its first
micro-batch, with the weights that the step trains. So nothing depends on how the step is split into
micro-batches and ranks, and the pass costs about a third of a training step.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ..errors import ObjectiveError
from .aliases import talr
from .base import SHARE, Objective, inner_objectives, parameter
from .compose import Composed, above, below, mix
from .literature import cayley
from .references import Masked
from .signalled import Signalled
from .signals import Signals

__all__ = [
    "StepStatistics",
    "anneal",
    "anneal_shares",
    "bottom",
    "rho1",
    "step_bottom",
    "step_cayley",
    "step_talr",
    "step_top",
    "top",
]


@dataclass(frozen=True, repr=False)
class anneal(Signalled, Composed):
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

    signals = frozenset({"progress"})
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

    def bound(self, signals: Signals) -> Objective:
        share = self.share(signals["progress"])
        if share in (0.0, 1.0):
            return self.f if share == 0.0 else self.g
        return mix(1.0 - share, self.f, self.g)


def anneal_shares(objective: Objective, progress: float) -> list[float]:
    """Return the share of `g` in every `anneal` of the objective, from the outside in.

    >>> from probtune.objectives import nll, p
    >>> anneal_shares(anneal(nll(), p(), 0.0, 0.5), 0.25)
    [0.5]
    """
    own = [objective.share(progress)] if isinstance(objective, anneal) else []
    inner = (anneal_shares(part, progress) for part in inner_objectives(objective))
    return [*own, *chain.from_iterable(inner)]


class _Quantile(Signalled, Composed):
    """Base class of `top` and `bottom`: no value until the cut-off is fixed."""

    share: float
    f: Objective

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    @property
    @abstractmethod
    def below_cut(self) -> float:
        """The share of the training tokens that lies below the cut-off."""

    @property
    def own_needs(self) -> Set[str]:
        return {f"base_quantile:{self.below_cut!r}"}

    def _cut(self, signals: Signals) -> float:
        (name,) = self.own_needs
        return signals[name]


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

    @property
    def below_cut(self) -> float:
        return 1.0 - self.share

    def bound(self, signals: Signals) -> Objective:
        return above(self._cut(signals), self.f)


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

    @property
    def below_cut(self) -> float:
        return self.share

    def bound(self, signals: Signals) -> Objective:
        return below(self._cut(signals), self.f)


@dataclass(frozen=True, eq=False)
class StepStatistics:
    """The supervised tokens of one optimizer step, of all its micro-batches and ranks."""

    logp: Tensor
    """(tokens,)"""
    sequence_nll: Tensor
    """(sequences,), the mean of -log p over each."""
    better: Tensor | None = None
    """(tokens,), log p under a better model, where one is needed."""
    _known: dict[tuple[str, float], float] = field(default_factory=dict, repr=False)

    @property
    def mean_p(self) -> float:
        return float(self.logp.double().exp().mean())

    def quantile(self, share: float) -> float:
        """The probability below which a share of the tokens lies."""
        return math.exp(self._once("p", share, lambda: self.logp))

    def excess_quantile(self, share: float) -> float:
        """The log p_better - log p below which a share of the tokens lies."""
        better = self.better
        assert better is not None
        return self._once("excess", share, lambda: better - self.logp)

    def _once(self, name: str, share: float, values: Callable[[], Tensor]) -> float:
        """A quantile, linear between neighbours. Every block of the head asks for the same one."""
        key = (name, share)
        if key not in self._known:  # torch.quantile refuses more than 16 million values
            self._known[key] = float(np.quantile(values().double().cpu().numpy(), share))
        return self._known[key]


class _OfStep(Signalled):
    signals = frozenset({"step"})


class _StepQuantile(_OfStep, Composed):
    share: float
    f: Objective

    def __post_init__(self):
        super().__post_init__()
        self._check("f")


@dataclass(frozen=True, repr=False)
class step_top(_StepQuantile):
    """f(p) on the share of the optimizer step's tokens that are most probable under the current
    model. `top` fixes its cut-off once, from the model before training; here the share stays and
    the cut-off moves.
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if p >= Q else 0, Q the step's quantile"
    weight_formula = "w_f(p) if p >= Q else 0"
    summary = "above(Q, f), with Q for a share of each step's tokens"
    source = "after Li et al. 2025, https://arxiv.org/abs/2510.00526, Fig. 5"
    example = "step_top(0.5, nll())"
    caution = "keeps the same share of wrong labels' steps too; costs a forward pass"

    def bound(self, signals: Signals) -> Objective:
        return above(min(signals["step"].quantile(1.0 - self.share), 1.0), self.f)


@dataclass(frozen=True, repr=False)
class step_bottom(_StepQuantile):
    """f(p) on the share of the optimizer step's tokens that are least probable under the current
    model. See `step_top`.
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if p <= Q else 0, Q the step's quantile"
    weight_formula = "w_f(p) if p <= Q else 0"
    summary = "below(Q, f), with Q for a share of each step's tokens"
    source = "after Li et al. 2025, https://arxiv.org/abs/2510.00526, Fig. 5"
    example = "step_bottom(0.5, nll())"
    caution = "costs a forward pass"

    def bound(self, signals: Signals) -> Objective:
        return below(min(signals["step"].quantile(self.share), 1.0), self.f)


@dataclass(frozen=True, repr=False)
class step_cayley(_OfStep):
    """`cayley(mean_p)` with the mean p of the optimizer step's tokens, which moves as the model
    learns. The paper's code takes each micro-batch's.

    Reference: DEFT (Cayley transform), 2026, https://arxiv.org/abs/2602.11424.
    """

    formula = "(1 - p^a) / a as cayley, mean_p the step's"
    weight_formula = "p^a"
    summary = "cayley that follows the model's own progress"
    source = "DEFT 2026, https://arxiv.org/abs/2602.11424"
    example = "step_cayley()"
    caution = "costs a forward pass"

    def bound(self, signals: Signals) -> Objective:
        return cayley(signals["step"].mean_p)


@dataclass(frozen=True, repr=False)
class step_talr(_OfStep):
    """`talr(tau, m)` with tau = the median over the optimizer step's sequences of their mean NLL,
    as the paper sets it.

    Reference: TALR, 2025, https://arxiv.org/abs/2509.20758 (floor 0.01).
    """

    m: float = parameter(0.01, low=0.0, high=1.0)

    formula = "-sg(w(p)) log p, tau the step's median NLL"
    weight_formula = "max(p^(1/tau), m)"
    summary = "talr that follows the model's own progress"
    source = "TALR 2025, https://arxiv.org/abs/2509.20758"
    example = "step_talr(0.01)"
    caution = "costs a forward pass; see talr"

    def bound(self, signals: Signals) -> Objective:
        tau = float(signals["step"].sequence_nll.double().median())
        return talr(max(tau, torch.finfo(torch.float32).eps), self.m)


@dataclass(frozen=True, repr=False)
class rho1(_OfStep, Composed):
    """`f` on the share of the optimizer step's tokens with the largest excess loss,
    log p_better - log p: what a better model knows and this one does not yet.

    The better model is one trained on data that is trusted (`--better`).

    Reference: Lin et al., "Rho-1: Not All Tokens Are What You Need", 2024,
    https://arxiv.org/abs/2404.07965 (share 0.6 to 0.7).
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if log p_better - log p >= Q else 0, Q the step's quantile"
    weight_formula = "w_f(p) if log p_better - log p >= Q else 0"
    summary = "trains on the tokens that a better model is still ahead on"
    source = "Lin et al. 2024, https://arxiv.org/abs/2404.07965"
    also_known_as = ("rho", "excess_loss")
    example = "rho1(0.6, nll())"
    caution = "needs a better model, trained on clean data; costs a forward pass"

    signals = frozenset({"step", "better"})

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    def bound(self, signals: Signals) -> Objective:
        cut = signals["step"].excess_quantile(1.0 - self.share)
        return Masked(self, self.f, signals["better"], None, cut)
