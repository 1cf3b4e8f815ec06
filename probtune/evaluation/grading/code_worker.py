"""The process that EvalPlus runs in. `Worker` starts it from the grader's side; the rest is the
program itself: it contains itself, reads jobs as lines of JSON, finds the program in a response and
tests it, each in a process of its own that is contained further, and answers with a line.

    grader  --job-->  worker (namespaces, Landlock, environment emptied)
                        +- extraction        limits, seccomp; nothing of the model's runs
                        +- base tests        limits, seccomp, audit hook; the model's program runs
                        +- further tests     the same

Canonical solutions run in the worker, for the expected outputs and the time they take. The verdict
travels in shared memory and counts only if every input was reached, as in EvalPlus.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import gc
import json
import math
import mmap
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import EvaluationError
from . import containment

__all__ = ["Worker", "find_program", "main"]

EXTRACTION_SECONDS = 30.0
TASK_SECONDS = 60.0
"""Longest test of one program, as EvalPlus's."""
MEMORY_BYTES = 4 * 2**30
"""As EvalPlus's; less on a small machine."""

KINDS = ("network", "files", "processes", "memory", "timeout", "exit", "crashed")

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    " from probtune.evaluation.grading.code_worker import main; main(sys.argv[2])"
)


class Worker:
    """A worker process; it is started again when it dies or does not answer."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._closed = False
        self.protections: dict[str, Any] = {}
        """The protections that this system has."""
        self._start()

    def _start(self) -> None:
        if not sys.platform.startswith("linux"):
            raise EvaluationError(
                "a model's programs are run on Linux only, where the kernel can contain them"
                f" (this is {sys.platform}); grade the samples on a Linux machine."
            )
        self._folder = tempfile.mkdtemp(prefix="probtune-code-")
        environment = {
            "HOME": self._folder,
            "TMPDIR": self._folder,
            "PATH": "",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        # Relative entries and the current folder are left out: -I would not have them either.
        current = os.path.realpath(os.curdir)  # `python -m` names it by its absolute path
        paths = [
            path for path in sys.path if os.path.isabs(path) and os.path.realpath(path) != current
        ]
        root = str(Path(__file__).resolve().parents[3])
        command = [sys.executable, "-I", "-B", "-c", _START, json.dumps([root, *paths])]
        self._process = subprocess.Popen(
            [*command, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=environment,
            start_new_session=True,
        )
        hello = self._read(60.0) or {"broken": "the process that runs programs did not start."}
        if "broken" in hello:
            self._end()
            raise EvaluationError(hello["broken"])
        self.protections = hello["protections"]

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return a job's outcome; a worker that died or hung counts as a program that crashed."""
        if self._process is None and not self._closed:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        # Extraction, expected outputs and two tests at most.
        answer = self._read(EXTRACTION_SECONDS + 4 * TASK_SECONDS)
        if answer is not None:
            return answer
        self._end()
        return {"program": None, "extraction": "none", "errors": ["crashed"], "base": 0, "plus": 0}

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """The next line, or None when there is none in time."""
        assert self._process is not None and self._process.stdout is not None
        end, line = time.monotonic() + seconds, b""
        handle = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                return None
            piece = os.read(handle, 1 << 16)
            if not piece:
                return None
            line += piece
        return json.loads(line)

    def close(self) -> None:
        """End the worker for good."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        """End the process, with all it started, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def main(folder: str) -> None:
    """The worker's program: jobs on standard input, answers on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a canonical solution prints is no answer
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out, the kernel ends this process first
    try:
        guards = containment.isolate(folder)
        os.chdir(folder)  # the file system that may lie there now
        import evalplus.data.mbpp
        import evalplus.eval
        import evalplus.gen.util
        import evalplus.sanitize  # noqa: F401  all is read before reading is restricted

        readable = _readable()
        landlock = containment.restrict_files(folder, readable)
        containment.drop_capabilities()
        status = _in_child(containment.deny_system_calls, folder, 10.0, 5)
        if status != 0:
            raise OSError(errno.ENOSYS, "seccomp does not work here")
    except OSError as error:
        _say(answers, {"broken": f"this system cannot contain a program ({error}); nothing was run"
                       " and nothing is lost. Grade on a Linux machine with seccomp."})  # fmt: skip
        return
    guards |= {"files": landlock >= 3, "landlock": landlock, "processes": True}
    _say(answers, {"protections": guards})
    gc.freeze()
    for line in sys.stdin:
        _say(answers, _do(json.loads(line), folder, readable))


def _say(answers: Any, outcome: dict[str, Any]) -> None:
    answers.write(json.dumps(outcome) + "\n")
    answers.flush()


_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages(?:$|[/\\])")


def _readable() -> list[str]:
    """Python's own folders and those of installed packages, and those of the C library; not the
    folder that the command was started in, nor a checkout that the package runs from.
    """
    paths = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    paths |= {path for path in sys.path if _INSTALLED.search(path)}
    paths |= {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/localtime"}
    return sorted(path for path in paths if os.path.isabs(path) and os.path.exists(path))


def _do(job: dict[str, Any], folder: str, readable: Sequence[str]) -> dict[str, Any]:
    problem = job["problem"]
    outcome: dict[str, Any] = {"program": None, "extraction": "none", "errors": []}
    names = ["base", "plus"] if job["tests"] == "plus" else ["base"]
    outcome |= dict.fromkeys(names, 0)
    extracted = _extract(job, folder)
    if extracted is None:
        return outcome | {"errors": ["unparsable"]}
    outcome |= extracted
    if outcome["program"] is None:
        return outcome
    errors: dict[str, None] = {}
    for tests in names:  # the further tests count only where the base tests pass
        try:
            expected = _expected_of(problem, tests)
        except Exception as error:  # whatever a solution of somebody's may raise
            reason = (
                f"the canonical solution of {problem['task_id']} fails on its own {tests} tests"
            )
            return {"broken": f"{reason}: {type(error).__name__}: {error}. Is the file whole?"}
        passed, met = _test(problem, outcome["program"], expected, folder, readable)
        errors |= dict.fromkeys(met)
        if not passed:
            break
        outcome[tests] = 1
    return outcome | {"errors": list(errors)}


# Finding the program


def find_program(problem: dict[str, Any], text: str, policy: str) -> tuple[str | None, str]:
    """(program or None, how it was found), by a rule of `CodeGrader`."""
    prompt, entry = problem["prompt"], problem["entry_point"]
    if policy == "reference":
        from evalplus.sanitize import sanitize

        whole = re.search(rf"\bdef\s+{re.escape(entry)}\b", text)
        program = sanitize(text if whole else f"{prompt.strip()}\n{text}", entry)
        return (program, "sanitized") if program.strip() else (None, "none")
    for block in reversed(_fenced(text)):
        if _defines(block, entry):
            return block, "fenced"
    if _defines(text, entry):
        return text, "whole"
    lines = text.split("\n")
    for length in range(len(lines), 0, -1):
        program = prompt + "\n".join(lines[:length]) + "\n"
        if lines[length - 1].strip() and _defines(program, entry):
            return program, "continuation"
    return None, "none"


def _fenced(text: str) -> list[str]:
    """The fenced blocks; the last one may lack its end, where the response was cut off."""
    pieces = re.split(r"^[ \t]*```[^\n`]*$\n?", text, flags=re.MULTILINE)
    return pieces[1::2]


def _defines(program: str, entry: str) -> bool:
    """True if a program is valid and gives `entry` a body beyond its docstring, or assigns it."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in reversed(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry:
            return len(node.body) > 1 or not (
                isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            )
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == entry for target in node.targets
        ):
            return True
    return False


