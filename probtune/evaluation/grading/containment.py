"""Limits of a process that runs a model's program, by the means of the Linux kernel, in four layers
that need no privileges:

    namespaces  a network, a mount table and IPC of its own, where the system permits; the folder
                to write in is then a file system in memory of `FOLDER_BYTES`
    landlock    reading only Python's own folders, writing only the folder; no signals, no TCP
    seccomp     no new process, program, socket, or signal to others; no change of modes or owners
    limits      address space, CPU time, file size, open files, threads

and one of Python: an audit hook that refuses the same things and says which was tried. The hook
names; the kernel holds. What none of it stops is said in docs/evaluation.md.

References: landlock(7), seccomp(2), namespaces(7), setrlimit(2), https://man7.org/linux/man-pages;
PEP 578, "Python Runtime Audit Hooks", 2019, https://peps.python.org/pep-0578.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "DENIED",
    "FOLDER_BYTES",
    "deny_system_calls",
    "drop_capabilities",
    "isolate",
    "restrict_files",
    "set_limits",
    "watch",
]

FOLDER_BYTES = 64 * 2**20
"""Size of the folder to write in, where it can be a file system of its own."""

_FILE_BYTES = 16 * 2**20

_NEWNS, _NEWIPC, _NEWUSER, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_PRIVATE, _NOSUID_NODEV_NOEXEC = (1 << 18) | (1 << 14), 2 | 4 | 8


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int, what: str) -> int:
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return status


def isolate(folder: str) -> dict[str, bool]:
    """Namespaces of its own for this process and its children, and a file system in memory at
    `folder`. To be called while the process has one thread.

    Returns:
        Which of `network` and `folder size` hold; false where the system does not permit it.
    """
    libc = _libc()
    uid, gid = os.geteuid(), os.getegid()
    guards = {"network": False, "folder size": False}
    if libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC) != 0:
        return guards
    guards["network"] = True
    try:
        # A process may map its own user to itself; groups must be frozen before.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        _check(libc.mount(None, b"/", None, _PRIVATE, None), "mount")
        options = f"size={FOLDER_BYTES},nr_inodes=2000,mode=700".encode()
        flags = _NOSUID_NODEV_NOEXEC
        _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options), "mount")
    except OSError:
        return guards
    guards["folder size"] = True
    return guards


def drop_capabilities() -> None:
    """Give up every privilege, and any program's set-user-id, for ever."""
    libc = _libc()
    _check(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    header = struct.pack("=Ii", 0x20080522, 0)
    _check(libc.capset(header, bytes(24)), "capset")


def set_limits(memory_bytes: int, cpu_seconds: int) -> None:
    """Hard limits of this process; nothing can raise them again. The stack's as EvalPlus's."""
    import resource

    for what, value in (
        ("RLIMIT_AS", memory_bytes),
        ("RLIMIT_DATA", memory_bytes),
        ("RLIMIT_STACK", memory_bytes),
        ("RLIMIT_CPU", cpu_seconds),
        ("RLIMIT_FSIZE", _FILE_BYTES),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_NPROC", 64),
        ("RLIMIT_CORE", 0),
    ):
        limit = getattr(resource, what)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


# Landlock: rights on files by the version of the kernel's interface, linux/landlock.h.
_READ = 1 << 2 | 1 << 3
_WRITE_FILE, _READ_FILE, _TRUNCATE, _IOCTL = 1 << 1, 1 << 2, 1 << 14, 1 << 15
_FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture


def restrict_files(folder: str, readable: Sequence[str]) -> int:
    """Landlock: from now on this process and its children read only below `readable` and `folder`
    and write only below `folder`; no TCP (kernel 6.7), no signals to processes outside (6.12).

    Returns:
        The version of the kernel's Landlock, 0 where it has none and nothing was restricted.
    """
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return 0
    rights = _FS_RIGHTS[max(v for v in _FS_RIGHTS if v <= version)]
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", 3)  # TCP: bind and connect
    if version >= 6:
        attributes += struct.pack("=Q", 3)  # abstract UNIX sockets, signals
    rules = _check(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0), "landlock")
    try:
        for path, allowed in [
            *((path, _READ) for path in readable),
            ("/dev/null", _READ_FILE | _WRITE_FILE),
            ("/dev/urandom", _READ_FILE),
            (folder, rights & ~(1 | _IOCTL)),  # all but running programs
        ]:
            try:
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if not os.path.isdir(path):
                allowed &= _READ_FILE | _WRITE_FILE | _TRUNCATE
            rule = struct.pack("=Qi", allowed, handle)
            _check(libc.syscall(_ADD_RULE, rules, 1, rule, 0), f"landlock: {path}")
            os.close(handle)
        _check(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
        _check(libc.syscall(_RESTRICT_SELF, rules, 0), "landlock")
    finally:
        os.close(rules)
    return version


# Seccomp: numbers of system calls, asm/unistd.h; (x86_64, aarch64), None where it has no such call.
DENIED: Mapping[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "setsid": (112, 157), "setpgid": (109, 154),
    "prctl": (157, 167), "personality": (135, 92), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "quotactl": (179, 60), "acct": (163, 89),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "userfaultfd": (323, 282),
    "bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
}  # fmt: skip
"""System calls that are refused whatever their arguments, by name."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE, _CLONE3 = (56, 220), 435
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)
_LOAD, _EQUAL, _AT_LEAST, _AND_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def deny_system_calls() -> None:
    """Seccomp: `DENIED` fail with EPERM from now on, and so do new processes (threads may start),
    signals to other processes, and limits of other processes. A call of another architecture kills.

    Raises:
        OSError: the kernel or the architecture (x86_64 and aarch64 are known) cannot.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"system calls of {machine} are not known")
    column, architecture = _MACHINES[machine]
    filters: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000),  # x32 shares x86_64's architecture
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_EQUAL, 0, 1, _CLONE3),  # its flags lie in memory: the C library goes back to clone
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in sorted(n for pair in DENIED.values() if (n := pair[column]) is not None):
        filters += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    own = os.getpid()
    for numbers, condition in (
        (_CLONE, (_AND_SET, 0x00010000)),  # CLONE_THREAD
        (_KILL, (_EQUAL, own)),
        (_TGKILL, (_EQUAL, own)),
        (_PRLIMIT, (_EQUAL, 0)),
    ):
        code, value = condition
        filters += [
            (_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, 16),  # the first argument
            (code, 1, 0, value),
            (_RETURN, 0, 0, _ERRNO | errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
    filters.append((_RETURN, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *f) for f in filters))
    described = struct.pack("@HP", len(filters), ctypes.addressof(program))
    libc = _libc()
    _check(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _check(libc.prctl(22, 2, described, 0, 0), "seccomp")


_NETWORK = ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
            "socket.gethostbyaddr", "socket.sendmsg", "socket.sendto")  # fmt: skip
_PROCESSES = ("os.fork", "os.forkpty", "os.system", "os.exec", "os.spawn", "os.posix_spawn",
              "os.kill", "os.killpg", "subprocess.Popen", "pty.spawn",
              "signal.pthread_kill")  # fmt: skip
_PATHS = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1, "os.chmod": 1,
          "os.chown": 1, "os.utime": 1, "os.setxattr": 1, "os.removexattr": 1, "os.rename": 2,
          "os.link": 2, "os.symlink": 2}  # fmt: skip
