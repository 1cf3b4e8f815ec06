"""`ProbTuneConfig`: TRL's `SFTConfig` with the objective, its normalizer and what it needs."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.sft_config import SFTConfig

from ..errors import UsageError
from ..objectives import Objective
from ..objectives import objective as read_objective

if TYPE_CHECKING:
    ObjectiveOrText = Objective | str
else:
    ObjectiveOrText = str  # transformers' parser of command lines takes one type

__all__ = ["CHECKPOINTING", "ProbTuneConfig", "is_lower_better"]

HEADS = ("auto", "probtune", "trl")
NORMALIZERS = ("supervised", "kept", "supervised_per_batch", "kept_per_batch")
ACCUMULATIONS = ("mean", "sum")
DECAYED = ("matrices", "all")
ROUNDINGS = ("up", "down")

_NAMES = {item.name for item in fields(SFTConfig)}
CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in _NAMES
)
"""The name that transformers has for the recomputation of activations; the old one warns where both
exist."""

_TRL = tuple(int(part) for part in importlib.metadata.version("trl").split(".")[:2])
"""TRL's version; before 1.16 its fused head is written in Triton alone."""


class _Text(str):
    """The text of an objective, which carries the objective itself. What is written to a file is
    the text alone.
    """

    of: Objective

    def __new__(cls, objective: Objective):
        self = super().__new__(cls, repr(objective))
        self.of = objective
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)

    def __deepcopy__(self, memo: Any) -> _Text:
        return self


