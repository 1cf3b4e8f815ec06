"""Numbers per token that an objective needs besides p and that come with the rows: columns of the
dataset, lists aligned with `input_ids`, which travel with the tokens through padding and packing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..objectives import SIGNALS
from ..probe.features import sequence_weights

__all__ = [
    "BETTER",
    "GROUP",
    "REFERENCE",
    "ColumnCollator",
    "check_texts",
    "excess_cut",
    "packed",
    "per_token",
    "present_columns",
    "sequence_of_token",
    "with_sequence_weights",
]

REFERENCE = SIGNALS["reference"].column
BETTER = SIGNALS["better"].column
GROUP = "group_of_row"
"""Column that says which of `ProbTuneConfig.groups` a row is of, counted from 1; 0 for none."""


def present_columns(*datasets: Any) -> set[str]:
    """Return the columns that all of these datasets have; None is no dataset."""
    parts = [
        part
        for dataset in datasets
        if dataset is not None
        for part in (dataset.values() if isinstance(dataset, dict) else [dataset])
    ]
    names = [set(getattr(part, "column_names", None) or ()) for part in parts]
    return set.intersection(*names) if names else set()


def check_texts(columns: Set[str], text: str) -> None:
    """Refuse rows in which TRL would find nothing to tokenize.

    Args:
        columns: those of the rows; none, if they are not known.
        text: `SFTConfig.dataset_text_field`.

    Raises:
        DataError: with the columns, and those that TRL reads.
    """
    read = {text, "messages", "conversations", "input_ids"}
    if not columns or columns & read or {"prompt", "completion"} <= columns:
        return
    names = ", ".join(map(repr, sorted(columns)))
    raise DataError(
        f"the dataset has the columns {names}, and the trainer reads"
        f" {text!r}, 'messages', or 'prompt' and 'completion'; rename them"
        " (dataset.rename_columns), or give a formatting_func."
    )


def per_token(dataset: Any, columns: Sequence[str]) -> Any:
    """Return the dataset with its numbers per row spread over the row's tokens, and lists checked.

    Raises:
        DataError: a column is missing, or a value is no number, negative where it is a weight, or a
            list of another length than `input_ids`; with column and row.
    """
    names = dataset.column_names
    if names is not None and "input_ids" not in names:
        raise DataError(
            f"numbers per token ({', '.join(columns)}) need a dataset of tokenized text;"
            f" this one has the columns {', '.join(names)}."
        )
    for column in columns:
        if names is not None and column not in names:
            raise DataError(
                f"the dataset has no column {column!r}, which the objective needs; its columns are"
                f" {', '.join(names)}."
            )

    def spread(batch: Mapping[str, Any], indices: list[int]) -> dict[str, Any]:
        return {
            column: [
                _spread(value, len(ids), column, index)
                for value, ids, index in zip(
                    batch[column], batch["input_ids"], indices, strict=True
                )
            ]
            for column in columns
        }

    return dataset.map(spread, with_indices=True, batched=True)


def _spread(value: Any, length: int, column: str, index: int) -> list[float]:
    values = value if isinstance(value, list) else [value] * length
    where = f"row {index + 1}: {column!r}"
    if len(values) != length:
        raise DataError(f"{where} has {len(values)} numbers for {length} tokens of input_ids.")
    logprobs = column in (REFERENCE, BETTER)
    for x in values:
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x):
            raise DataError(f"{where} must hold finite numbers, got {x!r}.")
        if x < 0 and not logprobs:
            raise DataError(f"{where} must not be negative, got {x!r}: it weights a loss.")
        if x > 0 and logprobs:
            raise DataError(f"{where} must be log-probabilities, at most 0, got {x!r}.")
    return [float(x) for x in values]


def with_sequence_weights(dataset: Any) -> Any:
    """Return the dataset with the column `sequence_weight`, a number per row, from its
    `reference_logprobs`.
    """
    logp, example = [], []
    for index, row in enumerate(dataset.select_columns(["labels", REFERENCE])):
        counts = np.asarray(row["labels"])[1:] != -100
        logp.append(np.asarray(row[REFERENCE])[1:][counts])
        example.append(np.full(int(counts.sum()), index))
    weights = np.ones(len(dataset))
    measured = sequence_weights(np.concatenate(logp), np.concatenate(example))
    weights[: len(measured)] = measured  # rows at the end without a target have no weight to give
    return dataset.add_column("sequence_weight", weights.tolist())


def excess_cut(dataset: Any, share: float) -> float:
    """Return the cut-off that keeps the share of the supervised tokens with the largest log
    p_better - log p_ref.
    """
    excess = []
    for row in dataset.select_columns(["labels", BETTER, REFERENCE]):
        counts = np.asarray(row["labels"])[1:] != -100
        excess.append((np.asarray(row[BETTER]) - np.asarray(row[REFERENCE]))[1:][counts])
    return float(np.quantile(np.concatenate(excess), 1.0 - share))


def packed(dataset: Any, columns: Sequence[str], args: Any) -> Any:
    """Return the dataset packed by TRL with the columns, which its own preparation drops.

    Args:
        args: a `ProbTuneConfig` with a `max_length`.
    """
    from trl.data_utils import pack_dataset

    dataset = dataset.select_columns(["input_ids", "labels", *columns])
    dataset = pack_dataset(dataset, args.max_length, args.packing_strategy)
    return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset


class ColumnCollator:
    """A collator that also pads the columns, as it pads the labels. A number stands for every token
    of its row; columns that the rows lack are left out.
    """

    def __init__(self, collator: Any, columns: Sequence[str]):
        self.collator, self.columns = collator, tuple(columns)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        own = [{k: v for k, v in row.items() if k not in self.columns} for row in examples]
        batch = self.collator(own)
        shape = batch["labels"].shape
        for column in self.columns:
            if column not in examples[0]:
                continue
            rows = [_of_tokens(row[column], len(row["input_ids"])) for row in examples]
            if shape[0] == 1 and len(rows) > 1:  # one row without padding
                rows = [torch.cat(rows)]
            padded = torch.zeros(shape)
            for index, row in enumerate(rows):
                padded[index, : len(row)] = row
            batch[column] = padded
        return batch


def _of_tokens(value: Any, length: int) -> Tensor:
    values = value if isinstance(value, list) else [value] * length
    return torch.tensor(values, dtype=torch.float32)


def sequence_of_token(inputs: Mapping[str, Any], shape: torch.Size) -> Tensor:
    """(B, T - 1): the number of the sequence that each target token belongs to, from 0; rows hold
    several sequences where position ids start anew.
    """
    positions = inputs.get("position_ids")
    if positions is None:
        rows = torch.arange(shape[0]).unsqueeze(1).expand(shape)
        return rows.to(inputs["input_ids"].device)
    starts = (positions == 0).long()
    starts[:, 0] = 1
    return (starts.flatten().cumsum(0).view(starts.shape) - 1)[:, 1:]
