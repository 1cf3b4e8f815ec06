"""Files and folders that are whole or not there: written beside their place, synchronised with the
disk and renamed; folders with a manifest of sizes and hashes, by which damage at rest is found.

    OUT/.writing/checkpoint-6/       being written; a leftover is removed by the next run
    OUT/.run.json.k3x9_a.writing     the same of one file
    OUT/checkpoint-6/                whole
    OUT/checkpoint-6/manifest.json   its files, their sizes and SHA-256

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ProbtuneError, UsageError

__all__ = [
    "MANIFEST",
    "WRITING",
    "check_new_file",
    "check_new_folder",
    "damage",
    "finish_folder",
    "hash_file",
    "remove_leftovers",
    "replace_in_folder",
    "whole_folder",
    "write_pieces",
    "write_text",
]

MANIFEST = "manifest.json"
WRITING = ".writing"
"""Folder beside a whole one, in which it is written, and the end of the name of a file beside."""


def check_new_file(name: str, flag: str, *, made_folder: str = "") -> None:
    """Refuse the name of a file that could not be written.

    Args:
        made_folder: name of a folder that will be made for the file where it is missing.

    Raises:
        UsageError: it is empty, a folder or a device, its folder does not exist, or nothing can be
            written there.
    """
    if not name.strip():
        raise UsageError(f"{flag} is empty; name a file.")
    if "\0" in name:
        raise UsageError(f"{flag} holds a zero byte.")
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{flag} {name} is a folder; name a file in it.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{flag} {name} is no file that can be replaced; name another.")
    folder = path.parent
    if made_folder and folder.name == made_folder and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(
            f"{flag} {name}: there is no folder {folder}; make it first, or name another file."
        )
    _check_writable(folder, f"{flag} {name}", "name another file")


def check_new_folder(folder: Path, flag: str) -> None:
    """Refuse a folder in which nothing could be written, or that could not be made.

    Raises:
        UsageError: it or the nearest folder above it is a file, or nothing can be written there.
    """
    above = folder.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UsageError(f"{flag} {folder}: {above} is a file; choose another {flag}.")
    _check_writable(above, f"{flag} {folder}", f"choose another {flag}")


def _check_writable(folder: Path, option: str, way_out: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{option}: nothing can be written in {folder} ({error.strerror}); {way_out}."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file through a temporary neighbour, so that a full disk, an interruption or a loss of
    power leaves the old one intact.

    Raises:
        ProbtuneError: the file cannot be written, with the system's reason.
    """
    write_pieces(path, (text,))


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write texts one after another as `write_text` writes one, without having all in memory."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=WRITING
        )
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private to the user
        os.replace(temporary, path)
        temporary = None
        _sync(path.parent)
    except OSError as error:
        raise ProbtuneError(
            f"cannot write {path}: {error.strerror}. What was finished before is kept."
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into; afterwards it stands at `target` with its manifest, in the place
    of what stood there. After an error nothing of it is left.
    """
    beside = target.parent / WRITING / target.name
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        finish_folder(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        _remove_if_empty(beside.parent)
        raise


def finish_folder(beside: Path, target: Path) -> None:
    """Write the manifest of a folder, synchronise it with the disk and move it to its place, where
    an older one is removed.
    """
    files = {}
    for path in sorted(p for p in beside.rglob("*") if p.is_file()):
        if path.name == MANIFEST and path.parent == beside:
            continue
        _sync(path)
        name = path.relative_to(beside).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    write_text(beside / MANIFEST, json.dumps({"files": files}, indent=1) + "\n")
    for folder in (p for p in beside.rglob("*") if p.is_dir()):
        _sync(folder)
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    _sync(target.parent)
    _remove_if_empty(beside.parent)


def replace_in_folder(folder: Path, name: str, text: str) -> None:
    """Replace a text of a folder that `whole_folder` wrote, or add one. Whenever it is interrupted,
    the folder is whole: with the old text or with the new one.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = text.encode("utf-8")
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    before = manifest["files"].get(name)
    # Until the text is there, the manifest names both.
    manifest["files"][name] = {**entry, "before": before}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    write_text(folder / name, text)
    manifest["files"][name] = entry
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def damage(folder: Path, *, contents: bool = True) -> str | None:
    """Return what is wrong with a folder that `whole_folder` wrote, or None if it is whole.

    Args:
        contents: read every byte and compare the hashes, not the sizes alone.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): _versions(entry) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}, so it was not finished"
    except OSError as error:
        return f"{MANIFEST} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    name = ""
    try:
        for name, versions in files.items():
            path = folder / name
            if not path.is_file():
                if None in versions:
                    continue
                return f"{name} is missing"
            size, sizes = path.stat().st_size, [v[0] for v in versions if v is not None]
            if size not in sizes:
                return f"{name} has {size} bytes, and {sizes[0]} were written"
            if contents and (size, hash_file(path)) not in versions:
                return f"{name} has other bytes than were written"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None


def _versions(entry: Mapping[str, Any]) -> list[tuple[int, str] | None]:
    """Return the sizes and hashes that a file may have: one, and of a text that is being replaced
    also the one before, or None if there was none.
    """
    version = (int(entry["bytes"]), str(entry["sha256"]))
    if "before" not in entry:
        return [version]
    before = entry["before"]
    return [version, before and (int(before["bytes"]), str(before["sha256"]))]


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove what an interruption left of what was being written in a folder.

    Args:
        below: in all its folders too.
    """
    pattern = f".*{WRITING}" if not below else f"**/.*{WRITING}"
    for path in [folder / WRITING, *folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if path.is_file() or error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


_UNSUPPORTED = (22, 95)  # EINVAL, EOPNOTSUPP: some network file systems cannot sync a folder


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass
