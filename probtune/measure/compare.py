"""Paired comparison of models on the same held-out items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from ..statistics import Estimate, mcnemar, paired_ratio_difference
from .heldout import HeldOut

__all__ = ["compare", "difference"]


def compare(results: Mapping[str, HeldOut]) -> list[dict[str, Any]]:
    """Compare every pair of models by every metric and by how answers end: the difference first -
    second with its 95 % interval, paired by item.

    Differences of shares lie in [-1, 1]. For exact match also the exact McNemar p-value. The
    intervals are not corrected for the number of pairs. They say how far the difference would move
    on other items of this kind, not with another seed or learning rate.
    """
    comparisons = []
    for (first, a), (second, b) in combinations(results.items(), 2):
        if a.tokens != b.tokens:
            raise ValueError(f"{first} and {second} were not measured on the same items.")
        rates = [name for name in a.rates if name in b.rates and name != "cut_off"]
        for metric in (*a.metrics, *rates):
            row: dict[str, Any] = {
                "first": first,
                "second": second,
                "metric": metric,
                "difference": difference(a, b, metric),
            }
            if metric == "exact_match" and a.exact is not None and b.exact is not None:
                row["p_value"] = mcnemar(a.exact, b.exact)
            comparisons.append(row)
    return comparisons


def difference(first: HeldOut, second: HeldOut, metric: str) -> Estimate:
    """Return first - second by a metric or a rate, paired by item; of shares it lies in [-1, 1]."""
    estimate = paired_ratio_difference(
        first.sums(metric), second.sums(metric), first.counts(metric)
    )
    if metric == "nll":
        return estimate
    low, high = max(estimate.low, -1.0), min(estimate.high, 1.0)
    return estimate._replace(low=low, high=high)
