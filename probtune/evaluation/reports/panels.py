"""Records beyond the target score -> panels: a title, a table, one figure, a note. A report of an
evaluation shows those that lie in its folder `beyond`; `probtune report` shows a record alone.

A panel is {"title", "note", "table": {"header", "rows"}, "figure"}; figures are those of
`figures.panel_figure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...numbers import in_points, interval, negative, points, signed, signed_points

__all__ = ["KINDS", "panel"]

Record = Mapping[str, Any]


def panel(record: Record) -> dict[str, Any]:
    """Return the panel of a record of one of `KINDS`."""
    return KINDS[record["kind"]](record)


def _forgetting(record: Record) -> dict[str, Any]:
    rows: list[list[str]] = []
    intervals: list[list[Any]] = []
    for name, what in (("data", "new rows"), ("samples", "samples of the base model")):
        divergence = (record["divergence"] or {}).get(name)
        if divergence:
            for direction, sign in (
                ("forward", "KL(base || tuned)"),
                ("reverse", "KL(tuned || base)"),
            ):
                label = f"{sign}, {what}"
                unit = f"{divergence['rows']:,} rows, nats per token"
                rows.append(
                    [
                        label,
                        "",
                        "",
                        interval(divergence[direction], spec=".4f", nonnegative=True),
                        unit,
                    ]
                )
    if text := record["text"]:
        rows.append(
            [
                "bits per byte, held-out text",
                interval(text["base"], spec=".4f", nonnegative=True),
                interval(text["tuned"], spec=".4f", nonnegative=True),
                signed(text["difference"], 4),
                f"{text['documents']:,} documents",
            ]
        )
    if tasks := record["tasks"]:
        for task in tasks["tasks"]:
            title = task["title"] + (" (target)" if task["target"] else "")
            change = negative(in_points(task["drop"]))
            rows.append(
                [
                    title,
                    points(task["base"], 1),
                    points(task["tuned"], 1),
                    signed(change, 1),
                    f"{task['questions']:,} questions, points",
                ]
            )
            intervals.append([title, change])
        if mean := tasks["forgetting"]:
            change = negative(in_points(mean["difference"]))
            label = f"mean of the {len(mean['benchmarks'])} that are no target"
            rows.append([label, "", "", signed(change, 1), f"p = {mean['p_value']:.3g}"])
            intervals.append([label, change])
    return {
        "title": f"What it cost elsewhere: {record['tuned']}",
        "note": "Change: tuned less base, paired by question or document; the KL is of the whole"
        " vocabulary. 95 % intervals over rows, documents or questions, for these two checkpoints.",
        "table": {
            "header": ["measure", "base", "tuned", "change or divergence [95 %]", "of"],
            "rows": rows,
        },
        "figure": {"kind": "intervals", "label": "change, points", "rows": intervals}
        if intervals
        else None,
    }


def _calibration(record: Record) -> dict[str, Any]:
    header = ["of", "accuracy", "confidence less accuracy", "ECE", "Brier", "AUROC", "number"]
    rows: list[list[str]] = []
    series: dict[str, list[list[float]]] = {"as often as it says": [[0.0, 0.0], [1.0, 1.0]]}
    parts: list[tuple[str, Record]] = []
    if record["tokens"]:
        parts.append(("tokens", record["tokens"]))
    parts += [(f"{one['title']}: letters", one) for one in record["options"]]
    parts += [(f"{one['title']}: majority of {one['samples']}", one) for one in record["votes"]]
    for name, part in parts:
        rows.append(
            [
                name,
                interval(part["accuracy"], spec=".3f", share=True),
                signed(part["overconfidence"], 3),
                interval(part["ece"], spec=".3f", share=True),
                interval(part["brier"], spec=".3f", nonnegative=True) if "brier" in part else "-",
                interval(part["auroc"], spec=".3f", share=True) if "auroc" in part else "-",
                f"{part['number']:,}",
            ]
        )
        series[name] = [[b["probability"], b["accuracy"]["value"]] for b in part["reliability"]]
    note = (
        "Confidence: of tokens, the probability of the most probable one; of letters, the largest"
        " of their softmax; of free answers, the share of samples that agree. Brier: over the whole"
        " distribution, 0 to 2. ECE: 15 bins; it is above 0 by chance alone, compare models on the"
        " same items only."
    )
    if tokens := record["tokens"]:
        gap = signed(tokens["entropy_gap"], 3)
        nll = interval(tokens["nll"], spec=".3f", nonnegative=True)
        note += f" Tokens: NLL {nll} nats, less entropy {gap}."
    for one in (*record["options"], *record["votes"]):
        risks = ", ".join(
            f"{r['risk']:.3f} of the surest {r['coverage']:.0%}" for r in one["risks"]
        )
        note += f" {one['title']}, error rate: {risks}."
    return {
        "title": f"Calibration of {record['model']}",
        "note": note,
        "table": {"header": header, "rows": rows},
        "figure": {
            "kind": "lines",
            "series": series,
            "x_label": "confidence",
            "y_label": "share right",
        },
    }


def _diversity(record: Record) -> dict[str, Any]:
    rows, series = [], {}
    for task in record["tasks"]:
        name = f"{task['title']}, {task['label']}" if record["labelled"] else task["title"]
        k = task["samples"]
        measures = task["measures"]
        rows.append(
            [
                name,
                points(measures["pass@1"], 1),
                points(measures[task["last"]], 1),
                points(measures[f"maj@{k}"], 1),
                interval(measures["distinct_answers"], spec=".2f"),
                interval(measures["distinct_texts"], spec=".2f"),
                str(k),
                f"{task['questions']:,}",
            ]
        )
        series[name] = [
            [int(measure.removeprefix("pass@")), 100 * value["value"]]
            for measure, value in measures.items()
            if measure.startswith("pass@")
        ]
    return {
        "title": "Diversity of the samples",
        "note": "pass@k: unbiased, from all samples of a question. maj: the most frequent answer."
        " Distinct: of the k samples of a question, wrong answers compared as texts and right ones"
        " taken for one. 95 % intervals over questions.",
        "table": {
            "header": ["benchmark", "pass@1", "pass@most", "majority", "distinct answers",
                       "distinct texts", "k", "questions"],
            "rows": rows,
        },
        "figure": {"kind": "lines", "series": series, "x_label": "k", "y_label": "pass@k, points"},
    }  # fmt: skip


def _drift(record: Record) -> dict[str, Any]:
    def row(name: str, weights: Record) -> list[str]:
        rank = (
            "-" if weights["rank"] is None else f"{weights['rank']:.1f} of {weights['full_rank']}"
        )
        return [
            name,
            f"{weights['relative']:.2e}" if weights["relative"] is not None else "-",
            f"{weights['norm']:.3g}",
            rank,
            f"{weights['tensors']:,}",
            f"{weights['parameters']:,}",
        ]

    layers = record["layers"]
    by_layer = [
        [int(name), weights["relative"]] for name, weights in layers.items() if name != "outside"
    ]
    rows = [row("all", record["all"])]
    rows += [row(name, weights) for name, weights in record["kinds"].items()]
    if "outside" in layers:
        rows.append(row("outside the layers", layers["outside"]))
    return {
        "title": f"Drift of the weights: {record['tuned']}",
        "note": "Relative: norm of the difference by that of the base model's weights. Rank: median"
        " effective rank of the matrices' differences. Exact numbers of two checkpoints, so without"
        " intervals.",
        "table": {
            "header": ["weights", "relative", "norm", "effective rank", "tensors", "parameters"],
            "rows": rows,
        },
        "figure": {
            "kind": "lines",
            "series": {"relative drift": by_layer},
            "x_label": "layer",
            "y_label": "||theta - theta0|| / ||theta0||",
        }
        if by_layer
        else None,
    }


def _judgement(record: Record) -> dict[str, Any]:
    controlled = record["length_controlled"]
    rows = [
        ["win rate", points(record["win_rate"], 1)],
        [
            "length-controlled win rate",
            points(controlled, 1) if isinstance(controlled, Mapping) else f"none: {controlled}",
        ],
        ["preference for the first place", signed_points(record["place"], 1)],
        ["undecided", f"{record['undecided']:,} of {record['instructions']:,}"],
        [
            "mean length, characters",
            f"{record['length']:,.0f} against {record['other_length']:,.0f}",
        ],
    ]
    return {
        "title": f"Judged: {record['answers']} against {record['against']}",
        "note": f"Judge: {record['judge']['model']}, each pair in both orders; its prompt is in the"
        " record. Points of 100; 95 % intervals over instructions.",
        "table": {"header": ["", "value [95 %]"], "rows": rows},
        "figure": None,
    }


KINDS = {
    "forgetting": _forgetting,
    "calibration": _calibration,
    "diversity": _diversity,
    "drift": _drift,
    "judgement": _judgement,
}
"""Kind of record -> what makes its panel."""
