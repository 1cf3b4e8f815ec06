"""Runs side by side: on the devices of one machine, or on a SLURM cluster. submitit
(https://github.com/facebookincubator/submitit, MIT) starts them in both cases.

submitit rather than Ray: a run is one command that leaves its files and can be repeated, so it only
has to be started, on SLURM through its own queue and accounts. submitit is a small package that
needs no server; Ray would bring a cluster of its own on top of the cluster.

A run is one command, `probtune tune …` or `probtune reproduce … --run NAME`. A run that needs the
results of others, as other seeds need the learning rate, starts when those have ended.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ProbtuneError, UsageError
from ..terminal import Terminal

__all__ = ["Job", "launch_local", "launch_slurm", "slurm_options"]

_TWO_WEEKS = 14 * 24 * 60


class Job(NamedTuple):
    """One run."""

    command: tuple[str, ...]
    devices: int


def launch_local(
    waves: Sequence[Sequence[Job]], devices: Sequence[int], logs: Path, terminal: Terminal
) -> None:
    """Run jobs on one machine, each on devices of its own, and as many at a time as these allow.

    Raises:
        ProbtuneError: a job failed; the others of its wave were finished first.
    """
    submitit = _submitit()
    free, changed = set(devices), threading.Condition()

    def one(job: Job) -> str | None:
        with changed:
            changed.wait_for(lambda: len(free) >= job.devices)
            taken = sorted(free)[: job.devices]
            free.difference_update(taken)
        try:
            executor = submitit.LocalExecutor(folder=str(logs / "%j"))
            executor.update_parameters(
                visible_gpus=tuple(taken), gpus_per_node=job.devices, timeout_min=_TWO_WEEKS
            )
            function = submitit.helpers.CommandFunction(list(job.command), verbose=False)
            return _outcome(executor.submit(function), job)
        finally:
            with changed:
                free.update(taken)
                changed.notify_all()

    for wave in waves:
        failed = []
        with terminal.track(f"runs on {len(devices)} devices", len(wave)) as advance:
            with ThreadPoolExecutor(max_workers=len(devices)) as pool:
                for outcome in pool.map(one, wave):
                    advance(1)
                    failed += [outcome] if outcome else []
        _raise(failed, logs)


def launch_slurm(
    waves: Sequence[Sequence[Job]], options: Mapping[str, Any], logs: Path, terminal: Terminal
) -> None:
    """Submit each wave as one job array and wait for it. An interrupted wait loses nothing: the
    same command skips finished runs.

    Raises:
        ProbtuneError: a job failed.
    """
    submitit = _submitit()
    for wave in waves:
        submitted = []
        for devices in sorted({job.devices for job in wave}):
            executor = submitit.SlurmExecutor(folder=str(logs / "%j"))
            executor.update_parameters(**{"gpus_per_node": devices, **options})
            jobs = [job for job in wave if job.devices == devices]
            with executor.batch():
                handles = [
                    executor.submit(
                        submitit.helpers.CommandFunction(list(job.command), verbose=False)
                    )
                    for job in jobs
                ]
            submitted += zip(handles, jobs, strict=True)
            terminal.say(f"{len(jobs)} jobs of {devices} devices, first {handles[0].job_id}.")
        failed = [_outcome(handle, job) for handle, job in submitted]
        _raise([text for text in failed if text], logs)


def slurm_options(texts: Sequence[str]) -> dict[str, Any]:
    """Parse parameters such as `partition=gpu` into submitit's.

    >>> slurm_options(["partition=gpu", "time=720"])["time"]
    720

    Raises:
        UsageError: a text is not KEY=VALUE.
    """
    parameters: dict[str, Any] = {"nodes": 1, "time": 24 * 60, "job_name": "probtune"}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--slurm takes KEY=VALUE, such as partition=gpu, got {text!r}.")
        parameters[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
    return parameters


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise UsageError(
            "several runs at a time need submitit, which is not installed: pip install"
            " -e '.[slurm]'."
        ) from None
    return submitit


def _outcome(handle: Any, job: Job) -> str | None:
    """Return None, or the name of a failed job with the last line of its error."""
    try:
        handle.result()
    except Exception as error:  # submitit passes on whatever the command raised
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"{job.command[-1]}: {last}"
    return None


def _raise(failed: Sequence[str], logs: Path) -> None:
    if failed:
        raise ProbtuneError(
            f"{len(failed)} runs failed, first {failed[0]}; logs under {logs}. Finished runs are"
            " saved, and the same command goes on."
        )
