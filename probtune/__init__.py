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
    from .objectives import Objective as Objective
    from .objectives import above as above
    from .objectives import affine as affine
    from .objectives import anneal as anneal
    from .objectives import below as below
    from .objectives import bottom as bottom
    from .objectives import brier as brier
    from .objectives import cap as cap
    from .objectives import cayley as cayley
    from .objectives import chord as chord
    from .objectives import deft as deft
    from .objectives import dft as dft
    from .objectives import eaft as eaft
    from .objectives import eaft_top as eaft_top
    from .objectives import entropy_bonus as entropy_bonus
    from .objectives import floor as floor
    from .objectives import focal as focal
    from .objectives import from_function as from_function
    from .objectives import gce as gce
    from .objectives import gem as gem
    from .objectives import gft as gft
    from .objectives import idft as idft
    from .objectives import infosft as infosft
    from .objectives import inliers as inliers
    from .objectives import iw_sft as iw_sft
    from .objectives import iw_sft_sequence as iw_sft_sequence
    from .objectives import kl_anchor as kl_anchor
    from .objectives import label_smoothing as label_smoothing
    from .objectives import log1m as log1m
    from .objectives import luffy as luffy
    from .objectives import mix as mix
    from .objectives import mixce as mixce
    from .objectives import nll as nll
    from .objectives import nll_on_answer as nll_on_answer
    from .objectives import nll_on_special as nll_on_special
    from .objectives import objective as objective
    from .objectives import on_reference as on_reference
    from .objectives import p as p
    from .objectives import poly1 as poly1
    from .objectives import power as power
    from .objectives import profit as profit
    from .objectives import psft as psft
    from .objectives import reverse_kl_anchor as reverse_kl_anchor
    from .objectives import rho1 as rho1
    from .objectives import sce as sce
    from .objectives import sed as sed
    from .objectives import step_bottom as step_bottom
    from .objectives import step_cayley as step_cayley
    from .objectives import step_talr as step_talr
    from .objectives import step_top as step_top
    from .objectives import tailr as tailr
    from .objectives import talr as talr
    from .objectives import taylor as taylor
    from .objectives import token_cleaning as token_cleaning
    from .objectives import top as top
    from .objectives import tsallis as tsallis
    from .objectives import tvd as tvd
    from .objectives import weighted as weighted
    from .probe.capability import Probe as Probe
    from .probe.capability import probe as probe
    from .training import ProbTuneConfig as ProbTuneConfig
    from .training import ProbTuneTrainer as ProbTuneTrainer

__version__ = "0.1.0"

_HOMES = {
    "objectives": (
        "Objective",
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
        "from_function",
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
        "mix",
        "mixce",
        "nll",
        "nll_on_answer",
        "nll_on_special",
        "objective",
        "on_reference",
        "p",
        "poly1",
        "power",
        "profit",
        "psft",
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
    ),
    "kernels": (
        "Head",
        "compute_loss_func",
        "linear_objective_loss",
        "linear_target_logprobs",
        "linear_target_statistics",
        "loss",
    ),
    "probe.capability": ("Probe", "probe"),
    "training": ("ProbTuneConfig", "ProbTuneTrainer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Head",
    "Objective",
    "ProbTuneConfig",
    "ProbTuneTrainer",
    "Probe",
    "__version__",
    "above",
    "affine",
    "anneal",
    "below",
    "bottom",
    "brier",
    "cap",
    "cayley",
    "chord",
    "compute_loss_func",
    "deft",
    "dft",
    "eaft",
    "eaft_top",
    "entropy_bonus",
    "floor",
    "focal",
    "from_function",
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
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
    "log1m",
    "loss",
    "luffy",
    "mix",
    "mixce",
    "nll",
    "nll_on_answer",
    "nll_on_special",
    "objective",
    "on_reference",
    "p",
    "poly1",
    "power",
    "probe",
    "profit",
    "psft",
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
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
