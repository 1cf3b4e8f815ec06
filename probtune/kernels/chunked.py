"""The same numbers in bounded memory: a block of tokens at a time, on any device.

Row algebra. For one row let z be the logits, y the target, and leave the target out of every sum:

    m = max of z_v over v != y      S = sum of exp(z_v - m) over v != y      u = z_y - (m + log S)

u is the logit of p, so log p = -softplus(-u), 1 - p = sigmoid(-u) and log-sum-exp = m + log S +
softplus(u) are all well conditioned from p -> 0 to p -> 1, in float32. (The textbook z_y -
logsumexp(z) is off by 0.8 % at 1 - p = 1e-4 and by 100 % at 1e-6.) The gradient of an objective
with logit gradient W = w(p)(1 - p) follows without p:

    dz_v = W exp(z_v - m) / S    for v != y,        dz_y = -W.

The entropy is H = log-sum-exp - p z_y - (1 - p) Q / S with Q = sum of z_v exp(z_v - m) over v != y,
and dH/dz_v = -p_v (log p_v + H).

Statistics and the sums behind the gradients are float32, or float64 for float64 inputs, whatever
the inputs' dtype: logits rounded to bfloat16 make the weights of p^10 wrong by up to 31 %, and a
running sum of dW in bfloat16 loses digits with every block.

Called by the package's functions, with supervised rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..objectives import HEAD_SIGNALS, Objective, Signals
from .distribution import statistic, statistic_gradient

__all__ = ["objective_loss", "target_statistics"]

_CPU_BLOCK_BYTES = 32 * 2**20
_BLOCK_BYTES = 512 * 2**20
"""Size of one block of logits: near a CPU's caches there, large enough to keep an accelerator's
matmul busy here.
"""


def target_statistics(
    hidden: Tensor,  # (N, D)
    weight: Tensor,  # (V, D)
    labels: Tensor,  # (N,)
    bias: Tensor | None,  # (V,)
    softcap: float | None,
    logit_scale: float,
    entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, entropy, is_top1) per row; equals `reference.target_statistics` without storing the
    logits.
    """
    return _TargetStatistics.apply(hidden, weight, bias, labels, softcap, logit_scale, entropy)  # type: ignore[return-value]


def objective_loss(
    hidden: Tensor,  # (N, D)
    head: tuple[Tensor, Tensor | None, float | None, float],
    labels: Tensor,  # (N,)
    objective: Objective,
    normalizer: float | Tensor,
    signals: Signals,
    reference: tuple[Tensor, Tensor, Tensor | None] | None,
    statistics: bool,
) -> tuple[Tensor, ...]:
    """(loss, log p, entropy, is_top1, value, weight, kept); equals `reference.objective_loss`
    without the logits. Only the loss is differentiable; the rest is empty unless `statistics` are
    asked for.
    """
    weight, bias, softcap, logit_scale = head
    asked = (softcap, logit_scale, signals, reference, statistics)
    return _ObjectiveLoss.apply(hidden, weight, bias, labels, objective, normalizer, asked)  # type: ignore[return-value]


