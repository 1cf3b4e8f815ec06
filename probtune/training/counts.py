"""Sums over tokens: of the optimizer step so far, and since the last log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.head import PerToken

__all__ = ["P_BINS", "GroupSums", "StepCounts", "TokenSums", "p_histogram", "row_sums"]

P_BINS = 20
"""Bins of equal width between 0 and 1 in which p is counted."""
_LOW_WEIGHT = 0.01


@dataclass
class StepCounts:
    """Counts of the optimizer step so far, on this rank."""

    micro_batch: int = 0
    kept: float = 0.0
    loss: float = 0.0
    num_items: float = 0.0

    def next(self) -> StepCounts:
        """Return the counts at the next micro-batch."""
        return StepCounts(self.micro_batch + 1, self.kept, self.loss, self.num_items)


class TokenSums:
    """Sums over supervised tokens since the last log, kept on the device until they are read."""

    NAMES = ("objective", "nll", "mean_p", "mean_token_accuracy", "entropy", "low_weight_share")

    def __init__(self):
        self._sums: Tensor | None = None

    def add(self, row_sums: Tensor) -> None:
        """Add the sums of a batch's rows."""
        sums = row_sums.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def state(self) -> list[float] | None:
        """Return the sums as numbers; None where no token was seen."""
        return None if self._sums is None else self._sums.tolist()

    def restore(self, state: list[float] | None, device: torch.device) -> None:
        """Take the sums that `state` returned."""
        self._sums = None if state is None else torch.tensor(state, dtype=_dtype(device)).to(device)

    def means(self, accelerator: Any = None) -> dict[str, float]:
        """Return the means per token, over all ranks if given an accelerator; empty when no token
        was seen.
        """
        if self._sums is None:
            return {}
        sums = self._sums if accelerator is None else accelerator.reduce(self._sums, "sum")
        *totals, count = sums.tolist()
        return (
            {name: total / count for name, total in zip(self.NAMES, totals, strict=True)}
            if count
            else {}
        )


class GroupSums:
    """Sums of NLL and p over the supervised tokens of each group of rows since the last log."""

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        self._sums: Tensor | None = None

    def add(
        self, tokens: PerToken, group: Tensor, gather: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Add a batch.

        Args:
            group: number of each target token's group, counted from 1; 0 for none: (B, T - 1).
            gather: what joins the rows of all ranks, (B, ...), if this batch is one of several.
        """
        logp, mask = tokens.log_probs.detach().float(), tokens.label_mask
        groups = len(self._names) + 1
        row = torch.arange(len(logp), device=logp.device)[:, None]
        index = row * groups + torch.where(mask, group.to(logp.device).long(), 0)
        terms = torch.stack([-logp, logp.exp(), torch.ones_like(logp)], -1).to(_dtype(logp.device))
        terms = torch.where(mask[..., None], terms, 0).flatten(0, -2)
        sums = terms.new_zeros(len(logp) * groups, 3).index_add(0, index.flatten(), terms)
        sums = sums.view(len(logp), groups, 3)
        sums = (sums if gather is None else gather(sums)).sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def state(self) -> list[list[float]] | None:
        """Return the sums as numbers; None where no batch was seen."""
        return None if self._sums is None else self._sums.tolist()

    def restore(self, state: list[list[float]] | None, device: torch.device) -> None:
        """Take the sums that `state` returned."""
        self._sums = None if state is None else torch.tensor(state, dtype=_dtype(device)).to(device)

    def means(self, accelerator: Any = None) -> dict[str, dict[str, float]]:
        """Return `nll`, `mean_p` and the number of `tokens` of each group that had a token, over
        all ranks if given an accelerator, and begin anew.
        """
        if self._sums is None:
            return {}
        sums = self._sums if accelerator is None else accelerator.reduce(self._sums, "sum")
        self._sums = None
        return {
            name: {"nll": nll / count, "mean_p": p / count, "tokens": int(count)}
            for name, (nll, p, count) in zip(self._names, sums[1:].tolist(), strict=True)
            if count
        }


def row_sums(tokens: PerToken) -> Tensor:
    """Return, of each row of a batch, the sums of `TokenSums.NAMES` over its supervised tokens, and
    their number: (rows, 7).
    """
    logp, mask = tokens.log_probs.detach().float(), tokens.label_mask
    low_weight = tokens.weight < _LOW_WEIGHT
    terms = (tokens.value, -logp, logp.exp(), tokens.is_top1, tokens.entropy, low_weight)
    dtype = _dtype(logp.device)
    return torch.stack(
        [
            torch.where(mask, term.detach(), 0).sum(-1, dtype=dtype)
            for term in (*terms, torch.ones_like(logp))
        ],
        -1,
    )


def p_histogram(tokens: PerToken) -> Tensor:
    """Return how many supervised tokens have p in each bin: (P_BINS,); does not synchronise."""
    index = (tokens.log_probs.detach().float().exp() * P_BINS).long().clamp(0, P_BINS - 1)
    index = torch.where(tokens.label_mask, index, -1).flatten()
    bins = torch.arange(P_BINS, device=index.device)
    return (index.unsqueeze(1) == bins).sum(0)


def _dtype(device: torch.device) -> torch.dtype:
    """float64, where the device has it: over an epoch a float32 sum over tokens loses digits."""
    return torch.float32 if device.type == "mps" else torch.float64
