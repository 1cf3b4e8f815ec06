"""A weight for every training row: little for one that looks wrong to a model that has not seen it.

Two scouts share the work. The rows are parted at random in two halves; each scout is trained on
rows of one half and measures the other, so that no row is judged by a model that has learnt it. A
row that looks wrong (`probtune.probe.noise`) weighs 0.05, any other 1; where a scout cannot tell
wrong rows from new ones, all rows that it measured weigh 1.

Every row is read twice, behind its own prompt and behind another. That takes two thirds of a pass
of training, in which a backward pass costs two forward ones; the scouts come on top.

To judge by a model that was trained on other folds is confident learning's way of finding wrong
labels (Northcutt et al., "Confident Learning", 2021, https://arxiv.org/abs/1911.00068).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..data.encoding import Encoded
from ..models.ranks import ALONE, Ranks
from ..models.spread import spread_table
from .features import LEAST_WEIGHT
from .noise import Noise
from .scout import MOST_STEPS, ROWS_PER_STEP, STEPS, behind_others, looked_at, sent
from .warmed import noise_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Weighed", "weigh"]

_BLOCK = 1024
"""Rows that are judged together, at most: the typical row is one of them."""


class Weighed(NamedTuple):
    """The training rows, weighed."""

    weights: np.ndarray
    """(rows,): 0.05 for one that looks wrong, else 1."""
    certain: np.ndarray
    """(rows,): True where its scout can tell wrong rows from new ones."""
    excess: np.ndarray
    """(rows,): the larger, the more it looks wrong; see `probtune.probe.noise.Noise`."""
    cut_short: np.ndarray
    """(rows,): True for one that looks wrong since it ends where its scout would go on."""
    echoes: np.ndarray
    """(rows,): True for one that looks wrong since its answer repeats its question or itself."""
    steps: tuple[int, int]
    """Steps of the two scouts."""

    def wrong_first(self) -> list[int]:
        """Return the indices of the rows that look wrong, those with the largest excess first."""
        order = np.argsort(-self.excess, kind="stable")
        return [int(i) for i in order if self.weights[i] < 1.0]


def weigh(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    *,
    seed: int = 0,
    steps: int = STEPS,
    planned_steps: int | None = None,
    ranks: Ranks = ALONE,
    progress: Callable[[int], None] | None = None,
) -> Weighed:
    """Weigh every row by a scout that has not seen it.

    Args:
        model: left as it was.
        rows: at least two.
        steps, planned_steps: as in `probtune.probe.scout.sent`.
        ranks: the processes that share the rows, 1,024 at a time; each has the same scouts.
        progress: called with the number of rows finished since the last call, of training and
            measuring alike.

    Raises:
        UsageError: the model has no layer that takes an adapter.
    """
    weights, excess = np.ones(len(rows)), np.zeros(len(rows))
    certain, cut_short, echoes = (np.zeros(len(rows), bool) for _ in range(3))
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    first, second = order[: len(rows) // 2], order[len(rows) // 2 :]
    taken = []
    for learnt, judged in ((first, second), (second, first)):
        scout = sent(
            model,
            [rows[i] for i in learnt[: MOST_STEPS * ROWS_PER_STEP]],
            [rows[i] for i in looked_at(judged)],
            seed=seed,
            steps=steps,
            planned_steps=planned_steps,
            progress=progress,
        )
        with scout as done:
            blocks = np.array_split(judged, math.ceil(len(judged) / _BLOCK))
            mine = [
                _judged(model, tokenizer, [rows[i] for i in block], progress)
                for block in ranks.share(blocks)
            ]
            for block, noise in zip(blocks, ranks.joined(mine), strict=True):
                excess[block], certain[block] = noise.excess, noise.known
                if noise.known:
                    weights[block[noise.suspicious]] = LEAST_WEIGHT
                    cut_short[block], echoes[block] = noise.cut_short, noise.echoes
        taken.append(done.steps)
    return Weighed(weights, certain, excess, cut_short, echoes, (taken[0], taken[1]))


def _judged(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    progress: Callable[[int], None] | None,
) -> Noise:
    spread = spread_table(model, rows, progress=progress)
    return noise_of(spread, behind_others(model, rows), tokenizer)
