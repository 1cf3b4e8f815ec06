"""Objectives of the literature that see p alone; those that are other names of members stand in
`aliases`. In gradient each is a token weight; where a paper holds its weight fixed (stop-gradient),
the value here is the function f with that gradient, f(1) = 0, so that it falls as p rises and can
be read.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import Objective, bounds, log_one_minus, parameter

__all__ = [
    "TokenPower",
    "affine",
    "cayley",
    "chord",
    "focal",
    "gft",
    "infosft",
    "luffy",
    "tailr",
    "taylor",
]


@dataclass(frozen=True, repr=False)
class affine(Objective):
    """-a log p + b (1 - p): NLL and `p` added, with weight a + b p.

    The two-parameter gate behind SCE, PolyLoss-1 and MixCE. With a > 0 every target escapes in a
    time of order log(1/p) / a.
    """

    a: float = field(metadata=bounds(low=0.0))
    b: float = field(metadata=bounds(low=0.0))

    formula = "-a log p + b (1 - p)"
    weight_formula = "a + b p"
    summary = "NLL plus p: trusts the prior and keeps a floor"
    source = "Wang et al. 2019, https://arxiv.org/abs/1908.06112"
    also_known_as = ("nll_plus_p",)
    example = "affine(0.1, 0.9)"

    def __post_init__(self):
        super().__post_init__()
        if self.a == self.b == 0.0:
            raise ObjectiveError("affine: a and b must not both be 0: nothing would be trained.")

    def _f(self, logp: Tensor) -> Tensor:
        of_p = -self.b * torch.expm1(logp)
        return of_p - self.a * logp if self.a else of_p

    def _w(self, logp: Tensor) -> Tensor:
        return self.a + self.b * logp.exp()


@dataclass(frozen=True, repr=False)
class focal(Objective):
    """-(1 - p)^gamma log p: NLL turned down where the model is right already; prior-averse.

    Reference: Lin et al., "Focal Loss for Dense Object Detection", 2017,
    https://arxiv.org/abs/1708.02002 (gamma = 2).
    """

    gamma: float = parameter(2.0, low=0.0)

    formula = "-(1 - p)^gamma log p"
    weight_formula = "(1 - p)^gamma - gamma p (1 - p)^(gamma - 1) log p"
    summary = "attends to what the model does not know; needs clean labels"
    source = "Lin et al. 2017, https://arxiv.org/abs/1708.02002"
    also_known_as = ("focal_loss",)
    example = "focal(2.0)"
    caution = "amplifies wrong labels where the model is strong"

    def _f(self, logp: Tensor) -> Tensor:
        return -torch.exp(self.gamma * log_one_minus(logp)) * logp

    def _w(self, logp: Tensor) -> Tensor:
        log1m = log_one_minus(logp)
        steep = self.gamma * logp.exp() * logp * torch.exp((self.gamma - 1.0) * log1m)
        return torch.exp(self.gamma * log1m) - steep


@dataclass(frozen=True, repr=False)
class tailr(Objective):
    """-log(gamma + (1 - gamma) p) / (1 - gamma): between NLL (gamma = 0) and `p` (gamma = 1).

    The paper's loss is -sg(p / (gamma + (1 - gamma) p)) log p, with the same gradient; its lower
    bound on the weight is `floor(m, tailr(gamma))`, m = 0.2 to 0.3.

    Reference: Ji et al., "Tailoring Language Generation Models under Total Variation Distance",
    2023, https://arxiv.org/abs/2302.13344.
    """

    gamma: float = field(metadata=bounds(low=0.0, high=1.0))

    formula = "-log(gamma + (1 - gamma) p) / (1 - gamma)"
    weight_formula = "p / (gamma + (1 - gamma) p)"
    summary = "NLL above p = gamma, p below: forgives what the model finds very unlikely"
    source = "Ji et al. 2023, https://arxiv.org/abs/2302.13344"
    example = "tailr(0.1)"
    caution = "without a floor an unlikely target escapes no sooner than gamma / p"

    def _f(self, logp: Tensor) -> Tensor:
        rest = 1.0 - self.gamma
        if rest == 0.0:
            return -torch.expm1(logp)
        if self.gamma == 0.0:
            return -logp
        # Each form keeps its digits at one end only.
        high = logp > -math.log(2.0)
        near_one = torch.log1p(rest * torch.expm1(torch.where(high, logp, 0.0)))
        inner = torch.where(high, 0.0, logp) + math.log(rest)
        near_zero = torch.logaddexp(torch.full_like(logp, math.log(self.gamma)), inner)
        return -torch.where(high, near_one, near_zero) / rest

    def _w(self, logp: Tensor) -> Tensor:
        if self.gamma == 0.0:
            return torch.ones_like(logp)
        return 1.0 / (self.gamma * torch.exp(-logp) + (1.0 - self.gamma))


@dataclass(frozen=True, repr=False)
class taylor(Objective):
    """The sum over i = 1 .. t of (1 - p)^i / i: NLL's series at p = 1, cut off. t = 1 is `p`.

    Reference: Feng et al., "Can Cross Entropy Loss Be Robust to Label Noise?", 2020,
    https://doi.org/10.24963/ijcai.2020/305 (t = 2 to 6).
    """

    t: int = parameter(2, low=1, whole=True)

    formula = "sum of (1 - p)^i / i, i = 1 .. t"
    weight_formula = "1 - (1 - p)^t"
    summary = "from p (t = 1) towards NLL; unlikely targets keep a weight of t p"
    source = "Feng et al. 2020, https://doi.org/10.24963/ijcai.2020/305"
    also_known_as = ("taylor_ce",)
    example = "taylor(2)"

    def __post_init__(self):
        super().__post_init__()
        if self.t > 1000:
            raise ObjectiveError(f"taylor: t must be a whole number up to 1000, got {self.t}.")

    def _f(self, logp: Tensor) -> Tensor:
        x = -torch.expm1(logp)
        total = torch.zeros_like(x)
        for i in range(self.t, 0, -1):  # Horner: x (1 + x (1/2 + x (1/3 + ...)))
            total = x * (1.0 / i + total)
        return total

    def _w(self, logp: Tensor) -> Tensor:
        return -torch.expm1(self.t * log_one_minus(logp))


@dataclass(frozen=True, repr=False)
class luffy(Objective):
    """-p / (p + gamma), LUFFY's policy shaping with an old probability of 1: weight gamma p / (p +
    gamma)^2, at most 1/4, at p = gamma.

    Reference: Yan et al., "Learning to Reason under Off-Policy Guidance", 2025,
    https://arxiv.org/abs/2504.14945 (gamma = 0.1).
    """

    gamma: float = parameter(0.1, low=0.0, positive=": its weight would be 0.")

    formula = "1 / (1 + gamma) - p / (p + gamma)"
    weight_formula = "gamma p / (p + gamma)^2"
    summary = "attends to tokens with p around gamma"
    source = "Yan et al. 2025, https://arxiv.org/abs/2504.14945"
    example = "luffy(0.1)"
    caution = "meant to be mixed with reinforcement learning; its weights are at most 1/4"

    def _f(self, logp: Tensor) -> Tensor:
        # 1/(1+g) - p/(p+g) = g (1-p) / ((1+g)(p+g)), without cancellation.
        return -self.gamma * torch.expm1(logp) / ((1.0 + self.gamma) * (logp.exp() + self.gamma))

    def _w(self, logp: Tensor) -> Tensor:
        p = logp.exp()
        return self.gamma * p / (p + self.gamma).square()


class TokenPower(Objective):
    """(1 - p^a) / a with a power a of the token's own, held fixed: weight p^a."""

    @abstractmethod
    def _power(self, logp: Tensor) -> Tensor:
        """a per token, positive and detached."""

    def _f(self, logp: Tensor) -> Tensor:
        power = self._power(logp)
        return -torch.expm1(power * logp) / power

    def _w(self, logp: Tensor) -> Tensor:
        return torch.exp(self._power(logp) * logp)