class _Head:
    """The head's parameters, and what happens to its logits, in the dtypes the matmuls need."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, softcap: float | None, logit_scale: float
    ):
        self.dtype = torch.promote_types(weight.dtype, torch.float32)
        # A CPU has no fast half-precision matmul with float32 results; an accelerator has.
        self.weight = weight.to(self.dtype) if weight.device.type == "cpu" else weight
        self.bias = None if bias is None else bias.to(self.dtype)
        self.softcap = softcap
        self.logit_scale = logit_scale

    def logits(self, hidden: Tensor) -> Tensor:  # (n, D) -> (n, V)
        z = _matmul(hidden, self.weight.t())
        if self.bias is not None:
            z += self.bias
        if self.logit_scale != 1.0:
            z *= self.logit_scale
        if self.softcap is not None:
            z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z


class _Rows(NamedTuple):
    """The row algebra of one block. `others` holds exp(z - m), 0 at the target."""

    target: Tensor  # (n, 1)
    target_logit: Tensor  # (n,)
    max_other: Tensor  # (n,)
    sum_other: Tensor  # (n,)
    others: Tensor  # (n, V)
    logits: Tensor | None  # (n, V), 0 at the target; kept for the entropy and for softcapped heads

    @property
    def log_sum_exp_other(self) -> Tensor:
        return self.max_other + self.sum_other.log()

    @property
    def logit_of_p(self) -> Tensor:
        return self.target_logit - self.log_sum_exp_other

    def select(self, keep: Tensor) -> _Rows:
        return _Rows(*(None if x is None else x[keep] for x in self))  # type: ignore[arg-type]


def _row_algebra(logits: Tensor, labels: Tensor, keep_logits: bool) -> _Rows:
    """The row algebra of a block. Overwrites `logits` unless they are kept; their target entry is
    lost either way.
    """
    target = labels.long().unsqueeze(1)
    target_logit = logits.gather(1, target).squeeze(1)
    logits.scatter_(1, target, float("-inf"))
    max_other = logits.amax(1)
    others = logits - max_other.unsqueeze(1) if keep_logits else logits.sub_(max_other.unsqueeze(1))
    others.exp_()
    if keep_logits:
        logits.scatter_(1, target, 0.0)  # finite again: 0 * -inf would be NaN in the entropy
    return _Rows(
        target, target_logit, max_other, others.sum(1), others, logits if keep_logits else None
    )


def _entropy(rows: _Rows) -> Tensor:
    assert rows.logits is not None
    u = rows.logit_of_p
    mean_other = torch.einsum("nv,nv->n", rows.others, rows.logits) / rows.sum_other
    log_sum_exp = rows.log_sum_exp_other + F.softplus(u)
    return log_sum_exp - torch.sigmoid(u) * rows.target_logit - torch.sigmoid(-u) * mean_other


def _collision(rows: _Rows) -> Tensor:
    """The sum of squared probabilities."""
    u = rows.logit_of_p
    of_others = torch.einsum("nv,nv->n", rows.others, rows.others) / rows.sum_other.square()
    return torch.sigmoid(u).square() + torch.sigmoid(-u).square() * of_others


def _head_gradient(
    head: _Head,
    rows: _Rows,
    size: Tensor,
    of_entropy: Tensor | None = None,
    whole: _Distribution | None = None,
    factors: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """d loss / d (hidden @ weight.T + bias), (n, V), from the logit gradients `size`, the
    entropies' gradients, and the factors of other terms of the distribution.
    """
    dz = rows.others * (size / rows.sum_other).unsqueeze(1)
    at_target = -size
    if of_entropy is not None:
        assert rows.logits is not None
        u = rows.logit_of_p
        entropy = _entropy(rows)
        surprise = rows.logits + (entropy - rows.log_sum_exp_other - F.softplus(u)).unsqueeze(
            1
        )  # log p_v + H
        dz -= (
            rows.others * surprise * (of_entropy * torch.sigmoid(-u) / rows.sum_other).unsqueeze(1)
        )
        at_target = at_target - of_entropy * torch.sigmoid(u) * (entropy - F.softplus(-u))
    dz.scatter_(1, rows.target, at_target.unsqueeze(1))
    for name, factor in factors.items():
        assert whole is not None
        dz += factor.unsqueeze(1) * whole.gradient(name)
    if head.softcap is not None:
        assert rows.logits is not None
        # d (softcap * tanh(x / softcap)) / dx = 1 - (z / softcap)^2
        slope = 1.0 - (rows.logits / head.softcap).square_()
        slope.scatter_(
            1, rows.target, (1.0 - (rows.target_logit / head.softcap).square()).unsqueeze(1)
        )
        dz *= slope
    if head.logit_scale != 1.0:
        dz *= head.logit_scale
    return dz


class _Gradients:
    """The gradients of hidden, weight and bias; those of the parameters are summed over blocks in
    float32 or wider.
    """

    def __init__(
        self,
        head: _Head,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        needed: tuple[bool, ...],
    ):
        self._head = head
        self._dtype = weight.dtype
        self._hidden = torch.zeros_like(hidden) if needed[0] else None
        self._weight = torch.zeros_like(weight, dtype=head.dtype) if needed[1] else None
        self._bias = (
            torch.zeros_like(bias, dtype=head.dtype) if bias is not None and needed[2] else None
        )
        self.needed = any(needed[:3])

    def add(self, dz: Tensor, hidden: Tensor, positions: slice | Tensor) -> None:
        if self._hidden is not None:
            self._hidden[positions] = _matmul(dz, self._head.weight).to(self._hidden.dtype)
        if self._weight is not None:
            _add_matmul(self._weight, dz.t(), hidden)
        if self._bias is not None:
            self._bias += dz.sum(0)

    def result(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        weight = None if self._weight is None else self._weight.to(self._dtype)
        return self._hidden, weight, None if self._bias is None else self._bias.to(self._dtype)


class _ObjectiveLoss(torch.autograd.Function):
    """Sum of f(p) / normalizer. The gradients are formed in the forward pass, while a block's
    logits are at hand.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, objective, normalizer, asked):
        softcap, logit_scale, signals, reference, statistics = asked
        head = _Head(weight, bias, softcap, logit_scale)
        other = None
        if reference is not None:
            other = _Head(reference[1], reference[2], softcap, logit_scale)
        gradients = _Gradients(head, hidden, weight, bias, ctx.needs_input_grad)
        total = torch.zeros((), dtype=head.dtype, device=hidden.device)
        per_token = _PerToken(hidden.shape[0], head.dtype, hidden.device)
        wanted = frozenset(n for n in objective.needs if n.split(":")[0] in HEAD_SIGNALS)
        keep_logits = statistics or softcap is not None or bool(wanted - {"collision"})
        keep_logits = keep_logits or bool(objective.terms)
        for block in _blocks(hidden.shape[0], weight.shape[0], hidden.device):
            h, y = hidden[block], labels[block]
            rows = _row_algebra(head.logits(h), y, keep_logits=keep_logits)
            logp = -F.softplus(-rows.logit_of_p)
            whole = _Distribution(rows, y)
            if other is not None and reference is not None:
                whole.reference = other.logits(reference[0][block]).log_softmax(1)
            known = {name: whole.value(name) for name in wanted}
            f = objective.bind(Signals({**_of_block(signals, block), **known}))
            value = f.value(logp)
            total += value.sum()
            if statistics:
                is_top1 = rows.target_logit >= rows.max_other
                found = (logp, whole.value("entropy"), is_top1)
                per_token.set(block, *found, value, f.token_weight(logp), f.keeps(logp))
            if not gradients.needed:
                continue
            size = f.logit_gradient(logp) / normalizer
            factors = {name: c / normalizer for name, c in f.coefficients(logp).items()}
            positions = block
            active = size != 0
            for factor in factors.values():
                active |= factor != 0
            if not bool(active.all()):
                active = active.nonzero().squeeze(1)
                rows, size, h = rows.select(active), size[active], h[active]
                whole = whole.select(active, rows)
                factors = {name: factor[active] for name, factor in factors.items()}
                positions = active + block.start
            dz = _head_gradient(head, rows, size, factors.pop("entropy", None), whole, factors)
            gradients.add(dz, h, positions)
        ctx.save_for_backward(*gradients.result())
        extras = per_token.all() if statistics else (total.new_zeros(0),) * 6
        ctx.mark_non_differentiable(*extras)
        return total / normalizer, *extras

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream, *_):  # type: ignore[override]
        gradients = ctx.saved_tensors
        if upstream.device.type != "cpu" or upstream != 1:
            gradients = tuple(None if g is None else g * upstream.to(g.dtype) for g in gradients)
        return (*gradients, None, None, None, None)


