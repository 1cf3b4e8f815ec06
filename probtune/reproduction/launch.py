"""Runs side by side: on the devices of one machine, or on a SLURM cluster. submitit
(https://github.com/facebookincubator/submitit, MIT) starts them in both cases.

submitit rather than Ray: a run is one command that leaves its files and may be given again, so all
that is wanted is that commands start, on SLURM through its own queue and accounts. submitit is a
small package that needs no server; Ray would bring a cluster of its own on top of the cluster.

A run is `probtune reproduce … --run NAME`. What needs the results of others (other seeds need the
learning rate) starts when those have ended.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import ProbtuneError, UsageError
from ..terminal import Terminal

__all__ = ["launch_local", "launch_slurm", "slurm_options"]

Command = Sequence[str]


def launch_local(
    waves: Sequence[Sequence[Command]],
    devices: Sequence[int],
    each: int,
    logs: Path,
    terminal: Terminal,
) -> None:
    """Run commands on one machine, `each` devices to a command, as many at a time as there are.

    Raises:
        ProbtuneError: a command failed; the others of its wave were let finish.
    """
    submitit = _submitit()
    sets: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
    places = [tuple(devices[i : i + each]) for i in range(0, len(devices) - each + 1, each)]
    for place in places:
        sets.put(place)

    def one(command: Command) -> str | None:
        place = sets.get()
        try:
            executor = submitit.LocalExecutor(folder=str(logs / "%j"))
            executor.update_parameters(
                visible_gpus=place, gpus_per_node=each, timeout_min=60 * 24 * 14
            )
            job = executor.submit(submitit.helpers.CommandFunction(list(command), verbose=False))
            return _outcome(job, command)
        finally:
            sets.put(place)

    for wave in waves:
        with terminal.track(f"runs on {len(devices)} devices", len(wave)) as advance:
            with ThreadPoolExecutor(max_workers=len(places)) as pool:
                failed = []
                for outcome in pool.map(one, wave):
                    advance(1)
                    failed += [outcome] if outcome else []
        _raise(failed, logs)


def launch_slurm(
    waves: Sequence[Sequence[Command]], options: Mapping[str, Any], logs: Path, terminal: Terminal
) -> None:
    """Submit each wave as one job array and wait for it. A wait that is interrupted loses nothing:
    the same command finds what was finished.

    Raises:
        ProbtuneError: a job failed.
    """
    submitit = _submitit()
    executor = submitit.SlurmExecutor(folder=str(logs / "%j"))
    executor.update_parameters(**options)
    for wave in waves:
        functions = [submitit.helpers.CommandFunction(list(c), verbose=False) for c in wave]
        with executor.batch():
            jobs = [executor.submit(function) for function in functions]
        terminal.say(f"submitted {len(jobs)} jobs, first {jobs[0].job_id}; logs under {logs}.")
        failed = [_outcome(job, c) for job, c in zip(jobs, wave, strict=True)]
        _raise([text for text in failed if text], logs)


def slurm_options(texts: Sequence[str], gpus: int) -> dict[str, Any]:
    """`partition=gpu` and the like, as submitit names them, with the devices of a run.

    >>> slurm_options(["partition=gpu", "time=720"], 2)["time"]
    720

    Raises:
        UsageError: not KEY=VALUE.
    """
    found: dict[str, Any] = {
        "gpus_per_node": gpus,
        "nodes": 1,
        "time": 24 * 60,
        "job_name": "probtune",
    }
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--slurm takes KEY=VALUE, as partition=gpu, got {text!r}.")
        found[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
    return found


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise UsageError(
            "several runs at a time are started by submitit, which is not installed: pip install"
            " 'probtune[slurm]'."
        ) from None
    return submitit


def _outcome(job: Any, command: Command) -> str | None:
    """None, or what failed."""
    try:
        job.result()
    except Exception as error:  # submitit's own, or the command's: told by the last line
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"{command[-1]}: {last}"
    return None


def _raise(failed: Sequence[str], logs: Path) -> None:
    if failed:
        raise ProbtuneError(
            f"{len(failed)} runs failed, first {failed[0]}; logs under {logs}. What was finished is"
            " kept; the same command goes on."
        )
