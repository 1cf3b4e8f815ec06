"""The memory and the work of a training step, before any weight is loaded: on the meta device.

state        weights, gradients and AdamW's two moments of what is trained
activations  what autograd keeps for the backward pass: counted on the meta device, tensor by
             tensor, with the layers that the configuration has
head         the block of logits, and the gradients that our head forms in the forward pass
work         6 floating-point operations a parameter and token, 8 where activations are
             recomputed (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361), and attention
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = [
    "USABLE",
    "UTILISATION",
    "Device",
    "Footprint",
    "Shape",
    "device_names",
    "footprint",
    "known_device",
    "meta_model",
]

_BLOCK_BYTES = {"cpu": 64 * 2**20, "gpu": 512 * 2**20}
"""Size of the head's block of logits (`kernels/torch_rows.py`)."""


_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a number in NF4: 4 bits, a scale of 8 bits for 64 of them, a float32 for 256 scales."""


class Device(NamedTuple):
    """A kind of device."""

    name: str
    memory: float
    """Bytes; 0 if unknown."""
    speed: float
    """Floating-point operations a second of dense bfloat16 matmuls by its maker; 0 if unknown."""


_DEVICES = {
    "rtx4090": Device("RTX 4090", 24e9, 165e12),
    "a100": Device("A100", 80e9, 312e12),
    "h100": Device("H100", 80e9, 989e12),
    "h200": Device("H200", 141e9, 989e12),
    "cpu": Device("CPU", 0.0, 0.0),
}
"""By NVIDIA's data sheets; bfloat16 with float32 accumulation, without sparsity."""

UTILISATION = 0.4
"""Share of a device's speed that training reaches; an assumption."""
USABLE = 0.92
"""Share of a device's memory that a plan may fill; the rest is the driver's and fragments."""


def known_device(name: str) -> Device | None:
    """Return a kind of device by its name, as `H100`; None if it is not in the table."""
    return _DEVICES.get(name.lower().replace("-", "").replace(" ", ""))


def device_names() -> str:
    """Return the names of the table."""
    return ", ".join(device.name for device in _DEVICES.values())


class Shape(NamedTuple):
    """Layout of a training."""

    rows: int
    """Rows of a micro-batch."""
    length: int
    """Tokens of its longest row."""
    weight_bytes: int = 4
    activation_bytes: int = 4
    four_bits: bool = False
    """True if the linear layers but the head are in 4 bits (NF4 with quantized constants)."""
    lora_rank: int = 0
    lora_targets: str = "all-linear"
    checkpointing: bool = False
    shards: int = 1
    """Devices over which the state is spread."""
    on_cpu: bool = True
    compares: bool = False
    """True if the objective compares with the model before training: one more forward pass, and
    where all weights are trained a frozen copy.
    """

    @property
    def copies(self) -> bool:
        """True if a frozen copy of the model is held."""
        return self.compares and not self.lora_rank


@dataclass(frozen=True)
class Footprint:
    """The bytes of one device at the peak of a training step, by what they hold."""

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    gathered: float
    """Layers that sharding has gathered, and the copies of mixed precision."""
    operations_per_token: float
    layers: int

    @property
    def peak(self) -> float:
        """The most that is held at once: at the end of the forward pass, whose activations and head
        are whole, or at the end of the backward pass, whose gradients are.
        """
        always = self.weights + self.optimizer + self.gathered
        a_layer = self.activations / max(self.layers, 1)
        return always + max(self.activations + self.head, self.gradients + a_layer)


