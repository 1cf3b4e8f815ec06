"""Figures of the paper (arXiv 2510.00526v3), by benchmark instead of by row of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = ["BASE", "NLL", "P", "PAPER", "THRESHOLD", "figures"]

PAPER = (
    "Gaotang Li, Ruizhong Qiu, Xiusi Chen, Heng Ji, Hanghang Tong: Beyond Log Likelihood, 2025, "
    "https://arxiv.org/abs/2510.00526"
)
BASE, NLL, P, THRESHOLD = "base", "nll()", "p()", "above(0.2, nll())"

Rows = Mapping[tuple[str, str], Sequence[float]]


def figures(rows: Rows, column: int) -> Mapping[tuple[str, str], float]:
    """Return one column of a table of the paper as (backbone, objective) -> points.

    >>> figures({("Qwen2.5-7B", BASE): (8.7, 2.4)}, 1)[("Qwen2.5-7B", BASE)]
    2.4
    """
    return MappingProxyType({key: values[column] for key, values in rows.items()})
