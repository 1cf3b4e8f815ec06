"""The head's inputs, its matmuls in float32 or wider, and the sums of its gradients."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .parallel import VocabParallel

__all__ = ["Gradients", "Head", "LinearHead", "Part", "add_matmul", "half_precision_matmuls"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Hidden states and the head on them:

    logits = softcap(logit_scale * (hidden @ weight.T + low @ up.T + bias)).
    """

    hidden: Tensor  # (N, D)
    weight: Tensor  # (V, D)
    bias: Tensor | None = None  # (V,)
    low: Tensor | None = None  # (N, R)
    up: Tensor | None = None  # (V, R)
    softcap: float | None = None
    logit_scale: float = 1.0
    parallel: VocabParallel | None = None
    """Whose other ranks hold the rest of the vocabulary; None: all of it is here."""

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """What has a gradient, in the order of `with_tensors`."""
        return self.hidden, self.weight, self.bias, self.low, self.up

    def with_tensors(self, *tensors: Any) -> LinearHead:
        names = ("hidden", "weight", "bias", "low", "up")
        return replace(self, **dict(zip(names, tensors, strict=True)))

    def rows(self, where: Tensor) -> LinearHead:
        """The head on some of the rows."""
        low = None if self.low is None else self.low.index_select(0, where)
        return replace(self, hidden=self.hidden.index_select(0, where), low=low)

    @property
    def dtype(self) -> torch.dtype:
        """That of logits, statistics and sums."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    def logits(self) -> Tensor:
        """All logits, (N, V), by plain operations that autograd follows."""
        hidden, weight, bias, low, up = (
            None if x is None else x.to(self.dtype) for x in self.tensors
        )
        assert hidden is not None and weight is not None
        logits = torch.nn.functional.linear(hidden, weight, bias)
        if low is not None and up is not None:
            logits = logits + low @ up.t()
        logits = logits * self.logit_scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


class Part(NamedTuple):
    """One matmul of the logits: `inputs` @ `weight`.T."""

    inputs: Tensor
    weight: Tensor
    """In the dtype whose matmuls give float32 or wider."""
    narrow: Tensor
    """In the dtype of matmuls whose results are rounded once, to the inputs' dtype."""


