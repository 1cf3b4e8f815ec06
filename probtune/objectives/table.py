"""The one table of members, behind the parser, `probtune objectives`, the documentation and the
tests.
"""

from __future__ import annotations

from typing import Any

from . import (
    compose,
    distribution,
    literature,
    members,
    references,
    signalled,
    step,
)
from .aliases import ALIASES
from .base import TABLE, Objective

__all__ = ["CORE", "MEMBERS", "Member"]

Member = Any
"""A subclass of `Objective` or a function that returns one, with formula, source and example."""

CORE: dict[str, type[Objective]] = {
    member.__name__: member
    for member in (
        members.nll,
        members.p,
        members.power,
        members.log1m,
        members.dft,
        compose.above,
        compose.below,
    )
}
"""Name -> member: what can be imported from `probtune` itself."""

_HOMES = (
    *(members, compose, literature),
    *(signalled, distribution, references, step),
)
"""The modules whose import fills the table."""

MEMBERS: dict[str, Member] = {**CORE, **TABLE, **ALIASES}
"""Name -> member, or function that returns one: all that a text can name. Defining a class with an
example in one of the modules above, or a function in `aliases`, adds it.
"""
