"""Records beyond the target score -> panels: a title, a table, one figure, a note. A report of an
evaluation shows those that lie in its folder `beyond`; `probtune report` shows a record alone.

A panel is {"title", "note", "table": {"header", "rows"}, "figure"}; figures are those of
`evaluation_figures.panel_figure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["KINDS", "panel"]

Record = Mapping[str, Any]


def panel(record: Record) -> dict[str, Any]:
    """The panel of a record of one of `KINDS`."""
    return KINDS[record["kind"]](record)


def _forgetting(record: Record) -> dict[str, Any]:
    rows: list[list[str]] = []
    intervals: list[list[Any]] = []
    for name, what in (("data", "new rows"), ("samples", "samples of the base model")):
        found = (record["divergence"] or {}).get(name)
        if found:
            for direction, sign in (
                ("forward", "KL(base || tuned)"),
                ("reverse", "KL(tuned || base)"),
            ):
                label = f"{sign}, {what}"
                unit = f"{found['rows']:,} rows, nats per token"
                rows.append([label, "", "", _estimate(found[direction], 4), unit])
    if text := record["text"]:
        rows.append(
            [
                "bits per byte, held-out text",
                _estimate(text["base"], 4),
                _estimate(text["tuned"], 4),
                _signed(text["difference"], 4),
                f"{text['documents']:,} documents",
            ]
        )
    if tasks := record["tasks"]:
        for task in tasks["tasks"]:
            title = task["title"] + (" (target)" if task["target"] else "")
            change = _negative(_scaled(task["drop"], 100))
            rows.append(
                [
                    title,
                    _estimate(_scaled(task["base"], 100), 1),
                    _estimate(_scaled(task["tuned"], 100), 1),
                    _signed(change, 1),
                    f"{task['questions']:,} questions, points",
                ]
            )
            intervals.append([title, change])
        if mean := tasks["forgetting"]:
            change = _negative(_scaled(mean["difference"], 100))
            label = f"mean of the {len(mean['benchmarks'])} that are no target"
            rows.append([label, "", "", _signed(change, 1), f"p = {mean['p_value']:.3g}"])
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
    for name, found in parts:
        rows.append(
            [
                name,
                _estimate(found["accuracy"], 3),
                _signed(found["overconfidence"], 3),
                _estimate(found["ece"], 3),
                _estimate(found["brier"], 3) if "brier" in found else "-",
                _estimate(found["auroc"], 3) if "auroc" in found else "-",
                f"{found['number']:,}",
            ]
        )
        series[name] = [[b["probability"], b["accuracy"]["value"]] for b in found["reliability"]]
    note = (
        "Confidence: of tokens, the probability of the most probable one; of letters, the largest"
        " of their softmax; of free answers, the share of samples that agree. Brier: over the whole"
        " distribution, 0 to 2. ECE: 15 bins; it is above 0 by chance alone, compare models on the"
        " same items only."
    )
    if tokens := record["tokens"]:
        gap = _signed(tokens["entropy_gap"], 3)
        note += f" Tokens: NLL {_estimate(tokens['nll'], 3)} nats, less entropy {gap}."
    for one in (*record["options"], *record["votes"]):
        kept = ", ".join(f"{r['risk']:.3f} of the surest {r['coverage']:.0%}" for r in one["risks"])
        note += f" {one['title']}, error rate: {kept}."
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
    for found in record["tasks"]:
        name = f"{found['title']}, {found['label']}" if record["labelled"] else found["title"]
        k = found["samples"]
        measures = found["measures"]
        rows.append(
            [
                name,
                _estimate(_scaled(measures["pass@1"], 100), 1),
                _estimate(_scaled(measures[found["last"]], 100), 1),
                _estimate(_scaled(measures[f"maj@{k}"], 100), 1),
                _estimate(measures["distinct_answers"], 2),
                _estimate(measures["distinct_texts"], 2),
                str(k),
                f"{found['questions']:,}",
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
    def row(name: str, found: Record) -> list[str]:
        rank = "-" if found["rank"] is None else f"{found['rank']:.1f} of {found['full_rank']}"
        return [
            name,
            f"{found['relative']:.2e}" if found["relative"] is not None else "-",
            f"{found['norm']:.3g}",
            rank,
            f"{found['tensors']:,}",
            f"{found['parameters']:,}",
        ]

    layers = record["layers"]
    points = [[int(name), found["relative"]] for name, found in layers.items() if name != "outside"]
    rows = [row("all", record["all"])]
    rows += [row(name, found) for name, found in record["kinds"].items()]
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
            "series": {"relative drift": points},
            "x_label": "layer",
            "y_label": "||theta - theta0|| / ||theta0||",
        }
        if points
        else None,
    }


def _judgement(record: Record) -> dict[str, Any]:
    controlled = record["length_controlled"]
    rows = [
        ["win rate", _estimate(_scaled(record["win_rate"], 100), 1)],
        [
            "length-controlled win rate",
            _estimate(_scaled(controlled, 100), 1)
            if isinstance(controlled, Mapping)
            else f"none: {controlled}",
        ],
        ["preference for the first place", _signed(_scaled(record["place"], 100), 1)],
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


def _scaled(found: Record, factor: float) -> dict[str, Any]:
    keys: Sequence[str] = ("value", "low", "high")
    return {key: None if found[key] is None else factor * found[key] for key in keys}


def _negative(found: Record) -> dict[str, Any]:
    turned = _scaled(found, -1.0)
    return {**turned, "low": turned["high"], "high": turned["low"]}


def _estimate(found: Record, digits: int) -> str:
    if found["value"] is None:
        return "-"
    value = f"{found['value']:.{digits}f}"
    if found["low"] is None:
        return value
    return f"{value} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _signed(found: Record, digits: int) -> str:
    if found["value"] is None:
        return "-"
    value = f"{found['value']:+.{digits}f}"
    if found["low"] is None:
        return value
    return f"{value} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"
