"""The processes of one run, started by torchrun or accelerate: who does what, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch.distributed as dist

from ..data.encoding import Encoded
from .loading import TokenTable, default_device, token_table

__all__ = [
    "ALONE",
    "Ranks",
    "launched",
    "launches_parallelism",
    "processes_per_row",
    "shared_table",
    "splits_layers",
    "splits_rows",
    "start_ranks",
]

_PATIENCE = timedelta(days=1)
"""Time that a process waits for the others, which may be training a scout; torchrun ends all of
them when one fails."""


@dataclass(frozen=True)
class Ranks:
    """The processes that share the work; this one has number `rank`. One writes: the first."""

    rank: int = 0
    number: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[Any]) -> list[Any]:
        """Return this process's part of the rows: every `number`-th, so that lengths mix.

        >>> Ranks(1, 3).share("abcdefg")
        ['b', 'e']
        """
        return [rows[i] for i in range(self.rank, len(rows), self.number)]

    def joined(self, items: Sequence[Any]) -> list[Any]:
        """Return the items of all processes' shares, in the order of the rows."""
        parts = self.gathered(list(items))
        total = sum(map(len, parts))
        return [parts[i % self.number][i // self.number] for i in range(total)]

    def gathered(self, value: Any) -> list[Any]:
        """Return the value of every process, in their order; all of them must call it."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.number > 1:
            dist.barrier()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let the first process through, and then the others."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


ALONE = Ranks()
"""One process."""


def launched() -> int:
    """Return the number of processes that torchrun or accelerate has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def splits_layers() -> bool:
    """True if accelerate's launcher asks for tensor parallelism: the processes share the layers of
    the trained model, and train on the same rows.
    """
    return _parallel("TP") > 1


def splits_rows() -> bool:
    """True if accelerate's launcher asks for context parallelism: the processes share each row."""
    return _parallel("CP") > 1


def processes_per_row() -> int:
    """Return the number of processes that train on the same rows."""
    return _parallel("TP") * _parallel("CP")


def launches_parallelism() -> bool:
    """True if accelerate's launcher asks for a parallelism, by its environment."""
    return os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "").lower() == "true"


def _parallel(kind: str) -> int:
    """Return a size of the parallelism that accelerate's launcher asks for."""
    if not launches_parallelism():
        return 1
    return int(os.environ.get(f"PARALLELISM_CONFIG_{kind}_SIZE", "1"))


def start_ranks() -> Ranks:
    """Return the processes that the launcher has started, connected with each other."""
    if launched() == 1:
        return ALONE
    from accelerate import PartialState

    options: dict[str, Any] = {} if dist.is_initialized() else {"timeout": _PATIENCE}
    state = PartialState(cpu=default_device() == "cpu", **options)
    return Ranks(state.process_index, state.num_processes)


def shared_table(
    model: Any,
    rows: Sequence[Encoded],
    ranks: Ranks,
    *,
    progress: Callable[[int], None] | None = None,
) -> TokenTable:
    """Return `token_table` of the rows, of which each process measures its share."""
    if ranks.number == 1:
        return token_table(model, rows, progress=progress)
    share = ranks.share(rows)
    part = token_table(model, share, progress=progress) if share else None
    parts = [table for table in ranks.gathered(part) if table is not None]
    example = [table.example * ranks.number + rank for rank, table in enumerate(parts)]
    columns = [np.concatenate(example)]
    for name in ("position", "token", "logp", "entropy", "is_top1"):
        columns.append(np.concatenate([getattr(table, name) for table in parts]))
    order = np.lexsort((columns[1], columns[0]))
    return TokenTable(*(column[order] for column in columns), num_examples=len(rows))
