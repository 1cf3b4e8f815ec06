"""The distribution at every target token in a few numbers: what the model favours there, and how
sure it is. And log p of the targets with its gradient, for a loop of one's own.

`token_table` measures the targets alone, without the logits. Here the logits of a block of tokens
are held for a moment, so that the most probable token and the variance of the surprise can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.encoding import Encoded
from ..kernels import IGNORE_INDEX, linear_target_logprobs
from .loading import TokenTable, batches, collate, has_plain_head, lm_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "Spread",
    "measure_rows",
    "spread_of_block",
    "spread_of_columns",
    "spread_table",
    "target_logprobs",
]

_BLOCK = 512
"""Tokens whose logits are held at once."""


class Spread(NamedTuple):
    """The targets, and the distributions that they are held against; one row per target token."""

    table: TokenTable
    top_logp: np.ndarray
    """Log-probability of the most probable token (float64)."""
    variance: np.ndarray
    """Variance of -log p under the model's own distribution, nats^2 (float64):
    sum of p log^2 p - H^2.
    """


@torch.no_grad()
def spread_table(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Spread:
    """Measure every supervised token of `rows`, in evaluation mode. Arguments as `token_table`."""
    return spread_of_columns(
        measure_rows(model, rows, spread_of_block, batch_tokens=batch_tokens, progress=progress)
    )


def spread_of_columns(of_rows: Sequence[Sequence[np.ndarray]]) -> Spread:
    """Return the rows together, each as the columns that `spread_of_block` makes."""
    numbers = [len(columns[0]) for columns in of_rows]
    example = np.repeat(np.arange(len(of_rows)), numbers)
    position = np.concatenate([np.arange(number) for number in numbers])
    token, logp, entropy, top_logp, variance = map(np.concatenate, zip(*of_rows, strict=True))
    is_top1 = logp >= top_logp
    table = TokenTable(example, position, token, logp, entropy, is_top1, num_examples=len(of_rows))
    return Spread(table, top_logp, variance)


def measure_rows(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    of_block: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[list[np.ndarray]]:
    """Return for each row the columns that a function makes of its target tokens, in evaluation
    mode, a block of logits at a time. Call it without gradients.

    Args:
        of_block: called with log-probabilities, (tokens, vocabulary) in float32, and target ids,
            (tokens,); returns columns, each with a row per token.
    """
    batch_tokens = batch_tokens or (4096 if model.device.type == "cpu" else 16384)
    was_training = model.training
    model.eval()
    of_rows: dict[int, list[np.ndarray]] = {}
    try:
        logits_of = _head_logits(model, rows)
        for indices in batches([len(row.input_ids) for row in rows], batch_tokens):
            batch, targets = collate([rows[i] for i in indices], model.device)
            places = (targets != IGNORE_INDEX).nonzero().squeeze(1)
            blocks = zip(targets[places].split(_BLOCK), logits_of(batch, places), strict=True)
            pieces = [of_block(logits.log_softmax(-1), token) for token, logits in blocks]
            columns = [torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True)]
            of_row = (places // (batch["input_ids"].shape[1] - 1)).cpu().numpy()
            for number, index in enumerate(indices):
                of_rows[index] = [column[of_row == number] for column in columns]
            if progress is not None:
                progress(len(indices))
    finally:
        model.train(was_training)
    return [of_rows[index] for index in range(len(rows))]


def target_logprobs(model: PreTrainedModel, rows: Sequence[Encoded], *, plain_head: bool) -> Tensor:
    """Return log p of every supervised token of the rows, in their order, with its gradient; where
    the head is plain, without logits that are not needed.

    Args:
        plain_head: what `has_plain_head` says of the model.
    """
    batch, targets = collate(rows, model.device)
    supervised = (targets != IGNORE_INDEX).nonzero().squeeze(1)
    head = lm_head(model) if plain_head else None
    if head is None:
        logits: Any = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)[supervised]
        return logits.float().log_softmax(-1).gather(1, targets[supervised][:, None]).squeeze(1)
    hidden: Any = model.base_model(**batch, use_cache=False).last_hidden_state[:, :-1]
    return linear_target_logprobs(
        hidden.flatten(0, 1)[supervised].to(head.weight.dtype),
        head.weight,
        targets[supervised],
        bias=head.bias,
        softcap=head.softcap,
        logit_scale=head.logit_scale,
    )


_Logits = Callable[[dict[str, Tensor], Tensor], Iterator[Tensor]]


def _head_logits(model: Any, rows: Sequence[Encoded]) -> _Logits:
    """A function of (inputs, flat places) that yields the logits there, a block at a time."""
    head = lm_head(model)
    if head is None or not has_plain_head(model, min(rows, key=lambda row: len(row.input_ids))):

        def whole(batch: dict[str, Tensor], places: Tensor) -> Iterator[Tensor]:
            logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)
            for block in places.split(_BLOCK):
                yield logits[block].float()

        return whole

    def blocks(batch: dict[str, Tensor], places: Tensor) -> Iterator[Tensor]:
        hidden = model.base_model(**batch, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        for block in places.split(_BLOCK):
            bias = None if head.bias is None else head.bias.float()
            z = torch.nn.functional.linear(hidden[block].float(), head.weight.float(), bias)
            z = z * head.logit_scale
            yield z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)

    return blocks


def spread_of_block(logs: Tensor, token: Tensor) -> tuple[Tensor, ...]:
    """Return token, log p, entropy, log p of the most probable token and variance of the surprise,
    (tokens,) each.

    Args:
        logs: log-probabilities, (tokens, vocabulary).
        token: target ids, (tokens,).
    """
    p = logs.exp()
    # At a token of probability 0 log p is -inf where a model masks it; 0 log 0 is 0.
    surprise = torch.where(p > 0, -logs, 0.0)
    entropy = (p * surprise).sum(-1)
    variance = ((p * surprise * surprise).sum(-1) - entropy * entropy).clamp(min=0.0)
    logp = logs.gather(1, token[:, None]).squeeze(1)
    numbers = (logp, entropy, logs.amax(-1), variance)
    return (token, *(number.double() for number in numbers))
