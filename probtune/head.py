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
from .models import LMHead, lm_head
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
    layer: Any = model.get_output_embeddings()
    if _is_lora(layer) and (reason := _why_not_lora(layer)) is not None:
        return reason
    found = _head(model)
    if found is None:
        return f"its output layer is a {type(layer).__name__}, not a plain linear layer"
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
        outputs = self.base_model(*args, **kwargs)
        hidden = outputs.last_hidden_state
        if shifted is None:
            hidden, shifted = hidden[:, :-1], labels[:, 1:]
        found = _run(self, objective_head, hidden, shifted)
        if kwargs.get("output_router_logits"):
            found.aux_loss = _balancing_loss(self, outputs, kwargs.get("attention_mask"))
        return found

    model.forward = types.MethodType(forward, model)


def _balancing_loss(model: PreTrainedModel, outputs: Any, attention_mask: Tensor | None) -> Tensor:
    """The balancing loss of a mixture of experts, which is Mixtral's in every family that has one
    (Fedus, Zoph and Shazeer, "Switch Transformers", https://arxiv.org/abs/2101.03961, 2021).
    """
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    config = model.config.get_text_config()
    found = load_balancing_loss_func(
        outputs.router_logits, config.num_experts, config.num_experts_per_tok, attention_mask
    )
    return torch.as_tensor(found)


def _head(model: PreTrainedModel) -> LMHead | None:
    """The head's own parameters, those under an adapter on it."""
    layer: Any = model.get_output_embeddings()
    if not _is_lora(layer):
        return lm_head(model)
    base = types.SimpleNamespace(get_output_embeddings=layer.get_base_layer, config=model.config)
    return lm_head(base)  # type: ignore[arg-type]


def _is_lora(layer: Any) -> bool:
    # Without importing PEFT, which takes seconds.
    return any(kind.__name__ == "LoraLayer" for kind in type(layer).__mro__)


def _why_not_lora(layer: Any) -> str | None:
    """The reason why an adapter on the head cannot be fused, or None."""
    if not isinstance(layer.get_base_layer(), torch.nn.Linear):
        return f"the layer under its adapter is a {type(layer.get_base_layer()).__name__}"
    variants = sorted(set(layer.lora_variant) & set(layer.lora_A))
    if variants:
        kinds = ", ".join(type(layer.lora_variant[name]).__name__ for name in variants)
        return f"the adapter on its output layer is no plain LoRA ({kinds})"
    if any(up.bias is not None for up in layer.lora_B.values()):
        return "the adapter on its output layer has a bias (lora_bias=False)"
    return None


def _adapter(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
    """(inputs, weight) of LoRA's second matmul on the head; of several adapters side by side."""
    if not _is_lora(layer) or layer.disable_adapters or layer.merged:
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not names:
        return None
    inputs, weights = [], []
    for name in names:
        down = layer.lora_A[name]
        x = layer.lora_dropout[name](hidden.to(down.weight.dtype))
        inputs.append(down(x) * layer.scaling[name])
        weights.append(layer.lora_B[name].weight)
    return torch.cat(inputs, 1), torch.cat(weights, 1)


def _whole(parameter: Tensor | None) -> Any:
    """A parameter that FSDP2 has sharded apart from the model's root, gathered.

    Its gradient is the sum over ranks of what each computed, divided by their number, as for every
    other parameter; `full_tensor()` alone would take this rank's for everyone's.
    """
    if parameter is None or type(parameter.data).__name__ != "DTensor":
        return parameter
    from torch.distributed.tensor import Partial

    mesh = parameter.device_mesh  # type: ignore[attr-defined]
    whole = parameter.full_tensor(grad_placements=[Partial()] * mesh.ndim)  # type: ignore[attr-defined]
    return _Shared.apply(whole, mesh.size())


class _Shared(torch.autograd.Function):
    """Identity, whose gradient is divided by the number of ranks."""

    @staticmethod
    def forward(ctx, x, ranks):
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[override]
        return gradient / ctx.ranks, None


def _run(model: PreTrainedModel, call: HeadCall, hidden: Tensor, labels: Tensor) -> HeadOutput:
    head = _head(model)
    assert head is not None
    head = head._replace(weight=_whole(head.weight), bias=_whole(head.bias))
    if call.objective is None:
        return HeadOutput(hidden=hidden, head_weight=head.weight, head_bias=head.bias)
    flat, weight, bias = _one_dtype(hidden.flatten(0, 1), head.weight, head.bias)
    adapter = _adapter(model.get_output_embeddings(), hidden.flatten(0, 1))
    if adapter is not None:
        adapter = adapter[0].to(flat.dtype), adapter[1].to(flat.dtype)
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
        adapter=adapter,
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
    """Hidden states and weights in one dtype: on an accelerator autocast's, as for any matmul
    there, or that of the hidden states; the wider of the two on a CPU, which gains nothing from
    less.
    """
    kind = hidden.device.type
    if kind == "cpu":
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
    elif torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    else:
        dtype = hidden.dtype
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
