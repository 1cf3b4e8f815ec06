"""Requests that the trainer would refuse only when training begins, refused before."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..errors import UsageError
from ..models.ranks import launched

__all__ = ["check_trainer"]


def check_trainer(config: Any, *, eval_steps: int = 0) -> None:
    """Make, on a single number, what the trainer will make of its arguments: optimizer, schedule,
    loader and reports.

    Args:
        eval_steps: steps between measurements of held-out rows, if the run has them measured.

    Raises:
        UsageError: a value makes no sense. Errors of the libraries pass.
    """
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "logging_steps"):
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise UsageError(f"--training {name} must be a number of at least 0, got {value!r}.")
    if config.logging_steps == 0:
        raise UsageError("--training logging_steps must be positive, got 0.")
    for name in ("adam_beta1", "adam_beta2"):
        if getattr(config, name) >= 1:
            raise UsageError(f"--training {name} must be below 1, got {getattr(config, name)}.")
    if str(config.eval_strategy.value) != "no" and not eval_steps:
        raise UsageError(
            "--training eval_strategy: the run measures the held-out rows itself, and the trainer"
            " gets none; leave it out, or give --eval-steps."
        )
    if config.fsdp and launched() == 1:
        raise UsageError(
            "--training fsdp shares a model between processes, and there is one; launch `probtune"
            " train` with torchrun or accelerate."
        )
    from torch.utils.data import DataLoader
    from transformers import Trainer, get_scheduler
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    # They are made as the trainer makes them: some look for their package only then.
    for callback in get_reporting_integration_callbacks(config.report_to):
        callback()
    parameter = torch.nn.Parameter(torch.zeros(1))
    DataLoader(
        [0],  # type: ignore[arg-type]
        num_workers=config.dataloader_num_workers,
        prefetch_factor=config.dataloader_prefetch_factor,
    )
    if "adamw_torch" not in str(config.optim.value):
        return  # others need packages or the model itself
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(config)
    optimizer = optimizer_class([parameter], **options)
    get_scheduler(
        config.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=1,
        num_training_steps=10,
        scheduler_specific_kwargs=config.lr_scheduler_kwargs or {},
    )
