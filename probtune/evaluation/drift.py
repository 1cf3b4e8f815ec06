"""Movement of the weights in fine-tuning: ||theta - theta0|| / ||theta0||, by layer and by kind of
matrix, and the number of directions in the difference of a matrix.

    effective rank = exp(-sum p_i ln p_i),   p_i = sigma_i / sum of sigma

with sigma the singular values of the difference: 1 for a difference in one direction, r for r equal
ones. Tensors are read in blocks from safetensors; neither model is ever whole in memory. LoRA
adapters are merged on the way: their difference is scale x B A, and its rank comes from the two
factors.

These are exact numbers of two checkpoints, without intervals. A checkpoint in bfloat16 is rounded
by up to 2^-9 of each weight, and the difference includes that rounding.

Reference: Roy and Vetterli, "The Effective Rank: A Measure of Effective Dimensionality", 2007,
https://ieeexplore.ieee.org/document/7098875.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.hub import first_line
from ..errors import DataError, UsageError

__all__ = ["Moved", "drift", "effective_rank", "summary"]

Progress = Callable[[int], None]

_BLOCK = 2**24
"""Elements of a tensor that are widened at a time."""


@dataclass(frozen=True)
class Moved:
    """Movement of one tensor."""

    name: str
    layer: int | None
    """None outside the layers, for example the embedding and the head."""
    kind: str
    """Name of the module, for example `q_proj`; a bias is `q_proj bias`."""
    shape: tuple[int, ...]
    squares: float
    """||theta - theta0||^2."""
    base_squares: float
    """||theta0||^2."""
    rank: float | None
    """Effective rank of the difference; None for vectors, with `ranks=False`, and for a zero
    difference."""
    top_share: float | None
    """Largest sigma^2 as a share of their sum."""

    @property
    def relative(self) -> float:
        return math.sqrt(self.squares / self.base_squares) if self.base_squares else math.nan


def drift(
    base: str,
    tuned: str,
    *,
    ranks: bool = True,
    device: str = "cpu",
    progress: Progress | None = None,
    total: Callable[[int], None] | None = None,
) -> list[Moved]:
    """Measure the movement of every tensor, in the order of the names.

    Args:
        base, tuned: folders with safetensors, or hub ids; `tuned` may hold LoRA adapters.
        ranks: compute effective ranks, an eigenvalue problem of each matrix's shorter side.
        device: device that computes the ranks.
        progress: called with the number of tensors finished since the last call.
        total: called once with the number of tensors.

    Raises:
        UsageError: a folder has no safetensors, or holds adapters other than plain LoRA.
        DataError: the models do not have the same tensors.
    """
    with ExitStack() as stack:
        before = _Tensors(base, stack)
        after = _Tensors(tuned, stack)
        adapters = _adapters(after)
        names = _shared_names(before, after, adapters)
        if total is not None:
            total(len(names))
        movements = []
        for name in names:
            movements.append(_moved(name, before, after, adapters, ranks, device))
            if progress is not None:
                progress(1)
        return movements


def effective_rank(singular_values: Tensor) -> float:
    """Return exp of the entropy of the singular values' shares.

    >>> round(effective_rank(torch.tensor([2.0, 2.0, 0.0])), 6)
    2.0
    """
    p = singular_values / singular_values.sum()
    p = p[p > 0]
    return float((-(p * p.log()).sum()).exp())


def summary(moved: list[Moved]) -> dict[str, Any]:
    """Sum up the movement of the whole model, of each layer, and of each kind of tensor. `relative`
    is the norm of the joint difference over that of the joint weights; `rank` is the median over
    matrices.
    """

    def joint(some: list[Moved]) -> dict[str, Any]:
        squares, base = sum(m.squares for m in some), sum(m.base_squares for m in some)
        ranks = sorted(m.rank for m in some if m.rank is not None)
        full = sorted(min(m.shape) for m in some if m.rank is not None)
        return {
            "tensors": len(some),
            "parameters": sum(math.prod(m.shape) for m in some),
            "norm": math.sqrt(squares),
            "base_norm": math.sqrt(base),
            "relative": math.sqrt(squares / base) if base else math.nan,
            "rank": ranks[len(ranks) // 2] if ranks else None,
            "full_rank": full[len(full) // 2] if full else None,
        }

    layers: dict[str, list[Moved]] = {}
    kinds: dict[str, list[Moved]] = {}
    for one in sorted(moved, key=lambda m: (m.layer is None, m.layer or 0)):
        layers.setdefault("outside" if one.layer is None else str(one.layer), []).append(one)
        kinds.setdefault(one.kind, []).append(one)
    return {
        "all": joint(moved),
        "layers": {name: joint(some) for name, some in layers.items()},
        "kinds": {name: joint(kinds[name]) for name in sorted(kinds)},
    }


class _Tensors:
    """Tensors of a checkpoint by name, read on demand."""

    def __init__(self, name: str, stack: ExitStack):
        from safetensors import safe_open

        self.name = name
        self.folder = _folder(name)
        self._files: dict[str, Any] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(str(path), framework="pt"))
            for tensor in file.keys():  # noqa: SIM118  (a file, no mapping)
                if tensor in self._files:
                    raise DataError(f"{self.folder} holds the tensor {tensor} in two files.")
                self._files[tensor] = file
        if not self._files:
            raise UsageError(
                f"{name} has no .safetensors file; save the model with"
                " save_pretrained(safe_serialization=True)."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str, part: tuple[slice, ...] = ()) -> Tensor:
        """Read a part of a tensor, or all of it, in float32."""
        if not part:
            return self._files[name].get_tensor(name).float()
        return self._files[name].get_slice(name)[part].float()


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")):
        raise UsageError(f"{name}: no such folder; give a folder with a model, or a hub id.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json"]))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot load the weights of {name!r}: {first_line(error)}") from None


@dataclass(frozen=True)
class _Adapter:
    """A LoRA adapter, which replaces W by W + scale x B A."""

    a: str
    b: str
    scale: float
    transposed: bool


def _adapters(after: _Tensors) -> Mapping[str, _Adapter] | None:
    """Return base tensor -> its adapter; None if the checkpoint is a whole model."""
    path = after.folder / "adapter_config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    odd = [
        key
        for key in ("use_dora", "megatron_config", "layer_replication", "target_parameters")
        if config.get(key)
    ]
    if config.get("peft_type") != "LORA" or odd:
        kind = " with ".join([str(config.get("peft_type")), *odd])
        raise UsageError(
            f"{after.name} holds adapters of the kind {kind}; merge them into the model first."
        )
    adapters = {}
    for name in after:
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_A\.weight", name)
        if match is None:
            continue
        module = match[1]
        rank = after.shape(name)[0]
        alpha = _pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        b = name.replace(".lora_A.", ".lora_B.")
        adapters[f"{module}.weight"] = _Adapter(name, b, scale, bool(config.get("fan_in_fan_out")))
    return adapters


def _pattern(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    """Return the value for a module; PEFT's patterns match the end of its name."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _shared_names(
    before: _Tensors, after: _Tensors, adapters: Mapping[str, _Adapter] | None
) -> list[str]:
    """Return the names of the tensors to compare."""
    if adapters is not None:
        lost = next((name for name in adapters if name not in before), None)
        if lost is not None:
            raise DataError(
                f"{after.name} has an adapter of {lost}, which {before.name} does not have; is it"
                " the adapter of another model?"
            )
        return sorted(before)
    head = "lm_head.weight"  # written or not where it is tied to the embedding
    names = sorted(({*before} & {*after}) | ({*before} ^ {*after}) - {head})
    for name in names:
        for one, other in ((before, after), (after, before)):
            if name not in one:
                raise DataError(
                    f"{other.name} has a tensor {name} that {one.name} does not have; drift is"
                    " between two checkpoints of one architecture."
                )
        if before.shape(name) != after.shape(name):
            raise DataError(
                f"{name} is {before.shape(name)} in {before.name} and {after.shape(name)} in"
                f" {after.name}; drift is between two checkpoints of one architecture."
            )
    return names


