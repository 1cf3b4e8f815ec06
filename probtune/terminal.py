"""The terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .texts import redacted, visible

__all__ = ["Terminal", "quiet_libraries"]


class Terminal:
    """Progress bars, notes and tables. With `quiet`, only tables."""

    def __init__(self, *, quiet: bool = False):
        from rich.console import Console

        self.quiet = quiet
        self._notes = Console(stderr=True, highlight=False)
        self._results = Console(highlight=False)
        if not self._results.is_terminal:
            # A pipe has no width of its own; 80 columns would break a table's numbers over lines.
            self._results = Console(highlight=False, width=200)

    def say(self, text: str) -> None:
        """Print a note on the way."""
        if not self.quiet:
            self._notes.print(_shown(text), markup=False)

    def show(self, text: str, *, wrap: bool = True) -> None:
        """Print a line of the result; a path or a table's line is not wrapped."""
        self._results.print(_shown(text), markup=False, soft_wrap=not wrap)

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
        rows: Sequence[Sequence[str]],
        *,
        notes: Sequence[str] = (),
        words: bool = False,
    ) -> None:
        """Print a table of the result; numbers (all columns but the first) to the right, unless
        they are words.
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
            table.add_row(*(Text(_shown(cell)) for cell in row))
        self._results.print(table)
        for note in notes:
            self.show(note)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """Show a progress bar; the function advances it and may replace its note."""
        if self.quiet:
            yield lambda steps=1, note="", total=None: None
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
            BarColumn(bar_width=24),
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
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\..*"
    )
