"""Row algebra: the numbers per token from which everything else follows.

For one row let z be the logits, y the target, and leave the target out of every sum:

    m = max of z_v over v != y      S = sum of exp(z_v - m) over v != y      u = z_y - (m + log S)

u is the logit of p, so log p = -softplus(-u), 1 - p = sigmoid(-u) and log-sum-exp = m + log S +
softplus(u) are all well conditioned from p -> 0 to p -> 1, in float32. (The textbook z_y -
logsumexp(z) is off by 0.8 % at 1 - p = 1e-4 and by 100 % at 1e-6.) The gradient of an objective
with logit gradient W = w(p)(1 - p) follows without p:

    dz_v = W exp(z_v - m) / S    for v != y,        dz_y = -W.

With Q = sum of z_v exp(z_v - m) and R = sum of exp(z_v - m)^2 over v != y, the entropy is
H = log-sum-exp - p z_y - (1 - p) Q / S and the collision probability C = p^2 + (1 - p)^2 R / S^2;
dH/dz_v = -p_v (log p_v + H) and dC/dz_v = 2 p_v (p_v - C). So every gradient is, with E_v =
exp(z_v - m),

    dz_v = E_v (a + b z_v + c E_v)    for v != y,        dz_y = g,

and `Coefficients` are all that a kernel needs to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Coefficients", "RowStatistics", "coefficients", "front_first"]


class RowStatistics(NamedTuple):
    """Statistics of a block of rows; each is (n,)."""

    target_logit: Tensor
    max_other: Tensor
    sum_other: Tensor
    """S."""
    logit_other: Tensor | None = None
    """Q."""
    square_other: Tensor | None = None
    """R."""

    @property
    def log_sum_exp_other(self) -> Tensor:
        return self.max_other + self.sum_other.log()

    @property
    def logit_of_p(self) -> Tensor:
        return self.target_logit - self.log_sum_exp_other

    @property
    def logp(self) -> Tensor:
        return -F.softplus(-self.logit_of_p)

    @property
    def log_sum_exp(self) -> Tensor:
        return self.log_sum_exp_other + F.softplus(self.logit_of_p)

    @property
    def is_top1(self) -> Tensor:
        return self.target_logit >= self.max_other

    @property
    def entropy(self) -> Tensor:
        assert self.logit_other is not None
        u = self.logit_of_p
        mean_other = self.logit_other / self.sum_other
        of_others = torch.sigmoid(-u) * mean_other
        return self.log_sum_exp - torch.sigmoid(u) * self.target_logit - of_others

    @property
    def collision(self) -> Tensor:
        assert self.square_other is not None
        u = self.logit_of_p
        of_others = self.square_other / self.sum_other.square()
        return torch.sigmoid(u).square() + torch.sigmoid(-u).square() * of_others

    def select(self, keep: Tensor) -> RowStatistics:
        """Return the statistics of some of the rows."""
        return RowStatistics(*(None if x is None else x[keep] for x in self))  # type: ignore[arg-type]


class Coefficients(NamedTuple):
    """dz_v = E_v (linear + of_logit z_v + square E_v), and `at_target` at the target; (n,) each."""

    linear: Tensor
    of_logit: Tensor | None
    square: Tensor | None
    at_target: Tensor


def coefficients(
    rows: RowStatistics,
    size: Tensor,  # (n,), the logit gradients W
    factors: Mapping[str, Tensor],  # of "entropy" and "collision", (n,)
    of_log_sum_exp: Tensor | None = None,  # (n,), d loss / d log-sum-exp
    logit_scale: float = 1.0,
) -> Coefficients:
    """Return the coefficients of W, of the statistics' factors and of log-sum-exp together."""
    # S is 0 only where the target is the whole vocabulary, and then so is every size.
    per_other = 1.0 / rows.sum_other.clamp(min=torch.finfo(size.dtype).tiny)
    linear, at_target = size * per_other, -size
    of_logit = square = None
    u = rows.logit_of_p
    p, share = torch.sigmoid(u), torch.sigmoid(-u) * per_other  # p_v = share E_v
    if (f := factors.get("entropy")) is not None:
        entropy = rows.entropy
        of_logit = -f * share
        linear = linear + of_logit * (entropy - rows.log_sum_exp)
        at_target = at_target - f * p * (entropy + rows.logp)
    if (f := factors.get("collision")) is not None:
        collision = rows.collision
        square = 2.0 * f * share.square()
        linear = linear - 2.0 * f * collision * share
        at_target = at_target + 2.0 * f * p * (p - collision)
    if of_log_sum_exp is not None:
        linear = linear + of_log_sum_exp * share
        at_target = at_target + of_log_sum_exp * p
    sums = (linear, of_logit, square, at_target)
    if logit_scale != 1.0:
        sums = tuple(None if x is None else x * logit_scale for x in sums)
    return Coefficients(*sums)  # type: ignore[arg-type]


def front_first(mask: Tensor) -> Tensor:
    """Return the K positions where `mask` is true, in an order that lets rows move to the front in
    place: each of the first K positions that is true stays (`order[k] == k`), and the others are
    filled from behind them, so that no row is read that another has been written to.

    Synchronises once, to read K.
    """
    positions = mask.nonzero().squeeze(1)
    front = mask[: positions.numel()]
    moved = front.sum() + (~front).cumsum(0) - 1
    stays = torch.arange(positions.numel(), device=mask.device)
    return torch.where(front, stays, positions[moved.clamp(max=positions.numel() - 1)])
