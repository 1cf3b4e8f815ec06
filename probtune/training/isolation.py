"""Rows without padding between them: padding-free batches and packed blocks, in which a row must
not see the one before it.

An attention keeps rows apart if it reads where positions start anew, as FlashAttention's kernels
for rows of several lengths do, and the masks that transformers makes for eager and SDPA. A layer
that carries a state from token to token may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .columns import ColumnCollator

__all__ = ["check_isolated", "measured_rows_padded", "reads_boundaries"]

_TOKENS = 64
"""Tokens of a row that are looked at."""

_ROUNDING = {torch.float32: (1e-6, 1e-4)}
_ROUNDING_OF_HALF = (2e-3, 5e-2)
"""Mean differences of log-probabilities that rounding explains: in batches of the same shape, and
of another.
"""


def reads_boundaries(model: Any) -> bool:
    """True if the model's attention is a FlashAttention, which spends nothing across rows. Others
    compute a whole block and mask most of it.
    """
    from transformers.utils.generic import is_flash_attention_requested

    name = model.config.get_text_config()._attn_implementation
    return bool(name) and is_flash_attention_requested(requested_attention_implementation=name)


@contextmanager
def measured_rows_padded(trainer: Any, rows: Any) -> Iterator[None]:
    """Let the trainer pad the rows that it measures, unless they are packed: a row that fills the
    last batch of several ranks is then left out again.

    Args:
        rows: a dataset, the name of one, or None for the trainer's own.
    """
    rows = trainer.eval_dataset if rows is None else rows
    rows = trainer.eval_dataset[rows] if isinstance(rows, str) else rows
    collator = trainer.data_collator
    if trainer.padding_free and "seq_lengths" not in (getattr(rows, "column_names", None) or ()):
        trainer.data_collator = _padding(collator)
    try:
        yield
    finally:
        trainer.data_collator = collator


def _padding(collator: Any) -> Any:
    if isinstance(collator, ColumnCollator):
        return ColumnCollator(_padding(collator.collator), collator.columns)
    return replace(collator, padding_free=False)


def check_isolated(trainer: Any, ids: Tensor) -> None:
    """Refuse to train rows without padding where a row sees the one before it: its tokens'
    log-probabilities must not depend on that row, and be those that it has alone. By all ranks.

    Args:
        ids: tokens of the data, (T,).

    Raises:
        UsageError: they differ by more than rounding explains.
    """
    row = ids[:_TOKENS].tolist()
    if len(row) < 2:
        return
    half = len(row) // 2
    collator = trainer.data_collator
    collate = collator.collator if isinstance(collator, ColumnCollator) else collator

    def log_probs(collate: Any, *rows: list[int]) -> Tensor:
        batch = collate([{"input_ids": row, "labels": row} for row in rows])
        return trainer._passes.measure(trainer.model_wrapped, batch)[0, 1 - len(row) :]

    behind = log_probs(collate, row[::-1], row)
    behind_another = log_probs(collate, row[half:] + row[:half], row)
    alone = log_probs(_padding(collate), row)
    roundings = _ROUNDING.get(trainer._head_dtype(), _ROUNDING_OF_HALF)
    for other, rounding in zip((behind_another, alone), roundings, strict=True):
        error = float((behind - other).abs().mean())
        if error > rounding:
            model = trainer._inner
            attention = model.config.get_text_config()._attn_implementation
            raise UsageError(
                f"rows without padding between them see each other in {type(model).__name__} with"
                f" attention {attention!r}: a row's log-probabilities differ by {error:.2g} behind"
                " another row. Leave out packing and padding_free, or take another attention."
            )
