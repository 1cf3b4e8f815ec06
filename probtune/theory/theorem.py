"""The paper's theorem, made checkable: when does -p lower the risk faster than NLL at the start?

For a context with probabilities q, truth y* and label y~, one instant of gradient flow on the
logits lowers the clean risk -q_{y*} at the rate

    R'(f) = E[ w_f(q_{y~}) q_{y*} <e_{y*} - q, e_{y~} - q> ],
    <e_a - q, e_b - q> = 1[a = b] - q_a - q_b + |q|^2.

With a share E of wrong labels, R'(f1) - R'(f2) = (1-E) A + E B: A is the part of the right labels
and B that of the wrong ones. f1 leads where E > -A / (B - A), if A < 0 < B.

Here every term is evaluated as it stands, for any pair of objectives and any predictions; nothing
is bounded. What the paper's proof bounds, and where that fails, is in docs/theory.md.

Reference: Li et al., "Beyond Log Likelihood", 2025, https://arxiv.org/abs/2510.00526, Assumptions
6.1 and 6.2, Theorem 6.4 and Appendix E.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..errors import UsageError
from ..objectives import Objective
from ..objectives import objective as read_objective
from .checks import check_law

__all__ = [
    "Check",
    "Parts",
    "check_assumptions",
    "check_pair",
    "difference_parts",
    "diffuse_model",
    "risk_reduction_at_start",
]

_STRONG = 0.55
_SURE = 0.95


class Parts(NamedTuple):
    """R'(first) - R'(second), split by whether the label is right."""

    right: float
    """A: the difference on right labels."""
    wrong: float
    """B: the difference on wrong labels."""

    def difference(self, noise: float) -> float:
        """Return R'(first) - R'(second) at a noise rate; above 0, `first` is the faster."""
        return (1.0 - noise) * self.right + noise * self.wrong

    @property
    def required_noise(self) -> float:
        """The noise rate E = -A / (B - A) above which `first` leads; 0 if it leads without noise,
        infinite if no rate below 1 is enough.
        """
        if self.right >= 0.0:
            return 0.0
        return -self.right / (self.wrong - self.right) if self.wrong > 0.0 else float("inf")


class Check(NamedTuple):
    """A condition of the theorem on given predictions or objectives."""

    name: str
    statement: str
    value: float
    limit: float
    holds: bool


def risk_reduction_at_start(
    p: ArrayLike,  # (N, K)
    truth: ArrayLike,  # (N,)
    law: ArrayLike,  # (N, K)
    objective: Objective | str,
) -> float:
    """Return R'(f) over contexts that count alike, with each context's label law.

    For one context in the symmetric state it is `rate`, as a test shows.
    """
    p, truth, law = _checked(p, truth, law)
    rows = np.arange(len(truth))
    of_truth = p[rows, truth]
    inner = -of_truth[:, None] - p + (p**2).sum(1, keepdims=True)
    inner[rows, truth] += 1.0
    return float((law * _weights(objective, p) * of_truth[:, None] * inner).sum(1).mean())


def difference_parts(
    p: ArrayLike,  # (N, K)
    truth: ArrayLike,  # (N,)
    wrong: ArrayLike,  # (N, K)
    first: Objective | str,
    second: Objective | str,
) -> Parts:
    """Return A and B of R'(first) - R'(second).

    Args:
        p: predictions of the base model.
        truth: right classes.
        wrong: law of a label given that it is wrong; 0 at the truth.
    """
    p, truth, wrong = _checked(p, truth, wrong)
    rows = np.arange(len(truth))
    if (wrong[rows, truth] > 0).any():
        raise UsageError("wrong is the law of wrong labels; it must be 0 at the right class.")
    right = np.zeros_like(p)
    right[rows, truth] = 1.0
    parts = [
        risk_reduction_at_start(p, truth, law, first)
        - risk_reduction_at_start(p, truth, law, second)
        for law in (right, wrong)
    ]
    return Parts(*parts)


def diffuse_model(p: ArrayLike, *, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (predictions, truth, law of wrong labels) of contexts with p on the truth and the rest
    spread evenly; p = 1 / K is the paper's model-weak end.
    """
    p = np.atleast_1d(np.asarray(p, dtype=np.float64))
    q = np.repeat(((1.0 - p) / (classes - 1.0))[:, None], classes, axis=1)
    q[:, 0] = p
    wrong = np.full((len(p), classes), 1.0 / (classes - 1.0))
    wrong[:, 0] = 0.0
    return q, np.zeros(len(p), dtype=np.int64), wrong


