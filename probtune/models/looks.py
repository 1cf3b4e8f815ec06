"""A close look at the target tokens of a few rows: log p, entropy, rank, and the most probable
tokens in their place. `token_table` measures many rows without rank and alternatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..data.encoding import Encoded
from .spread import Spread, measure_rows, spread_of_block, spread_of_columns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ALTERNATIVES", "Look", "look", "look_and_spread"]

ALTERNATIVES = 5
"""Most probable tokens that are kept for each target token."""


class Look(NamedTuple):
    """One row of data; arrays over its target tokens."""

    token: np.ndarray
    """Target token id (int64)."""
    logp: np.ndarray
    entropy: np.ndarray
    """Nats."""
    rank: np.ndarray
    """1 where no token is more probable (int32)."""
    top: np.ndarray
    """Ids of the most probable tokens, (tokens, ALTERNATIVES) (int32)."""
    top_logp: np.ndarray


@torch.no_grad()
def look(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Look]:
    """Measure every target token of `rows`, in evaluation mode, a block of logits at a time."""
    if not rows:
        return []
    columns = measure_rows(model, rows, _look, batch_tokens=batch_tokens, progress=progress)
    return [Look(*of_row) for of_row in columns]


@torch.no_grad()
def look_and_spread(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Look], Spread]:
    """Return what `look` and `spread_table` say of the rows, from one pass."""
    columns = measure_rows(
        model,
        rows,
        lambda logs, token: (*_look(logs, token), *spread_of_block(logs, token)),
        batch_tokens=batch_tokens,
        progress=progress,
    )
    number = len(Look._fields)
    looks = [Look(*of_row[:number]) for of_row in columns]
    return looks, spread_of_columns([of_row[number:] for of_row in columns])


def _look(logs: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The fields of `Look` for a block of tokens."""
    logp = logs.gather(1, token[:, None])
    entropy = -torch.where(logs > -torch.inf, logs * logs.exp(), 0.0).sum(-1)
    rank = 1 + (logs > logp).sum(-1, dtype=torch.int32)
    top = logs.topk(min(ALTERNATIVES, logs.shape[1]), -1)
    return token, logp[:, 0], entropy, rank, top.indices.int(), top.values
