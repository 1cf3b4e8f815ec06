"""The whole grid as one flat table: a row per cell, seed, objective and learning rate, in a compact
Parquet file with the environment in its metadata; and as arrays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probtune.probe.features import DESCRIPTIONS, features

from .cell import Cell
from .design import split_of
from .noise import WRONG_LABELS

__all__ = ["RESULTS", "Grid", "build", "load", "save"]

RESULTS = Path(__file__).with_name("results.parquet")

_SCORES = (
    "accuracy",
    "sampled",
    "test_p",
    "validation_p",
    "validation_nll",
    "validation_token",
    "validation_exact",
    "clean_exact",
)
_OF_RUN = (
    *("accuracy_before", "mean_p_clean", "train_rows", "steps", "epochs", "overlap", "seconds"),
    *("width", "vocabulary", "letters"),
)
_KEYS = ("family", "level", "kind", "rate", "budget")


def build(shards) -> tuple[dict[str, list], dict[str, Any]]:
    """(columns, metadata) from finished shards. A failed cell stands in the metadata."""
    columns: dict[str, list] = {}
    failed, environments = [], []
    for record, arrays in shards:
        if "failed" in record:
            failed.append({k: record[k] for k in (*_KEYS, "seed", "failed")})
            continue
        if record["environment"] not in environments:
            environments.append(record["environment"])
        wrong = record["kind"] in WRONG_LABELS
        shared = {k: record[k] for k in (*_KEYS, "seed", *_OF_RUN)}
        shared["split"] = split_of(Cell(*(record[k] for k in _KEYS)))
        shared["true_noise"] = float(arrays["corrupted"].mean()) if wrong else 0.0
        shared |= {f"f_{k}": v for k, v in _features(record, arrays).items()}
        for row in record["rows"]:
            races = {k: row.get(k, float("nan")) for k in _races(record)}
            line = {**shared, **{k: row[k] for k in ("objective", "learning_rate", *_SCORES)}}
            for name, value in {**line, **races}.items():
                columns.setdefault(name, []).append(value)
    return columns, {"environments": environments, "failed": failed}


def save(path: Path, columns: dict[str, list], metadata: dict[str, Any]) -> None:
    """Write the table; floats in single precision."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not columns:
        raise ValueError("there are no finished cells to write; run the bench first.")
    arrays = {}
    for name, values in columns.items():
        if isinstance(values[0], str):
            arrays[name] = pa.array(values).dictionary_encode()
        elif isinstance(values[0], float):
            arrays[name] = pa.array(np.asarray(values, dtype=np.float32))
        else:
            arrays[name] = pa.array(values, pa.int32())
    table = pa.table(arrays).replace_schema_metadata({"choice": json.dumps(metadata)})
    pq.write_table(table, path, compression="zstd", compression_level=19)


@dataclass(frozen=True)
class Grid:
    """The table as arrays over cells (C), seeds (S), objectives (O) and learning rates (L)."""

    cells: list[dict[str, Any]]
    """Per cell its factors and split."""
    seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    scores: dict[str, np.ndarray]
    """Name -> (C, S, O, L); NaN where a race was not recorded."""
    features: list[list[dict[str, float]]]
    """[cell][seed] -> features by name."""
    run: dict[str, np.ndarray]
    """Columns with one number per cell and seed, (C, S)."""
    metadata: dict[str, Any]

    def where(self, split: str | tuple[str, ...]) -> np.ndarray:
        """Indices of the cells of one split or several."""
        splits = (split,) if isinstance(split, str) else split
        return np.array([i for i, c in enumerate(self.cells) if c["split"] in splits], dtype=int)

    def index(self, objective: str) -> int:
        return self.objectives.index(objective)


def load(path: Path = RESULTS) -> Grid:
    """Read a table back. Only cells that all seeds have finished are kept."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ValueError(f"{path} is not there; run the bench and --merge first.")
    table = pq.ParquetFile(path).read()  # read_table would import pandas
    columns = {
        name: np.asarray(table[name].to_pylist() if name in _TEXT else table[name].to_numpy())
        for name in table.column_names
    }
    seeds = tuple(int(s) for s in np.unique(columns["seed"]))
    objectives = tuple(dict.fromkeys(columns["objective"].tolist()))
    lines = len(columns["seed"])
    of_cell: dict[tuple, list[int]] = {}
    for i in range(lines):
        of_cell.setdefault(tuple(columns[k][i] for k in _KEYS), []).append(i)
    rates = max(len(rows) for rows in of_cell.values()) // len(seeds) // len(objectives)
    full = len(seeds) * len(objectives) * rates
    complete = {key: rows for key, rows in of_cell.items() if len(rows) == full}
    cells, records, of_run, places = [], [], {}, []
    for key, rows in complete.items():
        order = np.array(sorted(rows, key=lambda i: columns["seed"][i]))  # stable within a seed
        places.append(order)
        first = order[:: len(objectives) * rates]
        cells.append(
            {
                **{name: _plain(k) for name, k in zip(_KEYS, key, strict=True)},
                "split": str(columns["split"][first[0]]),
            }
        )
        records.append([{k: float(columns[f"f_{k}"][i]) for k in DESCRIPTIONS} for i in first])
    seed_index = np.stack(places)
    shape = (len(cells), len(seeds), len(objectives), rates)
    for name in (*_OF_RUN, "true_noise"):
        of_run[name] = columns[name][seed_index].reshape(shape)[:, :, 0, 0].astype(np.float64)
    scores = {
        name: columns[name][seed_index].reshape(shape).astype(np.float64)
        for name in columns
        if name in _SCORES or name.startswith("race_")
    }
    metadata = json.loads((table.schema.metadata or {})[b"choice"])
    return Grid(cells, seeds, objectives, scores, records, of_run, metadata)


_TEXT = ("family", "kind", "budget", "split", "objective")


def _features(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the product's features of the probed rows; the planned rate is the sweep's middle."""
    rates = sorted({row["learning_rate"] for row in record["rows"]})
    columns = ("logp", "entropy", "is_top1", "token", "example", "position")
    return features(
        **{name: arrays[name] for name in columns},
        steps=record["steps"],
        epochs=record["epochs"],
        learning_rate=rates[len(rates) // 2],
    )


def _plain(value: Any) -> Any:
    """Return a factor as it stands in the design: single precision has touched its numbers."""
    return str(value) if isinstance(value, str) else round(float(value), 4)


def _races(record: dict[str, Any]) -> list[str]:
    return sorted({k for row in record["rows"] for k in row if k.startswith("race_")})
