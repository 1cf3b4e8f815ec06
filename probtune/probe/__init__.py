"""The probe: what a model knows of the data before training, and which objective suits that.

features     what was measured, as named numbers
capability   the probe itself
probing      `probtune.probe(model, rows)`, with a scout or without
scout        a few steps of NLL on an adapter that is thrown away
noise        the share of rows that look wrong after it
warmed       the probe after the scout; after_scout is the choice that follows
notebook     a probe as HTML
choosing     features -> objective, reason, expected gain; choosing.json holds what was fitted

The package carries the name of the function that users call, so the module is callable:
`probtune.probe(...)` equals `probtune.probe.probing.probe(...)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .capability import Probe


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Probe:
        """Probe a model; see `probtune.probe.probing.probe`."""
        from .probing import probe

        return probe(*arguments, **options)


# Importing this package sets the attribute `probtune.probe` to the module, over the function.
sys.modules[__name__].__class__ = _Callable
