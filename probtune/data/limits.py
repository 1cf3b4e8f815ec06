"""A limit of time and memory for what a stranger's chat template may use to write one row."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import UsageError

__all__ = ["MOST_CHARACTERS", "check_size", "limited"]

MOST_CHARACTERS = 50_000_000
_SECONDS = 20.0
_BYTES = 1 << 30


class _TooLong(Exception):
    """The time is over."""


@contextmanager
def limited() -> Iterator[None]:
    """Let a block use 20 seconds and a gibibyte of further memory, where the system can hold it to
    that: in the main thread, the memory on Linux.

    Raises:
        UsageError: the block wanted more.
    """
    timed = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    timed = timed and signal.getitimer(signal.ITIMER_REAL)[0] == 0  # nobody else's
    before = signal.signal(signal.SIGALRM, _stop) if timed else None
    memory = _limit_memory()
    try:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        yield
    except _TooLong:
        raise UsageError(
            f"the chat template did not end in {_SECONDS:.0f} seconds over one row; take another"
            " with --chat-template."
        ) from None
    except (MemoryError, OverflowError):
        raise UsageError(
            "the chat template asked for more than a gibibyte of memory over one row; take another"
            " with --chat-template."
        ) from None
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if memory is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, memory)


def check_size(text: str) -> str:
    """Return what a template wrote.

    Raises:
        UsageError: it is longer than any row.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"the chat template wrote {len(text):,} characters for one row, and the limit is"
            f" {MOST_CHARACTERS:,}; take another with --chat-template."
        )
    return text


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLong


def _limit_memory() -> tuple[int, int] | None:
    """Limit the address space to what it is now and a gibibyte; return the limit before."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limit = now + _BYTES
    if before[0] != resource.RLIM_INFINITY and before[0] <= limit:
        return None
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    return before
