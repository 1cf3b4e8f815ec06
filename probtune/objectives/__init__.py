"""Training objectives as functions of the target log-probability.

An objective is a function f(p) of the target token's probability p; what some see besides, they
say (`signalled`, `references`, `step`), as do those whose gradient has more terms (`distribution`).
By the chain rule its gradient with respect to the logits z is that of NLL, scaled per token:

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

from .aliases import *  # noqa: F403
from .aliases import ALIASES
from .base import Objective, handle
from .compose import *  # noqa: F403
from .distribution import *  # noqa: F403
from .literature import *  # noqa: F403
from .members import *  # noqa: F403
from .own import from_function, own_parts, own_sources, refuse_changed
from .references import *  # noqa: F403
from .signalled import *  # noqa: F403
from .signalled import unbound
from .signals import (
    HEAD_SIGNALS,
    REFERENCE_SIGNALS,
    SIGNALS,
    Signals,
    columns_of,
    kind_of,
    parameter_of,
)
from .step import *  # noqa: F403
from .step import StepStatistics, anneal_shares
from .table import CORE, MEMBERS
from .text import names_code, objective, objective_list, of_handle, signature

__all__ = [
    "ALIASES",
    "CORE",
    "HEAD_SIGNALS",
    "MEMBERS",
    "REFERENCE_SIGNALS",
    "SIGNALS",
    "Objective",
    "Signals",
    "StepStatistics",
    "anneal_shares",
    "columns_of",
    "from_function",
    "handle",
    "kind_of",
    "names_code",
    "objective",
    "objective_list",
    "of_handle",
    "own_parts",
    "own_sources",
    "parameter_of",
    "refuse_changed",
    "signature",
    "unbound",
]
__all__ += MEMBERS  # pyright: ignore[reportUnsupportedDunderAll]
__all__.sort(  # pyright: ignore[reportUnsupportedDunderAll]
    key=lambda name: (not name.isupper(), name)
)
