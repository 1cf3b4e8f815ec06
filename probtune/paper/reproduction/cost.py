"""Cost of a plan before it starts: GPU hours, memory and devices, disk, generations. These are
estimates from arithmetic and from the assumptions in this module.

    training     6 N floating-point operations a token (Kaplan et al., "Scaling Laws for Neural
                 Language Models", 2020, https://arxiv.org/abs/2001.08361), 8 N where activations
                 are recomputed, plus attention's 12 x layers x hidden x length
    generation   2 N a token
    memory       weights, gradients and AdamW's two moments; activations at one checkpoint a layer

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...evaluation.tasks.table import find_tasks
from ..corpora import corpus
from .backbones import Backbone
from .plan import CellPlan, Run

__all__ = [
    "ASSUMPTIONS",
    "Cost",
    "cost_of",
    "devices_needed",
    "memory_bytes",
    "prompt_tokens",
    "training_tokens",
]

PEAK = 989e12
"""Floating-point operations a second: bfloat16, dense, of an H100 or H200 (by NVIDIA)."""
TRAINING_UTILISATION = 0.40
DECODING_UTILISATION: Mapping[str, float] = MappingProxyType(
    {"hf": 0.01, "vllm": 0.10, "server": 0.10}
)
USABLE = 0.90
"""Share of a device's memory that a plan may fill."""
DEVICE_BYTES = 141e9
"""Memory of an H200, the paper's device (p. 16), for a machine without an accelerator."""

_TOKENS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "math": (550, 900),
        "medical": (450, 400),
        "figlet": (300, 5),
        "instructions": (600, 500),
        "code": (550, 300),
        "languages": (550, 400),
        "knowledge": (90, 3),
    }
)
"""Domain -> assumed mean tokens of a training row with its prompt, and of an answer. The limits of
the recipe bound both."""

_ROWS_UNKNOWN: Mapping[str, int] = MappingProxyType(
    {"numina-67k": 67_600, "muri": 95_000, "magpie-evol": 140_000}
)
"""Rows by the paper for corpora whose number of rows is unknown before they are read."""

ASSUMPTIONS = (
    f"{PEAK / 1e12:.0f} TFLOP/s a device (bfloat16, H100 or H200)",
    f"training at {TRAINING_UTILISATION:.0%} of that, decoding at"
    f" {DECODING_UTILISATION['vllm']:.0%} with vLLM and {DECODING_UTILISATION['hf']:.0%} with"
    " transformers",
    "mean tokens of a row and an answer by domain: "
    + ", ".join(f"{name} {row}/{answer}" for name, (row, answer) in _TOKENS.items()),
    "activations recomputed; one checkpoint on disk while training; models removed once evaluated",
)


@dataclass(frozen=True)
class Cost:
    """Cost of one plan, or of several together (`+`)."""

    training_hours: float = 0.0
    """GPU hours of training."""
    generation_hours: float = 0.0
    generations: int = 0
    """Number of drawn answers."""
    trainings: int = 0
    peak_bytes: float = 0.0
    """Memory of the largest run, over all its devices together."""
    devices: int = 1
    """Devices that the largest run needs."""
    downloads: Mapping[str, float] = field(default_factory=dict)
    """Model or training set -> bytes."""
    kept_bytes: float = 0.0
    """Size of the trained models that stay."""
    passing_bytes: float = 0.0
    """Size of models and checkpoints that are removed later."""
    unknown_downloads: tuple[str, ...] = ()
    """Datasets of unknown size."""

    @property
    def hours(self) -> float:
        return self.training_hours + self.generation_hours

    @property
    def disk_bytes(self) -> float:
        return math.fsum(self.downloads.values()) + self.kept_bytes + self.passing_bytes

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.training_hours + other.training_hours,
            self.generation_hours + other.generation_hours,
            self.generations + other.generations,
            self.trainings + other.trainings,
            max(self.peak_bytes, other.peak_bytes),
            max(self.devices, other.devices),
            {**self.downloads, **other.downloads},
            self.kept_bytes + other.kept_bytes,
            max(self.passing_bytes, other.passing_bytes),
            tuple(dict.fromkeys((*self.unknown_downloads, *other.unknown_downloads))),
        )


def cost_of(
    plan: CellPlan, *, device_bytes: float = DEVICE_BYTES, keep_models: bool = False
) -> Cost:
    """Return the cost of one cell, with its runs one after another."""
    total = Cost()
    for run in plan.runs:
        total += _run_cost(run, plan, device_bytes)
    downloads, unknown = _datasets(plan)
    for run in plan.runs:
        downloads[run.backbone.hub] = 2.0 * run.backbone.parameters
    stored = [_stored(run) for run in plan.runs if run.trains]
    largest = max(stored, default=0.0)
    rates = len(plan.recipe.learning_rates) if any(run.candidate for run in plan.runs) else 1
    return total + Cost(
        downloads=downloads,
        kept_bytes=math.fsum(stored) if keep_models else 0.0,
        # models that wait for the choice of a rate, and a checkpoint with AdamW's moments
        passing_bytes=3.0 * largest + (0.0 if keep_models else rates * largest),
        unknown_downloads=unknown,
    )


