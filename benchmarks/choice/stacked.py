"""Many tiny transformers trained at once: every tensor has a leading axis, one entry per member.

The members share their initial weights (or not), the data and its order; objective and learning
rate are their own. One at a time a step of such a model is bound by overhead; stacked it is a few
batched matrix products. That a member trains as it would alone is tested.

Decoder with learned positions, layer norm without parameters (its scale and shift would only fold
into the next matrix), ReLU, no biases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AdamW", "Shape", "clip", "decode", "expand", "initial", "response_logits"]


class Shape(NamedTuple):
    """Sizes of a model."""

    vocabulary: int
    context: int
    width: int = 32
    layers: int = 2
    heads: int = 2
    inner: int = 64


Parameters = dict[str, Tensor]
"""Name -> (members, ...)."""


def initial(shape: Shape, seed: int, *, dtype: torch.dtype = torch.float32) -> Parameters:
    """Return one model with random weights (a stack of one)."""
    generator = torch.Generator().manual_seed(seed)
    d, h = shape.width, shape.inner

    def normal(*size: int, deviation: float) -> Tensor:
        drawn = torch.randn(1, *size, generator=generator, dtype=torch.float64) * deviation
        return drawn.to(dtype)

    parameters = {
        "tokens": normal(shape.vocabulary, d, deviation=0.3),
        "positions": normal(shape.context, d, deviation=0.3),
        "head": normal(d, shape.vocabulary, deviation=0.5 / math.sqrt(d)),
    }
    for i in range(shape.layers):
        deeper = 1.0 / math.sqrt(2 * shape.layers)
        parameters[f"qkv{i}"] = normal(d, 3 * d, deviation=1.0 / math.sqrt(d))
        parameters[f"out{i}"] = normal(d, d, deviation=deeper / math.sqrt(d))
        parameters[f"up{i}"] = normal(d, h, deviation=1.0 / math.sqrt(d))
        parameters[f"down{i}"] = normal(h, d, deviation=deeper * math.sqrt(2.0 / h))
    return parameters


def expand(parameters: Parameters, members: int) -> Parameters:
    """Return the same single model `members` times, as leaves that can be trained."""
    return {
        name: value.expand(members, *value.shape[1:]).clone().requires_grad_()
        for name, value in parameters.items()
    }


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _embed(parameters: Parameters, ids: Tensor, first: int) -> Tensor:
    """(M, B, T, D) for ids (B, T), shared, or (M, B, T)."""
    tokens, positions = parameters["tokens"], parameters["positions"]
    index = positions[:, None, first : first + ids.shape[-1]]
    if ids.ndim == 2:
        return tokens[:, ids] + index
    return torch.stack([table[rows] for table, rows in zip(tokens, ids, strict=True)]) + index


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    """(M, B, T, D) @ (M, D, E)."""
    members, batch, time, width = x.shape
    return torch.bmm(x.reshape(members, batch * time, width), weight).view(members, batch, time, -1)


def _heads(x: Tensor, heads: int) -> Tensor:
    members, batch, time, width = x.shape
    return x.view(members * batch, time, heads, width // heads).transpose(1, 2)


def _run(
    parameters: Parameters,
    ids: Tensor,
    shape: Shape,
    *,
    keep: int,
    cache: list[tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Logits at the last `keep` positions of ids; `cache` holds keys and values of what came
    before, and is extended.
    """
    past = cache[0][0].shape[2] if cache else 0
    x = _embed(parameters, ids, past)
    time = x.shape[2]
    for i in range(shape.layers):
        last = i == shape.layers - 1
        queries = keep if last else time  # the last layer is needed at the response only
        q, k, v = _matmul(_norm(x), parameters[f"qkv{i}"]).split(shape.width, -1)
        x = x[:, :, time - queries :]
        q, k, v = (_heads(part, shape.heads) for part in (q[:, :, time - queries :], k, v))
        if cache is not None:
            if past:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
                cache[i] = (k, v)
            else:
                cache.append((k, v))
        total = k.shape[2]
        hidden = torch.ones(queries, total, dtype=torch.bool, device=x.device).tril(total - queries)
        scores = q @ k.transpose(-1, -2) / math.sqrt(shape.width // shape.heads)
        mixed = scores.masked_fill(~hidden, -math.inf).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        x = x + _matmul(mixed, parameters[f"out{i}"])
        x = x + _matmul(F.relu(_matmul(_norm(x), parameters[f"up{i}"])), parameters[f"down{i}"])
    return _matmul(_norm(x), parameters["head"])


def response_logits(
    parameters: Parameters,
    ids: Tensor,  # (B, T), the same for all members, or (M, B, T)
    shape: Shape,
    *,
    prompt: int,
) -> Tensor:
    """Logits of every response token given all before it, (M, B, T - prompt, V)."""
    inputs = ids[..., :-1]
    return _run(parameters, inputs, shape, keep=inputs.shape[-1] - prompt + 1)


@torch.no_grad()
def decode(
    parameters: Parameters,
    prompts: Tensor,  # (B, P)
    shape: Shape,
    *,
    steps: int,
) -> Tensor:
    """Greedy continuations, (M, B, steps)."""
    cache: list[tuple[Tensor, Tensor]] = []
    tokens = [_run(parameters, prompts, shape, keep=1, cache=cache).argmax(-1)]
    for _ in range(steps - 1):
        tokens.append(_run(parameters, tokens[-1], shape, keep=1, cache=cache).argmax(-1))
    return torch.cat(tokens, -1)


@torch.no_grad()
def clip(gradients: Sequence[Tensor], limit: float) -> Tensor:
    """Scale each member's gradients, in place, to a norm of at most `limit`; returns the norms."""
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))
    return norms


class AdamW:
    """Adam without weight decay, a learning rate per member. Equals `torch.optim.Adam` on each."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        rates: Tensor,  # (M,)
        *,
        betas: tuple[float, float] = (0.9, 0.98),
        epsilon: float = 1e-8,
    ):
        self.parameters, self.rates, self.betas, self.epsilon = parameters, rates, betas, epsilon
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Take one step at `factor` times the rates, and drop the gradients."""
        self.steps += 1
        a, b = self.betas
        correct = math.sqrt(1.0 - b**self.steps)
        rates = self.rates * factor / (1.0 - a**self.steps)
        for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
            gradient = p.grad
            assert gradient is not None
            m.lerp_(gradient, 1.0 - a)
            v.mul_(b).addcmul_(gradient, gradient, value=1.0 - b)
            change = m / (v.sqrt().div_(correct).add_(self.epsilon))
            p.sub_(change.mul_(rates.view(-1, *[1] * (p.ndim - 1))))
            p.grad = None
