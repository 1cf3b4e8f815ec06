"""Training objectives as functions of the target log-probability.

An objective is a function f(p) of the target token's probability p. It sees nothing else. By the
chain rule its gradient with respect to the logits z is that of NLL, scaled per token:

    df/dz = w(p) (softmax(z) - onehot),     w(p) = -p f'(p)      (token weight; 1 for NLL)

and the size of the gradient of the target's own logit is W_f(p) = w(p) (1 - p) (logit gradient). An
objective is *prior-leaning* when most of the mass of W_f lies above a threshold tau, *prior-averse*
when it lies below.

Objectives are values: small, frozen, comparable, and printed as the text that `objective` reads
    back.

    >>> import torch
    >>> logp = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64).log()
    >>> p().value(logp)
    tensor([0.9000, 0.5000, 0.1000], dtype=torch.float64)
    >>> objective("above(0.2, nll())")
    above(0.2, nll())

Everything is computed from `logp`, in float32 or wider, through `expm1` and `log1p`: `p` itself
rounds to 1 long before `logp` rounds to 0.

References:
    Li, Qiu, Chen, Ji, Tong, "Beyond Log Likelihood: Probability-Based Objectives for Supervised
    Fine-Tuning across the Model Capability Continuum", 2025, https://arxiv.org/abs/2510.00526
    (Lemma 3.1, Prop. 3.2, Def. 3.3, Eq. 3-4). The sign of Lemma 3.1 as printed is lost; the
    identity above is checked by central differences in the tests.
"""

from __future__ import annotations

import ast
import difflib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .errors import ObjectiveError

__all__ = [
    "MEMBERS",
    "Objective",
    "above",
    "below",
    "dft",
    "log1m",
    "nll",
    "objective",
    "objective_list",
    "p",
    "power",
]


def _wide(logp: Tensor) -> Tensor:
    """In float32 or wider: bfloat16 rounds p = 0.998 and p = 1 to the same number."""
    return logp if logp.dtype in (torch.float32, torch.float64) else logp.float()


