"""Base class of all objectives: a value and a weight per token, and the way it leans."""

from __future__ import annotations

import itertools
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import field, fields, is_dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import ObjectiveError
from .signals import HEAD_SIGNALS, Signals, kind_of, parameter_of

__all__ = [
    "OWN",
    "SHARE",
    "TABLE",
    "Objective",
    "bounds",
    "checked",
    "handle",
    "inner_objectives",
    "log_one_minus",
    "number",
    "parameter",
    "parameters",
    "widen",
]

TABLE: dict[str, type[Objective]] = {}
"""Name -> member of this package, in the order of definition."""

OWN: weakref.WeakValueDictionary[str, Objective] = weakref.WeakValueDictionary()
"""Handle -> a user's own objective, of this process."""

_NUMBERS = itertools.count()


def widen(logp: Tensor) -> Tensor:
    """In float32 or wider: bfloat16 rounds p = 0.998 and p = 1 to the same number."""
    return logp if logp.dtype in (torch.float32, torch.float64) else logp.float()


def log_one_minus(logp: Tensor) -> Tensor:
    """log(1 - p) with all digits at both ends, and finite at p = 1, where 1 - p is held at the
    dtype's smallest normal number.
    """
    # log(1 - exp(logp)) loses its digits in one form near p = 0 and in the other near p = 1. Each
    # branch is fed a harmless value where it is not used, since `where` passes the other branch's
    # NaN gradient on.
    high = logp > -math.log(2.0)
    near_one = -torch.expm1(torch.where(high, logp, -1.0))
    near_one = near_one.clamp(min=torch.finfo(logp.dtype).tiny).log()
    return torch.where(high, near_one, torch.log1p(-torch.exp(torch.where(high, -1.0, logp))))


def bounds(
    *, low: float = -math.inf, high: float = math.inf, whole: bool = False, positive: str = ""
) -> dict[str, Any]:
    """Metadata of a field that is a number, `q: float = field(metadata=bounds(low=0.0))`, which
    `Objective.__post_init__` checks.

    Args:
        low, high: its range, the ends included.
        whole: a whole number, and stored as one.
        positive: what to do instead of 0, which is refused with these words.
    """
    return {"low": low, "high": high, "whole": whole, "positive": positive}


SHARE = bounds(low=0.0, high=1.0, positive=": no token would be left.")
"""Metadata of a field that is a share in (0, 1]."""


def parameter(
    default: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    whole: bool = False,
    positive: str = "",
) -> Any:
    """A field that is a number and has a default; see `bounds`."""
    metadata = bounds(low=low, high=high, whole=whole, positive=positive)
    return field(default=default, metadata=metadata)


def checked(owner: str, name: str, value: object, metadata: Mapping[str, Any]) -> float:
    """Return the value of an objective's parameter, or raise for one that `bounds` forbids."""
    result = number(owner, name, value, metadata["low"], metadata["high"])
    if metadata["positive"] and result == 0.0:
        raise ObjectiveError(f"{owner}: {name} must be positive, got 0{metadata['positive']}")
    if not metadata["whole"]:
        return result
    if result != int(result):
        raise ObjectiveError(f"{owner}: {name} must be a whole number, got {result:g}.")
    return int(result)


def number(
    owner: str, name: str, value: object, low: float = -math.inf, high: float = math.inf
) -> float:
    """Return a parameter as a finite float in [low, high], or raise."""
    what = f"{owner}: {name}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ObjectiveError(f"{what} must be a finite number, got {value!r}.")
    if not low <= value <= high:
        inside = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ObjectiveError(f"{what} must be {inside}, got {value}.")
    return float(value)


