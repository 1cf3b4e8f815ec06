"""The source of a user's own objective, kept with a checkpoint: training goes on with the same code
only.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..objectives import Objective, own_sources, refuse_changed
from ..records import write_text

__all__ = ["check_sources", "write_sources"]

_FILE = "objective_sources.json"


def write_sources(folder: Path, objective: Objective) -> None:
    """Write the sources of the user's own objectives in it, by their texts, if there are any."""
    sources = own_sources(objective)
    if sources and folder.is_dir():
        write_text(folder / _FILE, json.dumps(sources, indent=1) + "\n")


def check_sources(folder: Path, objective: Objective) -> None:
    """Refuse a checkpoint of an own objective whose code has changed since.

    Raises:
        UsageError: with the objective, the first line that differs, and the way out.
    """
    path = folder / _FILE
    if path.is_file():
        refuse_changed(json.loads(path.read_text(encoding="utf-8")), objective, str(folder))