class Objective(ABC):
    """A function f(p) of the target probability, evaluated from log p.

    Members are final frozen dataclasses; their lower-case names are the text a user writes. A
    member states its formulas for the table (`probtune objectives`) and implements them as `_f` and
    `_w`. A weight that is detached in a paper's text (`dft`, thresholds) is simply a weight here.
    """

    formula: ClassVar[str]
    """f(p), as printed in tables."""
    weight_formula: ClassVar[str]
    """w(p) = -p f'(p), as printed in tables."""
    summary: ClassVar[str]
    """What it is for, in one line."""
    source: ClassVar[str]
    """Author, year and link."""
    also_known_as: ClassVar[tuple[str, ...]] = ()
    """Other names in the field, used to answer a text that is not one of ours."""
    example: ClassVar[str]
    """A text that `objective` reads."""

    @abstractmethod
    def _f(self, logp: Tensor) -> Tensor:
        """f(p), from log p in float32 or wider."""

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
        return _Value.apply(_wide(logp), self)  # type: ignore[return-value]

    def token_weight(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """w(p) = -p f'(p) per token: the factor on NLL's gradient. Same shape as `logp`."""
        return self._w(_wide(logp))

    def logit_gradient(
        self,
        logp: Tensor,  # any shape, <= 0
    ) -> Tensor:
        """W_f(p) = w(p) (1 - p): the size of the gradient of the target's own logit."""
        logp = _wide(logp)
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

    def mass_above(self, tau: float) -> float:
        """The share of the mass of W_f on p in [tau, 1], by quadrature.

        Where the mass diverges at p = 0 (`power(alpha)`, alpha <= -1), it is cut off at p = 1e-30.

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

            >>> nll().leaning(), p().leaning(), power(10).leaning()
            ('prior-averse', 'neutral', 'prior-leaning')
        """
        share = self.mass_above(tau)
        if abs(share - 0.5) < 1e-5:
            return "neutral"
        return "prior-leaning" if share > 0.5 else "prior-averse"

    def __repr__(self) -> str:
        arguments = ", ".join(repr(getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({arguments})"


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
    alpha. Concave and prior-leaning for alpha >= 1, convex for alpha <= 1; more prior-averse than
    NLL for alpha < 0, where the value is unbounded (p^alpha overflows float32 below p =
    10^(38/alpha)).

    References:
        Li et al. 2025, https://arxiv.org/abs/2510.00526, Eq. 3. Zhang and Sabuncu, "Generalized
        Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", 2018,
        https://arxiv.org/abs/1805.07836.
    """

    alpha: float

    formula = "(1 - p^alpha) / alpha"
    weight_formula = "p^alpha"
    summary = "one dial from NLL (alpha = 0) to p (alpha = 1) and beyond"
    source = (
        "Li et al. 2025, https://arxiv.org/abs/2510.00526; Zhang and Sabuncu 2018,"
        " https://arxiv.org/abs/1805.07836"
    )
    also_known_as = ("gce", "tsallis", "generalfamily", "family", "alpha", "p_alpha")
    example = "power(0.5)"

    def __post_init__(self):
        object.__setattr__(self, "alpha", _number(self, "alpha", self.alpha))

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
    """log(1 - p): the most prior-leaning objective of the paper; its logit gradient is W_f(p) = p.

    The value has no lower bound (it falls to -infinity as p -> 1) and must not be read as a
    quality: a run of confident tokens dominates the mean. The gradient that trains is bounded all
    the same, since the logit gradient w(p) (1 - p) = p never exceeds 1. Where 1 - p is below the
    dtype's smallest normal number (1e-38 in float32, 2e-308 in float64) it is held there, so that
    value and weight stay finite: at p = 1 the value is -87 (float32) or -708 (float64).

    The paper writes -log(1 - p) once, which increases with p; its figures use log(1 - p), as here.
    """

    formula = "log(1 - p)"
    weight_formula = "p / (1 - p)"
    summary = "prior-leaning extreme; value unbounded below, gradient bounded"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Sec. 5.1"
    also_known_as = ("log(1-p)", "log1mp", "log1p")
    example = "log1m()"

    def _f(self, logp: Tensor) -> Tensor:
        # log(1 - exp(logp)) loses its digits in one form near p = 0 and in the other near p = 1.
        # Each branch is fed a harmless value where it is not used, since `where` passes the other
        # branch's NaN gradient on.
        logp = _wide(logp)
        high = logp > -math.log(2.0)
        held = (-torch.expm1(torch.where(high, logp, -1.0))).clamp(min=torch.finfo(logp.dtype).tiny)
        return torch.where(high, held.log(), torch.log1p(-torch.exp(torch.where(high, -1.0, logp))))

    def _w(self, logp: Tensor) -> Tensor:
        # p / (1 - p) = 1 / expm1(-logp); expm1 overflows to infinity for tiny p, whose weight is 0
        # anyway.
        return 1.0 / torch.expm1(-logp).clamp(min=torch.finfo(logp.dtype).tiny)

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return _wide(logp).exp()  # p / (1 - p) * (1 - p) = p, exact also where 1 - p is held


@dataclass(frozen=True, repr=False)
class dft(Objective):
    """-sg(p) log p (Dynamic Fine-Tuning), sg = stop-gradient: NLL weighted by the detached
    probability.

    The gradient is that of `p`, at every p and under every optimizer; only the value differs, and
    it is not monotone in p (its maximum 1/e is at p = 1/e), so it is not a progress bar. Without sg
    the weight would be p (1 + log p), which is negative below p = 1/e.

    Reference: Wu et al., "On the Generalization of SFT: A Reinforcement Learning Perspective with
        Reward
    Rectification", 2025, https://arxiv.org/abs/2508.05629.
    """

    formula = "-sg(p) log p"
    weight_formula = "p"
    summary = "same gradient as p, under the name other engines use"
    source = "Wu et al. 2025, https://arxiv.org/abs/2508.05629"
    also_known_as = ("dynamic_fine_tuning",)
    example = "dft()"

    def _f(self, logp: Tensor) -> Tensor:
        return -logp.exp() * logp

    def _w(self, logp: Tensor) -> Tensor:
        return logp.exp()


@dataclass(frozen=True, repr=False)
class _Threshold(Objective):
    """What `above` and `below` share: an inner objective `f` whose weight is set to 0 beyond a
    probability `q`.
    """

    q: float
    f: Objective

    def __post_init__(self):
        q = _number(self, "q", self.q)
        if not 0.0 <= q <= 1.0:
            raise ObjectiveError(
                f"{type(self).__name__}: q is a probability and must lie in [0, 1], got {q}."
            )
        if not isinstance(self.f, Objective):
            raise ObjectiveError(
                f"{type(self).__name__}: the second argument must be an objective, got {self.f!r}; "
                f"write {type(self).example}."
            )
        object.__setattr__(self, "q", q)

    def _f(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f._f(logp))

    def _w(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f._w(logp))

    def logit_gradient(self, logp: Tensor) -> Tensor:
        return self._where_kept(logp, self.f.logit_gradient(logp))

    def _where_kept(self, logp: Tensor, of_f: Tensor) -> Tensor:
        return torch.where(self.keeps(logp), of_f, torch.zeros_like(of_f))

    def _log_q(self) -> float:
        return math.log(self.q) if self.q > 0.0 else -math.inf

    @property
    def thresholds(self) -> tuple[float, ...]:
        return (self.q, *self.f.thresholds)


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
    also_known_as = ("onlytopp", "onlytoplogp", "top", "threshold", "profit")
    example = "above(0.2, nll())"

    def keeps(self, logp: Tensor) -> Tensor:
        return (_wide(logp) >= self._log_q()) & self.f.keeps(logp)


@dataclass(frozen=True, repr=False)
class below(_Threshold):
    """f(p) where the current p <= q, otherwise 0: trains only what the model does not expect yet.
    See `above`.
    """

    formula = "f(p) if p <= q else 0"
    weight_formula = "w_f(p) if p <= q else 0"
    summary = "drops tokens the model already expects"
    source = "Li et al. 2025, https://arxiv.org/abs/2510.00526, Eq. 4"
    also_known_as = ("onlybottomp", "onlybottomlogp", "bottom")
    example = "below(0.9, nll())"

    def keeps(self, logp: Tensor) -> Tensor:
        return (_wide(logp) <= self._log_q()) & self.f.keeps(logp)


MEMBERS: dict[str, type[Objective]] = {
    member.__name__: member for member in (nll, p, power, log1m, dft, above, below)
}
"""Name -> member: the one table behind the parser, `probtune objectives`, the documentation and the
tests.
"""


def objective(text: str | Objective) -> Objective:
    """Read an objective from the text that its `repr` prints. An `Objective` is returned as it is.

    The text is parsed, never evaluated: calls of the members' names with numbers and objectives
        inside. Empty
    parentheses may be left out.

        >>> objective("power(0.5)")
        power(0.5)
        >>> objective("power(alpha=-0.5)"), objective("above(0.2, nll)")
        (power(-0.5), above(0.2, nll()))
        >>> objective("nil")
        Traceback (most recent call last):
        ...
        probtune.errors.ObjectiveError: unknown objective 'nil'; did you mean 'nll'? Known: ...

    Raises:
        ObjectiveError: the text is not of this form, names no member, or a parameter is out of
            range.
    """
    if isinstance(text, Objective):
        return text
    return _build(_parse(text), text)


def objective_list(text: str) -> tuple[Objective, ...]:
    """Read objectives separated by commas: `"nll, p, above(0.2, nll)"`. Each may stand once.

    >>> objective_list("nll, above(0.2, nll)")
    (nll(), above(0.2, nll()))
    """
    tree = _parse(text)
    members = tuple(
        _build(node, text) for node in (tree.elts if isinstance(tree, ast.Tuple) else [tree])
    )
    twice = {str(member) for member in members if members.count(member) > 1}
    if twice:
        raise ObjectiveError(
            f"{', '.join(sorted(twice))} stands more than once in {text!r}; name each objective"
            " once."
        )
    return members


def signature(member: type[Objective]) -> str:
    """The member as it is written, with its parameters: `"above(q, f)"`."""
    return f"{member.__name__}({', '.join(field.name for field in fields(member))})"  # type: ignore[arg-type]


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str):
        raise ObjectiveError(f"an objective is a text such as 'power(0.5)', got {text!r}.")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unknown(text.strip()) from None


def _build(node: ast.expr, text: str) -> Objective:
    """The objective that a node of the parsed text stands for."""
    if isinstance(node, ast.Name):
        node = ast.Call(func=node, args=[], keywords=[])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _unknown(ast.unparse(node))
    name = node.func.id
    if name not in MEMBERS:
        raise _unknown(name)
    member = MEMBERS[name]
    if any(keyword.arg is None for keyword in node.keywords):
        raise ObjectiveError(
            f"cannot read {text!r}: write the parameters of {signature(member)} one by one."
        )
    arguments = [_argument(argument, text) for argument in node.args]
    named = {str(keyword.arg): _argument(keyword.value, text) for keyword in node.keywords}
    wanted = [field.name for field in fields(member)]  # type: ignore[arg-type]
    given = [*wanted[: len(arguments)], *named]
    if len(arguments) > len(wanted) or sorted(given) != sorted(wanted):
        raise ObjectiveError(
            f"{ast.unparse(node)!r} does not fit {signature(member)}: it takes {len(wanted)} "
            f"parameter{'s' if len(wanted) != 1 else ''}; for example {member.example}."
        )
    return member(*arguments, **named)


def _argument(node: ast.expr, text: str) -> float | Objective:
    sign = 1.0
    number = node
    while isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub | ast.UAdd):
        sign = -sign if isinstance(number.op, ast.USub) else sign
        number = number.operand
    if isinstance(number, ast.Constant):
        if isinstance(number.value, int | float) and not isinstance(number.value, bool):
            return sign * float(number.value)
        raise ObjectiveError(
            f"a parameter is a number or an objective, got {number.value!r} in {text!r}."
        )
    return _build(node, text)


def _unknown(name: str) -> ObjectiveError:
    known = ", ".join(signature(member) for member in MEMBERS.values())
    also = {alias: member.__name__ for member in MEMBERS.values() for alias in member.also_known_as}
    key = name.lower().replace(" ", "")
    match = also.get(key) or also.get(key.split("(")[0])
    if match is None:
        near = difflib.get_close_matches(key.split("(")[0], [*MEMBERS, *also], n=1, cutoff=0.5)
        match = also.get(near[0], near[0]) if near else None
    hint = f"; did you mean {match!r}?" if match else "."
    return ObjectiveError(f"unknown objective {name!r}{hint} Known: {known}.")


def _number(member: Objective, name: str, value: object) -> float:
    """A parameter as a finite float, or the error that says what it must be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ObjectiveError(
            f"{type(member).__name__}: {name} must be a finite number, got {value!r}."
        )
    return float(value)
