"""Objectives with a gradient through the whole distribution, besides that through p.

Each is f(p) + sum of c T over terms T of the distribution s = softmax(z):

    term            T                                       dT/dz_v
    uniform         -mean over v of log s_v                 s_v - 1/V
    sharpened:B     sum of sg[q_v] log s_v, q = softmax(z/B)    q_v - s_v
    collision       sum of s_v^2                            2 s_v (s_v - collision)
    entropy         -sum of s_v log s_v                     -s_v (log s_v + entropy)
    kl              sum of r_v log(r_v / s_v), r the reference    s_v - r_v
    reverse_kl      sum of s_v log(s_v / r_v)               s_v (log(s_v / r_v) - reverse_kl)
    guided:E        sum of sg[q_v] log(q_v / s_v), q ~ s^(1-E) r^E    s_v - q_v

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
    "q_target",
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


_PROBABILITIES = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)[1:]


@dataclass(frozen=True, repr=False)
class q_target(Signalled, Composed):
    """Cross-entropy to a target distribution Q = c onehot + (1 - c) q, held fixed: c = w_f(p) says
    how far to rely on the token, and q how the rest of the mass is spread, by the geometric mean of
    the model and the reference model, q ~ s^(1 - eta) r^eta. Gradient s - Q.

    `q_target(eta, p())` is Target-SFT with the model before training as the teacher (the paper has
    another, stronger model there). eta = 0 leaves the rest where the model has it and is `f`; eta =
    1 puts it where the reference model does, and `q_target(1, affine(1 - c, 0))` is distillation
    with a share c, in gradient 1 - c times `kl_anchor(c / (1 - c), nll())`. With w_f = 1 it is NLL.

    Reference: Xie et al., "A Unifying Lens on Supervised Fine-Tuning Through Target Distribution
    Design", 2026, https://arxiv.org/abs/2606.11189; the rules are those of its project page,
    https://txie1.github.io/Target-SFT. No value of eta was found there.
    """

    eta: float = field(metadata=bounds(low=0.0, high=1.0))
    f: Objective

    formula = "f(p) + (1 - sg(w_f(p))) KL(sg(q) || s), q ~ s^(1-eta) r^eta, r the reference model"
    weight_formula = "w_f(p), and (1 - w_f(p)) (s - q)"
    summary = "relies on a token as far as f does, and on the reference model for the rest"
    source = "Xie et al. 2026 (Target-SFT), https://arxiv.org/abs/2606.11189"
    also_known_as = ("target_sft", "targetsft", "qtarget")
    example = "q_target(0.5, p())"
    caution = "the paper's teacher is a stronger model; here it is the model before training"

    def __post_init__(self):
        super().__post_init__()
        self._check("f")
        self._check_weight_only(self.f)
        if self.f.needs:
            raise ObjectiveError(
                f"q_target: f must be a function of p alone, so that its weight is known to lie in"
                f" [0, 1]; {self.f} needs {', '.join(sorted(self.f.needs))}."
            )
        weight = self.f.token_weight(_PROBABILITIES.log())
        if not bool(((weight >= 0.0) & (weight <= 1.0 + 1e-12)).all()):
            raise ObjectiveError(
                f"q_target: the weight of f is a share of the target and must lie in [0, 1]; that"
                f" of {self.f} reaches from {weight.min():.3g} to {weight.max():.3g}. cap(1,"
                f" {self.f}) bounds it."
            )

    @property
    def own_needs(self) -> Set[str]:
        return {f"guided:{self.eta:g}"}

    @property
    def terms(self) -> Set[str]:
        return self.own_needs | super().terms

    def bound(self, signals: Signals) -> Objective:
        (name,) = self.own_needs
        return _Towards(self, self.f, name, signals[name].detach())


class _Towards(Around):
    """f(p) plus a term whose factor is what the weight of f leaves of 1."""

    def __init__(self, of: Objective, f: Objective, name: str, value: Tensor):
        super().__init__(of, f)
        self._name, self._value = name, value

    @property
    def terms(self) -> Set[str]:
        return super().terms | {self._name}

    def _rest(self, logp: Tensor) -> Tensor:
        return (1.0 - self._inner._w(logp.detach())).clamp(min=0.0)

    def _f(self, logp: Tensor) -> Tensor:
        return self._inner._f(logp) + self._rest(logp) * self._value.to(logp.dtype)

    def _w(self, logp: Tensor) -> Tensor:
        return self._inner._w(logp)

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._inner.logit_gradient(logp)

    def keeps(self, logp: Tensor) -> Tensor:
        return torch.ones_like(logp, dtype=torch.bool)

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        return {**self._inner.coefficients(logp), self._name: self._rest(logp)}
