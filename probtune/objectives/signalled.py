"""Objectives whose token weight sees more than p: how sure the distribution is, which tokens are
special, what comes with the data.

They have no value until a batch's signals are bound to them, `bind(Signals(...))`, which the
trainer and the head do for every batch. A signal of a weight is never differentiated, as in the
papers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import Objective, parameter
from .compose import Composed, Incomplete
from .literature import TokenPower
from .members import nll
from .signals import SIGNALS, Signals, kind_of

__all__ = [
    "Around",
    "Bound",
    "Changed",
    "Scaled",
    "Signalled",
    "Weighted",
    "deft",
    "eaft",
    "eaft_top",
    "idft",
    "nll_on_answer",
    "nll_on_special",
    "sed",
    "unbound",
    "weighted",
]


class Signalled(Incomplete):
    """An objective that needs signals of its own."""

    signals: ClassVar[frozenset[str]] = frozenset()
    """The signals it needs, whatever its parameters."""

    @property
    def own_needs(self) -> Set[str]:
        """The signals it needs itself, apart from those of objectives inside."""
        return self.signals

    @property
    def needs(self) -> Set[str]:
        return self.own_needs | super().needs

    def bind(self, signals: Signals) -> Objective:
        inner = super().bind(signals)
        return inner.bound(signals) if self.own_needs <= signals.keys() else inner  # type: ignore[attr-defined]

    @abstractmethod
    def bound(self, signals: Signals) -> Objective:
        """The objective once its own signals are known."""

    def incomplete(self) -> ObjectiveError:
        return unbound(self, min(self.own_needs))


def unbound(member: Objective, signal: str) -> ObjectiveError:
    """The error for a value that is asked for before the signal is known."""
    row = SIGNALS[kind_of(signal)]
    return ObjectiveError(f"{member} needs {row.words}, which is not known here; {row.remedy}")


@dataclass(frozen=True, repr=False)
class eaft(Signalled):
    """-sg((H / scale)^alpha) log p, H the entropy of the distribution in nats: entropy-adaptive
    fine-tuning. Where the model is sure, right or wrong, it is left alone.

    The paper's code takes the entropy of the 20 most probable tokens, renormalised, over 3.0 (about
    ln 20), and reports a correlation of 0.999 with the full entropy, which is taken here. Ports
    differ: `eaft(1.0, 1.0)` is the one without the division, and scale = ln V another.

    Reference: EAFT, 2026, https://arxiv.org/abs/2601.02151 (alpha = 1).
    """

    alpha: float = parameter(1.0, low=0.0)
    scale: float = parameter(3.0)

    signals = frozenset({"entropy"})
    formula = "-sg(w) log p"
    weight_formula = "(H / scale)^alpha"
    summary = "leaves alone what the model is sure of; blocks new knowledge it contradicts"
    source = "EAFT 2026, https://arxiv.org/abs/2601.02151"
    also_known_as = ("entropy_adaptive",)
    example = "eaft(1.0, 3.0)"
    caution = "forgets more than NLL on some models (CPR, https://arxiv.org/abs/2608.30158)"

    def __post_init__(self):
        super().__post_init__()
        _check_scale(self)

    def bound(self, signals: Signals) -> Objective:
        entropy = signals["entropy"].detach().clamp(min=0.0)
        return Weighted(self, (entropy / self.scale) ** self.alpha)


def _check_scale(member: eaft | eaft_top) -> None:
    if not member.scale > 0.0:
        raise ObjectiveError(
            f"{type(member).__name__}: scale must be positive, got {member.scale:g}."
        )


@dataclass(frozen=True, repr=False)
class eaft_top(Signalled):
    """-sg((H_k / scale)^alpha) log p, H_k the entropy of the k most probable tokens, renormalised:
    EAFT as its own code computes it. `eaft` takes the entropy of the whole distribution.

    Reference: EAFT, 2026, https://arxiv.org/abs/2601.02151 (k = 20, alpha = 1, scale = 3.0).
    """

    alpha: float = parameter(1.0, low=0.0)
    scale: float = parameter(3.0)
    k: float = parameter(20, low=2, whole=True)

    formula = "-sg(w) log p"
    weight_formula = "(H_k / scale)^alpha"
    summary = "eaft with the entropy of the k most probable tokens, as its code has it"
    source = "EAFT 2026, https://arxiv.org/abs/2601.02151"
    example = "eaft_top(1.0, 3.0, 20)"
    caution = "as eaft"

    def __post_init__(self):
        super().__post_init__()
        _check_scale(self)

    @property
    def own_needs(self) -> Set[str]:
        return {f"top_entropy:{self.k}"}

    def bound(self, signals: Signals) -> Objective:
        entropy = signals[f"top_entropy:{self.k}"].detach().clamp(min=0.0)
        return Weighted(self, (entropy / self.scale) ** self.alpha)


@dataclass(frozen=True, repr=False)
class idft(Signalled):
    """(1 - p^g) / g with the token's own power g = clip(exp(-(log p + H) / beta), low, high), held
    fixed: NLL-like where the target is more likely than the model's own samples are on average, and
    p^2-like where it is far less likely.

    The paper's code moves g from 1 at the start to this; `anneal(p(), idft(), 0.2, 0.3)` is that.

    Reference: IDFT, 2026, https://arxiv.org/abs/2602.12222 (beta = 1, low = 0.1, high = 2).
    """

    beta: float = parameter(1.0, low=0.0)
    low: float = parameter(0.1, low=0.0)
    high: float = parameter(2.0, low=0.0)

    signals = frozenset({"entropy"})
    formula = "(1 - p^g) / g, g = clip(exp(-(log p + H) / beta), low, high)"
    weight_formula = "p^g"
    summary = "a power for each token, by how surprising it is to the model"
    source = "IDFT 2026, https://arxiv.org/abs/2602.12222"
    example = "idft(1.0, 0.1, 2.0)"
    caution = "atypical targets get p^2, and hardly ever escape"

    def __post_init__(self):
        super().__post_init__()
        if not (self.beta > 0.0 and 0.0 < self.low <= self.high):
            raise ObjectiveError(
                "idft: beta and low must be positive and low not above high, got"
                f" {self.beta:g}, {self.low:g}, {self.high:g}."
            )

    def bound(self, signals: Signals) -> Objective:
        return _Idft(self, signals["entropy"].detach())


@dataclass(frozen=True, repr=False)
class deft(Signalled):
    """(1 - p^a) / a with a = C, the collision probability, held fixed: NLL where the distribution
    is spread, `p` where it is sure.

    Reference: DEFT, 2026, https://arxiv.org/abs/2602.11424 (its code divides by a + 1e-6).
    """

    signals = frozenset({"collision"})
    formula = "(1 - p^C) / C, C the sum of squared probabilities"
    weight_formula = "p^C"
    summary = "NLL where the model is unsure, p where it is sure"
    source = "DEFT 2026, https://arxiv.org/abs/2602.11424"
    example = "deft()"
    caution = "where the model is confidently wrong it stalls like p"

    def bound(self, signals: Signals) -> Objective:
        return _Powers(self, signals["collision"].detach())


@dataclass(frozen=True, repr=False)
class sed(Signalled):
    """-log p + lam (p - 1/2)^2 where the k most probable tokens together have less than c, else
    -log p: a pull towards p = 1/2 where the model is undecided.

    The paper calls it an entropy term; its code adds this square.

    Reference: SED-SFT, 2026, https://arxiv.org/abs/2602.07464 (lam = 0.2, k = 2, c = 0.95).
    """

    lam: float = parameter(0.2, low=0.0)
    k: float = parameter(2, low=1, whole=True)
    c: float = parameter(0.95, low=0.0, high=1.0)

    formula = "-log p + lam 1[top-k mass < c] (p - 1/2)^2"
    weight_formula = "1 + lam 1[top-k mass < c] p (1 - 2p)"
    summary = "NLL that keeps open what the model is undecided on"
    source = "SED-SFT 2026, https://arxiv.org/abs/2602.07464"
    example = "sed(0.2, 2, 0.95)"

    @property
    def own_needs(self) -> Set[str]:
        return {f"top_mass:{self.k}"}

    def bound(self, signals: Signals) -> Objective:
        return _Sed(self, self.lam * (signals[f"top_mass:{self.k}"] < self.c))


@dataclass(frozen=True, repr=False)
class weighted(Signalled, Composed):
    """`f` with each token's loss and gradient times a number that comes with the data: a column of
    the dataset with one number per row, or (for tokenized datasets) a list of numbers aligned with
    `input_ids`.

    For weights that a method computes outside: quality scores of rows, importance ratios (PEAR),
    gradient utilities (VCORE), prompt and completion weights (WIT). The denominator stays the
    number of supervised tokens.

    References: PEAR, 2026, https://arxiv.org/abs/2602.01058; VCORE, 2025,
    https://arxiv.org/abs/2510.27462.
    """

    f: Objective
    column: str

    formula = "c f(p), c from the data"
    weight_formula = "c w_f(p)"
    summary = "weights that come with the data"
    source = "PEAR 2026, https://arxiv.org/abs/2602.01058 (and others)"
    example = 'weighted(nll(), "quality")'

    def __post_init__(self):
        self._check("f")
        if not isinstance(self.column, str) or not self.column.strip() or ":" in self.column:
            raise ObjectiveError(
                f"weighted: column must be the name of a column of the data, without ':', got"
                f" {self.column!r}; write {self.example}."
            )

    @property
    def own_needs(self) -> Set[str]:
        return {f"column:{self.column}"}

    def bound(self, signals: Signals) -> Objective:
        return Scaled(self, self.f, signals[f"column:{self.column}"].detach())


class _NllOn(Signalled, Composed):
    """NLL where a mask of the data is true, `f` elsewhere."""

    f: Objective

    def __post_init__(self):
        self._check("f")

    def bound(self, signals: Signals) -> Objective:
        (name,) = self.own_needs
        return _Chosen(self, self.f, signals[name].bool(), nll())


@dataclass(frozen=True, repr=False)
class nll_on_special(_NllOn):
    """NLL on special tokens (end of text, end of turn, padding that is trained on), `f` on all
    others. A prior-leaning objective may never teach a model to stop, since the end token starts
    with a tiny probability; this one does.

    Special are all tokens that were added to the tokenizer's vocabulary, with a name of their own
    (`eos_token`) or without, such as the `<|eot_id|>` that ends a turn of LLaMA 3.
    """

    f: Objective

    signals = frozenset({"special"})
    formula = "-log p on special tokens, else f(p)"
    weight_formula = "1 on special tokens, else w_f(p)"
    summary = "teaches the end token under a prior-leaning objective"
    source = "users' reports on DFT, https://github.com/yongliang-wu/DFT/issues/14"
    also_known_as = ("always_nll", "keep_eos")
    example = "nll_on_special(p())"


@dataclass(frozen=True, repr=False)
class nll_on_answer(_NllOn):
    """NLL on the tokens of the final answer, `f` on the reasoning before it.

    `probtune tune` finds the answer with its rule (`--answer`); for `ProbTuneTrainer` the dataset
    has a column `answer_mask`, a list of 0 and 1 aligned with `input_ids`. A row whose answer the
    rule does not find has none.
    """

    f: Objective

    signals = frozenset({"answer"})
    formula = "-log p on the final answer, else f(p)"
    weight_formula = "1 on the final answer, else w_f(p)"
    summary = "teaches new answers under an objective that trusts the model's reasoning"
    source = "ours, after users' reports on DFT, https://github.com/yongliang-wu/DFT/issues/14"
    example = "nll_on_answer(p())"


class Bound(Objective):
    """An objective for one batch. It prints as the member it came from."""

    def __init__(self, of: Objective):
        self._of = of

    def __repr__(self) -> str:
        return repr(self._of)


class Weighted(Bound):
    """-sg(weight) log p."""

    def __init__(self, of: Objective, weight: Tensor):
        super().__init__(of)
        self._weight = weight

    def _f(self, logp: Tensor) -> Tensor:
        return -self._weight.to(logp.dtype) * logp

    def _w(self, logp: Tensor) -> Tensor:
        return self._weight.to(logp.dtype).expand_as(logp)


class Around(Bound):
    """A bound objective around another, which may still need signals."""

    def __init__(self, of: Objective, inner: Objective):
        super().__init__(of)
        self._inner = inner

    @property
    def needs(self) -> Set[str]:
        return self._inner.needs

    @property
    def terms(self) -> Set[str]:
        return self._inner.terms

    @property
    def thresholds(self) -> tuple[float, ...]:
        return self._inner.thresholds

    def bind(self, signals: Signals) -> Objective:
        bound = copy(self)
        bound._inner = self._inner.bind(signals)
        return bound

    def keeps(self, logp: Tensor) -> Tensor:
        return self._inner.keeps(logp)


class Changed(Around):
    """Another objective, its value and all its gradients changed by the same linear map."""

    @abstractmethod
    def _change(self, logp: Tensor, x: Tensor) -> Tensor:
        """The map, per token."""

    def _f(self, logp: Tensor) -> Tensor:
        return self._change(logp, self._inner._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return self._change(logp, self._inner._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._change(logp, self._inner.logit_gradient(logp))

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        factors = self._inner.coefficients(logp)
        return {name: self._change(logp, x) for name, x in factors.items()}


class Scaled(Changed):
    """An objective times a number per token."""

    def __init__(self, of: Objective, inner: Objective, factor: Tensor):
        super().__init__(of, inner)
        self._factor = factor

    def _change(self, logp: Tensor, x: Tensor) -> Tensor:
        return self._factor.to(logp.dtype) * x


class _Sed(Bound):
    def __init__(self, of: Objective, strength: Tensor):
        super().__init__(of)
        self._strength = strength

    def _f(self, logp: Tensor) -> Tensor:
        return -logp + self._strength.to(logp.dtype) * (logp.exp() - 0.5).square()

    def _w(self, logp: Tensor) -> Tensor:
        p = logp.exp()
        return 1.0 + self._strength.to(logp.dtype) * p * (1.0 - 2.0 * p)


class _Powers(Bound, TokenPower):
    def __init__(self, of: Objective, power: Tensor):
        super().__init__(of)
        self._of_tokens = power

    def _power(self, logp: Tensor) -> Tensor:
        return self._of_tokens.to(logp.dtype)


class _Idft(Bound, TokenPower):
    def __init__(self, of: idft, entropy: Tensor):
        super().__init__(of)
        self._idft, self._entropy = of, entropy

    def _power(self, logp: Tensor) -> Tensor:
        surprise = logp.detach() + self._entropy.to(logp.dtype)
        return torch.exp(-surprise / self._idft.beta).clamp(self._idft.low, self._idft.high)


class _Chosen(Around):
    """One objective, of p alone, where a mask is true, another elsewhere."""

    def __init__(self, of: Objective, inner: Objective, mask: Tensor, on: Objective):
        super().__init__(of, inner)
        self._mask, self._on = mask, on

    def _f(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on._f(logp), self._inner._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on._w(logp), self._inner._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        on, off = self._on.logit_gradient(logp), self._inner.logit_gradient(logp)
        return torch.where(self._mask, on, off)

    def coefficients(self, logp: Tensor) -> dict[str, Tensor]:
        factors = self._inner.coefficients(logp)
        return {name: value.masked_fill(self._mask, 0.0) for name, value in factors.items()}

    def keeps(self, logp: Tensor) -> Tensor:
        return torch.where(self._mask, self._on.keeps(logp), self._inner.keeps(logp))
