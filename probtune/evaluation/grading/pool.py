"""Comparisons that may hang, in worker processes that can be killed.

A comparison is a module-level function of (gold, answer, …) that returns a bool, or raises. Each
distinct one is made once. One that takes longer than the time-out is killed with its worker; the
others go on. At the end it is tried once more, alone, and given up if it takes too long again: a
busy machine is no reason for a wrong answer, however many endless ones stand before it. Computer
algebra can hang in one long integer power, where no signal is delivered, so nothing less than
killing helps.

Workers are started once, by `spawn` (never forked, so threads and GPUs in the caller do no harm),
and end with the process. Each imports and warms up before its first task (`warm`), outside of all
time limits. A script that grades at its top level needs the usual
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, wait
from typing import Any, NamedTuple

from ...errors import ProbtuneError
from ...processors import usable_processors

__all__ = ["TIMEOUT_S", "Unparsable", "Verdict", "compare_all", "default_workers"]

TIMEOUT_S = 10.0
"""Seconds that one comparison may take."""
MEMORY_BYTES = 4 * 2**30
"""Address space of a worker, where the system can limit it."""


class Verdict(NamedTuple):
    """The result of one comparison."""

    equal: bool
    error: str | None = None
    """`timeout`, `crashed` (the worker died) or `unparsable`."""


class Unparsable(Exception):
    """A comparison's answer cannot be read."""


Comparison = Callable[..., bool]


def default_workers() -> int:
    """Return the number of processors that this process may use, at most eight."""
    return min(8, usable_processors())


def compare_all(
    comparison: Comparison,
    tasks: Iterable[tuple[Any, ...]],
    *,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    finished: Callable[[tuple[Any, ...]], None] | None = None,
) -> dict[tuple[Any, ...], Verdict]:
    """Return one verdict for each distinct task; `finished` is called as they come.

    Verdicts are remembered for the life of the process, except time-outs and crashes, which may be
    the machine's fault.

    Raises:
        ProbtuneError: no worker can be started.
    """
    verdicts: dict[tuple[Any, ...], Verdict] = {}

    def finish(task: tuple[Any, ...], verdict: Verdict) -> None:
        verdicts[task] = verdict
        if finished:
            finished(task)

    distinct = dict.fromkeys(tasks)
    for task in distinct:
        if (comparison, task) in _verdicts:
            finish(task, _verdicts[comparison, task])
    slow: set[tuple[Any, ...]] = set()
    while waiting := [task for task in distinct if task not in verdicts]:
        before = len(verdicts) + len(slow)
        key = (os.getpid(), workers or default_workers())  # a fork must not use its parent's pool
        pool = _pool_of(key)
        first = [task for task in waiting if task not in slow]
        try:
            if first:
                slow |= _compare(pool, comparison, first, timeout_s, finish)
            else:
                with _alone:
                    in_a_row = 0
                    for task in waiting:
                        limit = timeout_s if in_a_row < _ENOUGH else timeout_s / _SHORTER
                        if _compare(pool, comparison, [task], limit, finish):
                            in_a_row += 1
                            finish(task, Verdict(False, "timeout"))
                        else:
                            in_a_row = 0
        except BrokenExecutor:
            with _lock:
                if _pools.get(key) is pool:  # no other thread has replaced it
                    _drop(key)
            if len(verdicts) + len(slow) == before:
                raise ProbtuneError(
                    "The processes that compare answers could not start. A script that grades at "
                    'its top level needs `if __name__ == "__main__":` around that; else free '
                    "memory, or allow fewer workers."
                ) from None
    return verdicts


def _compare(
    pool: Any,
    comparison: Comparison,
    tasks: list[tuple[Any, ...]],
    timeout_s: float,
    finish: Callable[[tuple[Any, ...], Verdict], None],
) -> set[tuple[Any, ...]]:
    """Finish all tasks but those that take too long, which are returned."""
    from pebble import ProcessExpired

    slow = set()
    futures = []
    try:
        for task in tasks:
            futures.append((task, _scheduled(pool, comparison, task, timeout_s)))
        for task, future in futures:
            try:
                verdict = _result(pool, future)
            except TimeoutError:
                slow.add(task)
                continue
            except ProcessExpired:
                verdict = Verdict(False, "crashed")
            else:
                if len(_verdicts) >= _MOST_VERDICTS:
                    _verdicts.clear()
                _verdicts[comparison, task] = verdict
            finish(task, verdict)
    except BaseException:  # interrupted: what is still queued must not run on
        for _, future in futures:
            future.cancel()
        raise
    return slow


def _scheduled(pool: Any, comparison: Comparison, task: tuple[Any, ...], timeout_s: float) -> Any:
    try:
        return pool.schedule(_guarded, args=(comparison, task), timeout=timeout_s)
    except RuntimeError:
        if pool.active:
            raise
        raise BrokenExecutor("a worker died between two tasks") from None


def _result(pool: Any, future: Any) -> Verdict:
    """Wait for a result that a pool which breaks while it takes the task may never bring."""
    while not wait([future], timeout=1).done:
        if not pool.active:
            raise BrokenExecutor("a worker died between two tasks")
    return future.result()


_ENOUGH = 2
_SHORTER = 10
"""After so many comparisons in a row that take too long alone as well, the machine is not to blame
for them, and the rest of a batch has this part of the time each: a comparison that ends takes much
less when it is alone, and a batch of endless ones must not take another ten seconds each.
"""

_MOST_VERDICTS = 500_000
_verdicts: dict[tuple[Comparison, tuple[Any, ...]], Verdict] = {}
_pools: dict[tuple[int, int], Any] = {}
_lock = threading.Lock()
_alone = threading.Lock()


def _pool_of(key: tuple[int, int]) -> Any:
    from multiprocessing import get_context

    from pebble import ProcessPool

    with _lock:
        if key in _pools and not _pools[key].active:  # a worker died while all were idle
            _drop(key)
        if key not in _pools:
            _pools[key] = ProcessPool(
                max_workers=key[1], context=get_context("spawn"), initializer=_start_worker
            )
            if len(_pools) == 1:  # registered after multiprocessing's own, so that it runs before
                atexit.register(_end)
        return _pools[key]


def _drop(key: tuple[int, int]) -> None:
    pool = _pools.pop(key)
    pool.stop()
    pool.join()


def _end() -> None:
    for (pid, _), pool in _pools.items():
        if pid == os.getpid():
            pool.close()  # not stop(): a worker that is just starting would fail with a traceback
            pool.join()


def _start_worker() -> None:
    """Limit memory, keep libraries quiet, and warm up."""
    import logging
    import warnings

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    except (ImportError, ValueError, OSError):  # no such limit on this system
        pass
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(3000)
    from .warm import warm_up

    warm_up()


def _guarded(comparison: Comparison, task: tuple[Any, ...]) -> Verdict:
    try:
        return Verdict(bool(comparison(*task)))
    except Exception:  # parsers of others' grammars may raise anything on what a model wrote
        return Verdict(False, "unparsable")
