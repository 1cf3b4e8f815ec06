"""TRL's fused head as the oracle of ours, and as the head of what ours does not serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..errors import UsageError
from ..models.adapters import without_adapters
from ..models.head import HeadOutput, PerToken
from ..objectives import Objective, Signals

__all__ = ["TRL_SIGNALS", "refuse_gathered_head", "with_trl_head"]

TRL_SIGNALS = frozenset({"entropy", "collision"})
"""Statistics of the distribution that TRL's head offers."""


def with_trl_head(
    model: Any,
    inputs: Mapping[str, Any],
    objective: Objective,
    num_items_in_batch: Tensor | None,
    signals: Signals,
) -> HeadOutput:
    """Run a batch through TRL's head, for objectives that need no more than it offers."""
    out = model(**inputs, fused_lm_head=True)
    mask, logp = out.label_mask, out.log_probs
    signals = Signals(signals)
    if "entropy" in objective.needs:
        signals["entropy"] = out.entropy.detach()
    if "collision" in objective.needs:
        signals["collision"] = out.log_sum_sq_probs.detach().exp()
    bound = objective.bind(signals)
    # The head reports log p = 0, that is p = 1, at ignored positions: they must not be summed.
    value = bound.value(logp)
    count = num_items_in_batch
    if count is None:
        count = mask.sum().clamp(min=1)
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


def refuse_gathered_head(trainer: Any) -> None:
    """Refuse to train an output layer that FSDP 2 leaves scattered in a forward pass: TRL's head
    gathers it then, and the gradient of each rank would be its own. accelerate scatters it apart
    from the last norm in a model with PEFT's `modules_to_save`, or where it finds no such norm.

    Raises:
        UsageError: with what to use instead.
    """
    if not trainer.is_fsdp_enabled or trainer.get_tp_size() > 1:
        return
    model = without_adapters(trainer.model)
    weight = model.get_output_embeddings().weight
    if weight.requires_grad and isinstance(weight.data, DTensor):
        raise UsageError(
            "TRL's head would not sum the gradient of this model's output layer over FSDP's"
            " processes; use ProbTuneTrainer with head='auto', or do not train that layer"
            " (modules_to_save)."
        )