def _extract(job: dict[str, Any], folder: str) -> dict[str, Any] | None:
    """The program of a response, found in a process of its own: EvalPlus's rule is quadratic in
    the lines, and parsers have crashed on odd texts. None when it does not finish.
    """
    size = 12 * (len(job["text"]) + len(job["problem"]["prompt"])) + 4096  # JSON: \\ud83d\\ude00
    shared = mmap.mmap(-1, size)

    def work() -> None:
        program, extraction = find_program(job["problem"], job["text"], job["policy"])
        answer = json.dumps({"program": program, "extraction": extraction}).encode()
        shared[8 : 8 + len(answer)] = answer
        shared[:8] = struct.pack("=q", len(answer))

    status = _in_child(_confined(work, EXTRACTION_SECONDS), folder, EXTRACTION_SECONDS, 0)
    (length,) = struct.unpack("=q", shared[:8])
    if status != 0 or not length:
        return None
    return json.loads(shared[8 : 8 + length])


# Testing the program


class _Shared:
    """Memory that a test shares with the worker: EvalPlus's verdict, the inputs reached, and the
    error that the program ran into.
    """

    def __init__(self, inputs: int):
        self._memory = mmap.mmap(-1, 64 + inputs)
        self.details = memoryview(self._memory)[64:].cast("b")
        self.verdict = _Number(self._memory, 0)
        self.reached = _Number(self._memory, 8)
        self.verdict.value = 3  # EvalPlus's "unknown"

    def report(self, kind: str) -> None:
        self._memory[16 + KINDS.index(kind)] = 1

    @property
    def met(self) -> list[str]:
        return [kind for i, kind in enumerate(KINDS) if self._memory[16 + i]]

    @property
    def passed(self) -> bool:
        inputs = len(self.details)
        return self.verdict.value == 0 and self.reached.value == inputs and all(self.details)


