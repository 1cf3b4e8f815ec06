"""The row statistics in the kernel of the logits' matmul, which stores exp(z - m) instead of z.

Each tile of the product knows the maximum m_t of its own columns, so it stores E = exp(z - m_t)
and its part of the sums in float32. The gradient of an objective is then E exp(m_t - m) W / S,
written in the place of E. Logits in float32 never reach memory, which is what a small hidden size
waits for; the price is a matmul that Triton compiled.

With half-precision inputs E takes 16 bits. It lies between 0 and 1 and needs no sign, so 5 of them
are the exponent and 11 the fraction: an error of 2^-12 at most, relative to itself, down to 2^-31,
against 2^-8 of bfloat16 and 2^-11 of float16, to which the gradient is rounded afterwards.

Serves objectives without a gradient of their own in entropy or collision probability, and heads
without softcap or adapter. Its speed has not been measured on any GPU.
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
from .head import Head
from .projection import Projection
from .rows import Coefficients, RowStatistics
from .torch_rows import even_blocks
from .triton_rows import LOG2E, LOWEST, TritonEngine, block_rows, columns_of, transformed

__all__ = ["EpilogueEngine", "matmul_statistics", "packed", "rescaled", "unpacked", "why_not"]

_TILE = (128, 128, 64)
_SMALL_TILE = (16, 16, 16)
"""Rows, columns and depth of a tile; the small one is what the interpreter works through."""
_WARPS, _STAGES, _GROUP = 8, 3, 8

# The exponent's bits that every packed number has: those of 2^-31, in units of the 11-bit fraction.
_BASE: tl.constexpr = tl.constexpr((127 - 31) << 11)


@triton.jit
def packed(e):
    """16 bits for each number in [0, 1], float32; a number below 2^-31 becomes 0."""
    bits = ((e.to(tl.int32, bitcast=True) + (1 << 11)) >> 12) - _BASE
    return tl.maximum(bits, 0).to(tl.int16)


@triton.jit
def unpacked(code):
    """The numbers of `packed`, in float32."""
    bits = code.to(tl.int32) & 0xFFFF
    e = ((bits + _BASE) << 12).to(tl.float32, bitcast=True)
    return tl.where(bits == 0, 0.0, e)


@triton.jit
def matmul_statistics(
    hidden,  # (n, D)
    weight,  # (V, D)
    bias,
    labels,
    others,  # (n, V), int16 when PACKED
    target_logit,  # (n,), -inf before
    maxima,  # (n, tiles); the next three as well
    sums,
    logit_sums,
    square_sums,
    hidden_stride,
    weight_stride,
    others_stride,
    tiles,
    start,
    num_rows,
    vocabulary,
    depth,
    logit_scale,
    BIAS: tl.constexpr,
    ENTROPY: tl.constexpr,
    COLLISION: tl.constexpr,
    PACKED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One program per tile. Groups of row tiles share their columns of the weight in the cache."""
    program = tl.program_id(0)
    row_tiles = tl.cdiv(num_rows, ROWS)
    in_group = GROUP * tiles
    first = (program // in_group) * GROUP
    height = tl.minimum(row_tiles - first, GROUP)
    row_tile = first + (program % in_group) % height
    tile = (program % in_group) // height

    row = row_tile * ROWS + tl.arange(0, ROWS)
    column = tile * COLUMNS + tl.arange(0, COLUMNS)
    row_here, column_here = row < num_rows, column < vocabulary
    step = tl.arange(0, DEPTH)
    x = hidden + row.to(tl.int64)[:, None] * hidden_stride + step[None, :]
    w = weight + column.to(tl.int64)[None, :] * weight_stride + step[:, None]
    z = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for at in range(0, depth, DEPTH):
        inside = at + step < depth
        a = tl.load(x + at, mask=row_here[:, None] & inside[None, :], other=0.0)
        b = tl.load(w + at, mask=column_here[None, :] & inside[:, None], other=0.0)
        z = tl.dot(a, b, z, input_precision="ieee")
    added = 0.0
    if BIAS:
        added = tl.load(bias + column, mask=column_here, other=0.0).to(tl.float32)[None, :]
    z = transformed(z, added, logit_scale, 1.0, False)

    target = tl.load(labels + row, mask=row_here, other=-1).to(tl.int64) - start
    is_target = (column.to(tl.int64)[None, :] == target[:, None]) & column_here[None, :]
    of_target = tl.sum(tl.where(is_target, z, 0.0), 1)
    tile_first = tile * COLUMNS
    has_target = (target >= tile_first) & (target < tl.minimum(tile_first + COLUMNS, vocabulary))
    tl.store(target_logit + row, of_target, mask=row_here & has_target)
    other = column_here[None, :] & (is_target == 0)
    z = tl.where(other, z, float("-inf"))
    m = tl.maximum(tl.max(z, 1), LOWEST)
    e = tl.exp2((z - m[:, None]) * LOG2E)

    at_tile = row.to(tl.int64) * tiles + tile
    tl.store(maxima + at_tile, m, mask=row_here)
    tl.store(sums + at_tile, tl.sum(e, 1), mask=row_here)
    if ENTROPY:
        tl.store(logit_sums + at_tile, tl.sum(e * tl.where(other, z, 0.0), 1), mask=row_here)
    if COLLISION:
        tl.store(square_sums + at_tile, tl.sum(e * e, 1), mask=row_here)
    out = others + row.to(tl.int64)[:, None] * others_stride + column[None, :]
    if PACKED:
        e = packed(e)
    tl.store(out, e, mask=row_here[:, None] & column_here[None, :])


@triton.jit
def rescaled(
    others,  # (n, V), int16 when PACKED
    stride,
    gradients,  # (k, V), in the memory of `others`
    gradients_stride,
    labels,  # (k,)
    active,  # (k,), rows of `others`: k itself, or one that is not written to
    maxima,  # (n, tiles)
    maximum,  # (k,)
    linear,
    at_target,
    tiles,
    start,
    vocabulary,
    ACTIVE: tl.constexpr,
    PACKED: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program per active row and COLUMNS columns: E exp(m_t - m) linear, and the target's own
    gradient.
    """
    k = tl.program_id(0)
    row = k
    if ACTIVE:
        row = tl.load(active + k)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < vocabulary
    e = tl.load(others + row.to(tl.int64) * stride + column, mask=inside, other=0)
    if PACKED:
        e = unpacked(e)
    m = tl.load(maxima + row.to(tl.int64) * tiles + column // TILE, mask=inside, other=0.0)
    factor = tl.exp2((m - tl.load(maximum + k)) * LOG2E) * tl.load(linear + k)
    target = tl.load(labels + k).to(tl.int64) - start
    dz = tl.where(column == target, tl.load(at_target + k), e * factor)
    tl.debug_barrier()
    out = gradients + k.to(tl.int64) * gradients_stride + column
    tl.store(out, dz.to(gradients.dtype.element_ty), mask=inside)


def why_not(head: Head, terms: Set[str]) -> str | None:
    """Return the reason why a head, or an objective with these terms, is not served, or None."""
    if terms:
        return f"it has no gradient of {', '.join(sorted(terms))}"
    if head.softcap is not None:
        return "its gradients need the softcapped logits, which are not stored"
    if head.adapter is not None:
        return "the adapter is a second matmul"
    if head.hidden.device.type == "cpu" and head.hidden.dtype == torch.bfloat16:
        return "Triton's interpreter multiplies bfloat16 wrongly"
    return None


class EpilogueEngine:
    """One block of exp(z - m), tile by tile, whose place the gradients take, closed up, of the rows
    that have one.
    """

    def __init__(
        self,
        source: LogitSource,
        signals: Set[str],
        whole: bool,
        num_rows: int,
        capacity: int | None = None,
    ):
        assert not whole and isinstance(source, Projection)
        self._source, self._signals = source, signals
        self._tile = _SMALL_TILE if source.device.type == "cpu" else _TILE
        dtype = source.input_dtype
        most = capacity or block_rows(source.block_vocabulary * dtype.itemsize)
        self.capacity = even_blocks(num_rows, most)
        """Rows of one block."""
        shape = (self.capacity, source.vocabulary)
        self._gradients = torch.empty(shape, dtype=dtype, device=source.device)
        self._packed = dtype.itemsize == 2
        self._others = self._gradients.view(torch.int16) if self._packed else self._gradients

    def statistics(self, rows: slice | Tensor, labels: Tensor, at: int = 0) -> RowStatistics:
        """Return the statistics of these rows. Leaves exp(z - m) in `buffer[at:]`."""
        source, num_rows = self._source, labels.shape[0]
        self._labels = labels
        self._e, self._out = (x[at : at + num_rows] for x in (self._others, self._gradients))
        (part,) = source.parts
        x, weight = (
            t if t.stride(1) == 1 else t.contiguous() for t in (part.inputs[rows], part.weight)
        )
        height, columns, depth = self._tile
        tiles = triton.cdiv(source.vocabulary, columns)
        by_tile = torch.empty(4, num_rows, tiles, dtype=torch.float32, device=source.device)
        target_logit = by_tile.new_full((num_rows,), float("-inf"))
        entropy, collision = "entropy" in self._signals, "collision" in self._signals
        bias = source.bias
        matmul_statistics[(triton.cdiv(num_rows, height) * tiles,)](
            x, weight, x if bias is None else bias, labels, self._e, target_logit, *by_tile,
            x.stride(0), weight.stride(0), self._e.stride(0), tiles, source.start,
            num_rows, source.vocabulary, x.shape[1], float(source.logit_scale),
            BIAS=bias is not None, ENTROPY=entropy, COLLISION=collision, PACKED=self._packed,
            ROWS=height, COLUMNS=columns, DEPTH=depth, GROUP=_GROUP,
            num_warps=_WARPS, num_stages=_STAGES,
        )  # fmt: skip
        self._maxima, sums, logits, squares = by_tile.unbind()
        maximum = self._maxima.amax(1)
        scale = (self._maxima - maximum.unsqueeze(1)).exp()
        return RowStatistics(
            target_logit,
            maximum,
            (sums * scale).sum(1),
            (logits * scale).sum(1) if entropy else None,
            (squares * scale.square()).sum(1) if collision else None,
        )

    def gradients(
        self,
        active: Tensor | None,
        rows: RowStatistics,
        of: Coefficients,
        whole: Distribution | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Put d loss / d (hidden @ weight.T + bias) of the active rows where their exp(z - m)
        began; return their number.
        """
        assert not factors
        assert of.of_logit is None and of.square is None
        source, e, out = self._source, self._e, self._out
        count = rows.target_logit.shape[0]
        labels = self._labels if active is None else self._labels[active]
        columns = columns_of(source.vocabulary)
        rescaled[(count, triton.cdiv(source.vocabulary, columns))](
            e, e.stride(0), out, out.stride(0), labels, labels if active is None else active,
            self._maxima, rows.max_other.contiguous(), of.linear.contiguous(),
            of.at_target.contiguous(), self._maxima.shape[1], source.start, source.vocabulary,
            ACTIVE=active is not None, PACKED=self._packed, TILE=self._tile[1], COLUMNS=columns,
            num_warps=_WARPS,
        )  # fmt: skip
        return count

    def distribution(
        self, rows: RowStatistics, labels: Tensor, reference: Tensor | None
    ) -> Distribution:
        """Raise: this engine stores no distribution, and is not chosen where one is needed."""
        raise NotImplementedError

    scale = staticmethod(TritonEngine.scale)

    def filled(self, num_rows: int) -> Tensor:
        """Return the gradients at the front of the buffer."""
        return self._gradients[:num_rows]
