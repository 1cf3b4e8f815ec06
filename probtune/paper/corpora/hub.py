"""The hub before and during a download: what can go wrong is found first and said with the command
that helps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from .base import Part

__all__ = ["Offer", "check", "check_disk", "offline", "read"]

_COPIES = 3
"""On disk while rows are prepared: what is downloaded, its Arrow copy, and the rows written."""


@dataclass(frozen=True)
class Offer:
    """What the hub says of one part before it is downloaded."""

    revision: str | None
    """Commit that will be read. None: unknown without a network."""
    bytes: int | None
    """Size of the files to download. None: not said."""


def offline() -> bool:
    """Whether HF_HUB_OFFLINE is set: then only what the cache holds can be read."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def check(parts: Sequence[Part], folder: Path) -> list[Offer]:
    """Ask the hub for each part: whether it is there at its commit, open to us, and fits the disk.

    Raises:
        DataError: the hub cannot be reached, a dataset or its commit is gone, it is gated and no
            token is known, or a disk is too small.
    """
    if offline():
        return [Offer(part.revision, None) for part in parts]
    asked: dict[tuple[str, str | None], Any] = {}
    for part in parts:
        key = (part.dataset, part.revision)
        if key not in asked:
            asked[key] = _ask(part)
    offers = [_offer(part, asked[part.dataset, part.revision]) for part in parts]
    sizes = [
        offer.bytes if offer.bytes is not None else round((part.megabytes or 0) * 1e6)
        for part, offer in zip(parts, offers, strict=True)
    ]
    check_disk(sum(sizes), folder)
    return offers


def check_disk(download: int, folder: Path) -> None:
    """Refuse a download that would fill the disk of the cache or of the rows.

    Raises:
        DataError: too little space, with what is needed and what is free.
    """
    from huggingface_hub import constants

    for place, needed, variable in (
        (Path(constants.HF_HUB_CACHE), _COPIES * download, "HF_HOME"),
        (folder, download, "--out"),
    ):
        there = next(path for path in (place, *place.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            raise DataError(
                f"{place} has {free / 1e9:.1f} GB free, but {needed / 1e9:.1f} GB are needed"
                f" (download, its Arrow copy, the rows); make room, or point {variable} to another"
                " disk."
            )


def _offer(part: Part, info: Any) -> Offer:
    return Offer(info.sha, _size(part, info.siblings or []))


def _ask(part: Part) -> Any:
    """What the hub says of a part's dataset: commit and files."""
    from huggingface_hub import HfApi, errors, get_token

    api, name = HfApi(), part.dataset
    try:
        info = api.dataset_info(name, revision=part.revision, files_metadata=True, timeout=30)
        if info.gated:
            if get_token() is None:
                raise DataError(_gated(part))
            api.auth_check(name, repo_type="dataset")
    except errors.GatedRepoError:
        raise DataError(_gated(part)) from None
    except errors.RevisionNotFoundError:
        raise DataError(
            f"{name} has no commit {part.revision} any more: its history was rewritten, and its"
            " rows may have changed. Take another corpus, or rows you have with --data."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"the hub has no dataset {name}, or shows it only to some: log in with `hf auth login`"
            " or set HF_TOKEN, or take rows you have with --data."
        ) from None
    except (
        errors.HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the hub's HTTP library
        OSError,
    ) as error:
        raise DataError(_unreachable(name, error)) from None
    return info


def _gated(part: Part) -> str:
    return (
        f"{part.dataset} is shown only to those who accepted its terms: accept them on {part.url},"
        " then log in with `hf auth login` or set HF_TOKEN."
    )


def _unreachable(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"cannot ask the hub for {name}: {reason.rstrip('.')}. Check the network (a proxy is"
        " HTTPS_PROXY); read what the cache holds with HF_HUB_OFFLINE=1; or name rows you have with"
        " --data FILE."
    )


def _size(part: Part, files: Sequence[Any]) -> int | None:
    """Bytes of the files that hold a part, by their names; None where no name fits."""
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
    """(number of rows, rows with their places) of a part. A stream is not downloaded whole, and its
    number of rows is not known.

    Raises:
        DataError: the dataset cannot be loaded.
    """
    import datasets

    files = None if part.files is None else {part.split: part.files}
    try:
        found: Any = datasets.load_dataset(
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
        raise DataError(_unreachable(part.dataset, error)) from None
    name = f"{part.dataset}[{part.config + '/' if part.config else ''}{part.split}]"
    rows = ((f"{name}: row {number}", row) for number, row in enumerate(found, 1))
    return (None if stream else len(found)), rows
