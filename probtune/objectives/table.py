"""The one table of members, behind the parser, `probtune objectives`, the documentation and the
tests.
"""

from __future__ import annotations

from . import catalogue, composition, members, quantile, schedule, signalled
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
    "nll_on_special": signalled.nll_on_special,
    "eaft": signalled.eaft,
    "deft": signalled.deft,
    "idft": signalled.idft,
    **{name: getattr(catalogue, name) for name in catalogue.__all__ if name.islower()},
}
"""Name -> member: all of them."""
