"""Paired comparison of models on the same held-out items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from ..statistics import mcnemar, paired_ratio_difference
from .heldout import HeldOut

__all__ = ["compare"]


def compare(results: Mapping[str, HeldOut]) -> list[dict[str, Any]]:
    """Compare every pair of models by every metric: the difference first - second with its 95 %
    interval, paired by item.

    For exact match also the exact McNemar p-value. The intervals are not corrected for the number
    of pairs. They say how far the difference would move on other items of this kind, not with
    another seed or learning rate.
    """
    comparisons = []
    for (first, a), (second, b) in combinations(results.items(), 2):
        if a.tokens != b.tokens:
            raise ValueError(f"{first} and {second} were not measured on the same items.")
        for metric in a.metrics:
            row: dict[str, Any] = {
                "first": first,
                "second": second,
                "metric": metric,
                "difference": paired_ratio_difference(
                    a.sums(metric), b.sums(metric), a.counts(metric)
                ),
            }
            if metric == "exact_match" and a.exact is not None and b.exact is not None:
                row["p_value"] = mcnemar(a.exact, b.exact)
            comparisons.append(row)
    return comparisons
