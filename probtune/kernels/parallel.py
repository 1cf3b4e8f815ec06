"""Exchange between ranks that each hold a slice of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .rows import RowStatistics

__all__ = ["VocabParallel"]


@dataclass(frozen=True, eq=False)
class VocabParallel:
    """A slice of the vocabulary: each rank of a process group holds the rows [start, start + V) of
    the head's weight, and the same hidden states and labels.

    The ranks exchange one packed tensor per block of rows, and sum the gradient of the hidden
    states once. Slices may differ in size. Loss and statistics are the same on all ranks, and so
    is the gradient of the hidden states; that of the weight is of the rank's slice.
    """

    start: int
    """The first token of this rank's slice."""
    vocabulary: int
    """Tokens of all ranks together."""
    group: Any = None
    """A `torch.distributed` process group; None: all ranks."""

    @property
    def slice_size(self) -> int:
        """Size of a slice, the same number on all ranks, by which blocks are measured."""
        return -(-self.vocabulary // torch.distributed.get_world_size(self.group))

    def combine(self, rows: RowStatistics) -> RowStatistics:
        """Return the statistics of the whole vocabulary from those of each rank's slice.

        Sums are brought to the common maximum, so S = sum over ranks of S_r exp(m_r - m); a rank
        without the target says -inf for its logit.
        """
        present = [x for x in rows if x is not None]
        mine = torch.stack(present)
        size = torch.distributed.get_world_size(self.group)
        packed = mine.new_empty(size, *mine.shape)
        torch.distributed.all_gather(list(packed.unbind(0)), mine, group=self.group)
        columns = iter(packed.unbind(1))
        target_logit, maxima, sums, *others = (
            next(columns) if x is not None else None for x in rows
        )
        assert target_logit is not None and maxima is not None and sums is not None
        maximum = maxima.amax(0)
        scale = (maxima - maximum).exp()
        logits, squares = others
        return RowStatistics(
            target_logit.amax(0),
            maximum,
            (sums * scale).sum(0),
            None if logits is None else (logits * scale).sum(0),
            None if squares is None else (squares * scale.square()).sum(0),
        )

    def sum_in_place(self, x: Tensor) -> None:
        """Sum over ranks, in float32 or wider."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        torch.distributed.all_reduce(wide, group=self.group)
        if wide is not x:
            x.copy_(wide)
