"""Numbers that are logged, whatever the engine and objective: nll, mean p, accuracy, entropy, the
share of silent tokens. They mean the same for every objective, and the loss does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..kernels import IGNORE_INDEX
from ..objectives import Objective, Signals

__all__ = ["NAMES", "TokenStatistics"]

NAMES = ("nll", "mean_p", "mean_token_accuracy", "entropy", "low_weight_share")
"""`low_weight_share`: tokens whose weight is below 1 % of NLL's, which train nearly nothing."""

_LOW_WEIGHT = 0.01
_BLOCK = 512
"""Tokens whose float32 logits exist at once."""


class TokenStatistics:
    """Sums over supervised tokens since the last log, kept on the device until they are read."""

    def __init__(self, objective: Objective):
        self.objective = objective
        self._sums: Tensor | None = None

    @torch.no_grad()
    def add_logits(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        shift: bool = True,
        objective: Objective | None = None,
        signals: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add the tokens of a batch.

        Args:
            shift: True if the labels are those of the input, as `transformers` has them.
            objective: the one in force; default: the statistics' own.
            signals: what it needs besides the logits, in the shape of the labels.
        """
        others = {name: x.to(logits.device) for name, x in (signals or {}).items()}
        if shift:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
            others = {name: x[..., 1:] for name, x in others.items()}
        valid = labels != IGNORE_INDEX
        columns = [x[valid].split(_BLOCK) for x in (logits, labels, *others.values())]
        for rows, targets, *values in zip(*columns, strict=True):
            logs = rows.float().log_softmax(-1)
            logp = logs.gather(-1, targets[:, None]).squeeze(-1)
            entropy = -torch.where(logs > -torch.inf, logs.exp() * logs, 0.0).sum(-1)
            self.add(
                logp, logs.argmax(-1) == targets, entropy, objective,
                dict(zip(others, values, strict=True)),
            )  # fmt: skip

    @torch.no_grad()
    def add(
        self,
        logp: Tensor,
        is_top1: Tensor,
        entropy: Tensor,
        objective: Objective | None = None,
        signals: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add supervised tokens; every tensor is (N,)."""
        f = self.objective if objective is None else objective
        values = {"entropy": entropy, **(signals or {})}
        silent = torch.full_like(logp, torch.nan)
        if f.needs <= values.keys():
            silent = (
                f.bind(Signals({n: values[n] for n in f.needs})).token_weight(logp) < _LOW_WEIGHT
            )
        terms = (-logp, logp.exp(), is_top1, entropy, silent, torch.ones_like(logp))
        sums = torch.stack([x.detach().float().sum() for x in terms]).double()
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Return the means per token since the last call; empty when no token was seen. A share of
        silent tokens that cannot be told from the logits is left out.
        """
        sums, self._sums = self._sums, None
        if sums is None:
            return {}
        *totals, count = (sums if reduce is None else reduce(sums)).tolist()
        pairs = zip(NAMES, totals, strict=True)
        return {name: x / count for name, x in pairs if count and x == x}