@dataclass(frozen=True, repr=False)
class cayley(TokenPower):
    """(1 - p^a) / a with the token's own power a = a0 + (1 - a0) p / (2 - p), a0 = mean_p / 2, held
    fixed: nearer to NLL for unlikely targets than for likely ones, and the more so the weaker the
    model.

    The paper's code takes mean_p from each micro-batch, so that its loss depends on how a step is
    split; here it is given: the probe prints it.

    Reference: DEFT (Cayley transform), 2026, https://arxiv.org/abs/2602.11424.
    """

    mean_p: float = field(metadata=bounds(low=0.0, high=1.0))

    formula = "(1 - p^a) / a, a = a0 + (1 - a0) p / (2 - p), a0 = mean_p / 2"
    weight_formula = "p^a"
    summary = "a power that rises with p: escapes like NLL, resists like p"
    source = "DEFT 2026, https://arxiv.org/abs/2602.11424"
    example = "cayley(0.5)"

    def _power(self, logp: Tensor) -> Tensor:
        p, a0 = logp.detach().exp(), self.mean_p / 2.0
        return (a0 + (1.0 - a0) * p / (2.0 - p)).clamp(0.001, 1.0)


@dataclass(frozen=True, repr=False)
class chord(Objective):
    """(1 - p)^2 / 2: CHORD's token weight p (1 - p), which leaves out what the model is sure of and
    what it excludes. The paper's loss is -sg(p (1 - p)) log p.

    Reference: Zhang et al., "On-Policy RL Meets Off-Policy Experts", 2025,
    https://arxiv.org/abs/2508.11408 (CHORD-phi).
    """

    formula = "(1 - p)^2 / 2"
    weight_formula = "p (1 - p)"
    summary = "attends to tokens the model wavers on"
    source = "Zhang et al. 2025, https://arxiv.org/abs/2508.11408"
    example = "chord()"
    caution = "published inside a mixture with GRPO only"

    def _f(self, logp: Tensor) -> Tensor:
        return torch.expm1(logp).square() / 2.0

    def _w(self, logp: Tensor) -> Tensor:
        return -logp.exp() * torch.expm1(logp)


