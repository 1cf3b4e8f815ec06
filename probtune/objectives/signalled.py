"""Objectives that see more than p: how sure the distribution is, or which tokens are special.

They have no value until a batch's signals are bound to them, `bind(Signals(...))`, which the
trainer and the head do for every batch. A signal is never differentiated, as in the papers.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import Objective, Signals, number
from .catalogue import TokenPower
from .composition import Composed, Incomplete
from .members import nll

__all__ = ["deft", "eaft", "idft", "nll_on_special"]


class _Signalled(Incomplete):
    """What needs one signal."""

    signal: ClassVar[str]

    @property
    def needs(self) -> Set[str]:
        return {self.signal}

    def incomplete(self) -> ObjectiveError:
        return _unbound(self, self.signal)

    def keeps(self, logp: Tensor) -> Tensor:
        return Objective.keeps(self, logp)  # all, whatever the signal


def _unbound(member: Objective, signal: str) -> ObjectiveError:
    what = {
        "entropy": "the entropy of the distribution at every token",
        "collision": "the collision probability at every token",
        "special": "to know which tokens are special",
    }[signal]
    return ObjectiveError(
        f"{member} needs {what}, which is not known here; ProbTuneTrainer and `probtune tune`"
        " provide it."
    )


@dataclass(frozen=True, repr=False)
class eaft(_Signalled):
    """-sg((H / scale)^alpha) log p, H the entropy of the distribution in nats: entropy-adaptive
    fine-tuning. Where the model is sure, right or wrong, it is left alone.

    The paper's code takes the entropy of the 20 most probable tokens, renormalised, over 3.0 (about
    ln 20), and reports a correlation of 0.999 with the full entropy, which is taken here. Ports
    differ: `eaft(1.0, 1.0)` is the one without the division, and scale = ln V another.

    Reference: EAFT, 2026, https://arxiv.org/abs/2601.02151 (alpha = 1).
    """

    alpha: float = 1.0
    scale: float = 3.0

    signal = "entropy"
    formula = "-sg(w) log p"
    weight_formula = "(H / scale)^alpha"
    summary = "leaves alone what the model is sure of; blocks new knowledge it contradicts"
    source = "EAFT 2026, https://arxiv.org/abs/2601.02151"
    also_known_as = ("entropy_adaptive",)
    example = "eaft(1.0, 3.0)"
    caution = "forgets more than NLL on some models (CPR, https://arxiv.org/abs/2608.30158)"

    def __post_init__(self):
        object.__setattr__(self, "alpha", number(self, "alpha", self.alpha, 0.0))
        object.__setattr__(self, "scale", number(self, "scale", self.scale))
        if not self.scale > 0.0:
            raise ObjectiveError(f"eaft: scale must be positive, got {self.scale:g}.")

    def bind(self, signals: Signals) -> Objective:
        if signals.entropy is None:
            return self
        entropy = signals.entropy.detach().clamp(min=0.0)
        return _Weighted(self, (entropy / self.scale) ** self.alpha)


@dataclass(frozen=True, repr=False)
class idft(_Signalled):
    """(1 - p^g) / g with the token's own power g = clip(exp(-(log p + H) / beta), low, high), held
    fixed: NLL-like where the target is more likely than the model's own samples are on average, and
    p^2-like where it is far less likely.

    The paper's code moves g from 1 at the start to this; `anneal(p(), idft(), 0.2, 0.3)` is that.

    Reference: IDFT, 2026, https://arxiv.org/abs/2602.12222 (beta = 1, low = 0.1, high = 2).
    """

    beta: float = 1.0
    low: float = 0.1
    high: float = 2.0

    signal = "entropy"
    formula = "(1 - p^g) / g, g = clip(exp(-(log p + H) / beta), low, high)"
    weight_formula = "p^g"
    summary = "a power for each token, by how surprising it is to the model"
    source = "IDFT 2026, https://arxiv.org/abs/2602.12222"
    example = "idft(1.0, 0.1, 2.0)"
    caution = "atypical targets get p^2, and hardly ever escape"

    def __post_init__(self):
        for name in ("beta", "low", "high"):
            object.__setattr__(self, name, number(self, name, getattr(self, name), 0.0))
        if not (self.beta > 0.0 and 0.0 < self.low <= self.high):
            raise ObjectiveError(
                "idft: beta and low must be positive and low not above high, got"
                f" {self.beta:g}, {self.low:g}, {self.high:g}."
            )

    def bind(self, signals: Signals) -> Objective:
        return self if signals.entropy is None else _Idft(self, signals.entropy.detach())


@dataclass(frozen=True, repr=False)
class deft(_Signalled):
    """(1 - p^a) / a with a = C, the collision probability, held fixed: NLL where the distribution
    is spread, `p` where it is sure.

    Reference: DEFT, 2026, https://arxiv.org/abs/2602.11424 (its code divides by a + 1e-6).
    """

    signal = "collision"
    formula = "(1 - p^C) / C, C the sum of squared probabilities"
    weight_formula = "p^C"
    summary = "NLL where the model is unsure, p where it is sure"
    source = "DEFT 2026, https://arxiv.org/abs/2602.11424"
    example = "deft()"
    caution = "where the model is confidently wrong it stalls like p"

    def bind(self, signals: Signals) -> Objective:
        return self if signals.collision is None else _Powers(self, signals.collision.detach())


@dataclass(frozen=True, repr=False)
class nll_on_special(Incomplete, Composed):
    """NLL on special tokens (end of text, end of turn, padding that is trained on), `f` on all
    others. A prior-leaning objective may never teach a model to stop, since the end token starts
    with a tiny probability; this one does.

    Special are the tokenizer's `all_special_ids`.
    """

    f: Objective

    formula = "-log p on special tokens, else f(p)"
    weight_formula = "1 on special tokens, else w_f(p)"
    summary = "teaches the end token under a prior-leaning objective"
    source = "users' reports on DFT, https://github.com/yongliang-wu/DFT/issues/14"
    also_known_as = ("always_nll", "keep_eos")
    example = "nll_on_special(p())"

    def __post_init__(self):
        self._check("f")

    @property
    def needs(self) -> Set[str]:
        return {"special"} | self.f.needs

    def bind(self, signals: Signals) -> Objective:
        inner = self.f.bind(signals)
        if signals.special is None:
            return self if inner is self.f else nll_on_special(inner)
        return _Chosen(signals.special, nll(), inner)

    def incomplete(self) -> ObjectiveError:
        return _unbound(self, "special")

    @property
    def thresholds(self) -> tuple[float, ...]:
        return self.f.thresholds


class _Bound(Objective):
    """An objective for one batch. It prints as the member it came from."""

    def __init__(self, of: Objective):
        self._of = of

    def __repr__(self) -> str:
        return repr(self._of)


class _Weighted(_Bound):
    def __init__(self, of: Objective, weight: Tensor):
        super().__init__(of)
        self._weight = weight

    def _f(self, logp: Tensor) -> Tensor:
        return -self._weight.to(logp.dtype) * logp

    def _w(self, logp: Tensor) -> Tensor:
        return self._weight.to(logp.dtype)


class _Powers(_Bound, TokenPower):
    def __init__(self, of: Objective, power: Tensor):
        super().__init__(of)
        self._of_tokens = power

    def _power(self, logp: Tensor) -> Tensor:
        return self._of_tokens.to(logp.dtype)


class _Idft(_Bound, TokenPower):
    def __init__(self, of: idft, entropy: Tensor):
        super().__init__(of)
        self._idft, self._entropy = of, entropy

    def _power(self, logp: Tensor) -> Tensor:
        surprise = logp.detach() + self._entropy.to(logp.dtype)
        return torch.exp(-surprise / self._idft.beta).clamp(self._idft.low, self._idft.high)


class _Chosen(Objective):
    """One objective where a mask is true, another elsewhere."""

    def __init__(self, mask: Tensor, on: Objective, off: Objective):
        self._mask, self._on, self._off = mask, on, off

    @property
    def needs(self) -> Set[str]:
        return self._off.needs

    def bind(self, signals: Signals) -> Objective:
        return _Chosen(self._mask, self._on, self._off.bind(signals)) if self.needs else self

    def _f(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on._f(logp), self._off._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on._w(logp), self._off._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        on, off = self._on.logit_gradient(logp), self._off.logit_gradient(logp)
        return torch.where(self._mask, on, off)

    def keeps(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on.keeps(logp), self._off.keeps(logp))

    @property
    def thresholds(self) -> tuple[float, ...]:
        return self._off.thresholds

    def __repr__(self) -> str:
        return f"nll_on_special({self._off!r})"