class _Distribution:
    """The whole distribution of a block's rows, made when a statistic needs it."""

    def __init__(self, rows: _Rows, labels: Tensor):
        self._rows, self._labels = rows, labels
        self._log_probs: Tensor | None = None
        self.reference: Tensor | None = None
        self.values: dict[str, Tensor] = {}

    @property
    def log_probs(self) -> Tensor:
        if self._log_probs is None:
            rows = self._rows
            assert rows.logits is not None
            u = rows.logit_of_p
            log_sum_exp = rows.log_sum_exp_other + F.softplus(u)
            self._log_probs = rows.logits - log_sum_exp.unsqueeze(1)
            self._log_probs.scatter_(1, rows.target, -F.softplus(-u).unsqueeze(1))
        return self._log_probs

    def value(self, name: str) -> Tensor:
        if name not in self.values:
            if name == "entropy":
                found = _entropy(self._rows)
            elif name == "collision":
                found = _collision(self._rows)
            else:
                found = statistic(name, self.log_probs, self._labels, self.reference)
            self.values[name] = found
        return self.values[name]

    def gradient(self, name: str) -> Tensor:
        return statistic_gradient(name, self.log_probs, self.value(name), self.reference)

    def select(self, keep: Tensor, rows: _Rows) -> _Distribution:
        chosen = _Distribution(rows, self._labels[keep])
        chosen._log_probs = None if self._log_probs is None else self._log_probs[keep]
        chosen.reference = None if self.reference is None else self.reference[keep]
        chosen.values = {name: value[keep] for name, value in self.values.items()}
        return chosen


