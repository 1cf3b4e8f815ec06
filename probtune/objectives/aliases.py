"""Other names in the literature for objectives that exist: each is a function that returns the one
that runs, so `gce(0.7)` is `power(0.7)` and prints as that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ObjectiveError
from .base import Objective, number
from .compose import above, floor
from .literature import affine
from .members import nll as _nll
from .members import p as _p
from .members import power

__all__ = ["ALIASES", "gce", "mixce", "poly1", "profit", "sce", "talr", "tsallis", "tvd"]

ALIASES: dict[str, Callable[..., Objective]] = {}
"""Name -> function; with the texts of a member as attributes."""


def _alias(
    *,
    formula: str,
    weight_formula: str,
    summary: str,
    source: str,
    example: str,
    also_known_as: tuple[str, ...] = (),
    caution: str = "",
) -> Callable[[Callable[..., Objective]], Any]:
    """Add a function to `ALIASES`, with what tables print of it."""

    def add(function: Any) -> Any:
        function.formula, function.weight_formula = formula, weight_formula
        function.summary, function.source, function.example = summary, source, example
        function.also_known_as, function.caution = also_known_as, caution
        ALIASES[function.__name__] = function
        return function

    return add


@_alias(
    formula="(1 - p^q) / q",
    weight_formula="p^q",
    summary="power(q), by its older name",
    source="Zhang and Sabuncu 2018, https://arxiv.org/abs/1805.07836",
    also_known_as=("generalized_cross_entropy", "lq"),
    example="gce(0.7)",
)
def gce(q: float = 0.7) -> Objective:
    """Generalised cross-entropy, (1 - p^q) / q with q in (0, 1]: `power(q)`.

    Reference: Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks
    with Noisy Labels", 2018, https://arxiv.org/abs/1805.07836 (q = 0.7).
    """
    if number("gce", "q", q, 0.0, 1.0) == 0.0:
        raise ObjectiveError("gce: q must be positive, got 0; use nll(), its limit.")
    return power(q)


@_alias(
    formula="(1 - p^(1-q)) / (1 - q)",
    weight_formula="p^(1-q)",
    summary="power(1 - q), as the Tsallis continuum writes it",
    source="Tsallis loss continuum, 2026, https://arxiv.org/abs/2604.25907",
    also_known_as=("tsallis_log",),
    example="tsallis(0.5)",
)
def tsallis(q: float) -> Objective:
    """Minus the Tsallis logarithm of p, (1 - p^(1-q)) / (1 - q): `power(1 - q)`. q = 1 is NLL, and
    q = 0 is `p`.

    Reference: "How Fast Should a Model Commit to Supervision? Training Reasoning Models on the
    Tsallis Loss Continuum", 2026, https://arxiv.org/abs/2604.25907.
    """
    return power(1.0 - number("tsallis", "q", q))


@_alias(
    formula="1 - p",
    weight_formula="p",
    summary="p(), as a distance between distributions",
    source="Ji et al. 2023, https://arxiv.org/abs/2302.13344",
    also_known_as=("total_variation",),
    example="tvd()",
)
def tvd() -> Objective:
    """Total variation distance between softmax and the one-hot target, 1 - p: `p()`.

    Reference: Ji et al., "Tailoring Language Generation Models under Total Variation Distance",
    2023, https://arxiv.org/abs/2302.13344.
    """
    return _p()


@_alias(
    formula="-log p if p >= tau else 0",
    weight_formula="1 if p >= tau else 0",
    summary="above(tau, nll()), with a low threshold",
    source="ProFit 2026, https://arxiv.org/abs/2601.09195",
    example="profit(0.1)",
    caution="tokens below tau never escape by their own gradient; GPQA falls with tau (ProFit)",
)
def profit(tau: float = 0.1) -> Objective:
    """NLL on tokens with p >= tau: `above(tau, nll())`, divided by all supervised tokens.

    Reference: ProFit, 2026, https://arxiv.org/abs/2601.09195 (tau = 0.1).
    """
    return above(number("profit", "tau", tau, 0.0, 1.0), _nll())


@_alias(
    formula="-eta log p + (1 - eta)(1 - p)",
    weight_formula="eta + (1 - eta) p",
    summary="affine(eta, 1 - eta)",
    source="Zhang et al. 2023, https://arxiv.org/abs/2305.16958",
    example="mixce(0.5)",
    caution="its reverse part is estimated on the data's tokens, which is biased (MixCE, sec. 3)",
)
def mixce(eta: float) -> Objective:
    """-sg(eta + (1 - eta) p) log p: forward and reverse cross-entropy mixed. `affine(eta, 1 - eta)`
    in gradient; eta = 0 is `p`, eta = 1 is NLL.

    Reference: Zhang et al., "MixCE: Training Autoregressive Language Models by Mixing Forward and
    Reverse Cross-Entropies", 2023, https://arxiv.org/abs/2305.16958.
    """
    eta = number("mixce", "eta", eta, 0.0, 1.0)
    return affine(eta, 1.0 - eta)


@_alias(
    formula="-log p + epsilon (1 - p)",
    weight_formula="1 + epsilon p",
    summary="affine(1, epsilon)",
    source="Leng et al. 2022, https://arxiv.org/abs/2204.12511",
    also_known_as=("polyloss",),
    example="poly1(1.0)",
)
def poly1(epsilon: float = 1.0) -> Objective:
    """-log p + epsilon (1 - p), PolyLoss with its first coefficient changed: `affine(1, epsilon)`.

    Reference: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss
    Functions", 2022, https://arxiv.org/abs/2204.12511.
    """
    return affine(1.0, number("poly1", "epsilon", epsilon, 0.0))


@_alias(
    formula="-alpha log p + 4 beta (1 - p)",
    weight_formula="alpha + 4 beta p",
    summary="affine(alpha, 4 beta)",
    source="Wang et al. 2019, https://arxiv.org/abs/1908.06112",
    also_known_as=("symmetric_cross_entropy", "sl"),
    example="sce(0.1, 1.0)",
)
def sce(alpha: float = 0.1, beta: float = 1.0) -> Objective:
    """Symmetric cross-entropy, -alpha log p + beta |A| (1 - p) with log 0 set to A = -4:
    `affine(alpha, 4 beta)`.

    Reference: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", 2019,
    https://arxiv.org/abs/1908.06112 (alpha = 0.1, beta = 1 on CIFAR-10; the authors' code has A =
    log 1e-4 = -9.2).
    """
    return affine(number("sce", "alpha", alpha, 0.0), 4.0 * number("sce", "beta", beta, 0.0))


@_alias(
    formula="-sg(w(p)) log p",
    weight_formula="max(p^(1/tau), m)",
    summary="floor(m, power(1 / tau))",
    source="TALR 2025, https://arxiv.org/abs/2509.20758",
    example="talr(1.0, 0.01)",
    caution="about equal to NLL at the small learning rate it recommends (its reviewers)",
)
def talr(tau: float = 1.0, m: float = 0.01) -> Objective:
    """-sg(max(p^(1/tau), m)) log p: token-adaptive loss reweighting with a fixed temperature,
    `floor(m, power(1 / tau))`.

    The paper sets tau to the median over the batch of the sequences' mean NLL; that moves with
    training (`step_talr`), and this one does not.

    Reference: TALR, 2025, https://arxiv.org/abs/2509.20758 (floor 0.01).
    """
    tau, m = number("talr", "tau", tau), number("talr", "m", m, 0.0, 1.0)
    if not tau > 0.0:
        raise ObjectiveError(f"talr: tau must be positive, got {tau:g}.")
    return floor(m, power(1.0 / tau))
