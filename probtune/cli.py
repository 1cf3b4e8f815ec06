"""The command line: a command parses, calls one function, prints a table and names its record.

Exit status: 0 done, 1 the work failed, 2 the request is wrong, 130 or 143 interrupted by SIGINT or
SIGTERM; the command that goes on is then printed. Errors are one line on standard error; `--debug`
shows the traceback. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import __version__
from .commands import options as core_options
from .errors import Interrupted, ProbtuneError, UsageError
from .evaluation.commands import options as evaluation_options
from .files import check_new_file
from .options import Parser, request
from .paper.commands import options as paper_options
from .texts import redacted, visible

__all__ = ["main"]

_DESCRIPTION = """\
Fine-tune language models with the objective that fits what they already know.

Supervised fine-tuning minimises -log p of each target token. Where the base model
already knows the domain and the labels are noisy, objectives that trust its prior
(1 - p, p^alpha, thresholds) do better; where it knows little, -log p does. probtune
measures where your model stands, trains, and compares honestly.
"""

_EPILOG = """\
start here:
  probtune demo                             see it on this machine's CPU, in minutes
  probtune probe MODEL rows.jsonl           what does the model know of my data?
  probtune tune MODEL rows.jsonl            probe, choose, train, measure, report
  probtune tune MODEL rows.jsonl --compare 'nll,p,power(0.5)'
"""

_GROUPS = {
    "fine-tune": (
        *("data", "probe", "success", "replay", "tune", "sweep", "train", "merge", "objectives"),
        *("report", "demo"),
    ),
    "measure": ("forgetting", "calibration", "diversity", "drift"),
    "evaluate": ("eval", "compare", "judge"),
    "paper": ("prepare", "reproduce"),
    "theory": ("theory",),
}
"""The order of `probtune --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has printed the help or the error
        return int(stop.code or 0)
    if "run" not in options:
        options.asked.print_help()
        return 0
    with _terminable():
        return _run(options, arguments)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, where Ctrl-C would be KeyboardInterrupt."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run a command; returns the exit status."""
    try:
        _check_plot(getattr(options, "plot", None))
        _check_files(options)
        module, function = options.run.split(":")
        getattr(importlib.import_module(f".{module}", __package__), function)(request(options))
        return 0
    except Interrupted as error:
        return _interrupted(error, error.exit_status, arguments)
    except ProbtuneError as error:
        if options.debug:
            raise
        return _fail(error, error.exit_status)
    except KeyboardInterrupt as stop:
        status = 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
        said = "interrupted; finished stages are kept, the same command goes on from there."
        return _interrupted(said, status, arguments)
    except MemoryError:
        if options.debug:
            raise
        return _fail("out of memory; finished stages are kept. Ask for less at once.", 1)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if options.debug:
            raise
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}. Finished stages are kept.", 1)
    except Exception as error:
        if options.debug:
            raise
        if _of_another_process(error):
            return _fail(
                "another process has ended, so this one stops. Finished stages are kept.", 1
            )
        reason = " ".join(str(error).split()) or type(error).__name__
        return _fail(
            f"{type(error).__name__}: {reason} (unexpected; run with --debug for the traceback)", 1
        )


def _check_plot(path: str | None) -> None:
    """Refuse a picture's file name before the work behind the picture is done."""
    if path and os.path.splitext(path)[1] not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {path}: the file must end in .png, .svg or .pdf.")


_PATIENCE_S = 3.0
"""Seconds in which a launcher ends the other processes when the first has failed."""


def _check_files(options: argparse.Namespace) -> None:
    """Refuse a file that cannot be written before the work is done."""
    for name, made_folder in getattr(options, "new_files", {}).items():
        path = getattr(options, name, None)
        if path is not None:
            check_new_file(path, f"--{name}", made_folder=made_folder)


def _fail(reason: object, status: int) -> int:
    if _is_later_process():
        # The first process most likely says the same; if it does not, it waits for this one.
        try:
            time.sleep(_PATIENCE_S)
        except KeyboardInterrupt:
            return status
    print(f"probtune: {visible(redacted(' '.join(str(reason).split())))}", file=sys.stderr)
    return status


def _is_later_process() -> bool:
    """True in all processes of torchrun or accelerate but the first."""
    return int(os.environ.get("RANK", "0")) > 0


def _of_another_process(error: Exception) -> bool:
    """True if the error only says that a process that shares the work is gone, which knows why."""
    words = r"closed by peer|reset by peer|remote process exited|Broken pipe"
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and isinstance(error, RuntimeError) and bool(re.search(words, str(error)))


def _interrupted(reason: object, status: int, arguments: Sequence[str]) -> int:
    if _is_later_process():
        return status
    command = redacted(shlex.join(["probtune", *arguments]))
    print(f"go on with: {visible(command)}", file=sys.stderr)
    return _fail(reason, status)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "probtune",
        usage="probtune [-h] [--version] [--debug] COMMAND ...",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"probtune {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(asked=parser)
    commands = parser.add_subparsers(prog="probtune", metavar="COMMAND", help=argparse.SUPPRESS)
    parts = (core_options, evaluation_options, paper_options)
    for command in [parser for part in parts for parser in part.add_commands(commands)]:
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    parser.epilog = f"{_overview(commands)}\n\n{_EPILOG}"
    return parser


def _overview(commands: argparse._SubParsersAction) -> str:
    """Return the commands by group, each with its one line."""
    lines = {action.dest: action.help for action in commands._choices_actions}
    return "\n\n".join(
        "\n".join([f"{group}:", *(f"  {name:<13}{lines[name]}" for name in names)])
        for group, names in _GROUPS.items()
    )
