"""Programs are graded by EvalPlus, and what they try is named, contained and nothing is lost.

Each program below is harmless here because the layers are in place before it runs; the limits
(address space, processor time, file size) hold even where the others do not.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from probtune.errors import DataError, EvaluationError, UsageError
from probtune.evaluation.grading import containment
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.grading.code import CodeGrader, problem, rows

pytest.importorskip("evalplus")
pytestmark = pytest.mark.filterwarnings("ignore:programs are contained less here")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="contained on Linux only")

ROW = {
    "task_id": "HumanEval/9000",
    "prompt": 'def total(xs):\n    """The sum of a list.\n    >>> total([1, 2])\n    3\n    """\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
    "contract": "",
    "base_input": [[[1, 2]], [[]]],
    "plus_input": [[[-1, 5, 7]], [[10**9, 1]]],
    "atol": 0,
}
"""A problem in the schema of HumanEvalPlus.jsonl."""

MBPP = {
    "task_id": "Mbpp/9000",
    "prompt": '"""\nWrite a function to halve a number.\nassert halve(3) == 1.5\n"""\n',
    "entry_point": "halve",
    "canonical_solution": "\ndef halve(x):\n    return x / 2\n",
    "contract": "",
    "base_input": [[3]],
    "plus_input": [[1e-3]],
    "atol": 1e-6,
}

RIGHT = "def total(xs):\n    return sum(xs)\n"


def fenced(program):
    return f"Here it is:\n```python\n{program}\n```\nIt adds the numbers."


@pytest.fixture(scope="module")
def worker():
    from probtune.evaluation.grading.code_worker import Worker

    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def graded(worker, monkeypatch):
    """Grades of many programs, by one worker for the whole module: it takes a second to start."""

    def grade(*programs, row=ROW, **changes):
        with monkeypatch.context() as patch:
            patch.setattr("probtune.evaluation.grading.code_worker.Worker", lambda: worker)
            patch.setattr(worker, "close", lambda: None)
            grader = CodeGrader(allow_code=True, workers=1, **changes)
            return grader([GradingItem(text, problem(row)) for text in programs])

    return grade


def test_nothing_runs_without_permission():
    item = GradingItem(RIGHT, problem(ROW))
    with pytest.raises(UsageError, match="--allow-code"):
        CodeGrader()([item])
    assert CodeGrader()([]) == []


def test_a_gold_names_what_it_lacks():
    with pytest.raises(DataError, match="line 3 has no column 'plus_input'"):
        problem({k: v for k, v in ROW.items() if k != "plus_input"}, "line 3")
    with pytest.raises(DataError, match="HumanEval/ or Mbpp/"):
        problem({**ROW, "task_id": "Other/1"})


def test_evalplus_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.0")
    with pytest.raises(UsageError, match="evalplus 0.3.1, found 0.2.0"):
        CodeGrader(allow_code=True)([GradingItem(RIGHT, problem(ROW))])


@pytest.mark.parametrize("dataset", ["humaneval", "mbpp"])
def test_rows_come_from_the_named_file(dataset, tmp_path, monkeypatch):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW) + "\n")
    monkeypatch.setenv(f"{dataset.upper()}_OVERRIDE_PATH", str(file))
    assert rows(dataset) == [ROW]
    monkeypatch.setenv(f"{dataset.upper()}_OVERRIDE_PATH", str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="OVERRIDE_PATH"):
        rows(dataset)


@linux
def test_the_tests_decide(graded):
    only_base = "def total(xs):\n    return sum(x for x in xs if 0 < x < 100)"
    grades = graded(fenced(RIGHT), fenced(only_base), fenced("def total(xs):\n    return 3"))
    assert [g.score for g in grades] == [1, 0, 0]
    assert [g.metrics["base"] for g in grades] == [1, 1, 0]
    assert [g.error for g in grades] == [None] * 3
    assert [g.score for g in graded(fenced(only_base), tests="base")] == [1]


@linux
def test_mbpp_and_floats(graded):
    good, bad = "def halve(x):\n    return x * 0.5", "def halve(x):\n    return x // 2"
    assert [g.score for g in graded(fenced(good), fenced(bad), good, row=MBPP)] == [1, 0, 1]


PARTS = {
    "in a fence": (fenced(RIGHT), "fenced"),
    "the last fence that defines it": (
        fenced("def total(xs):\n    return 0") + "\nNo:\n" + fenced(RIGHT) + fenced("total([1])"),
        "fenced",
    ),
    "a fence that was cut off": (f"```python\n{RIGHT}", "fenced"),
    "bare": (RIGHT, "whole"),
    "the body alone": ("    return sum(xs)\n", "continuation"),
    "the body, then talk": ("    return sum(xs)\n\nThis adds all of them.\n", "continuation"),
}


@linux
def test_where_a_program_is_found(graded):
    grades = graded(*(text for text, _ in PARTS.values()))
    assert {n: (g.score, g.extraction) for n, g in zip(PARTS, grades, strict=True)} == {
        name: (1, extraction) for name, (_, extraction) in PARTS.items()
    }


@linux
def test_no_program_is_no_answer(graded):
    texts = ("", "I cannot.", "```python\nprint(3)\n```", "def total(xs:", "\ud800 def total(")
    for grade in graded(*texts):
        assert (grade.score, grade.answer, grade.extraction) == (0, None, "none")


@linux
def test_the_reference_rule_is_evalplus_own(graded):
    from evalplus.sanitize import sanitize

    talk = "Sure!\ndef total(xs):\n    return helper(xs)\ndef helper(xs):\n    return sum(xs)\nBye"
    body = "    return sum(xs)\n\nprint(total([1]))"
    first, second = graded(talk, body, policy="reference")
    assert first.answer == sanitize(talk, "total") and first.score == 1
    assert second.answer == sanitize(ROW["prompt"].strip() + "\n" + body, "total")
    assert second.score == 1 and second.extraction == "sanitized"
    assert graded(talk)[0].answer is None  # strict repairs nothing


@linux
def test_a_canonical_solution_that_fails_is_no_fault_of_the_model(graded):
    row = {**ROW, "canonical_solution": "    return xs[0] / 0\n"}
    with pytest.raises(EvaluationError, match="HumanEval/9000 fails on its own base tests"):
        graded(RIGHT, row=row)


def body(text):
    lines = "\n".join("    " + line for line in text.splitlines())
    return fenced(f"def total(xs):\n{lines}\n    return sum(xs)")


ESCAPES = {
    "connects": (
        "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
        "network",
    ),
    "resolves a name": ("import socket\nsocket.getaddrinfo('localhost', 80)", "network"),
    "fetches": (
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')",
        "network",
    ),
    "writes outside": ("open('/etc/probtune-was-here', 'w').write('x')", "files"),
    "appends outside": ("open({canary!r}, 'a').write('x')", "files"),
    "writes through os": ("import os\nos.open({canary!r}, os.O_WRONLY | os.O_TRUNC)", "files"),
    "removes": ("import os\nos.remove({canary!r})", "files"),
    "renames": ("import os\nos.rename({canary!r}, 'mine')", "files"),
    "reads a secret": ("open({canary!r}).read()", "files"),
    "reads the environment of the grader": ("open('/proc/{pid}/environ').read()", "files"),
    "fills the folder": (
        "data = b'x' * 2**20\n"
        "for i in range(100):\n    with open(f'f{{i}}', 'wb') as f:\n        f.write(data)",
        "files",
    ),
    "writes a large file": ("open('large', 'wb').write(b'x' * 2**25)", "files"),
    "forks for ever": ("import os\nwhile True:\n    os.fork()", "processes"),
    "starts a shell": ("import os\nos.system('true')", "processes"),
    "starts a program": ("import subprocess\nsubprocess.run(['true'])", "processes"),
    "kills the worker": ("import os\nos.kill(os.getppid(), 9)", "processes"),
    "kills the grader": ("import os\nos.kill({pid}, 9)", "processes"),
    "kills everything": ("import os\nos.kill(-1, 9)", "processes"),
    "takes ten gigabytes": ("x = bytearray(10 * 2**30)", "memory"),
    "takes memory bit by bit": (
        "import mmap\nx = []\nwhile True:\n    x.append(mmap.mmap(-1, 2**28))",
        "memory",
    ),
    "never ends": ("while True:\n    pass", "timeout"),
    "leaves": ("import sys\nsys.exit(0)", "exit"),
    "leaves at once": ("import os\nos._exit(0)", "exit"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "crashed"),
}


@linux
def test_escapes_are_named_and_contained(graded, worker, tmp_path, monkeypatch):
    if not worker.protections["folder size"]:  # the folder is as large as the disk here
        monkeypatch.delitem(ESCAPES, "fills the folder")
    canary = tmp_path / "canary"
    canary.write_text("secret")
    programs = [
        body(text.format(canary=str(canary), pid=os.getpid())) for text, _ in ESCAPES.values()
    ]
    grades = graded(*programs, fenced(RIGHT))
    named = {name: g.error for name, g in zip(ESCAPES, grades, strict=False)}
    assert named == {name: error for name, (_, error) in ESCAPES.items()}
    assert [g.score for g in grades] == [0] * len(ESCAPES) + [1]
    assert canary.read_text() == "secret" and os.listdir(tmp_path) == ["canary"]
    assert not Path("/etc/probtune-was-here").exists()


HOLDS = {
    "a loop that catches its time limit": (
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except BaseException:\n        pass"
    ),
    "fork by the C library": "import ctypes\nassert ctypes.CDLL(None).fork() >= 0",
    "a socket by the C library": "import ctypes\nassert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    "a signal by the C library": "import ctypes\nassert ctypes.CDLL(None).kill({pid}, 9) == 0",
    "writing by the C library": (
        "import ctypes\nassert ctypes.CDLL(None).open({canary!r}.encode(), 1) >= 0"
    ),
    "reading by the C library": (
        "import ctypes\nassert ctypes.CDLL(None).open({canary!r}.encode(), 0) >= 0"
    ),
    "modes by the C library": (
        "import ctypes\nassert ctypes.CDLL(None).chmod({canary!r}.encode(), 0) == 0"
    ),
    "a session of its own": "import ctypes\nassert ctypes.CDLL(None).setsid() >= 0",
    "running a program": "import posix\nposix.execv('/bin/true', ['true'])",
    "raising its limits": (
        "import resource\nhard = resource.RLIM_INFINITY\n"
        "resource.setrlimit(resource.RLIMIT_AS, (hard, hard))"
    ),
    "what was in the environment": "import os\nassert 'PROBTUNE_SECRET' in os.environ",
    "printing a verdict": "print('pass', True, 1.0)\nreturn None",
}


@linux
def test_what_gets_past_python_stops_at_the_kernel(graded, tmp_path, monkeypatch):
    monkeypatch.setenv("PROBTUNE_SECRET", "1")
    canary = tmp_path / "canary"
    canary.write_text("secret")
    mode = canary.stat().st_mode
    row = {**ROW, "base_input": ROW["base_input"][:1]}  # one time limit to sit out
    grades = graded(
        *(body(text.format(canary=str(canary), pid=os.getpid())) for text in HOLDS.values()),
        row=row,
    )
    assert {n: g.score for n, g in zip(HOLDS, grades, strict=True)} == dict.fromkeys(HOLDS, 0)
    assert grades[0].error == "timeout"
    assert canary.read_text() == "secret" and canary.stat().st_mode == mode


@linux
def test_what_a_program_may_do(graded):
    fair = {
        "files of its own": (
            "import tempfile, os\nwith tempfile.NamedTemporaryFile('w') as f:\n    f.write('x')\n"
            "open('mine', 'w').write('x')\nassert open('mine').read() == 'x'\nos.remove('mine')"
        ),
        "the library": "import numpy, math, json, decimal, zoneinfo, unittest, email.mime.text",
        "threads": "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "an event loop": "import asyncio\nasyncio.run(asyncio.sleep(0))",
        "deep recursion": (
            "import sys\nsys.setrecursionlimit(50000)\n"
            "def down(n):\n    return n and down(n - 1)\ndown(20000)"
        ),
    }
    grades = graded(*(body(text) for text in fair.values()))
    assert {n: (g.score, g.error) for n, g in zip(fair, grades, strict=True)} == dict.fromkeys(
        fair, (1, None)
    )


@linux
def test_what_a_system_lacks_is_said(worker, graded, monkeypatch):
    monkeypatch.setattr(worker, "protections", {**worker.protections, "network": False})
    with pytest.warns(UserWarning, match="contained less here: it permits no network"):
        graded(RIGHT)


@linux
def test_a_worker_that_dies_loses_one_program(monkeypatch):
    from probtune.evaluation.grading.code_worker import Worker

    worker = Worker()
    try:
        assert worker.protections["processes"]
        job = {"problem": json.loads(problem(ROW)), "text": RIGHT, "policy": "strict",
               "tests": "base"}  # fmt: skip
        os.killpg(worker._process.pid, 9)
        assert worker.ask(job)["errors"] == ["crashed"]
        assert worker.ask(job)["base"] == 1
        folder = Path(worker._folder)
    finally:
        worker.close()
    assert not folder.exists()


@pytest.mark.slow
@linux
def test_an_interruption_does_not_wait_for_the_rest():
    """The caller raises while two programs run and many wait."""
    programs = [body("while True:\n    pass")] * 40

    def stop(number):
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        grader = CodeGrader(allow_code=True, workers=2, tests="base")
        grader([GradingItem(t, problem(ROW)) for t in programs], progress=stop)
    assert time.monotonic() - begin < 20  # all of them would take a minute


@pytest.mark.slow
@linux
def test_workers_side_by_side_keep_the_order():
    programs = [fenced(RIGHT), "", fenced("def total(xs):\n    return 3")] * 3
    seen = []
    grader = CodeGrader(allow_code=True, workers=2)
    grades = grader([GradingItem(t, problem(ROW)) for t in programs], progress=seen.append)
    assert [g.score for g in grades] == [1, 0, 0] * 3
    assert seen == list(range(1, 10))


@pytest.mark.parametrize(
    ("header", "column"),
    [("x86_64-linux-gnu/asm/unistd_64.h", 0), ("asm-generic/unistd.h", 1)],
)
def test_numbers_of_system_calls_are_those_of_the_headers(header, column):
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b"
    numbers = {name: int(number) for name, number in re.findall(pattern, path.read_text())}
    ours = {name: pair[column] for name, pair in containment.DENIED.items() if name in numbers}
    assert len(ours) > 80
    assert ours == {name: numbers[name] for name in ours}
