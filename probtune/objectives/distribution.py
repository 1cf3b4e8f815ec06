"""Objectives with a gradient through the whole distribution, besides that through p.

Each is f(p) + sum of c T over terms T of the distribution s = softmax(z):

    term            T                                       dT/dz_v
    uniform         -mean over v of log s_v                 s_v - 1/V
    sharpened:B     sum of sg[q_v] log s_v, q = softmax(z/B)    q_v - s_v
    collision       sum of s_v^2                            2 s_v (s_v - collision)
    entropy         -sum of s_v log s_v                     -s_v (log s_v + entropy)
    kl              sum of r_v log(r_v / s_v), r the reference    s_v - r_v
    reverse_kl      sum of s_v log(s_v / r_v)               s_v (log(s_v / r_v) - reverse_kl)

The head adds c dT/dz to the gradient of f(p), in the same pass over the logits. A threshold around
such an objective drops the token's terms too; a floor or a cap around it is refused, since it has
no weight to clamp.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import Objective, bounds, parameter
from .compose import Composed
from .literature import affine
from .members import nll
from .signalled import Around, Signalled
from .signals import Signals

__all__ = [
    "brier",
    "entropy_bonus",
    "gem",
    "kl_anchor",
    "label_smoothing",
    "reverse_kl_anchor",
]


class _Shaped(Signalled):
    """f(p) + sum of c T + a constant."""

    @property
    @abstractmethod
    def target(self) -> Objective:
        """f(p)."""

    @property
    @abstractmethod
    def factors(self) -> dict[str, float]:
        """Term -> c."""

    constant: float = 0.0

    @property
    def own_needs(self) -> Set[str]:
        return frozenset(self.factors)

    @property
    def terms(self) -> Set[str]:
        return self.own_needs | super().terms

    def bound(self, signals: Signals) -> Objective:
        terms = [c * signals[name].detach() for name, c in self.factors.items()]
        return _Sum(self, self.target, self.factors, torch.stack(terms).sum(0) + self.constant)


class _Sum(Around):
    """f(p) plus terms whose values are known."""

    def __init__(self, of: Objective, target: Objective, factors: dict[str, float], added: Tensor):
        super().__init__(of, target)
        self._factors, self._added = factors, added

    @property
    def terms(self) -> Set[str]:
        return super().terms | frozenset(self._factors)

    def _f(self, logp: Tensor) -> Tensor:
        return self._inner._f(logp) + self._added.to(logp.dtype)

    def _w(self, logp: Tensor) -> Tensor:
        return self._inner._w(logp)

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._inner.logit_gradient(logp)

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        factors = self._inner.coefficients(logp)
        for name, factor in self._factors.items():
            factors[name] = factors.get(name, 0.0) + torch.full_like(logp, factor)
        return factors


@dataclass(frozen=True, repr=False)
class label_smoothing(_Shaped):
    """-(1 - eps) log p - (eps / V) sum of log s_v: cross-entropy against labels mixed with the
    uniform distribution.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016,
    https://arxiv.org/abs/1512.00567 (eps = 0.1); for language models:
    https://arxiv.org/abs/2508.00264.
    """

    eps: float = parameter(0.1, low=0.0, high=1.0)

    formula = "-(1 - eps) log p - (eps / V) sum of log s_v"
    weight_formula = "gradient s - (1 - eps) onehot - eps / V"
    summary = "keeps the distribution from collapsing on the target"
    source = "Szegedy et al. 2016, https://arxiv.org/abs/1512.00567"
    example = "label_smoothing(0.1)"
    caution = "weak where the vocabulary is large beside the hidden size (2508.00264)"

    @property
    def target(self) -> Objective:
        return affine(1.0 - self.eps, 0.0)

    @property
    def factors(self) -> dict[str, float]:
        return {"uniform": self.eps}


@dataclass(frozen=True, repr=False)
class brier(_Shaped):
    """|s - onehot|^2 = 1 - 2p + sum of s_v^2: a proper scoring rule that is bounded, so that a
    wrong label costs at most 2.

    Reference: Shao et al., "Language Generation with Strictly Proper Scoring Rules", 2024,
    https://arxiv.org/abs/2405.18906.
    """

    formula = "1 - 2p + sum of s_v^2"
    weight_formula = "gradient 2 s (s - onehot - sum of s_v (s - onehot)_v)"
    summary = "a bounded proper scoring rule: calibrated, and robust to wrong labels"
    source = "Shao et al. 2024, https://arxiv.org/abs/2405.18906"
    also_known_as = ("brier_score", "mse")
    example = "brier()"
    caution = "nearly flat where the target starts unlikely"

    constant = -1.0

    @property
    def target(self) -> Objective:
        return affine(0.0, 2.0)

    @property
    def factors(self) -> dict[str, float]:
        return {"collision": 1.0}


@dataclass(frozen=True, repr=False)
class gem(_Shaped):
    """-log p + sum of sg[q_v] log s_v with q = softmax(z / beta), beta < 1: raises the target until
    the model would sample it at temperature beta, and no further, so that other likely tokens
    survive. Gradient q - onehot.

    The loss is not bounded below by 0, and its value must not be compared with others'. This is
    the code's form with the linear function h; the one with a log-sigmoid is not offered.

    Reference: Li et al., "Preserving Diversity in Supervised Fine-Tuning of Large Language Models",
    2024, https://arxiv.org/abs/2408.16673 (beta = 0.7).
    """

    beta: float = parameter(0.7)

    formula = "-log p + sum of sg[q_v] log s_v, q = softmax(z / beta)"
    weight_formula = "gradient q - onehot"
    summary = "fits the data and keeps other likely answers"
    source = "Li et al. 2024, https://arxiv.org/abs/2408.16673"
    example = "gem(0.7)"

    def __post_init__(self):
        super().__post_init__()
        if not self.beta > 0.0:
            raise ObjectiveError(f"gem: beta must be positive, got {self.beta:g}.")

    @property
    def target(self) -> Objective:
        return nll()

    @property
    def factors(self) -> dict[str, float]:
        return {f"sharpened:{self.beta:g}": 1.0}


class _Added(_Shaped, Composed):
    """An objective plus a term with a factor."""

    lam: float
    f: Objective

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    @property
    def target(self) -> Objective:
        return self.f


@dataclass(frozen=True, repr=False)
class entropy_bonus(_Added):
    """f(p) - lam H: rewards a spread distribution.

    Reference: Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output
    Distributions", 2017, https://arxiv.org/abs/1701.06548.
    """

    lam: float = field(metadata=bounds(low=0.0))
    f: Objective

    formula = "f(p) - lam H"
    weight_formula = "w_f(p), and the entropy's gradient"
    summary = "keeps the distribution from collapsing, on the target or elsewhere"
    source = "Pereyra et al. 2017, https://arxiv.org/abs/1701.06548"
    example = "entropy_bonus(0.01, nll())"

    @property
    def factors(self) -> dict[str, float]:
        return {"entropy": -self.lam}


@dataclass(frozen=True, repr=False)
class kl_anchor(_Added):
    """f(p) + lam KL(r || s), r the reference model's distribution: stay where the reference model
    has mass. `kl_anchor(0.05, dft())` is anchored supervised fine-tuning (ASFT).

    The reference model is the model before training: its adapters switched off where LoRA is
    trained, a frozen copy otherwise. It costs a forward pass, without a copy of the logits.

    Reference: Zhu et al., "Anchored Supervised Fine-Tuning", 2025, https://arxiv.org/abs/2509.23753
    (lam = 0.05 in the paper, 0.1 in its code, with DFT).
    """

    lam: float = field(metadata=bounds(low=0.0))
    f: Objective

    formula = "f(p) + lam KL(r || s), r the reference model"
    weight_formula = "w_f(p), and lam (s - r)"
    summary = "trains towards the data and stays near the model before training"
    source = "Zhu et al. 2025 (ASFT), https://arxiv.org/abs/2509.23753"
    also_known_as = ("asft", "anchor", "sft_kl")
    example = "kl_anchor(0.05, dft())"

    @property
    def factors(self) -> dict[str, float]:
        return {"kl": self.lam}


@dataclass(frozen=True, repr=False)
class reverse_kl_anchor(_Added):
    """f(p) + lam KL(s || r), r the reference model's distribution: put no mass where the reference
    model has none. See `kl_anchor`.
    """

    lam: float = field(metadata=bounds(low=0.0))
    f: Objective

    formula = "f(p) + lam KL(s || r), r the reference model"
    weight_formula = "w_f(p), and lam s (log(s / r) - KL)"
    summary = "kl_anchor with the divergence of reinforcement learning"
    source = "Zhu et al. 2025 (ASFT), https://arxiv.org/abs/2509.23753"
    also_known_as = ("asft_reverse",)
    example = "reverse_kl_anchor(0.05, dft())"

    @property
    def factors(self) -> dict[str, float]:
        return {"reverse_kl": self.lam}
