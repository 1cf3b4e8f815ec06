"""Questions to the hub before a download, answered with a message that names the way out.

A model or dataset may be out of reach, behind terms that its authors want accepted, or changed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError

__all__ = ["ask", "first_line", "free_bytes", "gated_message", "offline"]


def offline() -> bool:
    """True if HF_HUB_OFFLINE is set: only the cache can be read then."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def gated_message(name: str, url: str, *, licence: str | None = None) -> str:
    """Return the message for a model or dataset whose terms or licence must be accepted first."""
    terms, them = ("terms", "them") if licence is None else (f"licence ({licence})", "it")
    return (
        f"{name} is shown only to those who accepted its {terms}: accept {them} on {url}, then log"
        " in with `hf auth login` or set HF_TOKEN."
    )


def ask(
    name: str,
    kind: Literal["model", "dataset"],
    revision: str | None,
    *,
    licence: str | None = None,
    unreachable: str,
    gone: str,
    absent: str = "",
) -> Any:
    """Return the hub's description of a model or dataset (commit, files with sizes), after checking
    that it can be downloaded.

    Args:
        licence: licence that is known to be asked for; then a missing token is refused at once.
        unreachable: way out where the hub does not answer, for the message.
        gone: the same where the commit no longer exists.
        absent: the same where the hub has no such repository.

    Raises:
        DataError: the hub does not answer, lacks the repository or its commit, or wants terms
            accepted and knows no token that has.
    """
    from huggingface_hub import HfApi, errors, get_token

    api = HfApi()
    url = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    gated = gated_message(name, url, licence=licence)
    if licence is not None and not get_token():
        raise DataError(gated)
    try:
        info = api.repo_info(
            name, repo_type=kind, revision=revision, files_metadata=True, timeout=30
        )
        if info.gated or licence is not None:
            if not get_token():
                raise DataError(gated)
            api.auth_check(name, repo_type=kind)
    except errors.GatedRepoError:
        raise DataError(gated) from None
    except errors.RevisionNotFoundError:
        raise DataError(
            f"{name} has no commit {revision} any more: its history was rewritten. {gone}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"the hub has no {kind} {name}, or shows it only to some: log in with `hf auth login`"
            f" or set HF_TOKEN. {absent or url}"
        ) from None
    except (
        errors.HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the hub's HTTP library
        OSError,
    ) as error:
        reason = first_line(error).rstrip(".")
        raise DataError(f"cannot ask the hub for {name}: {reason}. {unreachable}") from None
    return info


def free_bytes(path: Path) -> int:
    """Return the free space of the disk that holds a path, which need not exist yet."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free
