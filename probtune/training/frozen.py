"""A frozen copy of the model before training, for objectives that compare with its distribution."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..models.head import add_objective_head
from ..models.loading import lm_head

__all__ = ["frozen_copy", "frozen_head"]


def frozen_copy(trainer: Any) -> Any:
    """Return a copy of the trainer's model, scattered over the ranks as accelerate scatters the
    model itself.

    Raises:
        UsageError: the model cannot be copied or scattered so: under ZeRO-3, whose ranks never
            hold it whole, version 1 of FSDP, and tensor parallelism.
    """
    state = trainer.accelerator.state
    plugin = state.fsdp_plugin if trainer.is_fsdp_enabled else None
    refused = {
        "ZeRO-3": trainer.is_deepspeed_enabled and state.deepspeed_plugin.zero_stage == 3,
        "version 1 of FSDP": plugin is not None and plugin.fsdp_version != 2,
        "tensor parallelism": trainer.get_tp_size() > 1,
    }
    for how in (name for name, holds in refused.items() if holds):
        adapters = "train LoRA adapters, whose base is the reference, or "
        raise UsageError(
            f"{trainer.objective} needs a frozen copy of the model, which {how} does not allow;"
            f" {'' if how == 'tensor parallelism' else adapters}use FSDP2 (fsdp_version: 2), ZeRO-2"
            " or data parallelism."
        )
    frozen = copy.deepcopy(trainer.model).eval().requires_grad_(False)
    add_objective_head(frozen)
    if plugin is not None:
        from accelerate.utils import fsdp2_prepare_model

        frozen = fsdp2_prepare_model(trainer.accelerator, frozen)
    return frozen


def frozen_head(frozen: Any, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of the copy's head, gathered, in the precision of its hidden states
    where they are rounded.
    """
    head = lm_head(frozen)
    assert head is not None
    bias = None if head.bias is None else _gathered(head.bias, hidden)
    return _gathered(head.weight, hidden), bias


@torch.no_grad()
def _gathered(parameter: Tensor, hidden: Tensor) -> Tensor:
    whole = getattr(parameter, "full_tensor", None)
    return parameter if whole is None else whole().to(hidden.device, hidden.dtype)
