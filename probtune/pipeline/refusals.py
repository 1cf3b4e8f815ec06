"""Requests for a training that could not be honoured, refused before any work."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable

from ..errors import UsageError
from ..models.loading import layer_names
from ..models.ranks import splits_layers
from ..objectives import Objective, kind_of
from ..settings import TuneSettings

__all__ = [
    "check_adapter",
    "check_fields",
    "check_fsdp",
    "check_heldout_signals",
    "check_planned",
    "check_split",
]


def check_adapter(settings: TuneSettings) -> None:
    """Refuse adapters on layers that the model does not have, before it is loaded.

    Raises:
        UsageError: with the layers that it has.
    """
    if not settings.lora_rank or settings.lora_targets == "all-linear":
        return
    layers = layer_names(settings.model)
    missing = [name for name in settings.lora_targets.split(",") if name not in layers]
    if missing:
        raise UsageError(
            f"--lora-targets {settings.lora_targets}: {settings.model} has no linear layer"
            f" {', '.join(map(repr, missing))}; it has {', '.join(layers)}, or leave it at"
            " all-linear."
        )


def check_fields(settings: TuneSettings) -> None:
    """Refuse fields of the trainer that nobody reads.

    Raises:
        UsageError: with the nearest name.
    """
    from ..training import ProbTuneConfig

    names = [item.name for item in dataclasses.fields(ProbTuneConfig)]
    for name in settings.training:
        if name not in names:
            raise UsageError(
                f"--training {name}: ProbTuneConfig has no such field.{_near(name, names)}"
            )
    if "parallelism_config" in settings.training:
        raise UsageError(
            "--training parallelism_config: the processes are connected before the trainer reads"
            " it; put it into accelerate's configuration, and start with `accelerate launch"
            " --config_file`."
        )
    sharding = settings.training.get("fsdp_config")
    for name in sharding if isinstance(sharding, dict) else ():
        if name.removeprefix("fsdp_") not in _FSDP_KEYS:
            raise UsageError(
                f"--training fsdp_config: transformers reads no key {name!r}."
                f"{_near(name.removeprefix('fsdp_'), _FSDP_KEYS)}"
            )


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


_FSDP_KEYS = frozenset(
    {
        "version", "reshard_after_forward", "cpu_offload", "auto_wrap_policy", "min_num_params",
        "transformer_layer_cls_to_wrap", "state_dict_type", "cpu_ram_efficient_loading",
        "activation_checkpointing", "sync_module_states", "use_orig_params", "forward_prefetch",
        "backward_prefetch", "limit_all_gathers", "xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt",
        "xla_fsdp_settings",
    }
)  # fmt: skip
"""Keys of `fsdp_config` that transformers reads; it passes over others."""


def check_split(settings: TuneSettings) -> None:
    """Refuse adapters on layers that are split over processes.

    Raises:
        UsageError: with what to do instead.
    """
    if settings.lora_rank and splits_layers():
        raise UsageError(
            "tensor parallelism splits the layers under the adapters; train all weights"
            " (--lora-rank 0), or use FSDP."
        )


def check_planned(
    settings: TuneSettings, objectives: Iterable[Objective], *, processes: int, on_cpu: bool
) -> None:
    """Refuse a training on other processes as a run on them would: what accelerate's launcher asks
    for beside the objectives and the rows.

    Args:
        processes, on_cpu: as in `training.check_launch`.

    Raises:
        UsageError: with what to use instead.
    """
    from ..training import Planned, check_launch

    check_split(settings)
    for objective in objectives:
        config = Planned(
            objective,
            packing=settings.packing,
            padding_free=bool(settings.padding_free),
            groups=settings.group_by is not None,
            pad_to_multiple_of=settings.training.get("pad_to_multiple_of"),
        )
        check_launch(config, processes=processes, on_cpu=on_cpu)


def check_fsdp(settings: TuneSettings) -> None:
    """Refuse FSDP on a CPU.

    Raises:
        UsageError: the settings or accelerate's launcher ask for it.
    """
    own = settings.training.get("fsdp")
    if own or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        source = f"--training fsdp={own!r}" if own else "accelerate's configuration asks for FSDP"
        raise UsageError(
            f"{source}: accelerate shards on accelerators alone and would ignore it on this CPU;"
            " leave it out, each process then has the whole model."
        )


_OF_TRAINING_ROWS = frozenset(
    {
        "column", "answer", "reference", "better", "sequence_weight", "old", "sequence_gain",
        "excess_cut", "step",
    }
)  # fmt: skip
"""Kinds of signals that only the training rows have."""


def check_heldout_signals(objective: Objective, *, weighed: bool) -> None:
    """Refuse to measure held-out rows during training where the objective needs what they lack.

    Args:
        weighed: True if scouts weigh the training rows; held-out ones then weigh 1.

    Raises:
        UsageError: with the signal.
    """
    training = _OF_TRAINING_ROWS - ({"sequence_weight"} if weighed else set())
    lacking = sorted(name for name in objective.needs if kind_of(name) in training)
    if lacking:
        raise UsageError(
            f"--eval-steps measures the objective on held-out rows, and {objective} needs"
            f" {', '.join(lacking)}, which only training rows have; leave it out, held-out rows are"
            " measured after training."
        )
