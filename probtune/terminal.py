"""The terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .texts import redacted, visible

__all__ = ["Terminal", "duration", "quiet_libraries"]

_SECONDS_BETWEEN_LINES = 10.0
"""Least time between two lines of progress where no bar can be drawn."""


class Terminal:
    """Progress, notes and tables. With `quiet`, only tables. Progress is a bar on a terminal, and
    lines in a file, a pipe or a log of a cluster.
    """

    def __init__(self, *, quiet: bool = False):
        from rich.console import Console

        self.quiet = quiet
        self._notes = Console(stderr=True, highlight=False)
        self._results = Console(highlight=False)
        if not self._results.is_terminal:
            # A pipe has no width of its own; 80 columns would break a table's numbers over lines.
            self._results = Console(highlight=False, width=200)

    @property
    def attached(self) -> bool:
        """True if progress goes to a terminal, which can draw a bar."""
        return self._notes.is_terminal

    @property
    def width(self) -> int:
        """Columns of a result; 200 in a file or a pipe."""
        return self._results.width

    def say(self, text: str) -> None:
        """Print a note on the way; in a file it is not broken into lines."""
        if not self.quiet:
            self._notes.print(_shown(text), markup=False, soft_wrap=not self.attached)

    def show(self, text: str, *, wrap: bool = True) -> None:
        """Print a line of the result; a path or a table's line is not wrapped."""
        self._results.print(_shown(text), markup=False, soft_wrap=not wrap)

    def lines(self, rows: Sequence[Sequence[str]]) -> None:
        """Print a row of words to a line, in columns; what does not fit ends with "…"."""
        from rich.cells import cell_len, set_cell_size

        shown = [[_shown(cell) for cell in row] for row in rows]
        widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
        for row in shown:
            cells = zip(row, widths, strict=True)
            line = "  ".join(set_cell_size(cell, width) for cell, width in cells).rstrip()
            if cell_len(line) > self.width:
                line = line[: self.width - 1].rsplit(" ", 1)[0] + "…"
            self._results.print(line, markup=False, soft_wrap=True)

    def marked(self, pieces: Sequence[tuple[str, bool]]) -> None:
        """Print a text whose marked pieces stand between ⟦ and ⟧, in colour on a terminal."""
        from rich.text import Text

        text = Text()
        for piece, is_marked in pieces:
            piece = visible(piece)
            text.append(f"⟦{piece}⟧" if is_marked else piece, "bold green" if is_marked else "dim")
        self._results.print(text, soft_wrap=True)

    def table(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str | tuple[str, ...]]],
        *,
        notes: Sequence[str] = (),
        words: bool = False,
    ) -> None:
        """Print a table of the result; numbers (all columns but the first) to the right, unless
        they are words. A cell of several lines is a tuple.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(_shown(title)), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold"
        )
        for index, name in enumerate(header):
            table.add_column(
                Text(_shown(name)),
                justify="left" if index == 0 or words else "right",
                no_wrap=index == 0,
            )
        for row in rows:
            lines = ((cell,) if isinstance(cell, str) else cell for cell in row)
            table.add_row(*(Text("\n".join(map(_shown, cell))) for cell in lines))
        self._results.print(table)
        for note in notes:
            self.show(note)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """Show progress; the function advances it and may replace its note."""
        if self.quiet:
            yield lambda steps=1, note="", total=None: None
            return
        if not self.attached:
            lines = _Lines(self, what, total)
            try:
                yield lines.advance
            finally:
                lines.print()
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if self._notes.width >= 120 else 6),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._notes) as progress:
            task = progress.add_task(_shown(what).replace("[", "\\["), total=total, note="")

            def advance(steps: int = 1, note: str = "", total: int | None = None) -> None:
                fields: dict[str, Any] = {"note": note} if note else {}
                if total is not None:
                    fields["total"] = total
                progress.update(task, advance=steps, **fields)

            yield advance


class _Lines:
    """Progress as lines, now and then."""

    def __init__(self, terminal: Terminal, what: str, total: int):
        self._terminal, self._what, self._total = terminal, what, total
        self._done, self._note = 0, ""
        self._started = self._printed = time.monotonic()

    def advance(self, steps: int = 1, note: str = "", total: int | None = None) -> None:
        """Take steps, and print a line if the last one is old."""
        self._done += steps
        self._note = note or self._note
        self._total = self._total if total is None else total
        if time.monotonic() - self._printed >= _SECONDS_BETWEEN_LINES:
            self.print()

    def print(self) -> None:
        """Print where the work stands."""
        self._printed = time.monotonic()
        took = self._printed - self._started
        parts = [self._what, f"{self._done:,} of {self._total:,}", duration(took)]
        if 0 < self._done < self._total:
            parts.append(f"{duration(took / self._done * (self._total - self._done))} left")
        self._terminal.say("  ".join([*parts, *([self._note] if self._note else [])]))


def duration(seconds: float) -> str:
    """Return a time as a clock shows it.

    >>> duration(8.2), duration(130), duration(7384)
    ('0:08', '2:10', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _shown(text: str) -> str:
    """Return a text as it may stand on a terminal."""
    return visible(redacted(text))


def quiet_libraries() -> None:
    """Our progress bars and errors instead of the libraries' own chatter; no telemetry. Set before
    they load.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers

    transformers.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # tells of kernels it does without
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\..*"
    )
    for said_ourselves in (".*`tie_word_embeddings=True`", "Setting `save_embedding_layers`"):
        warnings.filterwarnings("ignore", said_ourselves, UserWarning)
