"""Requests that the trainer would refuse only when training begins, refused before."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UsageError
from ..models.ranks import launched, launches_parallelism
from ..objectives import HEAD_SIGNALS, Objective

__all__ = ["Planned", "check_launch", "check_parallelism", "check_trainer"]


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
    _check_sharding(config)
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


def check_parallelism(config: Any, parallelism: Any) -> None:
    """Refuse a `ParallelismConfig` of accelerate under which another objective than that of a
    `ProbTuneConfig` would be trained.

    Raises:
        UsageError: with what to use instead.
    """
    if parallelism.sp_enabled:
        raise UsageError(
            "sequence parallelism takes the model's own loss, which is NLL, and would drop the"
            " objective; use FSDP, context parallelism or packing instead."
        )
    if not parallelism.cp_enabled:
        return
    joins_rows = config.packing or config.padding_free
    if joins_rows or config.groups:
        options = "packing and padding_free" if joins_rows else "groups (--group-by)"
        why = "drops the masks that keep joined rows apart" if joins_rows else "splits sequences"
        raise UsageError(f"context parallelism {why}; leave out {options}.")
    objective = config.resolved_objective
    if objective.kinds - HEAD_SIGNALS - {"special", "progress"}:
        raise UsageError(
            f"context parallelism splits sequences, and {objective} needs numbers per token or"
            " sequence that are not split with them; use FSDP or packing instead."
        )


def _check_sharding(config: Any) -> None:
    """Refuse a way to spread the model over processes that would end late or train nothing."""
    offload = (config.fsdp_plugin_args or {}).get("cpu_offload")
    if offload and os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() != "true":
        raise UsageError(
            "--training fsdp_config with cpu_offload: the processes have no way to sum what lies on"
            " the host, since they were connected before; put fsdp_offload_params: true in"
            " accelerate's configuration, and start with `accelerate launch --config_file`."
        )
    check_launch(config, processes=launched(), on_cpu=config.device.type == "cpu")


@dataclass(frozen=True)
class Planned:
    """A training on other processes, as far as `check_launch` reads it. A `ProbTuneConfig` would
    connect the processes that there are.
    """

    resolved_objective: Objective
    packing: bool = False
    padding_free: bool = False
    groups: bool = False
    pad_to_multiple_of: int | None = None
    parallelism_config: Any = None


def check_launch(config: Any, *, processes: int, on_cpu: bool) -> None:
    """Refuse a parallelism that the processes do not have, that does not train the objective, or
    that fails on a CPU.

    Args:
        config: a `ProbTuneConfig` or what is `Planned`; without a parallelism of its own that of
            accelerate's launcher counts.
        processes: started, or planned.
        on_cpu: True if they have no accelerators.

    Raises:
        UsageError: with what to use instead.
    """
    parallelism = config.parallelism_config
    if parallelism is None:
        if not launches_parallelism():
            return
        from accelerate import ParallelismConfig

        parallelism = ParallelismConfig()  # from the launcher's environment
    size = parallelism.total_size
    if size not in (1, processes):
        sizes = ("dp_replicate", "dp_shard", "tp", "cp", "sp")
        product = " x ".join(f"{name} {getattr(parallelism, f'{name}_size')}" for name in sizes)
        raise UsageError(
            f"accelerate's parallelism is for {size} processes ({product}), and there are"
            f" {processes}; their product must be the number of processes."
        )
    check_parallelism(config, parallelism)
    if parallelism.tp_enabled and parallelism.tp_size != processes:
        raise UsageError(
            f"tensor parallelism splits layers over all processes: tp_size must be {processes}, got"
            f" {parallelism.tp_size}; for more processes use FSDP."
        )
    parts = 2 * int(parallelism.cp_size or 1)
    if parallelism.cp_enabled and (config.pad_to_multiple_of or 1) % parts:
        raise UsageError(
            f"context parallelism cuts rows into {parts} equal parts; pad them with --training"
            f" pad_to_multiple_of={parts}."
        )
    kind = "tensor" if parallelism.tp_enabled else "context" if parallelism.cp_enabled else None
    if kind is not None and on_cpu:
        raise UsageError(
            f"{kind} parallelism needs accelerators: accelerate and torch have none for a CPU;"
            " leave its size at 1."
        )
