"""The head's inputs, its logits, and the sums of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .matmuls import add_outer, add_product, narrow_dtype, times
from .parallel import VocabParallel

__all__ = ["Gradients", "Head", "LinearHead", "Part"]


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
    first: int | None = None
    """The first token of `weight` where it is a slice (`tokens`); None: it is all of this rank."""

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

    def tokens(self, part: slice) -> LinearHead:
        """The head of a slice of this rank's vocabulary."""
        weight, bias, up = (
            None if x is None else x[part] for x in (self.weight, self.bias, self.up)
        )
        assert weight is not None
        start = 0 if self.parallel is None else self.parallel.start
        return replace(self, weight=weight, bias=bias, up=up, first=start + part.start)

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


class Head:
    """A head's parameters, and what happens to its logits."""

    def __init__(self, linear: LinearHead):
        self.dtype = linear.dtype
        self.softcap, self.logit_scale = linear.softcap, linear.logit_scale
        self.parallel = linear.parallel
        self.vocabulary = self.block_vocabulary = linear.weight.shape[0]
        """Tokens here; by the second, the same on all ranks, blocks of rows are measured."""
        self.start = linear.first or 0
        """The first token here, of the whole vocabulary."""
        self.partial = linear.first is not None
        """Whether there are further ones."""
        if linear.parallel is not None:
            self.block_vocabulary, self.partial = linear.parallel.slice_size, True
            if linear.first is None:
                self.start = linear.parallel.start
        self.num_rows = linear.hidden.shape[0]
        self.device = linear.hidden.device
        self.parts = [Part(linear.hidden, linear.weight)]
        if linear.low is not None and linear.up is not None:
            self.parts.append(Part(linear.low, linear.up))
        self.bias = None if linear.bias is None else linear.bias.to(self.dtype)

    def product(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """The matmuls of some rows alone, written to `out`."""
        for k, part in enumerate(self.parts):
            add_product(out, part.inputs[rows], part.weight, first=k == 0)
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
        self._narrow = narrow_dtype(linear.hidden.dtype, head.device)
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
        narrow = dz.to(self._narrow)
        for k, part in enumerate(self._head.parts):
            if (of_inputs := self._of_inputs[k]) is not None:
                of_inputs[positions] = times(narrow, part.weight, of_inputs.dtype)
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
            add_outer(of_weight, dz, x, first=first)

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
