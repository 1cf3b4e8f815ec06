"""The row statistics and the gradients of the logits as one Triton kernel each, between the
vendor's matmuls.

Both read the float32 logits of a block once. The statistics are float32 sums over columns, the
target left out; the gradients of the rows that have one take the place of the logits, rounded once
to the inputs' dtype, in the front half of a row of the buffer. Rows without a gradient are filled
from behind (`rows.front_first`), so nothing needs a second buffer. Offsets of rows are 64-bit: a
block may hold more than 2^31 logits.

Runs wherever Triton does. With TRITON_INTERPRET=1 in the environment before this module is
imported, it runs on a CPU, slowly, for tests.
"""

# The launcher of a kernel takes what the kernel does not declare.
# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
import triton
import triton.language as tl
from torch import Tensor

from .engine import Distribution, LogitSource
from .rows import Coefficients, RowStatistics
from .torch_rows import even_blocks

__all__ = [
    "LOG2E",
    "LOWEST",
    "TritonEngine",
    "block_rows",
    "columns_of",
    "row_gradients",
    "row_statistics",
    "scaled",
    "transformed",
]

_BYTES = 2**31
"""Size of one block of logits: 4096 tokens of a vocabulary of 128,256, 2048 of one of 256,000."""
_MOST_ROWS = 4096
_COLUMNS = 4096
"""Columns that a program holds at once."""
_WARPS = 8

# Log-sum-exp is computed in base 2, which the hardware has.
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
LOWEST: tl.constexpr = tl.constexpr(-1e38)  # finite, so that -inf - LOWEST is no NaN


@triton.jit
def transformed(z, bias, logit_scale, softcap, SOFTCAP: tl.constexpr):
    """A logit after bias, scale and softcap."""
    z = (z + bias) * logit_scale
    if SOFTCAP:
        # tanh(x) = 2 sigmoid(2 x) - 1
        z = softcap * (2.0 * tl.sigmoid(2.0 * z / softcap) - 1.0)
    return z