def check_assumptions(
    p_true: ArrayLike,  # (N,)
    p_label: ArrayLike,  # (N,)
    *,
    vocabulary: int,
    strong_share: float = 0.70,
) -> list[Check]:
    """Check Assumptions 6.1 and 6.2 as predicates on the pairs (p_{y*}, p_{y~}) of a base model.

    `strong_share` is the paper's K >= 0.70 (not a number of classes).
    """
    p_true, p_label = np.asarray(p_true, np.float64), np.asarray(p_label, np.float64)
    if not ((p_true >= 0) & (p_true <= 1) & (p_label >= 0) & (p_label <= 1)).all():
        raise UsageError("probabilities must lie in [0, 1].")
    both = p_true + p_label
    above = float((both >= _STRONG).mean())
    between = float(((both >= _STRONG) & (both <= _SURE)).mean())
    off = float(max(np.abs(p_true - 1 / vocabulary).max(), np.abs(p_label - 1 / vocabulary).max()))
    tiny = 1e-3 / vocabulary
    return [
        Check(
            "6.1 strong", "Pr[p_y* + p_y~ >= 0.55] >= K", above, strong_share, above >= strong_share
        ),
        Check(
            "6.2",
            "Pr[0.55 <= p_y* + p_y~ <= 0.95] >= 1 - K",
            between,
            1.0 - strong_share,
            between >= 1.0 - strong_share,
        ),
        Check("6.1 weak", "p uniform over V: largest distance from 1/V", off, tiny, off <= tiny),
        Check("6.1 weak, V", "2 / V < 0.55", 2.0 / vocabulary, _STRONG, 2.0 / vocabulary < _STRONG),
    ]


def check_pair(first: Objective | str, second: Objective | str) -> list[Check]:
    """Check the theorem's conditions on a pair, with the tightest constants.

    c is the least bound with q (f2' - f1')(q) > -c on [0, 0.55], which is the largest w2 - w1
    there, and d the least w2 - w1 on [0.55, 0.95]. The theorem asks for c < 10 d; the step of the
    proof that uses it gives c < 8.2 d only.
    """

    def excess(low: float, high: float) -> np.ndarray:
        q = np.linspace(low, high, 100_001)
        q[0] = max(q[0], 1e-300)
        return _weights(second, q) - _weights(first, q)

    order = excess(0.0, 1.0)[1:-1]
    c = float(excess(0.0, _STRONG).max())
    d = float(excess(_STRONG, _SURE).min())
    return [
        Check(
            "order",
            "f2' - f1' < 0 on (0, 1): least w2 - w1",
            float(order.min()),
            0.0,
            bool((order > 0).all()),
        ),
        Check("c < 10 d", f"c = {c:.6g}, d = {d:.6g}", c, 10.0 * d, c < 10.0 * d),
        Check("c < 8.2 d", "what the proof's own constants need", c, 8.2 * d, c < 8.2 * d),
    ]


def _weights(objective: Objective | str, p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logp = np.log(p)
    return read_objective(objective).token_weight(torch.from_numpy(logp)).numpy()


def _checked(
    p: ArrayLike, truth: ArrayLike, law: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p, truth, law = np.asarray(p, np.float64), np.asarray(truth), np.asarray(law, np.float64)
    if p.ndim != 2 or p.shape != law.shape or truth.shape != p.shape[:1]:
        raise UsageError(
            f"p and law must be (N, K) and truth (N,), got {p.shape}, {law.shape}, {truth.shape}."
        )
    check_law(p)
    check_law(law)
    if not np.allclose(p.sum(1), 1.0, atol=1e-9):
        row = int(np.abs(p.sum(1) - 1.0).argmax())
        raise UsageError(f"predictions must sum to 1; row {row} sums to {p[row].sum():.9g}.")
    return p, truth, law
