"""Commands in forked processes that hold the imports, struck by a fault at a seeded point, and what
their folders hold afterwards.

A child counts the file operations that Python reports (`sys.addaudithook`) and strikes itself at
one of them: with SIGKILL it dies there, as at a loss of power; with SIGTERM or SIGINT it goes on to
its orderly end, and may be struck again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probtune.reports.tokens import unpack

__all__ = ["Fault", "Outcome", "contents", "run", "save_model", "write_rows"]

_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate")
_VARYING = ("seconds", "written", "since", "tokens_per_second")
LIMIT = 120.0
"""Seconds after which a command hangs."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a process at a file operation below its folder."""

    signals: tuple[int, ...] = ()
    """Signals that it gets, the first at operation `at`, each other one `gap` operations later."""
    at: int = 0
    gap: int = 3
    most_bytes: int | None = None
    """The size that no file may exceed, as on a disk that is full."""

    def __str__(self) -> str:
        if self.most_bytes is not None:
            return f"no file above {self.most_bytes} bytes"
        names = ", ".join(signal.Signals(number).name for number in self.signals)
        return f"{names} at operation {self.at}"


@dataclass
class Outcome:
    """The end of a command: its exit status (negative for a signal), words and file operations."""

    status: int
    words: str
    operations: int
    seconds: float = 0.0
    hung: bool = field(default=False)


def run(arguments: Sequence[str], folder: Path, fault: Fault | None = None) -> Outcome:
    """Run a command of probtune in a forked process, with a fault."""
    log = folder.with_name(f"{folder.name}.log")
    count = folder.with_name(f"{folder.name}.count")
    started = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(arguments, folder, log, count, fault or Fault())
    status, hung = _wait(child, started)
    words = log.read_text(errors="replace")
    operations = int(count.read_text() or 0) if count.is_file() else 0
    return Outcome(status, words, operations, time.monotonic() - started, hung)


def _wait(child: int, started: float) -> tuple[int, bool]:
    while time.monotonic() - started < LIMIT:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code), False
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL, True


def _child(arguments: Sequence[str], folder: Path, log: Path, count: Path, fault: Fault) -> None:
    """Run the command and end the process; never returns."""
    status = 70
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        if fault.most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.most_bytes, fault.most_bytes))
        counter = _Counter(str(folder), fault)
        sys.addaudithook(counter)
        from probtune.cli import main

        status = main(list(arguments))
        if fault.most_bytes is None:
            count.write_text(str(counter.operations))
            folder.with_name(f"{folder.name}.modules").write_text("\n".join(sys.modules))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Counter:
    """Audit hook that counts operations on files below a folder, and strikes."""

    def __init__(self, folder: str, fault: Fault):
        self.folder, self.fault = folder, fault
        self.operations = 0
        self._left = list(fault.signals)
        self._next = fault.at

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not arguments or not isinstance(arguments[0], str | Path):
            return
        if not f"{arguments[0]}/".startswith(f"{self.folder}/"):
            return
        self.operations += 1
        if self._left and self.operations >= self._next:
            number = self._left.pop(0)
            self._next = self.operations + self.fault.gap
            os.kill(os.getpid(), number)


def contents(folder: Path) -> dict[str, Any]:
    """Return what a run left, without times: the bytes of models, the content of records, and the
    names of whatever should not be there.
    """
    left: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            left[name] = path.read_bytes()
        elif path.suffix == ".json" and path.parent.name != "model":
            left[name] = _without_times(json.loads(path.read_text()), folder)
        elif path.suffix == ".jsonl":
            lines = path.read_text().splitlines()
            left[name] = [_without_times(json.loads(line), folder) for line in lines]
        elif path.name != "report.html":
            left[name] = None
    return left


def _without_times(value: Any, folder: Path) -> Any:
    if isinstance(value, dict) and "tokens_of_rows" in value and value["tokens_of_rows"]:
        packed = value["tokens_of_rows"]
        value = {**value, "tokens_of_rows": {**packed, "data": unpack(packed)}}
    if isinstance(value, dict):
        return {k: _without_times(v, folder) for k, v in value.items() if k not in _VARYING}
    if isinstance(value, list):
        return [_without_times(item, folder) for item in value]
    if isinstance(value, str):
        return value.replace(str(folder), "OUT")
    return value


def save_model(folder: Path) -> None:
    """Save a decoder of a few thousand parameters, with dropout, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = [*"0123456789", "+", "=", "ask", "####", "<eos>", "<pad>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>"
    )
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=None, eos_token_id=words.index("<eos>"), pad_token_id=words.index("<pad>"),
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(path: Path, number: int = 60) -> Path:
    """Write rows of sums of two digits."""
    pairs = [(a, b) for a in range(8) for b in range(8)][:number]
    rows = [
        {"prompt": f"ask {a} + {b} =", "completion": f" {' '.join(str(a + b))}"} for a, b in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = path.parent / "figlet_words" / "test.jsonl"
    questions.parent.mkdir()
    content = [{"question": row["prompt"], "answer": row["completion"].strip()} for row in rows]
    questions.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path
