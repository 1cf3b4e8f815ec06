"""A close look at the target tokens of a few rows: log p, entropy, rank, and the most probable
tokens in their place. `token_table` measures many rows without rank and alternatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..data.encoding import Encoded
from ..kernels import IGNORE_INDEX
from .loading import batches, collate
from .spread import head_logits

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
    batch_tokens = batch_tokens or (4096 if model.device.type == "cpu" else 16384)
    was_training = model.training
    model.eval()
    looks: dict[int, Look] = {}
    try:
        logits_of = head_logits(model, rows)
        for indices in batches([len(row.input_ids) for row in rows], batch_tokens):
            batch, targets = collate([rows[i] for i in indices], model.device)
            places = (targets != IGNORE_INDEX).nonzero().squeeze(1)
            target_ids = targets[places]
            pieces: list[list[torch.Tensor]] = []
            at = 0
            for logits in logits_of(batch, places):
                token = target_ids[at : at + len(logits)]
                at += len(logits)
                logs = logits.log_softmax(-1)
                logp = logs.gather(1, token[:, None])
                entropy = -torch.where(logs > -torch.inf, logs * logs.exp(), 0.0).sum(-1)
                rank = 1 + (logs > logp).sum(-1)
                top = logs.topk(min(ALTERNATIVES, logs.shape[1]), -1)
                pieces.append([token, logp[:, 0], entropy, rank, top.indices, top.values])
            length = batch["input_ids"].shape[1] - 1
            of_row = (places // length).cpu().numpy()
            columns = [torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True)]
            for at, index in enumerate(indices):
                looks[index] = Look(*(column[of_row == at] for column in columns))
            if progress is not None:
                progress(len(indices))
    finally:
        model.train(was_training)
    return [looks[index] for index in range(len(rows))]
