"""A user's own objectives in a run: their names, and their code in its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..objectives import MEMBERS, Objective, own_parts, own_sources, refuse_changed

__all__ = ["check_names", "check_sources", "sources_of"]


def check_names(objectives: Sequence[Objective]) -> None:
    """Refuse two objectives under one name, since each has a folder of its own, and an own one
    under the name of a member.

    Raises:
        UsageError: with the name and the way out.
    """
    names = [str(objective) for objective in dict.fromkeys(objectives)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"two different objectives are both called {', '.join(twice)}; give one of them another"
            " name."
        )
    for part in (part for objective in objectives for part in own_parts(objective)):
        if type(part).__name__ in MEMBERS:
            raise UsageError(
                f"{part} is your own objective under the name of a member; give its class another"
                " name."
            )


def sources_of(objectives: Sequence[Objective]) -> dict[str, str]:
    """Return the source of each own objective, by its text."""
    return {k: v for objective in objectives for k, v in own_sources(objective).items()}


def check_sources(
    earlier: Mapping[str, str], objectives: Sequence[Objective], folder: Path
) -> None:
    """Refuse own objectives whose code has changed since the run in `folder` began."""
    for objective in objectives:
        refuse_changed(earlier, objective, f"the run in {folder}")
