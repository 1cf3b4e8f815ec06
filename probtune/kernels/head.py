"""The language-model head as one value: what it multiplies, and what happens to its logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import torch
from torch import Tensor

from .parallel import VocabParallel

__all__ = ["Head", "HeadOptions", "Impl"]

Impl = Literal["reference", "chunked", "triton", "epilogue", "auto"]


@dataclass(frozen=True, eq=False)
class Head:
    """Hidden states and the head on them:

    logits = softcap(logit_scale * (hidden @ weight.T + low @ up.T + bias)), (low, up) the adapter.

    The functions `linear_*` make one of their keyword arguments; `kernels.head_objective` and
    `kernels.head_statistics` take one that is at hand.

        >>> head = Head(torch.eye(2), torch.zeros(4, 2), softcap=30.0)
        >>> head.logits().shape
        torch.Size([2, 4])
    """

    hidden: Tensor  # (..., D)
    """Last hidden states; any leading shape."""
    weight: Tensor  # (V, D)
    bias: Tensor | None = None  # (V,)
    softcap: float | None = None
    """Logits become `softcap * tanh(logits / softcap)`, as in Gemma 2."""
    logit_scale: float = 1.0
    """Factor on the logits, before the softcap; 1 / temperature for a temperature."""
    adapter: tuple[Tensor, Tensor] | None = None  # (..., R), (V, R)
    """(inputs, weight) of a second matmul, inputs @ weight.T, added to the first: a LoRA adapter on
    the head, with inputs = scaling * hidden @ A.T and weight = B.
    """
    parallel: VocabParallel | None = None
    """Set where this rank holds a slice of the vocabulary only; labels are of the whole one."""
    z_loss: float = 0.0
    """Adds z_loss * log-sum-exp^2 per token to the loss, which holds the logits near 0."""
    row_eps: float = 0.0
    """Leaves out the gradient of tokens whose logit gradient |W_f(p)| is below this share of the
    largest met so far; 0 leaves out none but those where it is 0. `HeadResult.skipped` bounds the
    error.
    """
    weight_grad: Tensor | None = None  # (V, D)
    """Buffer in float32 (float64 for float64 inputs) to which the weight's gradient is added in the
    forward pass, such as a `main_grad`; autograd then gives the weight none. It is the gradient of
    the loss itself: `backward` refuses any factor on it.
    """
    two_pass: bool = False
    """Form the gradients in a second pass, a slice of the vocabulary at a time: at the cost of
    computing the logits of rows with a gradient once more, it needs a quarter of a gibibyte besides
    inputs and gradients, where one pass sums half-precision weights' gradients in a float32 copy.
    For objectives of p, entropy and collision probability.
    """
    impl: Impl = "auto"
    """Implementation; see `probtune.kernels`."""

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Everything that can have a gradient, in the order of `with_tensors`."""
        return self.hidden, self.weight, self.bias, *(self.adapter or (None, None))

    def with_tensors(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None,
        up: Tensor | None,
    ) -> Head:
        """Return the head with other tensors in the place of `tensors`."""
        adapter = None if low is None or up is None else (low, up)
        return replace(self, hidden=hidden, weight=weight, bias=bias, adapter=adapter)

    def options(self) -> Head:
        """Return the head without its tensors, for what must not keep them alive."""
        return replace(self, hidden=None, weight=None, bias=None, adapter=None, weight_grad=None)

    def flat(self) -> Head:
        """Return the head on hidden states of shape (N, D), one row per token."""
        adapter = (
            None if self.adapter is None else (self.adapter[0].flatten(0, -2), self.adapter[1])
        )
        return replace(self, hidden=self.hidden.flatten(0, -2), adapter=adapter)

    def rows(self, where: Tensor) -> Head:
        """Return the head on some of the rows, of hidden states (N, D)."""
        adapter = self.adapter
        if adapter is not None:
            adapter = adapter[0].index_select(0, where), adapter[1]
        return replace(self, hidden=self.hidden.index_select(0, where), adapter=adapter)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of logits, statistics and sums."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    @property
    def vocabulary(self) -> int:
        """Number of tokens, of all ranks together."""
        return self.weight.shape[0] if self.parallel is None else self.parallel.vocabulary

    def logits(self) -> Tensor:
        """Return all logits, (..., V), by plain operations that autograd follows."""
        hidden, weight, bias, low, up = (
            None if x is None else x.to(self.dtype) for x in self.tensors
        )
        assert hidden is not None and weight is not None
        logits = torch.nn.functional.linear(hidden, weight, bias)
        if low is not None and up is not None:
            logits = logits + low @ up.t()
        logits = logits * self.logit_scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


class HeadOptions(TypedDict, total=False):
    """Keyword arguments of `Head` besides hidden states and weight, for the functions that make
    one.
    """

    bias: Tensor | None
    softcap: float | None
    logit_scale: float
    adapter: tuple[Tensor, Tensor] | None
    parallel: VocabParallel | None
    z_loss: float
    row_eps: float
    weight_grad: Tensor | None
    two_pass: bool
    impl: Impl
