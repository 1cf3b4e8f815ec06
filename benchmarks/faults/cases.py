"""Seeded faults on commands, and the check that the same command then gives what an uninterrupted
one gives, bit for bit.
"""

from __future__ import annotations

import importlib
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from probtune.demo import grid, pretraining

from .runs import Fault, contents, run

__all__ = ["COMMANDS", "KINDS", "Bench", "Verdict"]

_COMMON = ["--max-steps", "5", "--batch-size", "4", "--gradient-accumulation", "1"]
_COMMON += ["--max-new-tokens", "3", "--learning-rate", "1e-2", "--checkpoint-minutes", "0"]
COMMANDS = {
    "tune": ["tune", "--objective", "nll"],
    "compare": ["tune", "--objective", "nll", "--compare", "p"],
    "auto": ["tune", "--objective", "auto", "--scout-steps", "2"],
    "select": ["tune", "--objective", "select:nll,p"],
    "train": ["train", "--objective", "p"],
    "demo": ["demo", "--fast", "--seeds", "0"],
    "eval": [
        "eval", "--tasks", "figlet_words", "--limit", "6", "--prompt-format", "plain", "-k", "2",
        "--system", "", "--instruction", "", "--max-new-tokens", "3", "--batch-size", "3",
        "--temperature", "1",
    ],
}  # fmt: skip
KINDS = ("SIGKILL", "SIGTERM", "SIGTERM then SIGKILL", "two SIGINT", "full disk", "damage", "base")
_WEIGHTS = (30, 10, 20, 12, 12, 10, 6)


@dataclass(frozen=True)
class Verdict:
    """One fault and what came of it; `wrong` is None where all was as promised."""

    command: str
    kind: str
    fault: str
    wrong: str | None


