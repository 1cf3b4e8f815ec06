"""probtune: fine-tuning language models with the objective that fits what they already know.

The public names are loaded when they are first used, so that `import probtune` and the command
line's help stay light: nothing here imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernels import Head as Head
    from .kernels import compute_loss_func as compute_loss_func
    from .kernels import linear_objective_loss as linear_objective_loss
    from .kernels import linear_target_logprobs as linear_target_logprobs
    from .kernels import linear_target_statistics as linear_target_statistics
    from .kernels import loss as loss
    from .objectives import *  # noqa: F403
    from .probe.capability import Probe as Probe
    from .probe.probing import probe as probe
    from .training import ProbTuneConfig as ProbTuneConfig
    from .training import ProbTuneTrainer as ProbTuneTrainer

__version__ = "0.1.0"

# members: written by benchmarks/objectives_page.py
_MEMBERS = (
    "above",
    "affine",
    "anneal",
    "below",
    "bottom",
    "brier",
    "cap",
    "cayley",
    "chord",
    "deft",
    "dft",
    "eaft",
    "eaft_top",
    "entropy_bonus",
    "floor",
    "focal",
    "gce",
    "gem",
    "gft",
    "idft",
    "infosft",
    "inliers",
    "iw_sft",
    "iw_sft_sequence",
    "kl_anchor",
    "label_smoothing",
    "log1m",
    "luffy",
    "minor_sft",
    "mix",
    "mixce",
    "nll",
    "nll_on_answer",
    "nll_on_special",
    "on_reference",
    "p",
    "poly1",
    "power",
    "profit",
    "psft",
    "q_target",
    "reverse_kl_anchor",
    "rho1",
    "sce",
    "sed",
    "step_bottom",
    "step_cayley",
    "step_talr",
    "step_top",
    "tailr",
    "talr",
    "taylor",
    "token_cleaning",
    "top",
    "tsallis",
    "tvd",
    "weighted",
)
# end of members

_HOMES = {
    "objectives": ("Objective", "from_function", "objective", *_MEMBERS),
    "kernels": (
        "Head",
        "compute_loss_func",
        "linear_objective_loss",
        "linear_target_logprobs",
        "linear_target_statistics",
        "loss",
    ),
    "probe.capability": ("Probe",),
    "probe.probing": ("probe",),
    "training": ("ProbTuneConfig", "ProbTuneTrainer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(["__version__", *_HOME_OF])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
