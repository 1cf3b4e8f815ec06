"""The cells that are run, and their order.

The full cross of 8 families, 5 levels, 31 noises and 4 budgets is 4,960 cells. A batch takes every
(family, level) pair once, so that 40 cells are already a fair, small design; batch k moves the
noise rate of every pair to another one, so that six batches show each pair all six rates. Kind and
budget are dealt out evenly and at random, and of many deals the one is kept whose pairs of factors
are met most evenly. What has been run when time is up is a prefix of whole batches, or nearly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np

from . import families, noise
from .bases import LEVELS
from .cell import BUDGETS, Cell

__all__ = [
    "FITTED_BATCHES",
    "carry_design",
    "confirmation",
    "design",
    "is_held_out",
    "second_confirmation",
    "split_of",
]

_DEALS = 300
_PAIRS = len(families.FAMILIES) * len(LEVELS)
_FACTORS = ("family", "level", "kind", "rate", "budget")


def design(batches: int, *, names: Sequence[str] = tuple(families.FAMILIES)) -> list[Cell]:
    """Return the cells of the first `batches` batches, in the order they are run.

    >>> [cell.name for cell in design(1)][:2] == [cell.name for cell in design(2)][:2]
    True
    """
    if not 1 <= batches <= len(noise.RATES):
        raise ValueError(f"batches must be from 1 to {len(noise.RATES)}, got {batches}.")
    return list(_batches(batches, tuple(names)))


@cache
def _batches(count: int, names: tuple[str, ...]) -> tuple[Cell, ...]:
    """Return the cells of the first batches; each is dealt with an eye to those before it."""
    if count == 0:
        return ()
    before = _batches(count - 1, names)
    met, k = _meetings(before), count - 1
    rng = np.random.default_rng([31, k])
    pairs = [(f, i) for f in range(len(names)) for i in range(len(LEVELS))]
    rates = [noise.RATES[(i + f + k) % len(noise.RATES)] for f, i in pairs]
    best: list[Cell] = []
    least = float("inf")
    for _ in range(_DEALS):
        kinds, budgets = _deal(rng, list(noise.KINDS), pairs), _deal(rng, list(BUDGETS), pairs)
        cells = [
            Cell(names[f], LEVELS[i], kind if rate else "none", rate, budget)
            for (f, i), rate, kind, budget in zip(pairs, rates, kinds, budgets, strict=True)
        ]
        uneven = sum(v * v for v in (met + _meetings(cells)).values())
        if uneven < least:
            best, least = cells, uneven
    return (*before, *(best[i] for i in rng.permutation(len(best))))


def carry_design() -> list[Cell]:
    """Return a few cells for sizes that the rule was not fitted on: two families of each side, all
    levels and rates from 0 to 50 %.
    """
    names = ("reverse", "chain", "addition", "glyphs")
    cells = []
    for f, name in enumerate(names):
        for i in (0, 2, 4):
            rate = (0.0, 0.2, 0.5)[(f + i // 2) % 3]
            kind = ("slips", "uniform", "missing", "slips")[f] if rate else "none"
            cells.append(Cell(name, LEVELS[i], kind, rate, "repeated"))
    return [cells[i] for i in np.random.default_rng(37).permutation(len(cells))]


def second_confirmation() -> list[Cell]:
    """Return cells of several templates each, every level with right rows, two kinds of wrong rows
    that the bench did not have and one that it had. Run with seeds and a size that it did not have
    either.
    """
    noises = (("none", 0.0), ("swapped", 0.3), ("one_sided", 0.2), ("slips", 0.2))
    budgets = tuple(BUDGETS)
    cells = [
        Cell(name, level, kind, rate, budgets[(f + i + k) % len(budgets)])
        for f, name in enumerate(families.MIXED)
        for i, level in enumerate(LEVELS)
        for k, (kind, rate) in enumerate(noises)
    ]
    return [cells[i] for i in np.random.default_rng(43).permutation(len(cells))]


FITTED_BATCHES = 4
"""Batches that the rules were fitted on and first judged by."""


@cache
def confirmation() -> tuple[Cell, ...]:
    """Held-out cells of the last batches, kept to judge what was changed after the first look."""
    later = design(len(noise.RATES))[FITTED_BATCHES * _PAIRS :]
    return tuple(cell for cell in later if is_held_out(cell) != "development")


def split_of(cell: Cell) -> str:
    """`second confirmation`, `confirmation`, or what `is_held_out` says."""
    if cell.family in families.MIXED:
        return "second confirmation"
    return "confirmation" if cell in confirmation() else is_held_out(cell)


def is_held_out(cell: Cell) -> str:
    """`development`, or which part of the cell is held out: `family`, `kind` or `both`."""
    family = cell.family not in families.DEVELOPMENT
    kind = cell.kind in noise.HELD_OUT
    return {(0, 0): "development", (1, 0): "family", (0, 1): "kind", (1, 1): "both"}[family, kind]


def _deal(rng: np.random.Generator, of: list[str], pairs: Sequence) -> list[str]:
    repeated = (of * (len(pairs) // len(of) + 1))[: len(pairs)]
    rng.shuffle(repeated)
    return repeated


def _meetings(cells: Sequence[Cell]) -> Counter:
    """Return how often each pair of values of two factors is met."""
    return Counter(
        (a, getattr(cell, a), b, getattr(cell, b))
        for cell in cells
        for a, b in combinations(_FACTORS, 2)
    )