class Bench:
    """A folder with a model, rows and the uninterrupted runs to compare with."""

    def __init__(self, folder: Path, model: Path, rows: Path):
        self.folder, self.model, self.rows = folder, model, rows
        self._whole: dict[str, tuple[dict[str, Any], int]] = {}

    def arguments(self, command: str, out: Path, model: Path | None = None) -> list[str]:
        """Return the command line."""
        name, *options = COMMANDS[command]
        if name == "demo":
            return [name, *options, "--out", str(out)]
        base = str(model or self.model)
        if name == "eval":
            return [name, base, *options, "--data", str(self.rows.parent), "--out", str(out)]
        return [name, base, str(self.rows), *options, *_COMMON, "--out", str(out)]

    def warm_up(self) -> None:
        """Run each command whole, and import in this process what it imported, so that the next
        forked process need not.
        """
        for command in COMMANDS:
            self.whole(command)
            modules = (self.folder / f"whole-{command}.modules").read_text().split()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for name in modules:
                    if name not in sys.modules and not name.startswith("__"):
                        with suppress(ImportError, AttributeError, RuntimeError):
                            importlib.import_module(name)

    def whole(self, command: str) -> tuple[dict[str, Any], int]:
        """Return what an uninterrupted run leaves, and its number of file operations."""
        if command not in self._whole:
            out = self.folder / f"whole-{command}"
            outcome = self._run(command, out)
            assert outcome.status == 0, outcome.words[-2000:]
            self._whole[command] = contents(out), outcome.operations
        return self._whole[command]

    def strike(self, seed: int) -> Verdict:
        """Make the fault of a seed, give the same command again, and compare."""
        rng = random.Random(seed)
        command = rng.choice(list(COMMANDS))
        (kind,) = rng.choices(KINDS, _WEIGHTS)
        if command == "demo" and kind == "base":
            kind = "SIGKILL"  # its base is its own
        out = self.folder / f"seed-{seed}"
        expected, operations = self.whole(command)
        fault = _fault(kind, rng, operations)
        if kind == "base":
            wrong = self._replaced(command, out, rng, operations)
        else:
            first = self._run(command, out, fault)
            note = _damage(out, rng) if kind == "damage" else ""
            second = self._run(command, out)
            wrong = _judge(first, second, kind, note)
            if wrong is None:
                now = contents(out)
                other = [n for n in {*expected, *now} if expected.get(n, 0) != now.get(n, 0)]
                wrong = f"other than uninterrupted: {sorted(other)[:4]} {note}" if other else None
        if wrong is None:
            shutil.rmtree(out, ignore_errors=True)
        return Verdict(command, kind, str(fault), wrong)

    def _replaced(self, command: str, out: Path, rng: random.Random, operations: int) -> str | None:
        """Replace the base model in the middle of a run; it must be refused by name."""
        import torch
        from safetensors.torch import load_file, save_file

        model = self.folder / f"{out.name}-base"
        shutil.copytree(self.model, model)
        fault = Fault((signal.SIGKILL,), rng.randrange(operations // 4, operations // 2))
        self._run(command, out, fault, model)
        if not any((out / name).is_file() for name in ("run.json", "eval.json")):
            return None  # nothing has begun
        if (out / "record.json").is_file() or (out / "run" / "record.json").is_file():
            return None  # all was done
        path = model / "model.safetensors"
        tensors = load_file(path)
        first = min(tensors)
        tensors[first] = tensors[first] + 0.01 * torch.randn_like(tensors[first])
        save_file(tensors, path, metadata={"format": "pt"})
        second = self._run(command, out, None, model)
        named = any(name in second.words for name in ("model.safetensors", "other weights"))
        if second.status != 2 or not named:
            return f"a replaced base was taken: {second.status} {second.words[-200:]}"
        shutil.rmtree(model)
        return None

    def _run(
        self, command: str, out: Path, fault: Fault | None = None, model: Path | None = None
    ) -> Any:
        with _small_demo():
            return run(self.arguments(command, out, model), out, fault)


def _fault(kind: str, rng: random.Random, operations: int) -> Fault:
    at, gap = rng.randrange(1, operations), rng.randrange(1, 9)
    signals: dict[str, Sequence[int]] = {
        "SIGKILL": (signal.SIGKILL,),
        "SIGTERM": (signal.SIGTERM,),
        "SIGTERM then SIGKILL": (signal.SIGTERM, signal.SIGKILL),
        "two SIGINT": (signal.SIGINT, signal.SIGINT),
        "damage": (signal.SIGKILL,),
        "base": (),
    }
    if kind == "full disk":
        return Fault(most_bytes=rng.randrange(3000, 60000))
    return Fault(tuple(signals[kind]), at, gap)


def _judge(first: Any, second: Any, kind: str, note: str) -> str | None:
    """Return what is wrong with the words and the exit statuses, or None."""
    allowed = {
        "SIGKILL": {-9, 0}, "damage": {-9, 0}, "SIGTERM": {143, 0}, "two SIGINT": {130, 0},
        "SIGTERM then SIGKILL": {143, -9, 0}, "full disk": {1, 0},
    }[kind]  # fmt: skip
    for outcome in (first, second):
        if outcome.hung:
            return "it hung"
        if "(unexpected;" in outcome.words or "Traceback" in outcome.words:
            return f"unexpected: {outcome.words[-300:]}"
    if first.status not in allowed:
        return f"exit status {first.status}: {first.words[-300:]}"
    if first.status in (130, 143) and "go on with: probtune" not in first.words:
        return f"the command that goes on is not printed: {first.words[-300:]}"
    if second.status != 0:
        return f"the same command does not go on {note}: {second.status} {second.words[-300:]}"
    return None


def _damage(out: Path, rng: random.Random) -> str:
    """Damage one file of a checkpoint, or of what was being written."""
    files = sorted(p for p in out.glob("*/checkpoints/**/*") if p.is_file())
    if not files:
        return ""
    path = rng.choice(files)
    content = bytearray(path.read_bytes())
    how = rng.choice(["empty", "half", "one bit", "deleted", "zeros"])
    if how == "deleted":
        path.unlink()
        return f"{path.name} deleted"
    if how == "one bit" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "zeros":
        content[len(content) * 6 // 10 :] = bytes(len(content) - len(content) * 6 // 10)
    else:
        content = content[: len(content) // 2] if how == "half" else bytearray()
    path.write_bytes(content)
    return f"{path.name} {how}"


class _AtOnce:
    """An executor that runs a task when it is submitted, in this process."""

    _processes: dict[int, Any] | None = None

    def __init__(self, *arguments: Any, **options: Any):
        pass

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done

    def shutdown(self, **options: Any) -> None:
        pass


@contextmanager
def _small_demo() -> Iterator[None]:
    """Make the demo one cell of a few steps, in one process."""
    cell = grid.Cell("weak", "slip", 0.4, ("nll()", "p()"))
    recipe = {**grid.RECIPE, "training_rows": 16, "epochs": 1.0, "batch_size": 8}
    with (
        mock.patch.multiple(pretraining, _LEARNED=-1.0, _AT_LEAST=1, LEVELS={"weak": 0.0}),
        mock.patch.multiple(grid, HELD_OUT_ROWS=8, ProcessPoolExecutor=_AtOnce),
        mock.patch.object(grid, "FAST", grid.Plan((0,), (cell,), recipe)),
    ):
        yield
