"""Log-probabilities of a model on the rows of a dataset, measured once and stored: a reference that
costs no second model in memory.

One Arrow file. Each row of data is found by a hash of its tokens and labels, so a store serves any
part of the rows in any order; the file says which model it is of. A store of another model, or
without some of the rows, is refused and never used in part.

    key     16 bytes of SHA-256 over input_ids and labels
    logp    list of float32, aligned with input_ids; 0 where the label is ignored
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UsageError
from .adapters import without_adapters

if TYPE_CHECKING:
    from ..data.encoding import Encoded
    from .loading import TokenTable

__all__ = ["LogprobStore", "fingerprint", "merge_stores", "row_key", "store_logprobs"]

_IGNORED = -100
_SAMPLES = 64


def fingerprint(model: Any) -> str:
    """A hash of a model's weights: names, shapes and 64 values of every parameter. Adapters do not
    count, nor does the dtype as long as it holds the values.

    Any training changes it; two models that differ only in a few single weights may share it.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(_parameters(model), key=lambda item: item[0]):
        if type(parameter.data).__name__ == "DTensor":  # split over processes, which all come by
            parameter = parameter.full_tensor()
        flat = parameter.detach().flatten()
        step = max(1, flat.numel() // _SAMPLES)
        values = flat[::step][:_SAMPLES].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:32]


def _parameters(model: Any) -> Iterable[tuple[str, Any]]:
    for name, parameter in without_adapters(model).named_parameters():
        if "lora_" not in name and ".modules_to_save." not in name:
            yield name.replace(".base_layer", "").replace(".original_module", ""), parameter


def row_key(input_ids: Any, labels: Any) -> bytes:
    """Return the key of a row: a hash of two sequences of whole numbers."""
    parts = (np.asarray(x, dtype=np.int64).tobytes() for x in (input_ids, labels))
    return hashlib.sha256(b"|".join(parts)).digest()[:16]


def store_logprobs(
    path: Path, rows: Sequence[Encoded], table: TokenTable, *, model: str, fingerprint: str
) -> LogprobStore:
    """Write the table's log-probabilities of `rows`; a file that is there is replaced.

    Args:
        rows: what `table` was measured on.
        model: the model's name, for messages.
        fingerprint: of the model, by the function of that name.
    """
    import pyarrow as pa

    starts = np.concatenate([[0], np.cumsum(table.counts)])
    keys, columns = [], []
    for index, row in enumerate(rows):
        values = np.zeros(len(row.input_ids), dtype=np.float32)
        supervised = row.labels != _IGNORED
        supervised[0] = False  # position 0 is never a target
        values[supervised] = table.logp[starts[index] : starts[index + 1]]
        keys.append(row_key(row.input_ids, row.labels))
        columns.append(values)
    about = {"model": model, "fingerprint": fingerprint, "version": 1}
    schema = _schema(about)
    _write(
        path,
        pa.table([pa.array(keys, pa.binary(16)), pa.array(columns, schema.field(1).type)], schema),
    )
    return LogprobStore(path)


def merge_stores(parts: Sequence[Path], path: Path) -> None:
    """One store out of several of the same model, which are removed."""
    import pyarrow as pa

    tables = [LogprobStore(part).table for part in parts]
    _write(path, pa.concat_tables(tables).combine_chunks())
    for part in parts:
        part.unlink()


def _schema(about: dict[str, Any]) -> Any:
    import pyarrow as pa

    fields = [("key", pa.binary(16)), ("logp", pa.list_(pa.float32()))]
    return pa.schema(fields, metadata={"probtune": json.dumps(about)})


def _write(path: Path, table: Any) -> None:
    import pyarrow as pa

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class LogprobStore:
    """A file that `store_logprobs` wrote, memory-mapped."""

    def __init__(self, path: Path | str):
        """Open it.

        Raises:
            UsageError: there is no such file, or it is something else.
        """
        import pyarrow as pa

        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"{path}: no such file of log-probabilities. {_how(path)}")
        try:
            self.table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            about = json.loads((self.table.schema.metadata or {})[b"probtune"])
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise UsageError(
                f"{path} is no file of log-probabilities, or it is damaged ({error}). {_how(path)}"
            ) from None
        self.model: str = about["model"]
        """The name of the model it is of."""
        self.fingerprint: str = about["fingerprint"]
        self._logp = self.table.column("logp")
        keys = self.table.column("key").to_pylist()
        self._index = {key: number for number, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._index)

    def serves(self, rows: Iterable[tuple[Any, Any]]) -> bool:
        """Return True if all of the rows, given as (input_ids, labels), are in it."""
        return all(row_key(*row) in self._index for row in rows)

    def check_model(self, name: str, fingerprint: str, *, same: bool) -> None:
        """Raise UsageError unless the store is of the model with this fingerprint, or of another
        one where `same` is False.
        """
        if same and fingerprint != self.fingerprint:
            raise UsageError(
                f"{self.path} was measured with another model ({self.model}) than {name}; its"
                f" weights differ. {_how(self.path)}"
            )
        if not same and fingerprint == self.fingerprint:
            raise UsageError(
                f"{self.path} was measured with the model that is trained, {name}, and the"
                " objective compares it with a better one: name that with --better."
            )

    def columns(
        self, rows: Iterable[tuple[Any, Any]], *, names: Sequence[str] = ()
    ) -> list[np.ndarray]:
        """The log-probabilities of rows given as (input_ids, labels), aligned with input_ids.

        Raises:
            DataError: a row is not in the store; with its number, or its name if given.
        """
        columns, missing = [], []
        for number, (ids, labels) in enumerate(rows):
            index = self._index.get(row_key(ids, labels))
            if index is None:
                missing.append(names[number] if names else f"row {number + 1}")
            else:
                columns.append(np.asarray(self._logp[index].values))
        if missing:
            raise DataError(
                f"{self.path} is stale: {missing[0]} is not in it as it is tokenized now"
                f" ({len(missing)} of {len(missing) + len(columns)} rows are missing)."
                f" {_how(self.path)}"
            )
        return columns


def _how(path: Path | str) -> str:
    return f"Make it with probtune probe MODEL DATA --all --store {path}."
