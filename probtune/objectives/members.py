"""The members: a formula, its token weight and its source, each in a few lines.

Their names are lower-case because they are the text that a user writes and `repr` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .base import Objective, bounds, log_one_minus, parameter, widen

__all__ = ["dft", "log1m", "nll", "p", "power"]


@dataclass(frozen=True, repr=False)
class nll(Objective):
    """Negative log-likelihood, -log p: the objective of ordinary supervised fine-tuning. Every
    token has weight 1.
    """

    formula = "-log p"
    weight_formula = "1"
    summary = "the default of every engine; best where the model knows little"
    source = "maximum likelihood"
    also_known_as = (
        "ce",
        "cross_entropy",
        "cross-entropy",
        "sft",
        "logp",
        "-log p",
        "original",
        "mle",
    )
    example = "nll()"

    def _f(self, logp: Tensor) -> Tensor:
        return -logp

    def _w(self, logp: Tensor) -> Tensor:
        return torch.ones_like(logp)


@dataclass(frozen=True, repr=False)
class p(Objective):
    """1 - p: maximises the expected accuracy of a sampled token. Same gradient as `dft`,
    `power(1)`.

    The paper calls it -p; the constant changes no gradient and keeps the value in [0, 1].
    """

    formula = "1 - p"
    weight_formula = "p"
    summary = "trusts the model's prior; best where it is strong and labels are noisy"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526"
    also_known_as = ("-p", "1-p", "mae", "prob", "unhinged")
    example = "p()"

    def _f(self, logp: Tensor) -> Tensor:
        return -torch.expm1(logp)

    def _w(self, logp: Tensor) -> Tensor:
        return logp.exp()


@dataclass(frozen=True, repr=False)
class power(Objective):
    """(1 - p^alpha) / alpha for any real alpha; NLL is its limit at alpha = 0, and alpha = 1 is
    `p`.

    Equals the generalised cross-entropy with q = alpha and the Tsallis logarithm with q = 1 -
    alpha. Concave for alpha >= 1, convex for alpha <= 1; prior-leaning for alpha > 1 (alpha = 1 is
    neutral), more prior-averse than NLL for alpha < 0, where the value is unbounded (p^alpha
    overflows float32 below p = 10^(38/alpha)).

    References:
        Li et al. 2025, https://arxiv.org/abs/2510.00526, Eq. 3. Zhang and Sabuncu, "Generalized
        Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", 2018,
        https://arxiv.org/abs/1805.07836.
    """

    alpha: float = field(metadata=bounds())

    formula = "(1 - p^alpha) / alpha"
    weight_formula = "p^alpha"
    summary = "one dial from NLL (alpha = 0) to p (alpha = 1) and beyond"
    source = (
        "Li et al. 2025, https://arxiv.org/abs/2510.00526; Zhang and Sabuncu 2018,"
        " https://arxiv.org/abs/1805.07836"
    )
    also_known_as = ("generalfamily", "family", "alpha", "p_alpha")
    example = "power(0.5)"

    def _f(self, logp: Tensor) -> Tensor:
        # Below this |alpha| the quotient's argument alpha * logp may be subnormal, and the limit is
        # exact anyway.
        if abs(self.alpha) < 1e-20:
            return -logp
        return -torch.expm1(self.alpha * logp) / self.alpha

    def _w(self, logp: Tensor) -> Tensor:
        return torch.exp(self.alpha * logp)


@dataclass(frozen=True, repr=False)
class log1m(Objective):
    """log(1 - p + offset): the most prior-leaning objective of the paper. Without offset its logit
    gradient is W_f(p) = p.

    The value has no lower bound (it falls to -infinity as p -> 1) and must not be read as a
    quality: a run of confident tokens dominates the mean. The gradient that trains is bounded all
    the same, since the logit gradient w(p) (1 - p) = p never exceeds 1. Where 1 - p is below the
    dtype's smallest normal number (1e-38 in float32, 2e-308 in float64) it is held there, so that
    value and weight stay finite: at p = 1 the value is -87 (float32) or -708 (float64).

    The paper writes -log(1 - p) once, which increases with p; its figures use log(1 - p), as here.
    Its code has an offset of 1e-3, which bounds the weight by 1000: tokens whose 1 - p is below
    that train less, W_f(p) = p (1 - p) / (1 - p + offset).
    """

    offset: float = parameter(0.0, low=0.0, high=1.0)

    formula = "log(1 - p + offset)"
    weight_formula = "p / (1 - p + offset)"
    summary = "prior-leaning extreme; value unbounded below, gradient bounded"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Sec. 5.1"
    also_known_as = ("log(1-p)", "log1mp", "log1p")
    example = "log1m()"

    def _f(self, logp: Tensor) -> Tensor:
        if self.offset:
            return torch.log(self.offset - torch.expm1(logp))
        return log_one_minus(logp)

    def _w(self, logp: Tensor) -> Tensor:
        if self.offset:
            return torch.exp(logp) / (self.offset - torch.expm1(logp))
        # p / (1 - p) = 1 / expm1(-logp); expm1 overflows to infinity for tiny p, whose weight is 0
        # anyway.
        return 1.0 / torch.expm1(-logp).clamp(min=torch.finfo(logp.dtype).tiny)

    def logit_gradient(self, logp: Tensor) -> Tensor:
        if self.offset:
            return super().logit_gradient(logp)
        return widen(logp).exp()  # p / (1 - p) * (1 - p) = p, exact also where 1 - p is held

    def __repr__(self) -> str:
        return f"log1m({self.offset!r})" if self.offset else "log1m()"


@dataclass(frozen=True, repr=False)
class dft(Objective):
    """-sg(p) log p (Dynamic Fine-Tuning), sg = stop-gradient: NLL weighted by the detached
    probability.

    The gradient is that of `p`, at every p and under every optimizer; only the value differs, and
    it is not monotone in p (its maximum 1/e is at p = 1/e), so it is not a progress bar. Without sg
    the weight would be p (1 + log p), which is negative below p = 1/e.

    Reference: Wu et al., "On the Generalization of SFT: A Reinforcement Learning Perspective with
    Reward Rectification", 2025, https://arxiv.org/abs/2508.05629.
    """

    formula = "-sg(p) log p"
    weight_formula = "p"
    summary = "same gradient as p, under the name other engines use"
    source = "Wu et al. 2025, https://arxiv.org/abs/2508.05629"
    also_known_as = ("dynamic_fine_tuning",)
    example = "dft()"

    def _f(self, logp: Tensor) -> Tensor:
        return -logp.exp().detach() * logp

    def _w(self, logp: Tensor) -> Tensor:
        return logp.exp()
