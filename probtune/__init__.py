"""probtune: fine-tuning language models with the objective that fits what they already know.

The public names are loaded when they are first used, so that `import probtune` and the command
line's help stay light: nothing here imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernels import linear_objective_loss as linear_objective_loss
    from .kernels import linear_target_logprobs as linear_target_logprobs
    from .kernels import linear_target_statistics as linear_target_statistics
    from .objectives import Objective as Objective
    from .objectives import above as above
    from .objectives import below as below
    from .objectives import dft as dft
    from .objectives import log1m as log1m
    from .objectives import nll as nll
    from .objectives import objective as objective
    from .objectives import p as p
    from .objectives import power as power
    from .probe.capability import Probe as Probe
    from .probe.capability import probe as probe
    from .training import ProbTuneConfig as ProbTuneConfig
    from .training import ProbTuneTrainer as ProbTuneTrainer

__version__ = "0.1.0"

_HOMES = {
    "objectives": ("Objective", "above", "below", "dft", "log1m", "nll", "objective", "p", "power"),
    "kernels": ("linear_objective_loss", "linear_target_logprobs", "linear_target_statistics"),
    "probe.capability": ("Probe", "probe"),
    "training": ("ProbTuneConfig", "ProbTuneTrainer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Objective",
    "ProbTuneConfig",
    "ProbTuneTrainer",
    "Probe",
    "__version__",
    "above",
    "below",
    "dft",
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
    "log1m",
    "nll",
    "objective",
    "p",
    "power",
    "probe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
