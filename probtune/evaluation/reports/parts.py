"""Parts that the templates need of the records of evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...numbers import in_points, negative, points, signed_points
from ...reports.report import Maker
from . import figures as figures
from .panels import KINDS, panel

__all__ = ["MAKERS", "own_verdict"]


def _eval_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs of an evaluation: headline, figures, panels."""
    tasks = record["tasks"]
    rows = [
        (
            task["title"],
            [(name, measured["score"]) for name, measured in task["protocols"].items()],
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
        "own_verdict": own_verdict(record),
        "title": _headline(record).rstrip("."),
        "objectives": list(dict.fromkeys(name for task in tasks for name in task["paper"])),
        "scores": figures.score_intervals(rows, label="score, points"),
        "passes": [
            figures.pass_curves(curves, title=task["title"])
            for task in tasks
            if (
                curves := {
                    name: measured["pass_at_k"]
                    for name, measured in task["protocols"].items()
                    if measured["pass_at_k"]
                }
            )
        ],
        "panels": [_panel_part(one)["panel"] for one in record["beyond"].values()],
    }


def _comparison_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs of a comparison: one block for each protocol, with its
    figures.
    """
    labels = [label["name"] for label in record["labels"]]
    blocks = []
    for protocol, tables in record["protocols"].items():
        scores = [
            (row["title"], [(label, row["scores"][label]) for label in labels], {})
            for row in tables["scores"]
        ]
        differences = [
            [
                f"{row['title']}: {row['first']} - {row['second']}",
                {**in_points(row["difference"]), "undecided": not _decided(row)},
            ]
            for row in tables["differences"]
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
                    for row in tables["pass_at_k"]
                ],
                "scores_rows": tables["scores"],
                "differences_rows": tables["differences"],
            }
        )
    title = _comparison_title(record)
    return {
        "link": f"Comparison: {', '.join(labels)}",
        "labels": labels,
        "blocks": blocks,
        "headline": title,
        "title": title,
    }


def _comparison_title(record: Mapping[str, Any]) -> str:
    """Return which label is ahead on how many benchmarks, under the first protocol; of a single
    difference, by how much.
    """
    protocol, tables = next(iter(record["protocols"].items()))
    rows = [row for row in tables["differences"] if row["difference"]["value"] is not None]
    if len(rows) == 1:
        (row,) = rows
        difference, first, second = row["difference"], row["first"], row["second"]
        if not _decided(row):
            return f"Undecided on {row['title']}: {first} - {second} {signed_points(difference, 1)}"
        if difference["value"] < 0:
            difference, first, second = negative(difference), second, first
        return f"{first} is ahead of {second} on {row['title']}: {signed_points(difference, 1)}"
    ahead: dict[str, int] = {}
    for row in rows:
        if _decided(row):
            name = row["first"] if row["difference"]["value"] > 0 else row["second"]
            ahead[name] = ahead.get(name, 0) + 1
    clauses = [f"{name} is ahead in {number}" for name, number in ahead.items()]
    rest = len(rows) - sum(ahead.values())
    if rest:
        clauses.append(f"{rest} undecided")
    return f"Of {len(rows)} paired differences ({protocol}): {', '.join(clauses)}"


def _decided(row: Mapping[str, Any]) -> bool:
    """True if the interval of a difference excludes 0 and its p-value, corrected, says the same."""
    p = row["p_holm"] if row.get("p_holm") is not None else row.get("p_value")
    return figures.excludes_zero(row["difference"]) and (p is None or p < 0.05)


def _panel_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs of a record beyond the target score: its panel, the figure
    drawn.
    """
    content = panel(record)
    drawn = figures.panel_figure(content["figure"]) if content["figure"] else None
    return {"link": content["title"], "headline": "", "panel": {**content, "figure": drawn}}


def own_verdict(record: Mapping[str, Any]) -> str:
    """Return the caution about programs that models wrote, or nothing if none were run."""
    titles = [task["title"] for task in record["tasks"] if task.get("domain") == "code"]
    if not titles:
        return ""
    return (
        f"{', '.join(titles)}: a program runs in the process that tests it, so one that tries can"
        " name its own verdict; read these scores as those of models that do not try."
    )


def _headline(record: Mapping[str, Any]) -> str:
    """Return the first benchmark or the domains, in one sentence."""
    clauses = []
    for domain in record["domains"]:
        for protocol, score in domain["score"].items():
            clauses.append(f"{protocol} mean of {domain['domain']} {points(score)}")
    if not clauses:
        task = record["tasks"][0]
        for protocol, numbers in task["protocols"].items():
            clauses.append(f"{task['title']}, {protocol}: {points(numbers['score'])}")
    return "; ".join(clauses) + "."


MAKERS = {
    "eval": Maker(_eval_part, "eval.html", "evaluation/reports"),
    "comparison": Maker(_comparison_part, "comparison.html", "evaluation/reports"),
    **dict.fromkeys(KINDS, Maker(_panel_part, "panel.html", "evaluation/reports")),
}
"""Kind of record -> its maker."""
