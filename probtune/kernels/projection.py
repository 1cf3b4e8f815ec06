"""The head's matmuls, block by block, and the sums of the gradients that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .head import Head
from .matmuls import add_outer, add_product, narrow_dtype, times

__all__ = ["Gradients", "Part", "Projection"]


class Part(NamedTuple):
    """One matmul of the logits: `inputs` @ `weight`.T."""

    inputs: Tensor
    weight: Tensor


class Projection:
    """The logits of a head on hidden states (N, D), as an `engine.LogitSource`.

    Args:
        head: the head.
        part: a slice of this rank's vocabulary; None: all of it.
    """

    def __init__(self, head: Head, part: slice | None = None):
        self.dtype, self.input_dtype = head.dtype, head.hidden.dtype
        self.softcap, self.logit_scale = head.softcap, head.logit_scale
        self.parallel = head.parallel
        self.start = 0 if head.parallel is None else head.parallel.start
        self.partial = part is not None or head.parallel is not None
        weight, bias, low, up = head.weight, head.bias, *(head.adapter or (None, None))
        if part is not None:
            weight, bias, up = weight[part], *(None if x is None else x[part] for x in (bias, up))
            self.start += part.start
        self.vocabulary = self.block_vocabulary = weight.shape[0]
        if head.parallel is not None:
            self.block_vocabulary = head.parallel.slice_size
        self.num_rows = head.hidden.shape[0]
        self.device = head.hidden.device
        self.parts = [Part(head.hidden, weight)]
        if low is not None and up is not None:
            self.parts.append(Part(low, up))
        self.bias = None if bias is None else bias.to(self.dtype)

    def product(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """Write the matmuls of some rows alone to `out`."""
        for k, part in enumerate(self.parts):
            add_product(out, part.inputs[rows], part.weight, first=k == 0)
        return out

    def logits(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """Write the logits of some rows to `out`."""
        self.product(rows, out)
        if self.bias is not None:
            out += self.bias
        if self.logit_scale != 1.0:
            out *= self.logit_scale
        if self.softcap is not None:
            out.div_(self.softcap).tanh_().mul_(self.softcap)
        return out


class Gradients:
    """Sums of the gradients of a head's tensors over blocks of rows; those of the parameters are
    float32 or wider.
    """

    def __init__(self, source: Projection, head: Head, needed: Sequence[bool]):
        self._source, self._tensors = source, head.tensors
        self._narrow = narrow_dtype(source.input_dtype, source.device)
        # Ranks that split the vocabulary add up theirs, before they are rounded.
        dtype = source.dtype if source.parallel is not None else source.input_dtype
        hidden, weight, bias, low, up = head.tensors
        self._inputs = [
            torch.zeros_like(x, dtype=dtype) if needs and x is not None else None
            for x, needs in ((hidden, needed[0]), (low, needed[3]))
        ]
        self._weights: list[Tensor | None] = [head.weight_grad if needed[1] else None, None]
        self._in_buffer = self._weights[0] is not None
        self._needs_weight = (needed[1], needed[4])
        self._bias = None
        if bias is not None and needed[2]:
            self._bias = torch.zeros_like(bias, dtype=source.dtype)
        self.needed = any(needed)

    def add(self, dz: Tensor, positions: slice | Tensor, *, alone: bool) -> None:
        """Add the gradients of the rows at `positions`, whose logits' gradients are `dz`, (n, V).

        `alone`: there are no other rows, so that a sum need not be kept wide.
        """
        if self._bias is not None:
            self._bias += dz.sum(0, dtype=self._bias.dtype)
        narrow = dz.to(self._narrow)
        for k, part in enumerate(self._source.parts):
            if (of_inputs := self._inputs[k]) is not None:
                of_inputs[positions] = times(narrow, part.weight, of_inputs.dtype)
            if not self._needs_weight[k]:
                continue
            x, of_weight = part.inputs[positions], self._weights[k]
            if alone and of_weight is None:
                self._weights[k] = torch.mm(narrow.t(), x.to(narrow.dtype))
                continue
            first = of_weight is None
            if of_weight is None:
                of_weight = torch.empty_like(part.weight, dtype=self._source.dtype)
                self._weights[k] = of_weight
            add_outer(of_weight, dz, x, first=first)

    def result(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of (hidden, weight, bias, low, up), each in its tensor's dtype."""
        of_hidden, of_low = self._inputs
        if self._source.parallel is not None:
            # Each rank has seen its slice of the vocabulary only.
            for of_inputs in (of_hidden, of_low):
                if of_inputs is not None:
                    self._source.parallel.sum_in_place(of_inputs)
        of_weight, of_up = (
            torch.zeros_like(x) if needs and total is None and x is not None else total
            for total, needs, x in zip(
                self._weights, self._needs_weight, (self._tensors[1], self._tensors[4]), strict=True
            )
        )
        if self._in_buffer:
            of_weight = None
        sums = (of_hidden, of_weight, self._bias, of_low, of_up)
        return tuple(
            None if total is None or x is None else total.to(x.dtype)
            for total, x in zip(sums, self._tensors, strict=True)
        )
