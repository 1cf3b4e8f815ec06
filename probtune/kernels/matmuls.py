"""The head's matmuls, with sums in float32 or wider whatever the factors' dtype.

On CUDA devices and ROCm the tensor cores' float32 accumulator is the result. Elsewhere a
half-precision matmul rounds its result, so the factors are widened, a slice of the vocabulary at a
time. On an x86 CPU the slices serve float32 as well: oneDNN multiplies a few hundred rows with a
slice of the weight faster than the whole matmul of torch does (by 12 to 40 % on the machine of
benchmarks/head.json, whose MKL is at its best with more rows).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "add_outer",
    "add_product",
    "add_times",
    "cpu_multiplies_bfloat16",
    "half_precision_matmuls",
    "narrow_dtype",
    "slices_of",
    "times",
]

_SLICE = 2048
"""Tokens of the vocabulary in a slice; a slice of the logits stays in a CPU's cache."""


def add_product(out: Tensor, x: Tensor, weight: Tensor, *, first: bool) -> None:
    """Add x @ weight.T to `out`, or write it there when it is the `first`.

    (n, V), float32 or wider, of (n, D) and (V, D).
    """
    if _in_slices(weight, out.dtype):
        x = x.to(out.dtype)
        for part in slices_of(weight.shape[0], _SLICE):
            product = _linear(x, weight[part].to(out.dtype))
            out[:, part] = product if first else out[:, part] + product
    else:
        _add(out, x, weight.t(), first)


def times(dz: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return dz @ weight in `dtype`, (n, D), of (n, V) and (V, D); rounded once when that is
    narrower than the sum.
    """
    if dz.dtype == weight.dtype == dtype != torch.float32:
        return torch.mm(dz, weight)
    out = dz.new_empty(
        dz.shape[0], weight.shape[1], dtype=torch.promote_types(dtype, torch.float32)
    )
    add_times(out, dz, weight, first=True)
    return out.to(dtype)


def add_times(out: Tensor, dz: Tensor, weight: Tensor, *, first: bool) -> None:
    """Add dz @ weight to `out`, or write it there when it is the `first`.

    (n, D), float32 or wider, of (n, V) and (V, D).
    """
    if not _in_slices(weight, out.dtype):
        _add(out, dz, weight, first)
        return
    for part in slices_of(weight.shape[0], _SLICE):
        product = _linear(dz[:, part].to(out.dtype), weight[part].to(out.dtype).t())
        if first and part.start == 0:
            out.copy_(product)
        else:
            out += product


def add_outer(out: Tensor, dz: Tensor, x: Tensor, *, first: bool) -> None:
    """Add dz.T @ x to `out`, or write it there when it is the `first`.

    (V, D), float32 or wider, of (n, V) and (n, D).
    """
    if dz.dtype != out.dtype and _has_wide_results(out.device):
        x = x.to(dz.dtype)
    else:
        dz, x = dz.to(out.dtype), x.to(out.dtype)
    _add(out, dz.t(), x, first)


def narrow_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype to which the logits' gradients are rounded before their matmuls: that of
    the inputs, or on a CPU that has no instructions for it what is faster, float32.
    """
    if device.type != "cpu" or (dtype == torch.bfloat16 and cpu_multiplies_bfloat16()):
        return dtype
    return torch.promote_types(dtype, torch.float32)


@contextmanager
def half_precision_matmuls(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """On a CPU, let float32 matmuls round their factors to bfloat16 while `dtype` is bfloat16.

    Inputs that were bfloat16 lose nothing by it, and the results keep float32, which a matmul of
    bfloat16 tensors would not give on a CPU; the logits' gradients are rounded once, as on an
    accelerator. Twice as fast where the processor multiplies bfloat16; elsewhere it does nothing.
    """
    # torch 2.9 and later
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    half = device.type == "cpu" and dtype == torch.bfloat16 and cpu_multiplies_bfloat16()
    if matmul is None or not half:
        yield
        return
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _add(out: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    if a.dtype == out.dtype:
        if first:
            torch.mm(a, b, out=out)
        else:
            out.addmm_(a, b)
    elif first:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)


def _in_slices(weight: Tensor, dtype: torch.dtype) -> bool:
    """True if a product with the weight, with results in `dtype`, is formed slice by slice."""
    if weight.dtype != dtype:
        return not _has_wide_results(weight.device)
    return weight.device.type == "cpu" and dtype == torch.float32 and _onednn() is not None


def slices_of(vocabulary: int, width: int) -> Iterator[slice]:
    """Iterate over the vocabulary in slices of at most `width` tokens."""
    for start in range(0, vocabulary, width):
        yield slice(start, min(start + width, vocabulary))


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T"""
    onednn = _onednn()
    if onednn is None or x.device.type != "cpu" or x.dtype != torch.float32:
        return x @ weight.t()
    return onednn(x, weight, None, "none", [], "")


@functools.cache
def _onednn() -> Any:
    """Return the matmul that torch.compile takes on an x86 CPU; None elsewhere."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@functools.cache
def _has_wide_results(device: torch.device) -> bool:
    """True if a matmul of half-precision factors can return its float32 accumulator."""
    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def cpu_multiplies_bfloat16() -> bool:
    """True if the processor has instructions for it; without them it is slower than float32."""
    cpu: Any = torch.cpu
    return cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
