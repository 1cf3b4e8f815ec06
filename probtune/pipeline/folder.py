"""A run's folder: which run it holds, by `run.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..objectives import Objective
from ..records import read_record, write_record
from ..settings import TuneSettings
from .own_objectives import check_sources, sources_of

__all__ = ["check_folder", "claim_folder"]


def check_folder(folder: Path, settings: TuneSettings, objectives: Sequence[Objective]) -> None:
    """Refuse a folder that holds something else than this run.

    Raises:
        UsageError: with the settings that differ, or the own objective whose code has changed.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} exists and is not a run of probtune; choose another --out.")
    record = read_record(folder / "run.json", "run")
    # Settings that came later than the run had no other value than their default.
    later = type(settings)(settings.model, settings.data).to_dict()
    recorded = {**later, **record["settings"]}
    different = [
        f"{name} ({recorded[name]!r} there, {value!r} here)"
        for name, value in settings.to_dict().items()
        if recorded[name] != value
    ]
    if different:
        raise UsageError(
            f"{folder} holds another run: it differs in {', '.join(different)}. Choose another"
            " --out."
        )
    check_sources(record.get("sources", {}), objectives, folder)


def claim_folder(
    folder: Path,
    settings: TuneSettings,
    objectives: Sequence[Objective],
    hashes: Mapping[str, str],
) -> None:
    """Write what the run is, or check that the run in the folder had the same data.

    Raises:
        UsageError: the data has changed since.
    """
    path = folder / "run.json"
    if not path.is_file():
        content = {
            "settings": settings.to_dict(),
            "hashes": hashes,
            "sources": sources_of(objectives),
        }
        write_record(path, "run", content)
    elif read_record(path, "run")["hashes"] != hashes:
        raise UsageError(
            f"the data has changed since the run in {folder} began; choose another --out."
        )