class _PerToken:
    """(log p, entropy, is_top1, value, weight, kept) of all rows, filled block by block."""

    def __init__(self, num_rows: int, dtype: torch.dtype, device: torch.device):
        dtypes = (dtype, dtype, torch.bool, dtype, dtype, torch.bool)
        self._columns = tuple(torch.empty(num_rows, dtype=d, device=device) for d in dtypes)

    def set(self, block: slice, *values: Tensor) -> None:
        for column, value in zip(self._columns, values, strict=True):
            column[block] = value

    def all(self) -> tuple[Tensor, ...]:
        return self._columns


def _of_block(signals: Signals, block: slice) -> Signals:
    """The signals of a block's rows; what is not per token is the same for all."""
    return Signals(
        {name: x[block] if isinstance(x, Tensor) and x.dim() else x for name, x in signals.items()}
    )


class _TargetStatistics(torch.autograd.Function):
    """(log p, entropy, is_top1) per row. The backward pass recomputes the logits, of rows with a
    gradient only.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, softcap, logit_scale, entropy):
        head = _Head(weight, bias, softcap, logit_scale)
        logp = torch.empty(hidden.shape[0], dtype=head.dtype, device=hidden.device)
        entropies = torch.zeros_like(logp)
        is_top1 = torch.empty(hidden.shape[0], dtype=torch.bool, device=hidden.device)
        for block in _blocks(hidden.shape[0], weight.shape[0], hidden.device):
            rows = _row_algebra(head.logits(hidden[block]), labels[block], keep_logits=entropy)
            logp[block] = -F.softplus(-rows.logit_of_p)
            is_top1[block] = rows.target_logit >= rows.max_other
            if entropy:
                entropies[block] = _entropy(rows)
        ctx.save_for_backward(hidden, weight, bias, labels)
        ctx.softcap, ctx.logit_scale, ctx.entropy = softcap, logit_scale, entropy
        ctx.mark_non_differentiable(is_top1)
        ctx.set_materialize_grads(False)
        return logp, entropies, is_top1

    @staticmethod
    @once_differentiable
    def backward(ctx, of_logp, of_entropy, _):  # type: ignore[override]
        hidden, weight, bias, labels = ctx.saved_tensors
        head = _Head(weight, bias, ctx.softcap, ctx.logit_scale)
        gradients = _Gradients(head, hidden, weight, bias, ctx.needs_input_grad)
        of_entropy = of_entropy if ctx.entropy else None
        active = torch.zeros(hidden.shape[0], dtype=torch.bool, device=hidden.device)
        for upstream in (of_logp, of_entropy):
            if upstream is not None:
                active |= upstream != 0
        active = active.nonzero().squeeze(1)
        keep_logits = ctx.softcap is not None or of_entropy is not None
        for block in _blocks(active.numel(), weight.shape[0], hidden.device):
            chosen = active[block]
            rows = _row_algebra(head.logits(hidden[chosen]), labels[chosen], keep_logits)
            size = torch.zeros_like(rows.target_logit)
            if of_logp is not None:
                size = -of_logp[chosen] * torch.sigmoid(
                    -rows.logit_of_p
                )  # W = w (1 - p) with w = -of_logp
            dz = _head_gradient(
                head, rows, size, None if of_entropy is None else of_entropy[chosen]
            )
            gradients.add(dz, hidden[chosen], chosen)
        return (*gradients.result(), None, None, None, None)


def _blocks(num_rows: int, vocabulary: int, device: torch.device) -> list[slice]:
    """Slices of rows whose float32 logits fill one block."""
    size = _CPU_BLOCK_BYTES if device.type == "cpu" else _BLOCK_BYTES
    rows = max(1, size // (4 * vocabulary))
    return [slice(start, min(start + rows, num_rows)) for start in range(0, num_rows, rows)]


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b with a float32 result (float64 for float64): the tensor cores' accumulator, not rounded
    to bfloat16.
    """
    if b.device.type == "cpu" or b.dtype in (torch.float32, torch.float64):
        return torch.mm(a.to(b.dtype), b)
    return torch.mm(a.to(b.dtype), b, out_dtype=torch.float32)


def _add_matmul(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a @ b, `out` in float32 or wider."""
    if b.device.type == "cpu" or b.dtype == out.dtype:
        out.addmm_(a, b.to(out.dtype))
    else:
        out += torch.mm(a.to(b.dtype), b, out_dtype=out.dtype)
