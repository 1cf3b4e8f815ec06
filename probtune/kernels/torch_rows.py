"""Engine in plain PyTorch: any device, every objective."""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
import torch.nn.functional as F
from torch import Tensor

from .distribution import statistic, statistic_gradient
from .engine import Distribution, LogitSource
from .rows import Coefficients, RowStatistics

__all__ = ["BlockDistribution", "TorchEngine", "even_blocks"]

_CPU_BYTES = 64 * 2**20
_BYTES = 512 * 2**20
"""Size of one block of logits in float32. On a CPU more gains nothing, a quarter costs 5 %; but of
half-precision inputs twice as much is taken, since summing dW over blocks in float32 costs more.
"""


class TorchEngine:
    """One block whose logits become exp(z - m) in place, then their gradients.

    Rows without a gradient are closed up, and those that have one wait at the front of the buffer
    until a matmul is worth its while.
    """

    def __init__(
        self,
        source: LogitSource,
        signals: Set[str],
        whole: bool,
        num_rows: int,
        capacity: int | None = None,
    ):
        self._source, self._signals = source, signals
        limit = _BYTES
        if source.device.type == "cpu":
            limit = _CPU_BYTES * (1 if source.input_dtype == source.dtype else 2)
        keep_logits = whole or "entropy" in signals or source.softcap is not None
        most = max(1, limit // (4 * source.block_vocabulary) // (2 if keep_logits else 1))
        self.capacity = even_blocks(num_rows, capacity or most)
        """Rows of one block."""
        shape = (self.capacity, source.vocabulary)
        self._buffer = torch.empty(shape, dtype=source.dtype, device=source.device)
        self._logits = torch.empty_like(self._buffer) if keep_logits else None

    def statistics(self, rows: slice | Tensor, labels: Tensor, at: int = 0) -> RowStatistics:
        """Return the statistics of these rows. Leaves exp(z - m) in `buffer[at:]` for this rank's
        slice of the vocabulary.
        """
        num_rows = labels.shape[0]
        others = self._others = self._buffer[at : at + num_rows]
        z = self._z = others if self._logits is None else self._logits[:num_rows]
        self._source.logits(rows, out=z)
        self._targets = labels.long()
        row, column = self._target_entries()
        target_logit = z.new_full((num_rows,), float("-inf"))
        target_logit[row] = z[row, column]
        z[row, column] = float("-inf")
        # A slice that holds the target alone has no other: its maximum stays finite.
        maximum = z.amax(1).clamp_(min=torch.finfo(z.dtype).min)
        torch.sub(z, maximum.unsqueeze(1), out=others).exp_()
        if self._logits is not None:
            z[row, column] = target_logit[row]  # finite again: 0 * -inf would be NaN
        logits = squares = None
        if "entropy" in self._signals:
            logits = torch.einsum("nv,nv->n", others, z)
        if "collision" in self._signals:
            squares = torch.einsum("nv,nv->n", others, others)
        self._maximum = maximum
        return RowStatistics(target_logit, maximum, others.sum(1), logits, squares)

    def _target_entries(self) -> tuple[Tensor, Tensor]:
        """Return (row, column) of the targets that are in this slice."""
        rows = torch.arange(self._targets.shape[0], device=self._targets.device)
        if not self._source.partial:
            return rows, self._targets
        column = self._targets - self._source.start
        rows = ((column >= 0) & (column < self._source.vocabulary)).nonzero().squeeze(1)
        return rows, column[rows]

    def gradients(
        self,
        active: Tensor | None,  # rows with a gradient; None: all
        rows: RowStatistics,  # of the active rows, of the whole vocabulary
        of: Coefficients,  # of the active rows
        whole: Distribution | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Put d loss / d (hidden @ weight.T + bias) of the active rows where their exp(z - m)
        began; return their number.
        """
        others, z, maximum = self._others, self._z, self._maximum
        linear, of_logit, square, at_target = of
        if active is not None:
            others = _closed_up(others, active)
            maximum, self._targets = maximum[active], self._targets[active]
            z = z.index_select(0, active) if self._logits is not None else others
        if self._source.partial:
            shift = (maximum - rows.max_other).exp()
            linear = linear * shift
            of_logit = None if of_logit is None else of_logit * shift
            square = None if square is None else square * shift.square()
        if of_logit is None and square is None:
            others *= linear.unsqueeze(1)
        else:
            factor = linear.unsqueeze(1).expand_as(others)
            if of_logit is not None:
                factor = torch.addcmul(factor, of_logit.unsqueeze(1), z)
            if square is not None:
                factor = torch.addcmul(factor, square.unsqueeze(1), others)
            others *= factor
        row, column = self._target_entries()
        others[row, column] = at_target[row]
        for name, factor in (factors or {}).items():
            assert whole is not None
            others += (factor * self._source.logit_scale).unsqueeze(1) * whole.gradient(name)
        if (softcap := self._source.softcap) is not None:
            # d (softcap * tanh(x / softcap)) / dx = 1 - (z / softcap)^2
            others *= 1.0 - (z / softcap).square_()
        return others.shape[0]

    def filled(self, num_rows: int) -> Tensor:
        """Return the gradients at the front of the buffer."""
        return self._buffer[:num_rows]

    @staticmethod
    def scale(x: Tensor, factor: Tensor) -> None:
        """Multiply in place."""
        x *= factor.to(x.dtype)

    def distribution(
        self, rows: RowStatistics, labels: Tensor, reference: Tensor | None
    ) -> BlockDistribution:
        """Return the whole distribution at each row of the block."""
        return BlockDistribution(self._z, rows, labels, reference)


def even_blocks(num_rows: int, most: int) -> int:
    """Return the size of equal blocks of at most `most` rows."""
    blocks = -(-num_rows // most)
    return -(-num_rows // blocks) if blocks else 1


def _closed_up(x: Tensor, keep: Tensor) -> Tensor:
    """Move the rows `keep` of `x` to its front, in the order of `rows.front_first`; return them."""
    if x.device.type != "cpu":
        front = x[: keep.shape[0]]
        return front.copy_(x.index_select(0, keep))
    # By NumPy, which does not wait for other threads at every row.
    rows = x.numpy()
    for to, row in enumerate(keep.tolist()):
        if to != row:
            rows[to] = rows[row]
    return x[: keep.shape[0]]


class BlockDistribution:
    """Whole distribution of a block's rows, computed when a statistic needs it."""

    def __init__(
        self, logits: Tensor, rows: RowStatistics, labels: Tensor, reference: Tensor | None
    ):
        self._logits, self._rows, self._labels = logits, rows, labels
        self._log_probs: Tensor | None = None
        self._reference = reference
        self._values: dict[str, Tensor] = {}

    @property
    def log_probs(self) -> Tensor:
        if self._log_probs is None:
            rows = self._rows
            self._log_probs = self._logits - rows.log_sum_exp.unsqueeze(1)
            of_target = -F.softplus(-rows.logit_of_p).unsqueeze(1)
            self._log_probs.scatter_(1, self._labels.long().unsqueeze(1), of_target)
        return self._log_probs

    def value(self, name: str) -> Tensor:
        if name not in self._values:
            self._values[name] = statistic(name, self.log_probs, self._labels, self._reference)
        return self._values[name]

    def gradient(self, name: str) -> Tensor:
        return statistic_gradient(name, self.log_probs, self.value(name), self._reference)

    def select(self, keep: Tensor) -> BlockDistribution:
        reference = None if self._reference is None else self._reference[keep]
        chosen = BlockDistribution(
            self._logits[keep], self._rows.select(keep), self._labels[keep], reference
        )
        chosen._log_probs = None if self._log_probs is None else self._log_probs[keep]
        chosen._values = {name: value[keep] for name, value in self._values.items()}
        return chosen
