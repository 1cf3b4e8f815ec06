"""Checks of the hub before a download, and the download itself. An error names the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.hub import ask, first_line, free_bytes, offline
from ...errors import DataError
from .base import Part

__all__ = ["Offer", "check", "check_disk", "offline", "read"]

_COPIES = 3
"""Copies on disk while rows are prepared: the download, its Arrow copy, and the written rows."""

_UNREACHABLE = (
    "Check the network (a proxy is HTTPS_PROXY); read the cache with HF_HUB_OFFLINE=1; or name rows"
    " you have with --data FILE."
)
_GONE = "Its rows may have changed. Take another corpus, or rows you have with --data."


@dataclass(frozen=True)
class Offer:
    """The hub's description of one part before its download."""

    revision: str | None
    """Commit to be read; None if unknown without a network."""
    bytes: int | None
    """Size of the files to download; None if the hub does not say."""


def check(parts: Sequence[Part], folder: Path) -> list[Offer]:
    """Check with the hub that each part exists at its commit, is open to us, and fits the disk.

    Raises:
        DataError: the hub cannot be reached, a dataset or its commit is gone, it is gated and no
            token gives access, or a disk is too small.
    """
    if offline():
        return [Offer(part.revision, None) for part in parts]
    described: dict[tuple[str, str | None], Any] = {}
    for part in parts:
        key = (part.dataset, part.revision)
        if key not in described:
            described[key] = ask(
                part.dataset, "dataset", part.revision, unreachable=_UNREACHABLE, gone=_GONE
            )
    offers = [_offer(part, described[part.dataset, part.revision]) for part in parts]
    sizes = [
        offer.bytes if offer.bytes is not None else round((part.megabytes or 0) * 1e6)
        for part, offer in zip(parts, offers, strict=True)
    ]
    check_disk(sum(sizes), folder)
    return offers


def check_disk(download: int, folder: Path) -> None:
    """Refuse a download that would fill the disk of the cache or of the rows.

    Raises:
        DataError: the message holds the needed and the free space.
    """
    from huggingface_hub import constants

    for target, needed, variable in (
        (Path(constants.HF_HUB_CACHE), _COPIES * download, "HF_HOME"),
        (folder, download, "--out"),
    ):
        free = free_bytes(target)
        if free < needed:
            raise DataError(
                f"{target} has {free / 1e9:.1f} GB free, but {needed / 1e9:.1f} GB are needed"
                f" (download, its Arrow copy, the rows); make room, or point {variable} to another"
                " disk."
            )


def _offer(part: Part, info: Any) -> Offer:
    return Offer(info.sha, _size(part, info.siblings or []))


def _size(part: Part, files: Sequence[Any]) -> int | None:
    """Return the bytes of the files that hold a part, by their names; None if no name fits."""
    data = [f for f in files if f.rfilename.endswith((".parquet", ".json", ".jsonl", ".csv"))]
    if part.files is not None:
        data = [f for f in data if f.rfilename == part.files]
    else:
        if part.config is not None:
            data = [f for f in data if f.rfilename.startswith(f"{part.config}/")]
        named = [f for f in data if part.split in f.rfilename.rsplit("/", 1)[-1]]
        data = named or data
    sizes = [f.size for f in data]
    return None if not sizes or None in sizes else sum(sizes)


def read(
    part: Part, revision: str | None, *, stream: bool
) -> tuple[int | None, Iterator[tuple[str, Any]]]:
    """Return (number of rows, rows with a name for messages) of a part. A stream is not downloaded
    as a whole, and its number of rows is unknown (None).

    Raises:
        DataError: the dataset cannot be loaded.
    """
    import datasets

    files = None if part.files is None else {part.split: part.files}
    try:
        dataset: Any = datasets.load_dataset(
            part.dataset,
            part.config,
            split=part.split,
            revision=revision,
            data_files=files,
            streaming=stream,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if offline():
            raise DataError(
                f"{part.dataset} is not in the cache, and HF_HUB_OFFLINE forbids to download it:"
                " unset it once, or name rows you have with --data FILE."
            ) from None
        reason = first_line(error).rstrip(".")
        raise DataError(f"cannot load {part.dataset}: {reason}. {_UNREACHABLE}") from None
    name = f"{part.dataset}[{part.config + '/' if part.config else ''}{part.split}]"
    rows = ((f"{name}: row {number}", row) for number, row in enumerate(dataset, 1))
    return (None if stream else len(dataset)), rows