@dataclass
class ProbTuneConfig(SFTConfig):
    """`SFTConfig` with the objective and its normalizer. All other fields are TRL's and
    transformers'. Where there is no accelerator, training runs on the CPU (`use_cpu`), and `bf16`
    is off unless it is set.

    Example:
        >>> ProbTuneConfig("out", objective="power(0.5)").objective
        'power(0.5)'
    """

    objective: ObjectiveOrText = field(
        default="nll()",
        metadata={
            "help": (
                "Function of the target probability to minimise, as `probtune objectives` lists"
                " them."
            )
        },
    )
    normalizer: str = field(
        default="supervised",
        metadata={
            "help": (
                "Denominator of the loss. 'supervised': the supervised tokens of the whole"
                " optimizer step, all micro-batches and ranks. 'kept': those of them that a"
                " threshold keeps. 'supervised_per_batch' and 'kept_per_batch': the same counts of"
                " each micro-batch alone, whose losses are averaged; the loss then depends on how"
                " the step is split. The paper's code divides by 'kept_per_batch'."
            ),
            "choices": list(NORMALIZERS),
        },
    )
    accumulation: str = field(
        default="mean",
        metadata={
            "help": (
                "What the micro-batches of an optimizer step give. 'mean': the loss of the step."
                " 'sum': that times the number of micro-batches, as the paper's code accumulates;"
                " it matters where gradients are clipped."
            ),
            "choices": list(ACCUMULATIONS),
        },
    )
    weight_decay_on: str = field(
        default="matrices",
        metadata={
            "help": (
                "Weights that decay. 'matrices': all but norms and biases, as transformers has it."
                " 'all': every weight, as the paper's code has it."
            ),
            "choices": list(DECAYED),
        },
    )
    warmup_rounding: str = field(
        default="up",
        metadata={
            "help": (
                "Steps of a warm-up that is a share of all (warmup_steps below 1). 'up': rounded"
                " up, as transformers has it. 'down': rounded down, as in the paper's code."
            ),
            "choices": list(ROUNDINGS),
        },
    )
    reference: str | None = field(
        default=None,
        metadata={
            "help": (
                "File with the log-probabilities of the model before training, for objectives that"
                " compare with it, as `probtune probe --store` writes it. Default: they are"
                " measured when the trainer is made, and kept in output_dir."
            )
        },
    )
    better: str | None = field(
        default=None,
        metadata={
            "help": (
                "The same of a better model, for token_cleaning and rho1: one trained on data that"
                " is trusted."
            )
        },
    )
    refresh_steps: int = field(
        default=8,
        metadata={
            "help": (
                "For psft: optimizer steps after which its old log-probabilities are measured anew,"
                " on the rows of the next steps."
            )
        },
    )
    head: str = field(
        default="auto",
        metadata={
            "help": (
                "Which fused head computes the loss. 'probtune': ours, in float32 also under mixed"
                " precision, for every objective. 'trl': TRL's, for objectives that need no more"
                " than p, entropy and collision probability. 'auto': ours, and TRL's for a model"
                " that ours does not serve."
            ),
            "choices": list(HEADS),
        },
    )
    head_two_pass: bool = field(
        default=False,
        metadata={
            "help": (
                "Our head in two passes over the logits: less memory, since the gradient of the"
                " output layer needs no float32 copy, for up to a third more of its matmuls."
            )
        },
    )

    groups: list[str] | None = field(
        default=None,
        metadata={
            "help": (
                "Names of the sources of the rows: NLL and mean p of each are measured beside"
                " those of all, in training (`trainer.by_group`) and in evaluation"
                " (`trainer.heldout_by_group`). The datasets' column `group_of_row` says of each"
                " row which one is its own, counted from 1; 0 for none."
            )
        },
    )

    assistant_only_loss: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": (
                "Conversations are trained on from where generation would begin to the end of each"
                " assistant turn, as by `probtune train` (default). False trains on every token."
            )
        },
    )

    gradient_checkpointing: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": (
                "Recompute activations in the backward pass to save memory (default: on, as in"
                " TRL). Newer transformers call it activation_checkpointing."
            )
        },
    )

    def __post_init__(self):
        # TRL mixes precisions by default, which transformers refuses without an accelerator.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.bf16 is None and self.use_cpu:
            self.bf16 = False
        # TRL's default stands under the old name, for which transformers 5.23 warns every user.
        if self.gradient_checkpointing is None and getattr(self, CHECKPOINTING) is None:
            setattr(self, CHECKPOINTING, True)
        if self.greater_is_better is None and is_lower_better(self.metric_for_best_model):
            self.greater_is_better = False  # transformers knows of `loss` alone
        super().__post_init__()
        self.objective = _Text(self.resolved_objective)
        for name, choices in (
            ("normalizer", NORMALIZERS),
            ("accumulation", ACCUMULATIONS),
            ("weight_decay_on", DECAYED),
            ("warmup_rounding", ROUNDINGS),
            ("head", HEADS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}."
                )
        if _TRL < (1, 16) and self.device.type == "cpu" and self.head == "trl":
            raise UsageError(
                f"TRL {'.'.join(map(str, _TRL))} computes log-probabilities on GPUs only; install"
                " trl>=1.16 to use its head on a CPU, or leave head='auto'."
            )
        if self.refresh_steps < 1:
            raise UsageError(f"refresh_steps must be at least 1, got {self.refresh_steps}.")
        if self.loss_type != "nll":
            raise UsageError(
                f"loss_type={self.loss_type!r} would replace the objective {self.objective}; leave"
                " loss_type out and write"
                f" objective='{'dft()' if self.loss_type == 'dft' else self.objective}'."
            )
        if self.label_smoothing_factor != 0:
            raise UsageError(
                f"label_smoothing_factor={self.label_smoothing_factor} would replace the objective"
                f" {self.objective}; set it to 0, or write"
                f" objective='label_smoothing({self.label_smoothing_factor:g})'."
            )

    @property
    def resolved_objective(self) -> Objective:
        """The objective itself: the object that was handed in, where it was one."""
        value = self.objective
        return value.of if isinstance(value, _Text) else read_objective(value)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the steps over which the learning rate rises: `warmup_steps`, or that share of
        all steps, rounded as `warmup_rounding` says.

        >>> [ProbTuneConfig("out", warmup_steps=0.1, warmup_rounding=r).get_warmup_steps(264)
        ...  for r in ("up", "down")]
        [27, 26]
        """
        if self.warmup_rounding == "down" and self.warmup_steps < 1:
            return int(num_training_steps * self.warmup_steps)
        return super().get_warmup_steps(num_training_steps)


def is_lower_better(metric: str | None) -> bool:
    """True for the NLL of an evaluation, whatever its dataset is called."""
    return metric is not None and (metric == "nll" or metric.endswith("_nll"))
