"""A run's folder: which run it holds, by `run.json`: its settings, data, base model and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..errors import UsageError
from ..files import remove_leftovers
from ..lock import is_fresh
from ..models.identity import changed_file, model_identity
from ..objectives import Objective
from ..records import read_record, write_record
from ..settings import TuneSettings
from .own_objectives import check_sources, sources_of

__all__ = ["check_folder", "check_model", "claim_folder", "model_hashes"]


def check_folder(folder: Path, settings: TuneSettings, objectives: Sequence[Objective]) -> None:
    """Refuse a folder that holds something else than this run.

    Raises:
        UsageError: with the settings that differ, or the own objective whose code has changed.
    """
    if is_fresh(folder):
        return
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} exists and is not a run of probtune; choose another --out.")
    record = read_record(folder / "run.json", "run")
    version = record.get("version")
    if version != __version__:
        of = "an earlier version" if version is None else f"version {version}"
        raise UsageError(
            f"{folder} holds a run of {of} of probtune, and this is {__version__}: it may go on"
            " otherwise than it began. Install that version, or choose another --out."
        )
    unknown = sorted(set(record["settings"]) - set(settings.to_dict()))
    if unknown:
        raise UsageError(
            f"{folder} holds a run with settings that this version does not have:"
            f" {', '.join(unknown)}. Choose another --out."
        )
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
    model: Mapping[str, str],
) -> None:
    """Write what the run is, or check that the run in the folder is the same and had the same data
    and base model; what an interruption left half written is removed. The caller holds the folder's
    lock.

    Args:
        model: hashes of the base model's files and of what its tokenizer does.

    Raises:
        UsageError: the folder holds another run, or the data or the model has changed since.
    """
    check_folder(folder, settings, objectives)  # again: another process may have been first
    remove_leftovers(folder, below=True)
    path = folder / "run.json"
    if not path.is_file():
        content = {
            "version": __version__,
            "settings": settings.to_dict(),
            "model": model,
            "hashes": hashes,
            "sources": sources_of(objectives),
        }
        write_record(path, "run", content)
        return
    record = read_record(path, "run")
    if record["hashes"] != hashes:
        raise UsageError(
            f"the data has changed since the run in {folder} began; choose another --out."
        )
    _refuse_changed(record.get("model", {}), model, settings, folder)


def model_hashes(settings: TuneSettings) -> dict[str, str]:
    """Return the hashes of the base model's files, and of the better one's if a model is named."""
    hashes = model_identity(settings.model)
    if settings.better is not None and not settings.better.endswith(".arrow"):
        better = model_identity(settings.better)
        hashes |= {f"better model/{name}": value for name, value in better.items()}
    return hashes


def check_model(folder: Path, settings: TuneSettings) -> None:
    """Refuse to go on with a base model whose files have changed since the run began; before every
    stage that loads it.

    Raises:
        UsageError: with the file.
    """
    recorded = read_record(folder / "run.json", "run").get("model", {})
    of_files = {k: v for k, v in recorded.items() if k not in ("tokenizer", "chat template")}
    _refuse_changed(of_files, model_hashes(settings), settings, folder)


def _refuse_changed(
    recorded: Mapping[str, str], current: Mapping[str, str], settings: TuneSettings, folder: Path
) -> None:
    name = changed_file(recorded, current)
    if name is not None:
        raise UsageError(
            f"{name} of {settings.model} has changed since the run in {folder} began, and its"
            " stages would be of different models; put the file back, or choose another --out."
        )
