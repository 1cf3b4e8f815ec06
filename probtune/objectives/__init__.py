"""Training objectives as functions of the target log-probability.

An objective is a function f(p) of the target token's probability p. It sees nothing else. By the
chain rule its gradient with respect to the logits z is that of NLL, scaled per token:

    df/dz = w(p) (softmax(z) - onehot),     w(p) = -p f'(p)      (token weight; 1 for NLL)

and the size of the gradient of the target's own logit is W_f(p) = w(p) (1 - p) (logit gradient). An
objective is *prior-leaning* when most of the mass of W_f lies above a threshold tau, *prior-averse*
when it lies below.

Objectives are values: small, frozen, comparable, and printed as the text that `objective` reads
back.

    >>> import torch
    >>> logp = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64).log()
    >>> p().value(logp)
    tensor([0.9000, 0.5000, 0.1000], dtype=torch.float64)
    >>> objective("above(0.2, nll())")
    above(0.2, nll())

Everything is computed from `logp`, in float32 or wider, through `expm1` and `log1p`: `p` itself
rounds to 1 long before `logp` rounds to 0.

References:
    Li, Qiu, Chen, Ji, Tong, "Beyond Log Likelihood: Probability-Based Objectives for Supervised
    Fine-Tuning across the Model Capability Continuum", 2025, https://arxiv.org/abs/2510.00526
    (Lemma 3.1, Prop. 3.2, Def. 3.3, Eq. 3-4). The sign of Lemma 3.1 as printed is lost; the
    identity above is checked by central differences in the tests.
"""

from .aliases import ALIASES, gce, mixce, poly1, profit, sce, talr, tsallis, tvd
from .base import Objective, handle
from .compose import above, below, cap, floor, mix
from .distribution import (
    brier,
    entropy_bonus,
    gem,
    kl_anchor,
    label_smoothing,
    reverse_kl_anchor,
)
from .literature import (
    affine,
    cayley,
    chord,
    focal,
    gft,
    infosft,
    luffy,
    tailr,
    taylor,
)
from .members import dft, log1m, nll, p, power
from .own import from_function, own_parts, own_sources, refuse_changed
from .references import inliers, iw_sft, iw_sft_sequence, on_reference, psft, token_cleaning
from .signalled import (
    deft,
    eaft,
    eaft_top,
    idft,
    nll_on_answer,
    nll_on_special,
    sed,
    unbound,
    weighted,
)
from .signals import HEAD_SIGNALS, SIGNALS, Signals, columns_of, kind_of, parameter_of
from .step import (
    StepStatistics,
    anneal,
    anneal_shares,
    bottom,
    rho1,
    step_bottom,
    step_cayley,
    step_talr,
    step_top,
    top,
)
from .table import CORE, MEMBERS
from .text import names_code, objective, objective_list, of_handle, signature

__all__ = [
    "ALIASES",
    "CORE",
    "HEAD_SIGNALS",
    "MEMBERS",
    "SIGNALS",
    "Objective",
    "Signals",
    "StepStatistics",
    "above",
    "affine",
    "anneal",
    "anneal_shares",
    "below",
    "bottom",
    "brier",
    "cap",
    "cayley",
    "chord",
    "columns_of",
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
    "handle",
    "idft",
    "infosft",
    "inliers",
    "iw_sft",
    "iw_sft_sequence",
    "kind_of",
    "kl_anchor",
    "label_smoothing",
    "log1m",
    "luffy",
    "mix",
    "mixce",
    "names_code",
    "nll",
    "nll_on_answer",
    "nll_on_special",
    "objective",
    "objective_list",
    "of_handle",
    "on_reference",
    "own_parts",
    "own_sources",
    "p",
    "parameter_of",
    "poly1",
    "power",
    "profit",
    "psft",
    "refuse_changed",
    "reverse_kl_anchor",
    "rho1",
    "sce",
    "sed",
    "signature",
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
    "unbound",
    "weighted",
]