@dataclass(frozen=True, repr=False)
class infosft(Objective):
    """Weight p (logit(q) - logit(p)) for p < q, 0 above: InfoSFT's band, with q = 0.93.

    The value is the integral of logit(q) - logit(x) from p to q, that is logit(q) (q - p) - n(q) +
    n(p) with n(x) = x log x + (1 - x) log(1 - x).

    Reference: InfoSFT, 2026, https://arxiv.org/abs/2605.14967; weight from its README and a port,
    which also rescales the weights to mean 1 (not done here).
    """

    q: float = parameter(0.93, low=0.0, high=1.0)

    formula = "logit(q) (q - p) - n(q) + n(p) if p < q else 0, n(x) = x log x + (1-x) log(1-x)"
    weight_formula = "p (logit(q) - logit(p)) if p < q else 0"
    summary = "a band of middling p, ending where the model knows"
    source = "InfoSFT 2026, https://arxiv.org/abs/2605.14967"
    example = "infosft(0.93)"
    caution = "whether p is the model's or the frozen base model's is not settled by its sources"

    def __post_init__(self):
        super().__post_init__()
        if self.q in (0.0, 1.0):
            raise ObjectiveError(f"infosft: q must lie strictly between 0 and 1, got {self.q:g}.")

    @property
    def _logit_q(self) -> float:
        return math.log(self.q) - math.log1p(-self.q)

    def _gap(self, logp: Tensor) -> Tensor:
        return self._logit_q - (logp - log_one_minus(logp))

    def _f(self, logp: Tensor) -> Tensor:
        p, log1m = logp.exp(), log_one_minus(logp)
        of_p = torch.where(p > 0, p * logp, torch.zeros_like(p)) - torch.expm1(logp) * log1m
        of_q = self.q * math.log(self.q) + (1.0 - self.q) * math.log1p(-self.q)
        return torch.where(self._gap(logp) > 0, self._logit_q * (self.q - p) - of_q + of_p, 0.0)

    def _w(self, logp: Tensor) -> Tensor:
        p = logp.exp()
        return torch.where(p > 0, p * self._gap(logp).clamp(min=0.0), torch.zeros_like(p))


@dataclass(frozen=True, repr=False)
class gft(Objective):
    """Weight p below tau and 1 from tau on (GFT's dynamic coefficient rectification): NLL for what
    the model half knows, `p` for the rest. The weight jumps at tau.

    Reference: Gan et al., "GFT: From Imitation to Reward Fine-Tuning with Unbiased Group Advantages
    and Dynamic Coefficient Rectification", 2026, https://arxiv.org/abs/2604.14258 (the coefficient
    alone; the method's groups of rollouts are not used here).
    """

    tau: float = field(metadata=bounds(low=0.0, high=1.0, positive="; use nll()."))

    formula = "-log p if p >= tau else -log tau + tau - p"
    weight_formula = "1 if p >= tau else p"
    summary = "NLL above tau, p below"
    source = "Gan et al. 2026, https://arxiv.org/abs/2604.14258"
    example = "gft(0.3)"

    def _f(self, logp: Tensor) -> Tensor:
        low = -math.log(self.tau) + self.tau - logp.exp()
        return torch.where(logp >= math.log(self.tau), -logp, low)

    def _w(self, logp: Tensor) -> Tensor:
        return torch.where(logp >= math.log(self.tau), torch.ones_like(logp), logp.exp())

    @property
    def thresholds(self) -> tuple[float, ...]:
        return (self.tau,) if self.tau < 1.0 else ()
