"""The objectives of the bench as token weights of a stack.

An objective's logit gradient is w (softmax - onehot), so -sg(w) log p trains exactly like f. The
product's objectives are asked for their own `token_weight`; three have names of the bench:

    outlier       inliers(nll()): each sequence weighs less the more it stands out before training
    outlier_half  inliers(power(0.5)), the same weights
    keyed         p^a with a from 0 to 1 as the model's own mean p goes from 0.3 to 0.7; here only,
                  since the figures do not speak for it
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probtune.objectives import Objective, Signals, cayley, objective

__all__ = ["BENCH_ONLY", "OBJECTIVES", "Weights"]

CAYLEY = "cayley(mean_p)"
BENCH_ONLY = ("outlier", "outlier_half", "keyed")
OBJECTIVES = (
    "nll()",
    "power(0.3)",
    "power(0.5)",
    "p()",
    "power(2.0)",
    "power(10.0)",
    "above(0.2, nll())",
    "floor(0.1, dft())",
    "eaft(1.0, 3.0)",
    CAYLEY,
    "tailr(0.1)",
    "floor(0.2, tailr(0.1))",
    "affine(0.1, 0.9)",
    *BENCH_ONLY,
)

_KEYED = (0.3, 0.7)
_DECAY = 0.9


class Weights:
    """Token weights of a stack in which every objective has `copies` neighbours (learning rates).

    State: the running mean p of the members of `keyed`.
    """

    def __init__(
        self,
        names: Sequence[str],
        copies: int,
        *,
        mean_p: float,
        of_sequence: Tensor,  # (rows,) outlier weights
    ):
        self.copies = copies
        self.of_sequence = of_sequence
        self._keyed: Tensor | None = None
        self.rules: list[Objective | str] = [
            cayley(mean_p) if name == CAYLEY else name if name in BENCH_ONLY else objective(name)
            for name in names
        ]

    def __call__(
        self,
        logp: Tensor,  # (M, B, R), detached
        entropy: Tensor,  # (M, B, R), detached
        valid: Tensor,  # (B, R)
        rows: Tensor,  # (B,) which training rows these are
    ) -> Tensor:
        weights = []
        for k, rule in enumerate(self.rules):
            part = slice(k * self.copies, (k + 1) * self.copies)
            mine = logp[part]
            if isinstance(rule, Objective):
                bound = rule.bind(Signals(entropy=entropy[part])) if rule.needs else rule
                weights.append(bound.token_weight(mine))
            elif rule == "keyed":
                weights.append(self._key(mine, valid))
            else:
                sequence = self.of_sequence[rows].to(mine.dtype)[:, None].expand_as(mine)
                weights.append(
                    sequence * (0.5 * mine).exp() if rule == "outlier_half" else sequence
                )
        return torch.cat(weights)

    def _key(self, logp: Tensor, valid: Tensor) -> Tensor:
        now = (logp.exp() * valid).sum((1, 2)) / valid.sum()
        before = now if self._keyed is None else self._keyed
        self._keyed = _DECAY * before + (1.0 - _DECAY) * now
        low, high = _KEYED
        alpha = ((self._keyed - low) / (high - low)).clamp(0.0, 1.0)
        return torch.exp(alpha[:, None, None] * logp)
