"""A frozen copy of the model before training, for objectives that compare with its distribution."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..models.head import add_objective_head
from ..models.loading import lm_head, load_model

__all__ = ["frozen_copy", "frozen_head"]


def frozen_copy(trainer: Any) -> Any:
    """Return a copy of the trainer's model, spread over the ranks as the model itself: by
    accelerate under FSDP 2, by DeepSpeed under ZeRO-3, by transformers with tensor parallelism.
    Under ZeRO-2 every rank has it whole.

    Raises:
        UsageError: the model cannot be copied or spread so: under version 1 of FSDP, and with
            tensor parallelism if it was not loaded from files.
    """
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    if plugin is not None and plugin.fsdp_version != 2:
        raise UsageError(
            f"{trainer.objective} needs a frozen copy of the model, which version 1 of FSDP does"
            " not allow; train LoRA adapters, whose base is the reference, or use FSDP2"
            " (fsdp_version: 2), ZeRO or data parallelism."
        )
    frozen = _copy_of(trainer.model, trainer).eval().requires_grad_(False)
    add_objective_head(frozen)
    if plugin is not None:
        from accelerate.big_modeling import _attach_context_parallel_hooks
        from accelerate.utils import fsdp2_prepare_model

        parallelism = trainer.accelerator.parallelism_config
        if parallelism is not None and parallelism.cp_enabled:
            _attach_context_parallel_hooks(frozen)  # as accelerate does with the trained model
        return fsdp2_prepare_model(trainer.accelerator, frozen)
    if trainer.is_deepspeed_enabled:
        from trl.models.utils import prepare_deepspeed

        return prepare_deepspeed(frozen, trainer.accelerator)
    return frozen


def frozen_head(frozen: Any, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of the copy's head, gathered, in the precision of its hidden states
    where they are rounded.
    """
    head = lm_head(getattr(frozen, "module", frozen))  # of an engine of DeepSpeed
    assert head is not None
    bias = None if head.bias is None else _gathered(head.bias, hidden)
    return _gathered(head.weight, hidden), bias


@torch.no_grad()
def _gathered(parameter: Any, hidden: Tensor) -> Tensor:
    if hasattr(parameter, "ds_id"):
        with _whole(parameter):
            return parameter.detach().to(hidden.dtype, copy=True)
    whole = getattr(parameter, "full_tensor", None)
    return parameter if whole is None else whole().to(hidden.device, hidden.dtype)


@torch.no_grad()
def _copy_of(model: Any, trainer: Any) -> Any:
    """A copy of a model; of one that is spread already, a second one that is spread like it."""
    if any(hasattr(p, "ds_id") for p in model.parameters()):  # ZeRO-3, while it was loaded
        other = type(model)._from_config(copy.deepcopy(model.config), dtype=model.dtype)
    elif trainer.get_tp_size() > 1:
        attention = model.config._attn_implementation
        name = model.name_or_path
        try:
            if not name:
                raise UsageError("this model was not loaded from any.")
            other = load_model(name, dtype=model.dtype, attention=attention, split=True)
        except UsageError as error:
            raise UsageError(
                f"{trainer.objective} needs a frozen copy of the model, which tensor parallelism"
                f" loads from its files: {error} Or use FSDP2, ZeRO or data parallelism."
            ) from error
    else:
        return copy.deepcopy(model)
    tensors = ((*m.parameters(), *m.buffers()) for m in (model, other))
    for mine, its in zip(*tensors, strict=True):
        with _whole(mine, its, changed_on=0):
            its.copy_(mine)
    return other


def _whole(*tensors: Any, changed_on: int | None = None) -> AbstractContextManager[None]:
    """Return a context in which tensors that ZeRO-3 has scattered are whole.

    Args:
        changed_on: the rank whose changes are scattered again; None if nothing is changed.
    """
    if not hasattr(tensors[0], "ds_id"):
        return nullcontext()
    from deepspeed import zero  # pyright: ignore[reportMissingImports]

    return zero.GatheredParameters(list(tensors), modifier_rank=changed_on)
