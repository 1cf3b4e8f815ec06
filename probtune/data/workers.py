"""Work on parts of data in several processes, with the results in order.

Workers are forked, so that what they need is there without being imported or sent once more, and
only where the system forks safely (Linux). They compute with Python and the tokenizer alone, and
touch no model and no device. One that is left alone, since its parent was killed, ends when it
reads its next task. Standard library only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DataError, ProbtuneError
from ..processors import usable_processors

__all__ = ["in_order", "number_of_workers"]

_MOST = 8
_THREADS = "TOKENIZERS_PARALLELISM"


def number_of_workers() -> int:
    """Return how many processes one rank of a training may use."""
    if not sys.platform.startswith("linux"):
        return 1
    if multiprocessing.current_process().daemon:  # it may have no children
        return 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, min(_MOST, usable_processors() // max(1, int(ranks) if ranks.isdigit() else 1)))


def in_order(
    function: Callable[[Any], Any], tasks: Iterable[Any], *, workers: int
) -> Iterator[Any]:
    """Yield the result of each task, in their order; what a task raises is raised here.

    With one worker, or with one task, nothing is forked. A worker has one task at a time, so that
    no more than one result each waits in memory.

    Raises:
        DataError: a worker died, as it does where memory is short.
    """
    remaining = iter(tasks)
    first = list(zip(range(workers), remaining, strict=False))
    if len(first) < 2:
        for _, task in first:
            yield function(task)
        yield from map(function, remaining)
        return
    busy = deque(_start(function, len(first)))
    processes = list(busy)
    try:
        for worker, (_, task) in zip(processes, first, strict=True):
            worker[1].send(task)
        while busy:
            worker = busy.popleft()
            following = next(remaining, None)
            result = _receive(worker)
            if following is not None:
                worker[1].send(following)
                busy.append(worker)
            yield result
    finally:
        for process, connection in processes:
            connection.close()
            process.terminate()
        for process, _ in processes:
            process.join()


_Worker = tuple[Any, Any]
"""(process, connection)."""


def _start(function: Callable[[Any], Any], number: int) -> list[_Worker]:
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(number)]
    processes = []
    with _without_threads():
        for index, (_, theirs) in enumerate(pipes):
            others = [mine for mine, _ in pipes]
            others += [end for i, (_, end) in enumerate(pipes) if i != index]
            process = context.Process(target=_work, args=(function, theirs, others), daemon=True)
            process.start()
            processes.append(process)
    for _, theirs in pipes:
        theirs.close()
    return [(process, mine) for process, (mine, _) in zip(processes, pipes, strict=True)]


@contextmanager
def _without_threads() -> Iterator[None]:
    """Let the tokenizers of forked processes do without threads, which a fork does not have."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def _work(function: Callable[[Any], Any], connection: Any, others: Iterable[Any]) -> None:
    """Answer tasks until the parent closes its end."""
    for other in others:
        other.close()  # so that the end of the parent is the end of the pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = (True, function(task))
        except ProbtuneError as error:  # of any other, the traceback is shown
            answer = (False, error)
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


def _receive(worker: _Worker) -> Any:
    process, connection = worker
    try:
        done, result = connection.recv()
    except EOFError:
        process.join()
        raise DataError(
            f"a process that prepares rows ended with the status {process.exitcode}; where memory"
            " is short, bind the command to fewer processors (taskset)."
        ) from None
    if not done:
        raise result
    return result