@triton.jit
def row_statistics(
    logits,  # (n, V) float32, overwritten by the transformed ones when TRANSFORM
    stride,
    labels,
    bias,
    target_logit,
    max_other,
    sum_other,
    logit_other,
    square_other,
    start,
    vocabulary,
    logit_scale,
    softcap,
    TRANSFORM: tl.constexpr,
    BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    ENTROPY: tl.constexpr,
    COLLISION: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program per row: m, S and, where asked for, Q and R of `RowStatistics`."""
    row = tl.program_id(0)
    at_row = logits + row.to(tl.int64) * stride
    target = tl.load(labels + row).to(tl.int64) - start
    m = LOWEST + 0.0
    total = 0.0
    of_logits = 0.0
    squares = 0.0
    at_target = float("-inf") + 0.0
    for first in range(0, vocabulary, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        inside = column < vocabulary
        z = tl.load(at_row + column, mask=inside, other=float("-inf")).to(tl.float32)
        if TRANSFORM:
            b = 0.0
            if BIAS:
                b = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
            z = transformed(z, b, logit_scale, softcap, SOFTCAP)
            tl.store(at_row + column, z, mask=inside)
        is_target = column == target
        at_target = tl.maximum(at_target, tl.max(tl.where(is_target & inside, z, float("-inf")), 0))
        other = inside & (column != target)
        z = tl.where(other, z, float("-inf"))
        m_new = tl.maximum(m, tl.max(z, 0))
        e = tl.exp2((z - m_new) * LOG2E)
        scale = tl.exp2((m - m_new) * LOG2E)
        total = total * scale + tl.sum(e, 0)
        if ENTROPY:
            of_logits = of_logits * scale + tl.sum(e * tl.where(other, z, 0.0), 0)
        if COLLISION:
            squares = squares * scale * scale + tl.sum(e * e, 0)
        m = m_new
    tl.store(target_logit + row, at_target)
    tl.store(max_other + row, m)
    tl.store(sum_other + row, total)
    if ENTROPY:
        tl.store(logit_other + row, of_logits)
    if COLLISION:
        tl.store(square_other + row, squares)


@triton.jit
def row_gradients(
    logits,  # (n, V) float32
    stride,
    gradients,  # (k, V), which may lie in the memory of the logits, each row where theirs begins
    gradients_stride,
    labels,  # (k,)
    active,  # (k,), rows of `logits`: k itself, or one that is not written to
    maximum,  # (k,)
    linear,
    of_logit,
    square,
    at_target,
    start,
    vocabulary,
    softcap,
    ACTIVE: tl.constexpr,
    OF_LOGIT: tl.constexpr,
    SQUARE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program per active row: the gradient of `Coefficients`.

    In place: a step writes no further than it has read, and its threads wait for one another
    between the two.
    """
    k = tl.program_id(0)
    row = k
    if ACTIVE:
        row = tl.load(active + k)
    at_row = logits + row.to(tl.int64) * stride
    out = gradients + k.to(tl.int64) * gradients_stride
    target = tl.load(labels + k).to(tl.int64) - start
    m = tl.load(maximum + k)
    constant = tl.load(linear + k)
    of_target = tl.load(at_target + k)
    for first in range(0, vocabulary, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        inside = column < vocabulary
        z = tl.load(at_row + column, mask=inside, other=0.0).to(tl.float32)
        is_target = column == target
        # The target's own exp(z - m) may overflow, and is not used.
        e = tl.exp2(tl.where(is_target, 0.0, z - m) * LOG2E)
        factor = constant
        if OF_LOGIT:
            factor = factor + tl.load(of_logit + k) * z
        if SQUARE:
            factor = factor + tl.load(square + k) * e
        dz = tl.where(is_target, of_target, e * factor)
        if SOFTCAP:
            slope = z / softcap
            dz = dz * (1.0 - slope * slope)
        tl.debug_barrier()
        tl.store(out + column, dz.to(gradients.dtype.element_ty), mask=inside)


@triton.jit
def scaled(x, factor, size, COLUMNS: tl.constexpr):
    """x *= factor, and nothing where that is 1, as it is for a loss that nothing follows."""
    f = tl.load(factor).to(tl.float32)
    if f != 1.0:
        at = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        inside = at < size
        product = tl.load(x + at, mask=inside).to(tl.float32) * f
        tl.store(x + at, product.to(x.dtype.element_ty), mask=inside)


class TritonEngine:
    """One block of logits in float32, whose place the gradients take, closed up, of the rows that
    have one.
    """

    def __init__(
        self,
        source: LogitSource,
        signals: Set[str],
        whole: bool,
        num_rows: int,
        capacity: int | None = None,
    ):
        assert not whole
        self._source, self._signals = source, signals
        self.capacity = even_blocks(num_rows, capacity or block_rows(source.block_vocabulary * 4))
        """Rows of one block."""
        shape = (self.capacity, source.vocabulary)
        self._logits = torch.empty(shape, dtype=torch.float32, device=source.device)
        self._gradients = self._logits.view(source.input_dtype)[:, : source.vocabulary]

    def statistics(self, rows: slice | Tensor, labels: Tensor, at: int = 0) -> RowStatistics:
        """Return the statistics of these rows. Leaves the logits in `buffer[at:]`."""
        source, num_rows = self._source, labels.shape[0]
        self._labels = labels
        z = source.product(rows, self._logits[at : at + num_rows])
        self._z, self._out = z, self._gradients[at : at + num_rows]
        columns = torch.empty(5, num_rows, dtype=torch.float32, device=source.device)
        entropy, collision = "entropy" in self._signals, "collision" in self._signals
        bias, softcap = source.bias, source.softcap
        if num_rows:
            row_statistics[(num_rows,)](
                z, z.stride(0), labels, z if bias is None else bias, *columns,
                source.start, source.vocabulary, float(source.logit_scale), float(softcap or 1.0),
                TRANSFORM=bias is not None or source.logit_scale != 1.0 or softcap is not None,
                BIAS=bias is not None, SOFTCAP=softcap is not None,
                ENTROPY=entropy, COLLISION=collision,
                COLUMNS=columns_of(source.vocabulary), num_warps=_WARPS,
            )  # fmt: skip
        target, maximum, total, logits, squares = columns.unbind()
        return RowStatistics(
            target, maximum, total, logits if entropy else None, squares if collision else None
        )

    def gradients(
        self,
        active: Tensor | None,
        rows: RowStatistics,
        of: Coefficients,
        whole: Distribution | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Put d loss / d (hidden @ weight.T + bias) of the active rows where their logits began;
        return their number.
        """
        assert not factors
        source, z, out = self._source, self._z, self._out
        count = rows.target_logit.shape[0]
        labels = self._labels if active is None else self._labels[active]
        linear, of_logit, square, at_target = (None if x is None else x.contiguous() for x in of)
        assert linear is not None and at_target is not None
        row_gradients[(count,)](
            z, z.stride(0), out, out.stride(0), labels, labels if active is None else active,
            rows.max_other.contiguous(), linear,
            linear if of_logit is None else of_logit, linear if square is None else square,
            at_target, source.start, source.vocabulary, float(source.softcap or 1.0),
            ACTIVE=active is not None, OF_LOGIT=of_logit is not None, SQUARE=square is not None,
            SOFTCAP=source.softcap is not None, COLUMNS=columns_of(source.vocabulary),
            num_warps=_WARPS,
        )  # fmt: skip
        return count

    def distribution(
        self, rows: RowStatistics, labels: Tensor, reference: Tensor | None
    ) -> Distribution:
        """Raise: this engine stores no distribution, and is not chosen where one is needed."""
        raise NotImplementedError

    def filled(self, num_rows: int) -> Tensor:
        """Return the gradients at the front of the buffer."""
        return self._gradients[:num_rows]

    @staticmethod
    def scale(x: Tensor, factor: Tensor) -> None:
        """Multiply in place, without a synchronisation."""
        size = x.numel()
        scaled[(triton.cdiv(size, _COLUMNS),)](x, factor, size, COLUMNS=_COLUMNS, num_warps=_WARPS)


def block_rows(bytes_per_row: int) -> int:
    """Return the rows of a block: a multiple of 128 between 128 and 4096, as memory allows."""
    rows = max(1, min(_BYTES // bytes_per_row, _MOST_ROWS))
    return rows // 128 * 128 or rows


def columns_of(vocabulary: int) -> int:
    """Return the columns of a program: a power of two."""
    return min(_COLUMNS, triton.next_power_of_2(vocabulary))
