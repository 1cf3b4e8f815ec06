"""The files of log-probabilities that the objectives of a run compare with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ..data.encoding import Encoded
from ..errors import UsageError
from ..models.ranks import ALONE, Ranks
from ..models.store import LogprobStore
from ..settings import TuneSettings
from ..terminal import Terminal
from .measuring import measure_tokens

__all__ = ["check_rows", "check_stores", "store_logprobs"]

_OF_THE_BASE_MODEL = {"reference", "sequence_gain"}
"""Signals that are read from the log-probabilities of the model before training; with
`sequence_weight` where no scout weighs the rows.
"""


def check_stores(settings: TuneSettings, needs: Collection[str]) -> None:
    """Refuse objectives whose better model no setting names, and files that are no stores.

    Args:
        needs: the signals that the run's objectives need.
    """
    if "better" in needs and settings.better is None:
        raise UsageError(
            "token_cleaning and rho1 compare with a better model; name it with --better."
        )
    for path in _named_files(settings):
        LogprobStore(path)


def check_rows(settings: TuneSettings, rows: Sequence[Encoded]) -> None:
    """Refuse files of log-probabilities that lack a training row."""
    for path in _named_files(settings):
        LogprobStore(path).columns(
            ((row.input_ids, row.labels) for row in rows), names=[row.where for row in rows]
        )


def store_logprobs(
    folder: Path,
    settings: TuneSettings,
    needs: Collection[str],
    rows: Sequence[Encoded],
    terminal: Terminal,
    ranks: Ranks = ALONE,
) -> dict[str, str]:
    """Measure the better model where an objective compares with one, and return the files of
    log-probabilities by the trainer's names for them. That of the model before training is written
    by the probe.
    """
    files: dict[str, str] = {}
    of_base = _OF_THE_BASE_MODEL | (set() if settings.scouts_weigh else {"sequence_weight"})
    if not of_base.isdisjoint(needs):
        files["reference"] = settings.reference or str(folder / "reference.arrow")
    if "better" not in needs:
        return files
    better = settings.better
    assert better is not None
    files["better"] = better
    if not better.endswith(".arrow"):
        path = folder / "better.arrow"
        files["better"] = str(path)
        exists = path.is_file()
        ranks.wait()
        if not exists:
            label = "measuring the better model"
            measure_tokens(better, rows, terminal, label=label, store=path, ranks=ranks)
        ranks.wait()
    return files


def _named_files(settings: TuneSettings) -> list[str]:
    """Return the files of log-probabilities that the user named."""
    files = [settings.reference]
    if settings.better is not None and settings.better.endswith(".arrow"):
        files.append(settings.better)
    return [path for path in files if path is not None]
