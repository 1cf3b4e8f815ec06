"""TRL's fused head as the oracle of ours, and as the head of what ours does not serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..models.head import HeadOutput, PerToken
from ..objectives import Objective, Signals

__all__ = ["TRL_SIGNALS", "with_trl_head"]

TRL_SIGNALS = frozenset({"entropy", "collision"})
"""What TRL's head offers of the distribution."""


def with_trl_head(
    model: Any,
    inputs: Mapping[str, Any],
    objective: Objective,
    normalizer: Tensor | None,
    signals: Signals,
) -> HeadOutput:
    """A batch through TRL's head, for objectives that need no more than it offers."""
    out = model(**inputs, fused_lm_head=True)
    mask, logp = out.label_mask, out.log_probs
    known = Signals(signals)
    if "entropy" in objective.needs:
        known["entropy"] = out.entropy.detach()
    if "collision" in objective.needs:
        known["collision"] = out.log_sum_sq_probs.detach().exp()
    bound = objective.bind(known)
    # The head reports log p = 0, that is p = 1, at ignored positions: they must not be summed.
    value = bound.value(logp)
    count = mask.sum().clamp(min=1) if normalizer is None else normalizer
    # Without a supervised token it is still 0, but connected to the model: other ranks wait for
    # its gradient.
    loss = (torch.where(mask, value, 0.0).sum() if bool(mask.any()) else logp.sum()) / count
    with torch.no_grad():
        tokens = PerToken(
            loss.detach(),
            logp,
            out.entropy.detach(),
            out.is_top1,
            value.detach(),
            bound.token_weight(logp),
            bound.keeps(logp),
            mask,
        )
        return HeadOutput(loss, out.aux_loss, tokens)
