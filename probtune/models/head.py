"""The language-model head of a transformers model, fused with the objective, inside its forward.

After `add_objective_head(model)`, `model(**inputs, labels=labels, objective_head=call)` runs the
backbone and hands its last hidden states to our kernels, so the logits are never stored; without
`objective_head` the forward is the model's own. Working inside the forward keeps what wraps a model
(data parallelism, mixed precision, FSDP's gathering of the root's parameters) in place. The loss is
the output of the head's own module, for that call, so that what is done around this module alone
(FSDP2, DeepSpeed ZeRO-3, accelerate's hooks) gathers its parameters and reduces their gradients as
for any module.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.utils.generic import ModelOutput

from ..errors import UsageError
from ..kernels import IGNORE_INDEX, Head, head_objective
from ..objectives import Objective
from .loading import LMHead, lm_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HeadCall", "HeadOutput", "PerToken", "add_objective_head", "why_not"]


class HeadCall:
    """Request to the head. Shapes are those of the shifted labels, (B, T - 1), or of the labels
    that the batch brings when they are shifted already.

    No dataclass, whose tensors FSDP2 would round to its parameters' dtype on their way in.

    Args:
        objective: None: only run the backbone, and return the hidden states.
        num_items_in_batch: the denominator, as in `kernels.linear_objective_loss`.
        signals: the same.
        reference: (hidden states, (B, T - 1, D), weight, bias) of the reference model; a weight of
            None: this model's own head without its adapter.
        two_pass: see `kernels.Head`.
    """

    def __init__(
        self,
        objective: Objective | None,
        num_items_in_batch: float | Tensor | None = None,
        signals: Mapping[str, Any] | None = None,
        reference: tuple[Tensor, Tensor | None, Tensor | None] | None = None,
        two_pass: bool = False,
    ):
        self.objective, self.num_items_in_batch = objective, num_items_in_batch
        self.signals, self.reference, self.two_pass = signals or {}, reference, two_pass


class PerToken:
    """Results per token, (B, T - 1), 0 at ignored positions; and the loss once more, without
    gradient.

    No dataclass: see `HeadCall`.
    """

    def __init__(
        self,
        loss: Tensor,
        log_probs: Tensor,
        entropy: Tensor,
        is_top1: Tensor,
        value: Tensor,
        weight: Tensor,
        kept: Tensor,
        label_mask: Tensor,
    ):
        self.loss = loss
        self.log_probs, self.entropy, self.is_top1 = log_probs, entropy, is_top1
        self.value, self.weight, self.kept = value, weight, kept
        self.label_mask = label_mask


@dataclass
class HeadOutput(ModelOutput):
    """Loss, in the dtype in which the model's wrappers let it out, and everything else."""

    loss: Tensor | None = None
    aux_loss: Tensor | None = None
    tokens: PerToken | None = None
    hidden: Tensor | None = None


def why_not(model: PreTrainedModel) -> str | None:
    """Return the reason why the model's head cannot be fused, or None."""
    layer: Any = model.get_output_embeddings()
    if _is(layer, "LoraLayer") and (reason := _why_not_lora(layer)) is not None:
        return reason
    head = _head(model)
    if head is None:
        return f"its output layer is a {type(layer).__name__}, not a plain linear layer"
    if head.weight.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        kind = str(head.weight.dtype).removeprefix("torch.")
        return f"its output layer is a {type(layer).__name__} whose weights are packed as {kind}"
    if model.base_model is model:
        return "it does not tell its backbone from its head"
    return None


def add_objective_head(model: PreTrainedModel) -> None:
    """Add the argument `objective_head=` to the model's forward. See the module.

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
        output = _run(self, objective_head, hidden, shifted)
        if kwargs.get("output_router_logits"):
            output.aux_loss = _balancing_loss(self, outputs, kwargs.get("attention_mask"))
        return output

    model.forward = types.MethodType(forward, model)


def _balancing_loss(model: PreTrainedModel, outputs: Any, attention_mask: Tensor | None) -> Tensor:
    """Return the balancing loss of a mixture of experts.

    It is Mixtral's in every family that has one (Fedus, Zoph and Shazeer, "Switch Transformers",
    2021, https://arxiv.org/abs/2101.03961).
    """
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    # Where the model's own forward has the numbers: on itself, or in the configuration of its text.
    numbers: Any = model if hasattr(model, "num_experts") else model.config.get_text_config()
    loss = load_balancing_loss_func(
        outputs.router_logits, numbers.num_experts, numbers.num_experts_per_tok, attention_mask
    )
    return torch.as_tensor(loss)


def _head(model: PreTrainedModel) -> LMHead | None:
    """Return the head's parameters that count now; those under a LoRA adapter on it."""
    layer: Any = model.get_output_embeddings()
    if _is(layer, "LoraLayer"):
        return _head_of(model, layer.get_base_layer())
    if not _is(layer, "AuxiliaryTrainingWrapper"):
        return lm_head(model)
    # PEFT's wrapper of a head that is trained whole, or for some tokens, answers for what counts.
    head = _head_of(model, layer.original_module)
    if head is None:
        return None
    bias = layer.bias if _is(layer, "ModulesToSaveWrapper") else head.bias
    return head._replace(weight=layer.weight, bias=bias)


def _head_before_training(model: PreTrainedModel) -> LMHead | None:
    """Return the head's parameters without adapters."""
    layer: Any = model.get_output_embeddings()
    wrapped = _is(layer, "AuxiliaryTrainingWrapper")
    return _head_of(model, layer.original_module) if wrapped else _head(model)


def _head_of(model: PreTrainedModel, layer: Any) -> LMHead | None:
    """Return the head as if `layer` were the model's output layer."""
    stand_in = types.SimpleNamespace(get_output_embeddings=lambda: layer, config=model.config)
    return lm_head(stand_in)  # type: ignore[arg-type]


