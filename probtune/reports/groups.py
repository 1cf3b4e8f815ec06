"""Results by source: the held-out rows split by the column that `--group-by` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from . import figures

__all__ = ["by_group", "curves_by_group", "largest_groups"]

_MOST_GROUPS = 40
_MOST_CURVES = 7
"""Groups with a curve each in one chart."""


def largest_groups(groups: Sequence[str | None]) -> list[tuple[str, list[int]]]:
    """Return (name, its rows) of the groups, the largest first; a row without one is in none.

    Args:
        groups: the group of each row.
    """
    names = Counter(group for group in groups if group is not None)
    return [
        (name, [i for i, group in enumerate(groups) if group == name])
        for name, _ in names.most_common(_MOST_GROUPS)
    ]


def by_group(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each group of the held-out rows of a tune record, the largest first, its `name`,
    the number of `rows`, and by model the estimates of mean p, and of exact match where answers
    were graded. Empty where the rows have no groups.
    """
    from ..statistics import share

    entries = []
    for name, mine in largest_groups([item.get("group") for item in record["data"]["items"]]):
        models = []
        for run in record["runs"]:
            items = run["heldout"]["items"]
            tokens = [items["tokens"][i] for i in mine]
            estimates = {"mean_p": share([items["p"][i] for i in mine], tokens)._asdict()}
            if items.get("exact") is not None:
                exact = [float(items["exact"][i]) for i in mine]
                estimates["exact_match"] = share(exact, [1] * len(mine))._asdict()
            models.append({"name": run["name"], **estimates})
        entries.append({"name": name, "rows": len(mine), "models": models})
    return entries


def curves_by_group(record: Mapping[str, Any]) -> list[str]:
    """Draw NLL and mean p of the training rows of the largest groups, and of the held-out rows if
    they were measured during training, a chart for each trained model and number.
    """
    return [
        chart
        for run in record["runs"]
        for log, of in (("group_log", ""), ("heldout_group_log", " (held-out rows)"))
        for chart in _curves((run["train"] or {}).get(log) or [], f"{run['name']}{of}")
    ]


def _curves(log: Sequence[Mapping[str, Any]], name_of_chart: str) -> list[str]:
    charts = []
    if log:
        sizes: Counter[str] = Counter()
        for entry in log:
            sizes.update({name: values["tokens"] for name, values in entry["groups"].items()})
        for key, what in (("nll", "NLL"), ("mean_p", "mean p")):
            series = {
                name: [(e["step"], e["groups"][name][key]) for e in log if name in e["groups"]]
                for name, _ in sizes.most_common(_MOST_CURVES)
            }
            charts.append(
                figures.curves(
                    series,
                    label=f"{what}, {name_of_chart}",
                    colours=dict(zip(series, figures.PALETTE, strict=False)),
                )
            )
    return charts
