"""Bits per byte of held-out text, the number of bits that a model needs for each byte. Unlike the
perplexity per token it does not depend on the tokenizer, so it compares models.

    bits per byte = sum over tokens of -log2 p(token | all before) / bytes of the UTF-8 text

The first token is predicted from the beginning- or end-of-text token. A document that is longer
than the model reads is cut into windows; each begins with the last token of the one before, so that
every token is predicted once. Documents are the unit of the interval.

Reference: Gao et al., "The Pile: An 800GB Dataset of Diverse Text for Language Modeling", 2020,
https://arxiv.org/abs/2101.00027, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.encoding import Encoded
from ..data.readers import read_source
from ..errors import DataError, UsageError
from ..kernels import IGNORE_INDEX
from ..models.loading import token_table
from ..statistics import Estimate, paired_ratio_difference, ratio

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Document", "TextCost", "cost_of", "read_documents"]


@dataclass(frozen=True)
class Document:
    """One text."""

    where: str
    text: str


@dataclass(frozen=True)
class TextCost:
    """Cost of documents for a model; all arrays are (documents,)."""

    bits: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray

    @property
    def bits_per_byte(self) -> Estimate:
        return ratio(self.bits, self.bytes)

    def minus(self, other: TextCost) -> Estimate:
        """Return the paired difference in bits per byte on the same documents."""
        return paired_ratio_difference(self.bits, other.bits, self.bytes)


def read_documents(source: str, *, column: str = "text", split: str = "train") -> list[Document]:
    """Read the documents of a .txt file, separated by empty lines, or of a column of a .jsonl,
    .json, .parquet or .csv file, a saved dataset or a hub dataset.

    Raises:
        UsageError: the file does not exist.
        DataError: a row has no text in the column, or the source holds no text; with the row.
    """
    path = Path(source)
    if path.suffix == ".txt":
        try:
            paragraphs = path.read_text(encoding="utf-8").split("\n\n")
        except FileNotFoundError:
            raise UsageError(f"{source}: no such file.") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source} is not UTF-8 text (byte {error.start}); save it as UTF-8."
            ) from None
        documents = [
            Document(f"{source}: text {number}", text.strip())
            for number, text in enumerate(paragraphs, 1)
            if text.strip()
        ]
    else:
        documents = []
        for where, row in read_source(source, split, None):
            text = row.get(column) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise DataError(
                    f"{where} has no text in the column {column!r}; name it with --text-column."
                )
            if text:
                documents.append(Document(where, text))
    if not documents:
        raise DataError(f"{source} holds no text.")
    return documents


def cost_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    max_length: int,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TextCost:
    """Measure the bits that each document costs.

    Args:
        max_length: tokens of a window.
        progress: called with the number of windows finished since the last call.

    Raises:
        UsageError: the tokenizer has neither a beginning nor an end of text to begin with.
    """
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    if not isinstance(first, int):
        raise UsageError(
            "the tokenizer has no single beginning- or end-of-text token to predict a document's"
            " first token from."
        )
    windows: list[Encoded] = []
    document_of: list[int] = []
    tokens = np.zeros(len(documents), np.int64)
    for index, document in enumerate(documents):
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        tokens[index] = len(ids)
        for window in _windows(first, ids, max_length):
            labels = window.copy()
            labels[0] = IGNORE_INDEX
            windows.append(
                Encoded(document.where, window, labels, window[:1], "", False, False, None)
            )
            document_of.append(index)
    table = token_table(model, windows, batch_tokens=batch_tokens, progress=progress)
    bits = np.zeros(len(documents))
    np.add.at(bits, document_of, table.per_example(-table.logp) / math.log(2.0))
    sizes = np.array([len(document.text.encode()) for document in documents])
    return TextCost(bits, tokens, sizes)


def _windows(first: int, ids: Sequence[int], max_length: int) -> list[np.ndarray]:
    """Cut a document into windows that overlap by one token, which is context only.

    >>> [w.tolist() for w in _windows(0, [1, 2, 3, 4, 5], 3)]
    [[0, 1, 2], [2, 3, 4], [4, 5]]
    """
    whole = np.asarray([first, *ids], dtype=np.int32)
    return [whole[start : start + max_length] for start in range(0, len(ids), max_length - 1)]