def _is(layer: Any, kind: str) -> bool:
    """True if a class of that name is among the layer's."""
    # Without importing PEFT, which takes seconds.
    return any(base.__name__ == kind for base in type(layer).__mro__)


def _why_not_lora(layer: Any) -> str | None:
    """Return the reason why an adapter on the head cannot be fused, or None."""
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
    """Return (inputs, weight) of LoRA's second matmul, of several adapters side by side."""
    if not _is(layer, "LoraLayer") or layer.disable_adapters or layer.merged:
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not names:
        return None
    inputs, weights = [], []
    for name in names:
        # Not by calling the module: its forward may be the loss's, see `_inside`.
        down = _whole(layer.lora_A[name].weight)
        x = layer.lora_dropout[name](hidden.to(down.dtype))
        inputs.append(linear(x, down) * layer.scaling[name])
        weights.append(_whole(layer.lora_B[name].weight))
    return torch.cat(inputs, 1), torch.cat(weights, 1)


def _holders(layer: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that hold the head's parameters and have hooks around their forward,
    outermost first.
    """
    return [
        module
        for module in layer.modules()
        if (module is layer or any(True for _ in module.parameters(recurse=False)))
        and (module._forward_pre_hooks or module._forward_hooks or "_old_forward" in vars(module))
    ]


@torch.compiler.disable  # which cannot follow the change of a module's forward
def _inside(
    modules: Sequence[torch.nn.Module], function: Callable[[Tensor], Tensor], hidden: Tensor
) -> Tensor:
    """Call function(hidden) as the forward of every one of the modules, one inside the other."""
    if not modules:
        return function(hidden)
    outer, *others = modules
    # accelerate's hooks stand in the place of `forward`, and call this.
    name = "_old_forward" if "_old_forward" in vars(outer) else "forward"
    replaced = vars(outer).get(name)
    setattr(outer, name, functools.partial(_inside, others, function))
    try:
        return outer(hidden)
    finally:
        if replaced is None:
            delattr(outer, name)
        else:
            setattr(outer, name, replaced)


def _whole(parameter: Tensor | None) -> Any:
    """Gather a parameter that is still spread over ranks inside its modules: under tensor
    parallelism, whose ranks all compute the same.

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
    results: list[PerToken] = []

    def loss(hidden: Tensor) -> Tensor:
        if call.objective is None:
            return hidden
        loss, tokens = _loss(model, call, hidden, labels)
        results.append(tokens)
        return loss

    # Only what has a gradient passes through the modules' hooks. The modules are entered without an
    # objective too: whoever gathers parameters ahead expects the same order.
    layer: Any = model.get_output_embeddings()
    holders = _holders(layer)
    inside: Any = _inside
    out = inside(holders, loss, hidden) if holders else loss(hidden)
    return HeadOutput(out, tokens=results[0]) if results else HeadOutput(hidden=out)


def _loss(
    model: PreTrainedModel, call: HeadCall, hidden: Tensor, labels: Tensor
) -> tuple[Tensor, PerToken]:
    """Return the loss and the results per token, on the labels' device."""
    assert call.objective is not None
    layer = _gathered(_head(model))
    device = layer.weight.device  # another one than the backbone's last, with a device_map
    hidden = hidden.flatten(0, 1).to(device)
    flat, weight, bias = _one_dtype(hidden, layer.weight, layer.bias)
    adapter = _adapter(model.get_output_embeddings(), hidden)
    if adapter is not None:
        adapter = adapter[0].to(flat.dtype), adapter[1].to(flat.dtype)
    head = Head(
        flat, weight, bias, layer.softcap, layer.logit_scale, adapter, two_pass=call.two_pass
    )
    reference = None
    if call.reference is not None:
        of_hidden, of_weight, of_bias = call.reference
        if of_weight is None:
            before = _gathered(_head_before_training(model))
            of_weight, of_bias = before.weight, before.bias
        fixed = (None if x is None else x.detach().to(device) for x in (of_weight, of_bias))
        tensors = _one_dtype(of_hidden.flatten(0, 1).to(device), *fixed)
        reference = Head(*tensors, softcap=layer.softcap, logit_scale=layer.logit_scale)
    signals = {
        name: x.to(device).flatten() if isinstance(x, Tensor) and x.dim() else x
        for name, x in call.signals.items()
    }
    count = call.num_items_in_batch
    result = head_objective(
        head,
        labels.flatten().to(device),
        call.objective,
        num_items_in_batch=count.to(device) if isinstance(count, Tensor) else count,
        signals=signals,
        reference=reference,
    )
    loss = result.loss.to(labels.device)
    per_token = (*result.statistics, result.value, result.weight, result.kept)
    shaped = (x.to(labels.device).view(labels.shape) for x in per_token)
    return loss, PerToken(loss.detach(), *shaped, label_mask=labels != IGNORE_INDEX)


def _gathered(head: LMHead | None) -> LMHead:
    """Return the head with its parameters whole."""
    if head is None:
        raise UsageError(
            "the model's output layer has been replaced since the objective was fused with it: wrap"
            " the model as a whole, or its layers, before the trainer is made."
        )
    return head._replace(weight=_whole(head.weight), bias=_whole(head.bias))


def _one_dtype(
    hidden: Tensor, weight: Any, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return hidden states and weights in one dtype.

    On an accelerator it is autocast's, as for any matmul there, or that of the hidden states; on a
    CPU, which gains nothing from less, the wider of the two.
    """
    kind = hidden.device.type
    if kind == "cpu":
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
    elif torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    else:
        dtype = hidden.dtype
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