"""Audit event -> how many of its arguments are paths that are written."""
_READS = ("os.listdir", "os.scandir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: str, readable: Sequence[str], report: Callable[[str], None]) -> None:
    """An audit hook that refuses with PermissionError what a contained program may not do, and
    calls `report` with `network`, `files` or `processes`. It cannot be removed.
    """
    home = os.path.realpath(folder)
    roots = (home, *(os.path.realpath(path) for path in (*readable, "/dev/null", "/dev/urandom")))
    realpath, fsdecode = os.path.realpath, os.fsdecode

    def inside(path: object, allowed: Sequence[str]) -> bool:
        if isinstance(path, int) or path is None:
            return True
        real = realpath(fsdecode(path))  # type: ignore[arg-type]
        return any(real == root or real.startswith(root + os.sep) for root in allowed)

    def kind_of(event: str, arguments: tuple) -> str | None:
        if event == "open":
            path, mode, flags = arguments
            writes = (flags or 0) & _WRITING or any(c in (mode or "") for c in "wax+")
            return None if inside(path, (home, "/dev/null") if writes else roots) else "files"
        if event in _PATHS:
            fine = all(inside(path, (home,)) for path in arguments[: _PATHS[event]])
            return None if fine else "files"
        if event in _READS:
            return None if inside(arguments[0], roots) else "files"
        if event in _NETWORK:
            return "network"
        if event == "socket.__new__":
            return "network" if arguments[1] not in (1, -1) else None  # AF_UNIX: pairs
        return "processes" if event in _PROCESSES else None

    def hook(event: str, arguments: tuple) -> None:
        kind = kind_of(event, arguments)
        if kind is not None:
            report(kind)
            raise PermissionError(errno.EPERM, f"{kind}: not permitted to a model's program")

    sys.addaudithook(hook)