def _moved(
    name: str,
    before: _Tensors,
    after: _Tensors,
    adapters: Mapping[str, _Adapter] | None,
    ranks: bool,
    device: str,
) -> Moved:
    shape = before.shape(name)
    # with adapters, a module that was trained whole has this name
    trained = name if adapters is None else f"base_model.model.{name}"
    adapter = (adapters or {}).get(name)
    ranks = ranks and len(shape) == 2
    squares = base_squares = 0.0
    gram: Tensor | None = None
    for part in _parts(shape):
        origin = before.read(name, part)
        base_squares += _squared_norm(origin)
        if adapter is None and trained in after:
            difference = after.read(trained, part).sub_(origin)
            squares += _squared_norm(difference)
            if ranks:
                block = difference.to(device).double()
                block = block.T @ block if shape[0] >= shape[1] else block @ block.T
                gram = block if gram is None else gram.add_(block)
    spectrum: Tensor | None = None  # squares of the singular values
    if adapter is not None:
        spectrum = _adapter_spectrum(name, shape, adapter, after)
        squares = float(spectrum.sum())
    elif gram is not None and squares > 0:
        # Far cheaper than an SVD, and exact to 1e-8 of the largest singular value.
        spectrum = torch.linalg.eigvalsh(gram).clamp_min(0)
    rank = share = None
    if ranks and spectrum is not None and squares > 0:
        rank = effective_rank(spectrum.sqrt())
        share = float(spectrum.max() / spectrum.sum())
    layer = re.search(r"\.(?:layers|h|blocks|block)\.(\d+)\.", f".{name}")
    return Moved(
        name,
        int(layer[1]) if layer else None,
        _kind(name),
        shape,
        squares,
        base_squares,
        rank,
        share,
    )


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield a tensor in blocks along its longer side, each of at most `_BLOCK` elements."""
    if len(shape) != 2 or math.prod(shape) <= _BLOCK:
        yield tuple(slice(0, size) for size in shape)
        return
    rows, columns = shape
    step = max(1, _BLOCK // min(shape))
    for start in range(0, max(shape), step):
        part = slice(start, min(start + step, max(shape)))
        yield (part, slice(0, columns)) if rows >= columns else (slice(0, rows), part)


def _squared_norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2


def _adapter_spectrum(
    name: str, shape: tuple[int, ...], adapter: _Adapter, after: _Tensors
) -> Tensor:
    """Return the squared singular values of scale x B A, from the product of the triangular
    factors.
    """
    a, b = after.read(adapter.a), after.read(adapter.b)
    merged = (b.shape[0], a.shape[1])
    if (merged[::-1] if adapter.transposed else merged) != shape:
        raise DataError(
            f"the adapter of {name} is for a matrix of {merged}, which has {shape} in the base"
            " model; is it the adapter of another model?"
        )
    left, right = torch.linalg.qr(b.double())[1], torch.linalg.qr(a.double().T)[1]
    return torch.linalg.svdvals(adapter.scale * left @ right.T).square()


def _kind(name: str) -> str:
    """Return the name of the last module; a bias is a kind of its own.

    >>> _kind("model.layers.3.self_attn.q_proj.weight"), _kind("h.0.mlp.c_fc.bias")
    ('q_proj', 'c_fc bias')
    """
    *_, module, last = ["", *name.split(".")]
    return module if last == "weight" else f"{module} {last}".strip()
