"""The number of processors that this process may use: those it is bound to, and no more than the
CPU quota of its cgroups, which containers set and neither `os.cpu_count` nor affinity shows.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_quota", "usable_processors"]


def usable_processors(root: Path = Path("/")) -> int:
    """Return the number of processors, at least one; a quota of 2.5 processors is two.

    `root` is where `proc` and `sys` are looked up.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cpu_quota(root)
    return max(1, min(bound or 1, int(quota) if quota is not None else bound or 1))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the processors' worth of time that the strictest of this process's cgroups allows, by
    version 2 or 1 of cgroups; None without a quota.
    """
    quotas = []
    for controllers, group in _groups(root / "proc" / "self" / "cgroup"):
        for folder in _folders(root / "sys" / "fs" / "cgroup", controllers, group):
            quotas.append(_quota_of(folder))
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(path: Path) -> list[tuple[list[str], str]]:
    """(controllers, path) of each cgroup of the process that can limit CPU time."""
    try:
        lines = path.read_text().splitlines()
    except OSError:  # no Linux, or no /proc
        return []
    groups = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    return [
        (names.split(","), group)
        for names, group in groups
        if names == "" or "cpu" in names.split(",")
    ]


def _folders(mount: Path, controllers: list[str], group: str) -> list[Path]:
    """The cgroup's folder and those above it, whose quotas hold as well. In a container the path
    may be the host's, and what is mounted be the cgroup itself; then that is read.
    """
    top = mount if controllers == [""] else mount / ",".join(controllers)
    if not top.is_dir():
        top = mount / "cpu"
    folder = top / group.strip("/")
    return [folder, *folder.parents][: len(folder.relative_to(top).parts) + 1]


def _quota_of(folder: Path) -> float | None:
    texts = []
    for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        try:
            texts.append((folder / name).read_text().split())
        except OSError:
            texts.append([])
    limit = texts[0] or [*texts[1], *texts[2]]
    if len(limit) < 2 or limit[0] in ("max", "-1") or int(limit[1]) <= 0:
        return None
    return int(limit[0]) / int(limit[1])
