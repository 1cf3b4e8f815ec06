"""A close look at the target tokens of a few rows: log p, entropy, rank, and the most probable
tokens in their place. `token_table` measures many rows without rank and alternatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..data.encoding import Encoded
from .spread import measure_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ALTERNATIVES", "Look", "look"]

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
    """1 where no token is more probable (int64)."""
    top: np.ndarray
    """Ids of the most probable tokens, (tokens, ALTERNATIVES)."""
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


def _look(logs: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The fields of `Look` for a block of tokens."""
    logp = logs.gather(1, token[:, None])
    entropy = -torch.where(logs > -torch.inf, logs * logs.exp(), 0.0).sum(-1)
    rank = 1 + (logs > logp).sum(-1)
    top = logs.topk(min(ALTERNATIVES, logs.shape[1]), -1)
    return token, logp[:, 0], entropy, rank, top.indices, top.values
