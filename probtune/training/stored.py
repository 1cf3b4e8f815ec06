"""Log-probabilities of another state of the model, or of another model, as a column of the dataset:
from a stored file, or measured before training and stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.encoding import Encoded
from ..errors import UsageError
from ..models.loading import token_table
from ..models.store import LogprobStore, fingerprint, merge_stores, store_logprobs
from .columns import BETTER, REFERENCE

__all__ = ["with_logprobs"]


def with_logprobs(dataset: Any, column: str, which: str, *, model: Any, trainer: Any) -> Any:
    """Return the dataset with the column `reference_logprobs` or `better_logprobs`, where it is
    asked for and not there yet.

    Args:
        which: `train`, `eval`, ...: names the file under `output_dir`.
        model: the model before training.

    Raises:
        UsageError: the objective needs a better model and none is named, the stored file is of
            another model, or the model is sharded and cannot be measured here.
        DataError: the stored file lacks a row.
    """
    if column not in (REFERENCE, BETTER) or column in (dataset.column_names or ()):
        return dataset
    if dataset.column_names is None or "input_ids" not in dataset.column_names:
        raise UsageError(
            f"{trainer.objective} compares with another model, row by row, and needs a dataset of"
            f" tokenized text that is not streamed, or one with the column {column!r}."
        )
    named = trainer.args.reference if column == REFERENCE else trainer.args.better
    if column == BETTER and named is None:
        raise UsageError(
            f"{trainer.objective} compares with a better model: name it, or the file that"
            " probtune probe BETTER_MODEL DATA --all --store FILE writes, as --better (in a script"
            " the file, as ProbTuneConfig(better=FILE))."
        )
    own, name = fingerprint(model), model.config._name_or_path or type(model).__name__
    if named is not None:
        store = LogprobStore(named)
        store.check_model(name, own, same=column == REFERENCE)
    else:
        path = Path(trainer.args.output_dir) / f"reference-{which}.arrow"
        store = _measured(path, dataset, model, name, own, trainer)
    rows = ((row["input_ids"], row["labels"]) for row in dataset)
    values = store.columns(rows)
    return dataset.add_column(column, [x.tolist() for x in values])


def _measured(
    path: Path, dataset: Any, model: Any, name: str, own: str, trainer: Any
) -> LogprobStore:
    """Return the store at `path`, measured now unless it is there from before an interruption.
    Every rank measures its share of the rows.
    """
    accelerator = trainer.accelerator
    if path.is_file():
        store = LogprobStore(path)
        if store.fingerprint == own and store.serves(
            (r["input_ids"], r["labels"]) for r in dataset
        ):
            return store
    accelerator.wait_for_everyone()  # before a file that another rank may still look at changes
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or trainer.get_tp_size() > 1:
        raise UsageError(
            f"{trainer.objective} compares with the model before training, which cannot be measured"
            " here once it is sharded; store its log-probabilities first: probtune probe MODEL DATA"
            " --all --store FILE, and name the file as reference."
        )
    rank, ranks = accelerator.process_index, accelerator.num_processes
    empty = np.zeros(0, dtype=np.int32)
    rows = [
        Encoded(
            f"row {number + 1}",
            np.asarray(row["input_ids"], dtype=np.int32),
            np.asarray(row["labels"], dtype=np.int32),
            empty,
            "",
            False,
            False,
            None,
        )
        for number, row in enumerate(dataset)
        if number % ranks == rank
    ]
    parts = [path.with_suffix(f".{index}.arrow") for index in range(ranks)]
    table = token_table(model, rows)
    store_logprobs(parts[rank], rows, table, model=name, fingerprint=own)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        merge_stores(parts, path)
    accelerator.wait_for_everyone()
    return LogprobStore(path)
