"""Objectives that look at all tokens of the optimizer step at once, on every rank: per-step
thresholds, and powers that follow the model's own progress.

What they compare with is measured by a forward pass over the step's rows before its first
micro-batch, with the weights that the step trains. So nothing depends on how the step is split into
micro-batches and ranks, and the pass costs about a third of a training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .aliases import talr
from .base import SHARE, Objective, parameter
from .compose import Composed, above, below
from .literature import cayley
from .references import Masked
from .signalled import Signalled
from .signals import Signals

__all__ = ["StepStatistics", "rho1", "step_bottom", "step_cayley", "step_talr", "step_top"]


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
