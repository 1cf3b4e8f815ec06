"""One folder, one process: a lock that the system releases when the process ends, however it ends.

    OUT/.lock    {"process": 4711, "host": "node3", "since": "2026-11-28T12:00:00+00:00"}

A file that a killed process left is no lock: what counts is the system's lock on it (`fcntl`),
which is also seen on other hosts where the file system has one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from .errors import ProbtuneError, UsageError
from .files import WRITING

__all__ = ["LOCK", "FolderLock", "is_fresh", "locked"]

LOCK = ".lock"


def is_fresh(folder: Path) -> bool:
    """True if nothing was finished in a folder: it is not there, or holds a lock and what an
    interruption left at most.
    """
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name == LOCK or path.name.endswith(WRITING) for path in folder.iterdir())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is not there.

    Raises:
        UsageError: another process holds it; with the process and its host.
    """
    lock = FolderLock(folder)
    lock.take()
    try:
        yield
    finally:
        lock.release()


class FolderLock:
    """The lock of one folder, taken once and released once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lock, unless it is held by this object already.

        Raises:
            UsageError: another process holds it; with the process and its host.
        """
        if self._handle is not None or sys.platform == "win32":
            return
        path = self.folder / LOCK
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while self._handle is None:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                if not _lock(handle):
                    holder = os.read(handle, 1000).decode("utf-8", "replace")
                    os.close(handle)
                    raise UsageError(_in_use(self.folder, holder))
                if _same(handle, path):
                    self._handle = handle
                else:  # removed by the process that held it, between opening and locking
                    os.close(handle)
            os.ftruncate(self._handle, 0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            content = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
            os.write(self._handle, (json.dumps(content) + "\n").encode())
        except OSError as error:
            self.release()
            raise ProbtuneError(
                f"cannot write {path}: {error.strerror}. Choose another --out."
            ) from error

    def release(self) -> None:
        """Give the lock back and remove its file, and the folder if nothing was written into it."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with suppress(OSError):
            (self.folder / LOCK).unlink(missing_ok=True)
        os.close(handle)
        with suppress(OSError):
            self.folder.rmdir()  # only if it is empty


def _lock(handle: int) -> bool:
    """True if the lock is ours now. Where the file system has no locks, the process that the file
    names decides, on this host.
    """
    import fcntl

    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except PermissionError:
        return False
    except OSError:
        try:
            holder = json.loads(os.pread(handle, 1000, 0))
            if holder["host"] != socket.gethostname():
                return False
            os.kill(int(holder["process"]), 0)
            return int(holder["process"]) == os.getpid()
        except (ValueError, KeyError, TypeError, ProcessLookupError):
            return True
        except PermissionError:
            return False


def _same(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _in_use(folder: Path, holder: str) -> str:
    who = "another process"
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(holder)
        who = f"process {content['process']} on {content['host']}, since {content['since']},"
    return f"{folder} is in use: {who} works in it. Wait for it or end it, or choose another --out."
