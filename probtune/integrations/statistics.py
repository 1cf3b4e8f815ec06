"""Numbers that are logged, whatever the engine and objective: nll, mean p, accuracy, entropy, the
share of silent tokens. They mean the same for every objective, and the loss does not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..kernels import IGNORE_INDEX
from ..objectives import Objective, Signals

__all__ = ["NAMES", "TokenStatistics"]

NAMES = ("nll", "mean_p", "mean_token_accuracy", "entropy", "silent_share")
"""`silent_share`: tokens whose weight is below 1 % of NLL's, which train nearly nothing."""

_SILENT = 0.01
_BLOCK = 512
"""Tokens whose float32 logits exist at once."""


class TokenStatistics:
    """Sums over supervised tokens since the last log, kept on the device until they are read."""

    def __init__(self, objective: Objective):
        self.objective = objective
        self._sums: Tensor | None = None

    @torch.no_grad()
    def add_logits(self, logits: Tensor, labels: Tensor, *, shift: bool = True) -> None:
        """Add the tokens of a batch.

        Args:
            shift: True if the labels are those of the input, as `transformers` has them.
        """
        if shift:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        valid = labels != IGNORE_INDEX
        for rows, targets in zip(
            logits[valid].split(_BLOCK), labels[valid].split(_BLOCK), strict=True
        ):
            logs = rows.float().log_softmax(-1)
            logp = logs.gather(-1, targets[:, None]).squeeze(-1)
            entropy = -torch.where(logs > -torch.inf, logs.exp() * logs, 0.0).sum(-1)
            self.add(logp, logs.argmax(-1) == targets, entropy)

    @torch.no_grad()
    def add(self, logp: Tensor, is_top1: Tensor, entropy: Tensor) -> None:
        """Add supervised tokens; each argument is (N,)."""
        signals = {"entropy": entropy} if "entropy" in self.objective.needs else {}
        silent = torch.full_like(logp, torch.nan)
        if not self.objective.needs - signals.keys():
            silent = self.objective.bind(Signals(signals)).token_weight(logp) < _SILENT
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
