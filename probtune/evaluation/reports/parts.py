"""What the templates need of the records of evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...reports.numbers import points
from ...reports.report import Maker
from . import figures as figures
from .panels import KINDS, panel

__all__ = ["MAKERS"]


def _eval_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of an evaluation: headline, figures, panels."""
    tasks = record["tasks"]
    rows = [
        (
            task["title"],
            [(name, found["score"]) for name, found in task["protocols"].items()],
            task["paper"],
        )
        for task in tasks
    ]
    rows += [
        (
            f"mean of {domain['domain']}" + (" (part)" if domain["missing"] else ""),
            list(domain["score"].items()),
            domain["paper"],
        )
        for domain in record["domains"]
    ]
    return {
        "link": f"{record['model']}, evaluated",
        "headline": _headline(record),
        "objectives": list(dict.fromkeys(name for task in tasks for name in task["paper"])),
        "scores": figures.score_intervals(rows, label="score, points"),
        "passes": [
            figures.pass_curves(curves, title=task["title"])
            for task in tasks
            if (
                curves := {
                    name: found["pass_at_k"]
                    for name, found in task["protocols"].items()
                    if found["pass_at_k"]
                }
            )
        ],
        "panels": [_panel_part(one)["panel"] for one in record["beyond"].values()],
    }


def _comparison_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a comparison: one block for each protocol, with its figures."""
    labels = [label["name"] for label in record["labels"]]
    blocks = []
    for protocol, found in record["protocols"].items():
        scores = [
            (row["title"], [(label, row["scores"][label]) for label in labels], {})
            for row in found["scores"]
        ]
        differences = [
            [
                f"{row['title']}: {row['first']} - {row['second']}",
                {
                    key: None if row["difference"][key] is None else 100 * row["difference"][key]
                    for key in ("value", "low", "high")
                },
            ]
            for row in found["differences"]
        ]
        blocks.append(
            {
                "protocol": protocol,
                "scores": figures.score_intervals(scores, label="score, points"),
                "differences": figures.panel_figure(
                    {"kind": "intervals", "label": "difference, points", "rows": differences}
                ),
                "passes": [
                    figures.pass_curves(row["curves"], title=row["title"])
                    for row in found["pass_at_k"]
                ],
                "scores_rows": found["scores"],
                "differences_rows": found["differences"],
            }
        )
    return {"link": "Comparison", "labels": labels, "blocks": blocks, "headline": ", ".join(labels)}


def _panel_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record beyond the target score: its panel, the figure drawn."""
    found = panel(record)
    drawn = figures.panel_figure(found["figure"]) if found["figure"] else None
    return {"link": found["title"], "headline": "", "panel": {**found, "figure": drawn}}


def _headline(record: Mapping[str, Any]) -> str:
    """The first benchmark or the domains, in one sentence."""
    found = []
    for domain in record["domains"]:
        for protocol, score in domain["score"].items():
            found.append(f"{protocol} mean of {domain['domain']} {points(score)}")
    if not found:
        task = record["tasks"][0]
        for protocol, numbers in task["protocols"].items():
            found.append(f"{task['title']}, {protocol}: {points(numbers['score'])}")
    return "; ".join(found) + "."


MAKERS = {
    "eval": Maker(_eval_part, "eval.html", "evaluation/reports"),
    "comparison": Maker(_comparison_part, "comparison.html", "evaluation/reports"),
    **dict.fromkeys(KINDS, Maker(_panel_part, "panel.html", "evaluation/reports")),
}
"""Kind of record -> its maker."""