class _Number:
    """An integer in shared memory, with the attribute that EvalPlus writes."""

    def __init__(self, memory: mmap.mmap, at: int):
        self._memory, self._at = memory, at

    @property
    def value(self) -> int:
        return struct.unpack_from("=q", self._memory, self._at)[0]

    @value.setter
    def value(self, number: int) -> None:
        struct.pack_into("=q", self._memory, self._at, number)


_expected: dict[str, Any] = {}
"""The expected outputs of the problem that was tested last."""


def _expected_of(problem: dict[str, Any], tests: str) -> tuple[list[Any], list[Any], list[float]]:
    """(inputs, expected outputs, seconds the canonical solution took for each)."""
    key = json.dumps(problem, sort_keys=True)
    if _expected.get("key") != key:
        _expected.clear()
        _expected["key"] = key
    if tests not in _expected:
        from evalplus.data.mbpp import mbpp_deserialize_inputs
        from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
        from evalplus.gen.util import trusted_exec

        mbpp = problem["dataset"] == "mbpp"
        inputs = problem[f"{tests}_input"]
        if mbpp:
            inputs = mbpp_deserialize_inputs(problem["task_id"], inputs)
        outputs, seconds = trusted_exec(
            problem["prompt"] + problem["canonical_solution"],
            inputs,
            problem["entry_point"],
            record_time=True,
            output_not_none=mbpp and problem["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS,
        )
        _expected[tests] = inputs, outputs, seconds
    return _expected[tests]


def _test(
    problem: dict[str, Any],
    program: str,
    tests: tuple[list[Any], list[Any], list[float]],
    folder: str,
    readable: Sequence[str],
) -> tuple[bool, list[str]]:
    """(whether a program passes, what it ran into or tried)."""
    import evalplus.eval as evalplus

    inputs, expected, seconds = tests
    if not inputs:
        return True, []
    limits = [max(1.0, 4.0 * second) for second in seconds]  # EvalPlus's defaults
    longest = min(TASK_SECONDS, sum(limits)) + 2.0
    shared = _Shared(len(inputs))

    def work() -> None:
        imported: Any = evalplus
        imported.reliability_guard = lambda maximum_memory_bytes=None: None  # ours instead
        imported.query_maximum_memory_bytes = lambda: None
        imported.swallow_io = _watched(imported.swallow_io, shared.report)
        containment.watch(folder, readable, shared.report)
        evalplus.unsafe_execute(
            problem["dataset"], problem["entry_point"], program, inputs, expected, limits,
            problem["atol"], True, shared.verdict, shared.details, shared.reached,
        )  # fmt: skip

    status = _in_child(_confined(work, longest), folder, longest, 0)
    if status is None or (status < 0 and -status in (signal.SIGXCPU, signal.SIGKILL)):
        shared.report("timeout")
    elif status != 0:
        shared.report("crashed")
    elif shared.verdict.value == 3:  # the process ended before EvalPlus was done
        shared.report("exit")
    return shared.passed, shared.met


def _watched(swallow: Callable[[], Any], report: Callable[[str], None]) -> Callable[[], Any]:
    """EvalPlus's redirection around everything the program does, with a look at what it raises."""
    from evalplus.eval.utils import TimeoutException

    full = (errno.EFBIG, errno.ENOSPC, errno.EMFILE, errno.EDQUOT, errno.EACCES, errno.EROFS)

    @contextlib.contextmanager
    def watched() -> Iterator[None]:
        with swallow():
            try:
                yield
            except MemoryError:
                report("memory")
                raise
            except TimeoutException:
                report("timeout")
                raise
            except SystemExit:
                report("exit")
                raise
            except OSError as error:
                if error.errno in full:
                    report("files")
                elif error.errno == errno.ENOMEM:
                    report("memory")
                raise

    return watched


# Processes


def _confined(work: Callable[[], None], seconds: float) -> Callable[[], None]:
    """`work` behind limits and seccomp, in the child that calls it."""

    def confined() -> None:
        containment.set_limits(_memory(), math.ceil(seconds) + 1)
        containment.deny_system_calls()
        work()

    return confined


def _memory() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MEMORY_BYTES, total // 2)


def _in_child(work: Callable[[], None], folder: str, seconds: float, failed: int) -> int | None:
    """Run `work` in a child without open files, in the emptied folder, and wait for it.

    Returns:
        Its exit status, minus the signal that ended it, or None when its time was over and it was
        killed. `work` that raises ends with the status 70, or `failed` where that is not 0.
    """
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    child = os.fork()
    if child == 0:
        status = failed or 70
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for handle in (0, 1, 2):
                os.dup2(null, handle)
            os.closerange(3, 1 << 16)
            work()
            status = 0
        finally:
            os._exit(status)
    handle = os.pidfd_open(child)
    try:
        ended = bool(select.select([handle], [], [], seconds)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main(sys.argv[1])