class Objective(ABC):
    """A function f(p) of the target probability, evaluated from log p.

    Members are final frozen dataclasses; their lower-case names are the text a user writes. A
    member states its formulas for the table (`probtune objectives`) and implements them as `_f` and
    `_w`. A weight that is detached in a paper's text (`dft`, thresholds) is simply a weight here.
    """

    formula: ClassVar[str] = ""
    """f(p), as printed in tables."""
    weight_formula: ClassVar[str] = ""
    """w(p) = -p f'(p), as printed in tables."""
    summary: ClassVar[str] = ""
    """Its purpose, in one line."""
    source: ClassVar[str] = ""
    """Author, year and link."""
    also_known_as: ClassVar[tuple[str, ...]] = ()
    """Other names in the field, used to answer a text that is not one of ours."""
    example: ClassVar[str] = ""
    """A text that `objective` reads."""
    caution: ClassVar[str] = ""
    """Reported failures, and where they are reported."""
    own: ClassVar[bool] = False
    """True for a user's own class, which is no part of this package."""

    _handle: str | None = None

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if not cls.__module__.startswith(f"{__package__}."):
            cls.own = True
        elif "example" in vars(cls):  # a class that a text can name, not a base of several
            TABLE[cls.__name__] = cls

    def __new__(cls, *arguments: Any, **options: Any):
        if cls.__hash__ is None:
            raise ObjectiveError(
                f"{cls.__name__}: an objective is a value and does not change; write"
                " @dataclass(frozen=True) above the class."
            )
        self = super().__new__(cls)
        if cls.own:
            name = f"own_{next(_NUMBERS)}"
            object.__setattr__(self, "_handle", name)
            OWN[name] = self
        return self

    def __post_init__(self):
        """Check the fields made by `parameter`; a member with further rules calls this first."""
        for item in fields(self):  # type: ignore[arg-type]
            if "low" in item.metadata:
                value = checked(
                    type(self).__name__, item.name, getattr(self, item.name), item.metadata
                )
                object.__setattr__(self, item.name, value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy gets a handle of its own, and another process knows none.
        return {name: value for name, value in vars(self).items() if name != "_handle"}

    @abstractmethod
    def _f(self, logp: Tensor) -> Tensor:
        """f(p), from log p in float32 or wider; a weight that a paper holds fixed is detached, so
        that autograd through this is the gradient that is meant.
        """

    @abstractmethod
    def _w(self, logp: Tensor) -> Tensor:
        """w(p) = -p f'(p), from log p in float32 or wider."""

    def value(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """f(p) per token, same shape as `logp`, in float32 or wider; d value / d logp = -weight.

        The derivative is `token_weight`, not what autograd makes of f: through `expm1` it would
        lose every digit of a weight below 1e-7 in float32.
        """
        return _Value.apply(widen(logp), self)  # type: ignore[return-value]

    def __call__(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """Return f(p) per token; the same as `value`.

        >>> from probtune.objectives import p
        >>> p()(torch.tensor([0.25], dtype=torch.float64).log())
        tensor([0.7500], dtype=torch.float64)
        """
        return self.value(logp)

    def token_weight(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """w(p) = -p f'(p) per token: the factor on NLL's gradient. Same shape as `logp`."""
        return self._w(widen(logp))

    def logit_gradient(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """W_f(p) = w(p) (1 - p): the size of the gradient of the target's own logit."""
        logp = widen(logp)
        return self.token_weight(logp) * -torch.expm1(logp)

    def keeps(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """True where no threshold drops the token. A kept token may still have weight 0."""
        return torch.ones_like(logp, dtype=torch.bool)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probabilities at which the weight jumps, in (0, 1)."""
        return ()

    def at(self, progress: float) -> Objective:
        """The objective in force when a share `progress` of the training steps is done: itself,
        unless an `anneal` is in it.
        """
        return self.bind(Signals(progress=progress))

    def fixed(self, quantile: Callable[[float], float]) -> Objective:
        """With every cut-off of `top` and `bottom` fixed by the base model's quantiles of p on the
        training data: itself, unless one is in it.
        """
        cuts = [name for name in self.needs if kind_of(name) == "base_quantile"]
        return self.bind(Signals({name: quantile(float(parameter_of(name))) for name in cuts}))

    @property
    def needs(self) -> Set[str]:
        """The signals it needs besides p, as `Signals` names them."""
        return frozenset()

    @property
    def kinds(self) -> Set[str]:
        """The signals of `needs` without their parameters: names of `SIGNALS`."""
        return frozenset(map(kind_of, self.needs))

    @property
    def distribution_needs(self) -> Set[str]:
        """The signals of `needs` that come from the pass over the logits: `HEAD_SIGNALS`."""
        return frozenset(name for name in self.needs if kind_of(name) in HEAD_SIGNALS)

    def bind(self, signals: Signals) -> Objective:
        """The objective with these signals; itself, unless it needs one of them. One that is bound
        to numbers per token is no value: it has no text that can be read back.
        """
        return self

    @property
    def terms(self) -> Set[str]:
        """The signals of `needs` through which it has a gradient besides that through p."""
        return frozenset()

    def coefficients(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> dict[str, Tensor]:
        """Return for each term of a bound objective the factor per token, held fixed, with which
        the term's gradient enters. Same shape as `logp`.
        """
        return {}

    def mass_above(self, tau: float) -> float:
        """The share of the mass of W_f on p in [tau, 1], by quadrature.

        Where the mass diverges at p = 0 (`power(alpha)`, alpha <= -1), it is cut off at p = 1e-30.

            >>> from probtune.objectives import nll
            >>> round(nll().mass_above(0.5), 6)
            0.25
        """
        if not 0.0 < tau < 1.0:
            raise ObjectiveError(f"tau must lie strictly between 0 and 1, got {tau}.")
        # Gauss-Legendre over panels of log p, dp = p dlogp: W_f is smooth there down to p = 0. A
        # threshold is an edge, since the weight jumps at it.
        nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(20))
        edges = sorted({1e-30, tau, 1.0, *(q for q in self.thresholds if 0.0 < q < 1.0)})
        above_tau = total = 0.0
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            panels = torch.linspace(math.log(low), math.log(high), 201, dtype=torch.float64)
            half = (panels[1] - panels[0]) / 2
            logp = (panels[:-1] + half)[:, None] + half * nodes
            mass = float((self.logit_gradient(logp) * logp.exp() * weights).sum() * half)
            total += mass
            above_tau += mass if low >= tau else 0.0
        if total == 0.0:
            raise ObjectiveError(f"{self} has weight 0 everywhere: it trains nothing.")
        return above_tau / total

    def leaning(self, tau: float = 0.5) -> str:
        """`"prior-leaning"` if most of W_f's mass lies above `tau`, `"prior-averse"` if below.

        `"neutral"` is the exact tie, which -p has at tau = 0.5. The definition is the paper's
        (Def. 3.3); it gives no value for tau, and 0.5 is ours.

            >>> from probtune.objectives import nll, p, power
            >>> nll().leaning(), p().leaning(), power(10).leaning()
            ('prior-averse', 'neutral', 'prior-leaning')
        """
        share = self.mass_above(tau)
        if abs(share - 0.5) < 1e-5:
            return "neutral"
        return "prior-leaning" if share > 0.5 else "prior-averse"

    def __repr__(self) -> str:
        arguments = ", ".join(map(repr, parameters(self)))
        return f"{type(self).__name__}({arguments})"

    def _repr_html_(self) -> str:
        from .notebook import objective_html

        return objective_html(self)


def parameters(objective: Objective) -> list[Any]:
    """The values that make up an objective; of a class that is no dataclass its attributes."""
    if is_dataclass(objective):
        return [getattr(objective, item.name) for item in fields(objective)]
    return [value for name, value in vars(objective).items() if not name.startswith("_")]


def inner_objectives(objective: Objective) -> list[Objective]:
    """The objectives that are parameters of one."""
    return [value for value in parameters(objective) if isinstance(value, Objective)]


def handle(objective: Objective) -> str:
    """The objective as a text that this process can read back, for an operator that takes no
    object: its text, with the number of the object for each of the user's own.
    """
    if objective._handle is not None:
        return objective._handle
    arguments = [
        handle(value) if isinstance(value, Objective) else repr(value)
        for value in parameters(objective)
    ]
    return f"{type(objective).__name__}({', '.join(arguments)})"


class _Value(torch.autograd.Function):
    """f with its weight as the derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logp: Tensor, f: Objective) -> Tensor:
        return f._f(logp)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        logp, ctx.f = inputs
        ctx.save_for_backward(logp)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (logp,) = ctx.saved_tensors
        return -upstream * ctx.f._w(logp), None
