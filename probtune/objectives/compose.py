"""Objectives made of others: thresholds, a floor and a cap on the weight, mixtures."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Set
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import Objective, bounds, widen
from .signals import Signals

__all__ = ["Composed", "Incomplete", "above", "below", "cap", "floor", "mix"]


class Composed(Objective):
    """An objective made of others, its parameters; it needs the signals that they need."""

    def _inner(self) -> dict[str, Objective]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Objective)}

    def _with(self, change: Callable[[Objective], Objective]) -> Objective:
        inner = {name: change(value) for name, value in self._inner().items()}
        return replace(self, **inner)  # type: ignore[type-var]

    @property
    def needs(self) -> Set[str]:
        return frozenset().union(*(value.needs for value in self._inner().values()))

    def bind(self, signals: Signals) -> Objective:
        if self.needs.isdisjoint(signals):
            return self
        return self._with(lambda f: f.bind(signals))

    @property
    def terms(self) -> Set[str]:
        return frozenset().union(*(value.terms for value in self._inner().values()))

    @property
    def thresholds(self) -> tuple[float, ...]:
        return tuple(q for value in self._inner().values() for q in value.thresholds)

    def _check(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, Objective):
                raise ObjectiveError(
                    f"{type(self).__name__}: {name} must be an objective, got {value!r}; write"
                    f" {type(self).example}."
                )

    def _check_weight_only(self, value: Objective) -> None:
        if value.terms:
            raise ObjectiveError(
                f"{type(self).__name__}: {value} is no token weight alone, since it has a gradient"
                f" through {', '.join(sorted(value.terms))}; put {type(self).__name__} inside it."
            )


class Incomplete(Objective):
    """An objective without a value until its signals are bound."""

    @abstractmethod
    def incomplete(self) -> ObjectiveError:
        """The error that says what is missing and who provides it."""

    def _f(self, logp: Tensor) -> Tensor:
        raise self.incomplete()

    def _w(self, logp: Tensor) -> Tensor:
        raise self.incomplete()

    def keeps(self, logp: Tensor) -> Tensor:
        raise self.incomplete()


@dataclass(frozen=True, repr=False)
class _Threshold(Composed):
    """Base class of `above` and `below`: an inner objective `f` whose weight is set to 0 beyond a
    probability `q`.
    """

    q: float = field(metadata=bounds(low=0.0, high=1.0))
    f: Objective

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    def _f(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f.logit_gradient(logp))

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        factors = self.f.coefficients(logp)
        return {name: self._where_kept(logp, value) for name, value in factors.items()}

    def _where_kept(self, logp: Tensor, of_f: Tensor) -> Tensor:
        return torch.where(self.keeps(logp), of_f, torch.zeros_like(of_f))

    def _log_q(self) -> float:
        return math.log(self.q) if self.q > 0.0 else -math.inf

    @property
    def thresholds(self) -> tuple[float, ...]:
        return (self.q, *super().thresholds)


@dataclass(frozen=True, repr=False)
class above(_Threshold):
    """f(p) where the current p >= q, otherwise 0: the hard threshold of the paper's Eq. 4, keeping
    confident tokens.

    The weight of the others is set to 0. The mask of supervised tokens and the denominator of the
    mean are not touched (the paper's code divides by the kept tokens instead; that is the trainer's
    `normalizer="kept"`). A token below q has no gradient of its own and returns only if other
    tokens lift it.
    """

    formula = "f(p) if p >= q else 0"
    weight_formula = "w_f(p) if p >= q else 0"
    summary = "drops tokens the model finds unlikely"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Eq. 4"
    also_known_as = ("onlytopp", "onlytoplogp", "threshold")
    example = "above(0.2, nll())"

    def keeps(self, logp: Tensor) -> Tensor:
        return (widen(logp) >= self._log_q()) & self.f.keeps(logp)


@dataclass(frozen=True, repr=False)
class below(_Threshold):
    """f(p) where the current p <= q, otherwise 0: trains only what the model does not expect yet.
    See `above`.
    """

    formula = "f(p) if p <= q else 0"
    weight_formula = "w_f(p) if p <= q else 0"
    summary = "drops tokens the model already expects"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Eq. 4"
    also_known_as = ("onlybottomp", "onlybottomlogp")
    example = "below(0.9, nll())"

    def keeps(self, logp: Tensor) -> Tensor:
        return (widen(logp) <= self._log_q()) & self.f.keeps(logp)


@dataclass(frozen=True, repr=False)
class _Clamped(Composed):
    """Base class of `floor` and `cap`: an inner objective `f` whose weight is held on one side of
    `m`, fixed.
    """

    m: float = field(metadata=bounds(low=0.0))
    f: Objective

    formula = "-sg(w(p)) log p"

    def __post_init__(self):
        super().__post_init__()
        self._check("f")
        self._check_weight_only(self.f)

    def _f(self, logp: Tensor) -> Tensor:
        return -self._w(logp).detach() * logp

    def keeps(self, logp: Tensor) -> Tensor:
        return self.f.keeps(logp)


@dataclass(frozen=True, repr=False)
class floor(_Clamped):
    """`f` with a weight of at least `m`: -sg(max(w_f(p), m)) log p, sg = stop-gradient.

    Every token keeps a gradient, so an unlikely target becomes likely in a time of order
    log(1/p) / m instead of 1/p. It lifts what a threshold inside drops.

    References:
        Ji et al., "Tailoring Language Generation Models under Total Variation Distance", 2023,
        https://arxiv.org/abs/2302.13344 (a floor under p / (gamma + (1 - gamma) p)). Authors of DFT
        suggest 0.1 for models that do not learn their end token, DFT issue 1.
    """

    weight_formula = "max(w_f(p), m)"
    summary = "keeps unlikely targets learnable under a prior-leaning objective"
    source = "Ji et al. 2023, https://arxiv.org/abs/2302.13344"
    also_known_as = ("min_weight",)
    example = "floor(0.1, dft())"
    caution = "wrong labels that the model finds unlikely keep the floor's weight as well"

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.f, cap) and self.m > self.f.m:
            raise ObjectiveError(
                f"floor: m = {self.m:g} lies above the cap {self.f.m:g} inside; swap the numbers."
            )

    def _w(self, logp: Tensor) -> Tensor:
        return self.f._w(logp).clamp(min=self.m)

    def keeps(self, logp: Tensor) -> Tensor:
        return Objective.keeps(self, logp) if self.m > 0 else super().keeps(logp)


@dataclass(frozen=True, repr=False)
class cap(_Clamped):
    """`f` with a weight of at most `m`: -sg(min(w_f(p), m)) log p, sg = stop-gradient.

    For weights that grow without bound: negative powers, importance ratios.
    """

    weight_formula = "min(w_f(p), m)"
    summary = "bounds the weight of single tokens"
    source = "Qin and Springenberg 2025 (clipped weights), https://arxiv.org/abs/2507.12856"
    also_known_as = ("max_weight", "clip")
    example = "cap(10, power(-0.5))"

    def __post_init__(self):
        super().__post_init__()
        if self.m == 0.0:
            raise ObjectiveError(
                "cap: m must be positive, got 0: the weight would be 0 everywhere."
            )
        if isinstance(self.f, floor) and self.m < self.f.m:
            raise ObjectiveError(
                f"cap: m = {self.m:g} lies below the floor {self.f.m:g} inside; swap the numbers."
            )

    def _w(self, logp: Tensor) -> Tensor:
        return self.f._w(logp).clamp(max=self.m)


@dataclass(frozen=True, repr=False)
class mix(Composed):
    """share f(p) + (1 - share) g(p): a mixture of two objectives, in value and in weight."""

    share: float = field(metadata=bounds(low=0.0, high=1.0))
    f: Objective
    g: Objective

    formula = "share f(p) + (1 - share) g(p)"
    weight_formula = "share w_f(p) + (1 - share) w_g(p)"
    summary = "blends two objectives token by token"
    source = "Zhang et al. 2023, https://arxiv.org/abs/2305.16958 (NLL mixed with p)"
    also_known_as = ("mixture", "blend", "interpolate")
    example = "mix(0.3, nll(), p())"

    def __post_init__(self):
        super().__post_init__()
        self._check("f", "g")

    def _f(self, logp: Tensor) -> Tensor:
        return self._blend(self.f._f(logp), self.g._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return self._blend(self.f._w(logp), self.g._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._blend(self.f.logit_gradient(logp), self.g.logit_gradient(logp))

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        factors: dict[str, Tensor] = {}
        for share, part in ((self.share, self.f), (1.0 - self.share, self.g)):
            for name, value in part.coefficients(logp).items():
                factors[name] = factors.get(name, 0.0) + share * value
        return factors

    def _blend(self, of_f: Tensor, of_g: Tensor) -> Tensor:
        if self.share in (0.0, 1.0):  # an infinite value times 0 would be NaN
            return of_f if self.share == 1.0 else of_g
        return self.share * of_f + (1.0 - self.share) * of_g

    def keeps(self, logp: Tensor) -> Tensor:
        if self.share in (0.0, 1.0):
            return (self.f if self.share == 1.0 else self.g).keeps(logp)
        return self.f.keeps(logp) | self.g.keeps(logp)
