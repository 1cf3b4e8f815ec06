"""Rows of a trainer's dataset as tokens with labels, by the same rule as `probtune train`."""

from __future__ import annotations

import sys
from typing import Any

from ..data.encoding import encode
from ..data.rows import rows_from
from ..errors import UsageError

__all__ = ["mask_rows"]

_SHAPES = ({"messages"}, {"conversations"}, {"prompt", "completion"})
"""Columns that TRL reads as well; other rows are left to it."""


def mask_rows(dataset: Any, tokenizer: Any) -> Any:
    """Return a dataset with `input_ids` and `labels` instead of turns, or of prompt and completion.

    TRL would train on every token of a conversation unless `assistant_only_loss` is set, and on
    turns of a prompt that its marked templates mark. Rows that are tokenized already, and shapes
    that only TRL reads, are returned as they are.

    Raises:
        DataError: a row cannot be trained on.
        UsageError: conversations are streamed, so that they cannot be read first.
    """
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    columns = set(dataset.column_names or ())
    shape = next((shape for shape in _SHAPES if shape <= columns), None)
    if (
        shape is None
        or "input_ids" in columns
        or not isinstance(tokenizer, PreTrainedTokenizerBase)
    ):
        return dataset
    if not isinstance(dataset, Dataset):
        if shape == {"prompt", "completion"}:
            return dataset
        raise UsageError(
            "conversations that are streamed would be trained on whole, prompts included; load the"
            " dataset without streaming, or pass assistant_only_loss=False to train on everything."
        )
    numbered = ((str(index), row) for index, row in enumerate(dataset))
    examples = rows_from(numbered, source="the dataset").examples
    # The trainer cuts and packs by its own settings.
    encoded = encode(examples, tokenizer, max_length=sys.maxsize // 1024).rows
    rows = dataset.select([int(row.where) for row in encoded])
    read = {"messages", "conversations", "prompt", "completion", "tools", "chat_template_kwargs"}
    others = rows.with_format("arrow")
    names = [name for name in rows.column_names if name not in read]
    return encoded.dataset({name: others[name][:] for name in names})