class Head:
    """A head's parameters, and what happens to its logits, in the dtypes the matmuls need."""

    def __init__(self, linear: LinearHead):
        self.dtype = linear.dtype
        self.softcap, self.logit_scale = linear.softcap, linear.logit_scale
        self.parallel = linear.parallel
        self.vocabulary = linear.weight.shape[0]
        self.num_rows = linear.hidden.shape[0]
        self.device = linear.hidden.device
        self.parts = [self._part(linear.hidden, linear.weight)]
        if linear.low is not None and linear.up is not None:
            self.parts.append(self._part(linear.low, linear.up))
        self.bias = None if linear.bias is None else linear.bias.to(self.dtype)

    def _part(self, inputs: Tensor, weight: Tensor) -> Part:
        if self.device.type != "cpu":
            return Part(inputs, weight, weight)
        # A CPU has no half-precision matmul with float32 results.
        wide = weight.to(self.dtype)
        fast = weight.dtype == torch.bfloat16 and _cpu_multiplies_bfloat16()
        return Part(inputs, wide, weight if fast else wide)

    def inputs(self, rows: slice | Tensor) -> list[Tensor]:
        """The chosen rows of each part's inputs, as the matmuls take them."""
        return [part.inputs[rows].to(part.weight.dtype) for part in self.parts]

    def product(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """The matmuls of some rows alone, written to `out`."""
        for k, (x, part) in enumerate(zip(self.inputs(rows), self.parts, strict=True)):
            add_matmul(out, x, part.weight.t(), first=k == 0)
        return out

    def logits(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """The logits of some rows, written to `out`."""
        self.product(rows, out)
        if self.bias is not None:
            out += self.bias
        if self.logit_scale != 1.0:
            out *= self.logit_scale
        if self.softcap is not None:
            out.div_(self.softcap).tanh_().mul_(self.softcap)
        return out


class Gradients:
    """The gradients of a head's tensors; those of the parameters are summed over blocks in float32
    or wider.
    """

    def __init__(
        self,
        head: Head,
        linear: LinearHead,
        needed: Sequence[bool],
        weight_grad: Tensor | None = None,
    ):
        self._head = head
        self._tensors = linear.tensors
        # Ranks that split the vocabulary add up theirs, before they are rounded.
        dtype = head.dtype if head.parallel is not None else linear.hidden.dtype
        self._of_inputs = [
            torch.zeros_like(x, dtype=dtype) if wanted and x is not None else None
            for x, wanted in ((linear.hidden, needed[0]), (linear.low, needed[3]))
        ]
        self._of_weights: list[Tensor | None] = [weight_grad if needed[1] else None, None]
        self._in_buffer = self._of_weights[0] is not None
        self._wanted = (needed[1], needed[4])
        self._bias = None
        if linear.bias is not None and needed[2]:
            self._bias = torch.zeros_like(linear.bias, dtype=head.dtype)
        self.needed = any(needed)

    def add(self, dz: Tensor, positions: slice | Tensor, *, alone: bool) -> None:
        """Add those of the rows at `positions`, whose logits' gradients are `dz`, (n, V). `alone`:
        there are no others, so that a sum need not be kept wide.
        """
        if self._bias is not None:
            self._bias += dz.sum(0, dtype=self._bias.dtype)
        narrow = dz.to(self._head.parts[0].narrow.dtype)
        for k, part in enumerate(self._head.parts):
            if (of_inputs := self._of_inputs[k]) is not None:
                if of_inputs.dtype == narrow.dtype or self._head.parallel is None:
                    of_inputs[positions] = torch.mm(narrow, part.narrow).to(of_inputs.dtype)
                else:
                    found = of_inputs.new_empty(narrow.shape[0], of_inputs.shape[1])
                    add_matmul(found, dz.to(part.weight.dtype), part.weight, first=True)
                    of_inputs[positions] = found
            if not self._wanted[k]:
                continue
            x, of_weight = part.inputs[positions], self._of_weights[k]
            if alone and of_weight is None:
                self._of_weights[k] = torch.mm(narrow.t(), x.to(narrow.dtype))
                continue
            first = of_weight is None
            if of_weight is None:
                of_weight = torch.empty_like(part.weight, dtype=self._head.dtype)
                self._of_weights[k] = of_weight
            wide = part.weight.dtype
            add_matmul(of_weight, dz.to(wide).t(), x.to(wide), first=first)

    def result(self) -> tuple[Tensor | None, ...]:
        """Those of (hidden, weight, bias, low, up), each in its tensor's dtype."""
        of_hidden, of_low = self._of_inputs
        if self._head.parallel is not None:
            # Each rank has seen its slice of the vocabulary only.
            for of_inputs in (of_hidden, of_low):
                if of_inputs is not None:
                    self._head.parallel.sum_in_place(of_inputs)
        of_weights = [
            torch.zeros_like(x) if wanted and found is None and x is not None else found
            for found, wanted, x in zip(
                self._of_weights, self._wanted, (self._tensors[1], self._tensors[4]), strict=True
            )
        ]
        if self._in_buffer:
            of_weights[0] = None
        found = (of_hidden, of_weights[0], self._bias, of_low, of_weights[1])
        return tuple(
            None if x is None or tensor is None else x.to(tensor.dtype)
            for x, tensor in zip(found, self._tensors, strict=True)
        )


def add_matmul(out: Tensor, a: Tensor, b: Tensor, *, first: bool) -> None:
    """out += a @ b, or out = a @ b when it is the `first`; `out` in float32 or wider. Of
    half-precision factors that is the tensor cores' accumulator, not rounded.
    """
    if a.dtype == out.dtype:
        if first:
            torch.mm(a, b, out=out)
        else:
            out.addmm_(a, b)
    elif first:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them it is slower than float32."""
    known: Any = torch.cpu
    return known._is_avx512_bf16_supported() or known._is_amx_tile_supported()


@contextmanager
def half_precision_matmuls(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """On a CPU, lets float32 matmuls round their factors to bfloat16 while `dtype` is bfloat16.

    Inputs that were bfloat16 lose nothing by it, and the results keep float32, which a matmul of
    bfloat16 tensors would not give on a CPU; the logits' gradients are rounded once, as on an
    accelerator. Twice as fast where the processor multiplies bfloat16; elsewhere it does nothing.
    """
    # torch 2.9 and later
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    half = device.type == "cpu" and dtype == torch.bfloat16 and _cpu_multiplies_bfloat16()
    if matmul is None or not half:
        yield
        return
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
