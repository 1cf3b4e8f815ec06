"""`probtune tune --dry-run`: what the training needs and takes, before a weight is loaded or a
folder is made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..errors import UsageError
from ..models.footprint import (
    USABLE,
    UTILISATION,
    Device,
    Footprint,
    Shape,
    device_names,
    footprint,
    known_device,
    meta_model,
)
from ..models.kinds import check_decoder_folder
from ..models.loading import default_device
from ..models.ranks import launched
from ..objectives import REFERENCE_SIGNALS, Objective
from ..objectives import objective as read_objective
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import mixed_precision
from .preparation import Locate, prepare
from .refusals import check_fields, check_planned
from .selecting import named_objectives

__all__ = ["Plan", "dry_run", "read_devices", "shape_of"]


class Plan(NamedTuple):
    """A training that is not run."""

    devices: int
    device: Device
    of_device: Footprint
    tokens_per_step: float
    steps: int
    seconds_per_step: float
    shards: int

    @property
    def fits(self) -> bool | None:
        """True if the peak fits a device; None if its memory is unknown."""
        if not self.device.memory:
            return None
        return self.of_device.peak <= USABLE * self.device.memory


def read_devices(text: str) -> tuple[int, Device]:
    """Return number and kind of the devices of a text such as `8xH100`; `here` is this machine.

    Raises:
        UsageError: the number or the kind cannot be read.
    """
    if text == "here":
        return 1, _this_device()
    match = re.fullmatch(r"(?:(\d+) ?x ?)?([\w -]+)", text.strip())
    device = known_device(match.group(2)) if match else None
    if match is None or device is None or match.group(1) == "0":
        raise UsageError(
            f"--dry-run {text}: give a number and a kind of device, as 8xH100, of"
            f" {device_names()}, or nothing for this machine."
        )
    return int(match.group(1) or 1), device


def dry_run(
    settings: TuneSettings,
    devices: str,
    terminal: Terminal,
    *,
    locate: Locate | None = None,
    objective: Objective | None = None,
    compare: Sequence[Objective] = (),
) -> Plan:
    """Read and tokenize the data, count on the meta device, and print the plan of a training.

    Args:
        devices: as `8xH100`, or `here`.
        objective, compare: objectives of your own, in place of the texts in the settings.

    Raises:
        UsageError: the training does not fit these devices, or accelerate's launcher asks for a
            parallelism that it cannot have; with what to change.
    """
    number, device = read_devices(devices)
    check_fields(settings)
    check_decoder_folder(settings.model)
    arms, others = named_objectives(settings, objective, compare)
    named = [arm or read_objective("nll") for arm in (*arms, *others)]
    on_cpu = device.name == "CPU"
    processes = launched() if devices == "here" else number
    check_planned(settings, named, processes=processes, on_cpu=on_cpu)
    compares = any(REFERENCE_SIGNALS & arm.kinds for arm in named)
    prepared = prepare(settings, terminal, locate=locate)
    lengths = prepared.train.rows.lengths
    shards = number if _shards(settings) else 1
    longest = int(lengths.max())
    shape = shape_of(settings, longest, on_cpu=on_cpu, shards=shards, compares=compares)
    of_device = footprint(meta_model(settings.model), shape)
    per_step = settings.batch_size * settings.gradient_accumulation * number
    mean = settings.max_length if settings.packing else float(lengths.mean())
    tokens = per_step * mean
    rows = len(lengths) if not settings.packing else -(-int(lengths.sum()) // settings.max_length)
    steps = settings.max_steps
    if steps < 0:
        steps = -(-int(settings.epochs * rows) // per_step)
    speed = device.speed * UTILISATION if device.speed else _measured_speed()
    seconds = of_device.operations_per_token * tokens / number / speed
    plan = Plan(number, device, of_device, tokens, max(steps, 1), seconds, shards)
    _show(plan, settings, shape, terminal)
    if plan.fits is False:
        raise UsageError(_too_large(plan, settings, shape))
    return plan


def shape_of(
    settings: TuneSettings,
    longest: int,
    *,
    on_cpu: bool,
    shards: int = 1,
    compares: bool = False,
) -> Shape:
    """Return the layout of a training: its largest micro-batch, dtypes, adapters."""
    mixed = mixed_precision(settings, on_cpu)
    bfloat16 = settings.weights == "bfloat16" or (settings.weights == "nf4" and not on_cpu)
    weight_bytes = 2 if bfloat16 else 4
    checkpointing = settings.training.get(
        "activation_checkpointing", settings.training.get("gradient_checkpointing", not on_cpu)
    )
    return Shape(
        rows=settings.batch_size,
        length=settings.max_length if settings.packing else min(longest, settings.max_length),
        weight_bytes=weight_bytes,
        activation_bytes=2 if mixed else weight_bytes,
        four_bits=settings.weights == "nf4",
        lora_rank=settings.lora_rank,
        lora_targets=settings.lora_targets,
        checkpointing=bool(checkpointing),
        shards=shards,
        on_cpu=on_cpu,
        compares=compares,
    )


def _shards(settings: TuneSettings) -> bool:
    """True if weights, gradients and moments are spread over the devices."""
    return bool(settings.training.get("fsdp") or settings.training.get("deepspeed"))


def _this_device() -> Device:
    if default_device() == "cuda":
        properties: Any = torch.cuda.get_device_properties(0)
        kind = known_device(properties.name.split()[-1])
        return Device(properties.name, properties.total_memory, kind.speed if kind else 0.0)
    return Device("CPU", 0.0, 0.0)


def _measured_speed() -> float:
    """Return the floating-point operations a second of a matmul on this device."""
    x = torch.randn(1024, 1024, device=default_device())
    (x @ x).sum().item()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        (x @ x).sum().item()
        count += 1
    return 2.0 * 1024**3 * count / (time.perf_counter() - started)


def _show(plan: Plan, settings: TuneSettings, shape: Shape, terminal: Terminal) -> None:
    f = plan.of_device
    rows = [
        ["weights, with a frozen copy" if shape.copies else "weights", _gb(f.weights)],
        ["gradients", _gb(f.gradients)],
        ["optimizer", _gb(f.optimizer)],
        ["activations", _gb(f.activations)],
        ["head", _gb(f.head)],
        ["gathered weights and copies", _gb(f.gathered)],
        ["peak (gradients and activations are not whole at once)", _gb(f.peak)],
    ]
    named = f"{plan.devices} x {plan.device.name}"
    if plan.device.memory:
        named += f" of {plan.device.memory / 1e9:.0f} GB"
    terminal.table(f"Memory of each device, {named}", ["", "GB"], rows)
    trained = f"{f.trained:,} of {f.parameters:,} parameters are trained"
    spread = f", spread over {plan.shards} devices" if plan.shards > 1 else ""
    terminal.show(f"{trained}{spread}")
    terminal.show(
        f"{plan.steps:,} steps of {plan.tokens_per_step:,.0f} tokens"
        f" ({settings.batch_size} x {settings.gradient_accumulation} x {plan.devices} rows, the"
        f" longest {shape.length} tokens)"
    )
    basis = f"{UTILISATION:.0%} of its maker's figure" if plan.device.speed else "a matmul's speed"
    hours = plan.steps * plan.seconds_per_step / 3600
    terminal.show(
        f"{plan.seconds_per_step:.3g} s a step at {basis}; {hours:.3g} hours for one objective"
    )
    if plan.fits is not None:
        terminal.show("It fits." if plan.fits else "It does not fit.")


def _gb(number: float) -> str:
    return f"{number / 1e9:.3g}"


def _too_large(plan: Plan, settings: TuneSettings, shape: Shape) -> str:
    f, ways = plan.of_device, []
    if f.activations + f.head > f.gradients + f.optimizer:
        if not shape.checkpointing:
            ways.append("--training activation_checkpointing=true")
        if settings.batch_size > 1:
            ways.append(f"--batch-size {max(1, settings.batch_size // 2)}")
    else:
        if plan.shards == 1 and plan.devices > 1:
            ways.append("--training fsdp=full_shard")
        if not settings.lora_rank:
            ways.append("--lora-rank 32")
        else:
            lighter = {"float32": ("bfloat16", "nf4"), "bfloat16": ("nf4",)}
            ways += [f"--weights {name}" for name in lighter.get(settings.weights, ())]
    way_out = f"; try {' or '.join(ways)}, or more devices" if ways else "; take more devices"
    return (
        f"the training needs {f.peak / 1e9:.1f} GB on each device, and"
        f" {USABLE * plan.device.memory / 1e9:.1f} GB of a {plan.device.name} can be used{way_out}."
    )
