"""The one table of members, behind the parser, `probtune objectives`, the documentation and the
tests.
"""

from __future__ import annotations

from . import (
    catalogue,
    composition,
    distribution,
    members,
    quantile,
    references,
    schedule,
    signalled,
    step,
)
from .base import Objective

__all__ = ["CORE", "MEMBERS"]

CORE: dict[str, type[Objective]] = {
    member.__name__: member
    for member in (
        members.nll,
        members.p,
        members.power,
        members.log1m,
        members.dft,
        composition.above,
        composition.below,
    )
}
"""Name -> member: what can be imported from `probtune` itself."""

MEMBERS: dict[str, type[Objective]] = {
    **CORE,
    **{name: getattr(composition, name) for name in ("floor", "cap", "mix")},
    "top": quantile.top,
    "bottom": quantile.bottom,
    "anneal": schedule.anneal,
    **{
        name: getattr(module, name)
        for module in (catalogue, signalled, distribution, references, step)
        for name in module.__all__
        if name.islower() and isinstance(getattr(module, name), type)
    },
}
"""Name -> member: all of them."""