def training_tokens(run: Run) -> float:
    """Return the tokens of a run's forward passes."""
    settings = run.training
    chosen = corpus(settings.data.removeprefix("corpus:"))
    rows = chosen.rows or _ROWS_UNKNOWN.get(chosen.name, 0)
    row = min(prompt_tokens(chosen.domain), settings.max_length)
    if settings.max_steps > 0:
        return settings.max_steps * settings.batch_size * settings.gradient_accumulation * row
    return settings.epochs * rows * row


def prompt_tokens(domain: str) -> int:
    """Return the assumed tokens of a training row."""
    return _TOKENS[domain][0]


def memory_bytes(model: Backbone, weights: str, batch_size: int, length: int) -> float:
    """Return the bytes of weights, gradients, moments and activations.

    >>> from probtune.paper.reproduction.backbones import backbone
    >>> round(memory_bytes(backbone("llama-3.1-8b"), "float32", 4, 3072) / 1e9)
    134
    """
    element = 4 if weights == "float32" else 2
    states = 4 * element * model.parameters
    tokens = batch_size * length
    checkpoints = 2 * tokens * model.hidden * model.layers
    layer = 2 * tokens * (10 * model.hidden + 3 * model.intermediate)
    return states + checkpoints + layer


def devices_needed(needed: float, device_bytes: float) -> int:
    """Return the number of devices, a power of two so that micro-batches spread evenly."""
    least = needed / (USABLE * device_bytes)
    return 1 if least <= 1 else 2 ** math.ceil(math.log2(least))


def _run_cost(run: Run, plan: CellPlan, device_bytes: float) -> Cost:
    model, settings = run.backbone, run.training
    operations = peak = 0.0
    if run.trains:
        attention = (
            12
            * model.layers
            * model.hidden
            * min(settings.max_length, prompt_tokens(corpus(settings.data[7:]).domain))
        )
        operations = training_tokens(run) * (8 * model.parameters + attention)
        peak = memory_bytes(model, settings.weights, settings.batch_size, settings.max_length)
    if run.probe:
        operations += 2 * model.parameters * training_tokens(run)
    answers, tokens = _answers(run, plan)
    backend = "hf" if run.evaluation is None else run.evaluation.backend
    return Cost(
        training_hours=operations / (PEAK * TRAINING_UTILISATION) / 3600,
        generation_hours=2
        * model.parameters
        * tokens
        / (PEAK * DECODING_UTILISATION[backend])
        / 3600,
        generations=answers,
        trainings=int(run.trains),
        peak_bytes=max(peak, 2.0 * model.parameters),
        devices=devices_needed(max(peak, 2.0 * model.parameters), device_bytes),
    )


def _answers(run: Run, plan: CellPlan) -> tuple[int, float]:
    """Return (answers, tokens) drawn for a run. One candidate of a sweep is evaluated; the others
    answer the held-out rows only.
    """
    if run.evaluation is None:
        return 0, 0.0
    if run.candidate:
        rates = len(plan.recipe.learning_rates)
        rows = int(run.training.heldout or 0)
        answers, tokens = _evaluated(run)
        held_tokens = rows * _TOKENS[corpus(run.training.data[7:]).domain][1]
        return rows + answers // rates, held_tokens + tokens / rates
    return _evaluated(run)


def _evaluated(run: Run) -> tuple[int, float]:
    assert run.evaluation is not None
    answers, tokens = 0, 0.0
    for task in find_tasks(run.evaluation.tasks):
        ways = {
            (task.protocols[name].prompt(run.backbone.family), task.protocols[name].decoding)
            for name in run.evaluation.protocols
        }
        length = _TOKENS[corpus(run.training.data[7:]).domain][1]
        for _, decoding in ways:
            drawn = task.source.rows * (run.evaluation.samples or decoding.samples)
            answers += drawn
            tokens += drawn * min(length, decoding.max_new_tokens)
    return answers, tokens


def _stored(run: Run) -> float:
    return (4.0 if run.training.weights == "float32" else 2.0) * run.backbone.parameters


def _datasets(plan: CellPlan) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the bytes of the training sets, and the names of those of unknown size."""
    sizes, unknown = {}, {}
    for name in dict.fromkeys(run.training.data[7:] for run in plan.runs):
        chosen = corpus(name)
        if chosen.megabytes is None:
            unknown[chosen.name] = None
        else:
            sizes[chosen.name] = chosen.megabytes * 1e6
    return sizes, tuple(unknown)
