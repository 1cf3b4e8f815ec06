"""The language-model head of a transformers model, fused with the objective, inside its forward.

After `add_objective_head(model)`, `model(**inputs, labels=labels, objective_head=call)` runs the
backbone and hands its last hidden states to our kernels, so the logits are never stored; without
`objective_head` the forward is the model's own. Working inside the forward keeps what wraps a model
(data parallelism, mixed precision, FSDP's gathering of the root's parameters) in place.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from .errors import UsageError
from .kernels import IGNORE_INDEX, linear_objective
from .models import lm_head
from .objectives import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HeadCall", "HeadOutput", "add_objective_head", "why_not"]


@dataclass(frozen=True, eq=False)
class HeadCall:
    """What the head is to do. Shapes are those of the shifted labels, (B, T - 1), or of the labels
    as given when they are shifted already.
    """

    objective: Objective | None
    """None: only run the backbone, and return the hidden states and the head's parameters."""
    normalizer: float | Tensor | None = None
    signals: Mapping[str, Any] = field(default_factory=dict)
    reference: tuple[Tensor, Tensor, Tensor | None] | None = None
    """(hidden states, (B, T - 1, D), weight, bias) of the reference model."""


@dataclass
class HeadOutput(ModelOutput):
    """What the head found; per token (B, T - 1), 0 at ignored positions."""

    loss: Tensor | None = None
    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    is_top1: Tensor | None = None
    value: Tensor | None = None
    weight: Tensor | None = None
    kept: Tensor | None = None
    label_mask: Tensor | None = None
    aux_loss: Tensor | None = None
    hidden: Tensor | None = None
    head_weight: Tensor | None = None
    head_bias: Tensor | None = None


def why_not(model: PreTrainedModel) -> str | None:
    """The reason why the model's head cannot be fused, or None."""
    found = lm_head(model)
    if found is None:
        head = type(model.get_output_embeddings()).__name__
        return f"its output layer is a {head}, not a plain linear layer"
    if model.base_model is model:
        return "it does not tell its backbone from its head"
    if hasattr(found.weight, "ds_id"):
        return "DeepSpeed ZeRO-3 has scattered its head"
    return None


def add_objective_head(model: PreTrainedModel) -> None:
    """Teach the model's forward `objective_head=`. See the module.

    Raises:
        UsageError: the head cannot be fused; with the reason.
    """
    if (reason := why_not(model)) is not None:
        raise UsageError(f"the objective cannot be fused with {type(model).__name__}: {reason}.")
    own_forward = model.forward

    # The signature stays the model's own: `generate` checks its arguments against it.
    @functools.wraps(type(model).forward)
    def forward(self, *args: Any, objective_head: HeadCall | None = None, **kwargs: Any) -> Any:
        if objective_head is None:
            return own_forward(*args, **kwargs)
        labels, shifted = kwargs.pop("labels", None), kwargs.pop("shift_labels", None)
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state
        if shifted is None:
            hidden, shifted = hidden[:, :-1], labels[:, 1:]
        return _run(self, objective_head, hidden, shifted)

    model.forward = types.MethodType(forward, model)


def _run(model: PreTrainedModel, call: HeadCall, hidden: Tensor, labels: Tensor) -> HeadOutput:
    head = lm_head(model)
    assert head is not None
    if type(head.weight.data).__name__ == "DTensor":
        raise UsageError(
            "the head's weight is sharded on its own, apart from the model's root, and its gradient"
            " would be lost; leave the output layer out of the wrapped modules, or set head='trl'."
        )
    if call.objective is None:
        return HeadOutput(hidden=hidden, head_weight=head.weight, head_bias=head.bias)
    flat, weight, bias = _one_dtype(hidden.flatten(0, 1), head.weight, head.bias)
    reference = call.reference
    if reference is not None:
        reference = _one_dtype(reference[0].flatten(0, 1), *reference[1:])
    signals = {
        name: x.flatten() if isinstance(x, Tensor) and x.dim() else x
        for name, x in call.signals.items()
    }
    found = linear_objective(
        flat,
        weight,
        labels.flatten(),
        call.objective,
        normalizer=call.normalizer,
        bias=bias,
        softcap=head.softcap,
        logit_scale=head.logit_scale,
        signals=signals,
        reference=reference,
    )
    names = ("log_probs", "entropy", "is_top1", "value", "weight", "kept")
    per_token = (*found.statistics, found.value, found.weight, found.kept)
    shaped = {n: x.view(labels.shape) for n, x in zip(names, per_token, strict=True)}
    return HeadOutput(loss=found.loss, label_mask=labels != IGNORE_INDEX, **shaped)


def _one_dtype(
    hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden states and weights in one dtype: autocast's on an accelerator, as for any matmul
    there; the wider of the two elsewhere, since a CPU gains nothing from less.
    """
    kind = hidden.device.type
    if kind != "cpu" and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    else:
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