def meta_model(name: str) -> Any:
    """Return a model without weights, from its configuration alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from .adapters import base_of
    from .loading import readable
    from .packaged import model_folder

    with readable(name, "configuration"):
        folder = model_folder(base_of(name) or name)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model.train()


def footprint(model: Any, shape: Shape) -> Footprint:
    """Return what one training step of a model on the meta device would hold and do.

    Args:
        model: of `meta_model`; it is changed.
    """
    parameters = sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    trained = parameters
    if shape.lora_rank:
        trained = _adapters(model, shape, head)
    quantized = 0
    if shape.four_bits:
        linear = (m for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
        quantized = sum(module.weight.numel() for module in linear)
    layers = int(getattr(config, "num_hidden_layers", 1))
    saved = _saved_bytes(model, shape)
    inputs = shape.rows * shape.length * config.hidden_size * shape.activation_bytes
    if shape.checkpointing:
        saved = layers * inputs + saved / layers
    vocabulary, hidden = head.weight.shape
    tokens = shape.rows * shape.length
    block = min(_BLOCK_BYTES["cpu" if shape.on_cpu else "gpu"], 4.0 * tokens * vocabulary)
    of_head = block + 4.0 * tokens * hidden
    if not shape.lora_rank:
        of_head += 4.0 * vocabulary * hidden
    if shape.compares:
        of_head += block + 4.0 * tokens * hidden
    state = shape.weight_bytes / shape.shards
    gathered = 0.0
    if shape.shards > 1:  # the head and one layer are whole while they compute
        a_layer = (parameters - vocabulary * hidden) / max(layers, 1)
        gathered = shape.activation_bytes * (vocabulary * hidden + 2 * a_layer)
    elif shape.activation_bytes < shape.weight_bytes:  # autocast's copies of the matrices
        gathered = shape.activation_bytes * (parameters - vocabulary * hidden)
    attention = 12.0 * layers * config.hidden_size * shape.length
    factor = 6.0 if not shape.lora_rank else 4.0  # no gradients of frozen weights
    factor += 2.0 * (shape.checkpointing + shape.compares)
    copied = parameters if shape.copies else 0
    return Footprint(
        parameters=parameters,
        trained=trained,
        weights=state * (parameters - quantized + copied)
        + _NF4_BYTES * quantized / shape.shards
        + (4.0 * trained / shape.shards if shape.lora_rank else 0.0),
        gradients=(4.0 / shape.shards if shape.lora_rank else state) * trained,
        optimizer=2.0 * (4.0 / shape.shards if shape.lora_rank else state) * trained,
        activations=saved,
        head=of_head,
        gathered=gathered,
        operations_per_token=factor * parameters + attention,
        layers=layers,
    )


def _adapters(model: Any, shape: Shape, head: Any) -> int:
    """Return the parameters of LoRA adapters."""
    targets = shape.lora_targets.split(",")
    return sum(
        shape.lora_rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (
            module is not head
            if shape.lora_targets == "all-linear"
            else name.rpartition(".")[2] in targets
        )
    )


_ATTENTION = "probtune_footprint"
"""Name under which transformers finds `_attention`."""


class _Attention(torch.autograd.Function):
    """Stand-in for a fused attention, which keeps inputs, output and a number a query. On the meta
    device torch would take the plain one, which keeps every weight.
    """

    @staticmethod
    def forward(ctx, q, k, v):
        rows, heads, length, size = q.shape
        out = q.new_empty(rows, length, heads, size).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, q.new_empty(rows, heads, length, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[override]
        raise NotImplementedError


def _attention(module: Any, query: Any, key: Any, value: Any, *others: Any, **options: Any) -> Any:
    return _Attention.apply(query, key, value).transpose(1, 2).contiguous(), None  # type: ignore[union-attr]


def _saved_bytes(model: Any, shape: Shape) -> float:
    """Return the bytes of the tensors that autograd keeps of a forward pass up to the head."""
    from transformers import AttentionInterface

    if shape.activation_bytes == 2:
        model = model.to(torch.bfloat16)
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    saved: dict[int, Any] = {}

    def remember(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage  # held, so that no other takes its place
        return x

    AttentionInterface.register(_ATTENTION, _attention)
    model.config.get_text_config()._attn_implementation = _ATTENTION
    ids = torch.zeros((shape.rows, shape.length), dtype=torch.int64, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda x: x):
        out = model.base_model(input_ids=ids, use_cache=False)
    del out
    return float(sum(storage.nbytes() for storage in saved.values()))
