"""The contract of an implementation: what the passes over the logits ask of it, block by block.

An engine owns the memory of one block of rows. A pass asks for the statistics of the block's rows,
turns them into coefficients, and asks for the gradients of the rows that have one, which take the
place of what the statistics left behind. `torch_rows`, `triton_rows` and `triton_epilogue`
implement it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol

import torch
from torch import Tensor

from .parallel import VocabParallel
from .rows import Coefficients, RowStatistics

__all__ = ["Distribution", "Engine", "LogitSource"]


class LogitSource(Protocol):
    """Logits that can be computed, or copied, block by block."""

    dtype: torch.dtype
    """Dtype of logits, statistics and sums: float32 or wider."""
    input_dtype: torch.dtype
    """Dtype to which the gradients of the logits may be rounded."""
    device: torch.device
    num_rows: int
    vocabulary: int
    """Tokens on this rank, in this slice."""
    block_vocabulary: int
    """Tokens that blocks of rows are measured by; the same on all ranks."""
    start: int
    """First token here, of the whole vocabulary."""
    partial: bool
    """True if there are tokens elsewhere: on other ranks, or in other slices."""
    parallel: VocabParallel | None
    bias: Tensor | None
    softcap: float | None
    logit_scale: float

    def product(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """Write to `out` the logits of some rows before bias, scale and softcap."""
        ...

    def logits(self, rows: slice | Tensor, out: Tensor) -> Tensor:  # (n, V)
        """Write to `out` the logits of some rows."""
        ...


class Distribution(Protocol):
    """The whole distribution at each row of a block."""

    def value(self, name: str) -> Tensor:  # (n,)
        """Return a statistic by its name in `objectives.Signals`."""
        ...

    def gradient(self, name: str) -> Tensor:  # (n, V)
        """Return d statistic / d logits."""
        ...

    def select(self, keep: Tensor) -> Distribution:
        """Return the distribution at some of the rows."""
        ...


class Engine(Protocol):
    """One block of logits at a time, its statistics and its gradients."""

    capacity: int
    """Rows of one block."""

    def __init__(
        self,
        source: LogitSource,
        signals: Set[str],
        whole: bool,
        num_rows: int,
        capacity: int | None = None,
    ):
        """Allocate a block.

        Args:
            source: the logits.
            signals: the statistics of the distribution that will be read.
            whole: True if `distribution` will be called.
            num_rows: rows of all blocks together.
            capacity: rows of one block; None: as many as the device's memory suggests.
        """
        ...

    def statistics(self, rows: slice | Tensor, labels: Tensor, at: int = 0) -> RowStatistics:
        """Return the statistics of these rows over this slice of the vocabulary, and leave in the
        buffer from row `at` on what `gradients` needs of them.
        """
        ...

    def distribution(
        self, rows: RowStatistics, labels: Tensor, reference: Tensor | None
    ) -> Distribution:
        """Return the distribution at the rows of the last `statistics`.

        Args:
            rows: their statistics over the whole vocabulary.
            labels: (n,).
            reference: log-probabilities of the reference model, (n, V).
        """
        ...

    def gradients(
        self,
        active: Tensor | None,
        rows: RowStatistics,
        of: Coefficients,
        whole: Distribution | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Put d loss / d (hidden @ weight.T + bias) of the active rows where the last `statistics`
        began to write, closed up; return their number.

        Args:
            active: the rows of the block that have a gradient, in the order of
                `rows.front_first`; None: all.
            rows: statistics of the active rows over the whole vocabulary.
            of: coefficients of the active rows.
            whole: the distribution at the active rows.
            factors: of the terms that the coefficients do not hold, by name.
        """
        ...

    def filled(self, num_rows: int) -> Tensor:
        """Return the gradients of the first `num_rows` rows of the buffer."""
        ...

    @staticmethod
    def scale(x: Tensor, factor: Tensor) -> None:
        """Multiply in place by a factor on the device."""
        ...
