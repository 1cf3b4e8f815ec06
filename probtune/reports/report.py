"""Records of tune runs and demos -> one HTML text: no scripts, no links to other files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from . import figures
from .evaluation import comparison_part, eval_part, panel_part, percent, points
from .panels import KINDS
from .reproduction import reproduction_part

__all__ = ["METRIC_NAMES", "headline", "render"]

METRIC_NAMES = {
    "exact_match": "exact match",
    "token_accuracy": "token accuracy",
    "mean_p": "mean p",
    "nll": "NLL",
}

_MAX_ITEMS = 8


def render(records: Sequence[Mapping[str, Any]]) -> str:
    """One page for one record, or for several after each other with an overview in front.

    Raises:
        DataError: a record is of a kind that has no report.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("probtune", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "estimate": _estimate,
        "interval": _interval,
        "signed": _signed,
        "points": points,
        "percent": percent,
        "signed_points": _signed_points,
        "p_value": _p_value,
    }
    makers = {"tune": _tune, "demo": _demo, "eval": eval_part, "comparison": comparison_part}
    makers |= {**dict.fromkeys(KINDS, panel_part), "reproduction": reproduction_part}
    parts = []
    for record in records:
        if record["kind"] not in makers:
            raise DataError(
                f"a record of kind {record['kind']!r} has no report; give the folder of a run, a"
                " demo, an evaluation or a comparison, or a record made with --out."
            )
        found = makers[record["kind"]](record)
        kind = "panel" if record["kind"] in KINDS else record["kind"]
        parts.append({"kind": kind, "record": record, **found})
    css = environment.get_template("report.css").render()
    return environment.get_template("report.html").render(
        parts=parts, css=css, metric_names=METRIC_NAMES
    )


def headline(record: Mapping[str, Any]) -> str:
    """What a tune run found, in one sentence: the trained objective against the other models."""
    chosen = record["choice"]["objective"]
    metric = _main_metric(record)
    scale, unit = (1.0, "nats") if metric == "nll" else (100.0, "points")
    found = []
    for name, difference in _against(record, chosen, metric):
        value, low, high = difference["value"], difference["low"], difference["high"]
        if low is None or (low == high == 0.0):
            found.append(f"level with {name}" if low == 0.0 else f"not compared with {name}")
            continue
        verdict = "ahead of" if (value < 0) == (metric == "nll") else "behind"
        if low <= 0 <= high:
            verdict = "not told apart from"
        interval = f"[{scale * low:+.1f}, {scale * high:+.1f}]"
        found.append(f"{verdict} {name}: {scale * value:+.1f} {unit} {interval}")
    rows = record["data"]["heldout"]["rows"]
    name = METRIC_NAMES[metric]
    return f"{name[0].upper()}{name[1:]} on {rows} held-out rows: {chosen} is {'; '.join(found)}."


def _main_metric(record: Mapping[str, Any]) -> str:
    """Exact match where any model gets an answer right; else token accuracy, which no objective
    trains directly.
    """
    exact = [run["heldout"]["metrics"].get("exact_match") for run in record["runs"]]
    if all(exact) and any(found["value"] for found in exact):
        return "exact_match"
    return "token_accuracy"


def _against(
    record: Mapping[str, Any], chosen: str, metric: str
) -> list[tuple[str, dict[str, Any]]]:
    """The paired differences chosen - other, for every other model of the run."""
    found = []
    for row in record["comparisons"]:
        if row["metric"] == metric and row["first"] == chosen:
            found.append((row["second"], row["difference"]))
        elif row["metric"] == metric and row["second"] == chosen:
            found.append((row["first"], _negative(row["difference"])))
    return found


def _negative(found: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = (
        None if found[key] is None else -found[key] for key in ("value", "low", "high")
    )
    return {**found, "value": value, "low": high, "high": low}


def _tune(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs of a tune record: figures, and rows chosen for showing."""
    probe = record["probe"]
    chosen = record["choice"]["objective"]
    trained = [run for run in record["runs"] if run["train"]]
    metrics = list(record["runs"][0]["heldout"]["metrics"])

    def log_of(name: str) -> dict[str, list[tuple[float, float]]]:
        return {
            run["name"]: [(e["step"], e[name]) for e in run["train"]["log"] if name in e]
            for run in trained
        }

    return {
        "headline": headline(record),
        "chosen": chosen,
        "metrics": metrics,
        "differences": {
            metric: figures.differences(
                [
                    (f"{chosen} - {name}", difference)
                    for name, difference in _against(record, chosen, metric)
                ],
                label=f"difference in {METRIC_NAMES[metric]}",
            )
            for metric in metrics
        },
        "histogram": figures.histogram(probe["histogram"]),
        "classes": figures.shares(probe["classes"], label="mean p by kind of token"),
        "positions": figures.shares(probe["positions"], label="mean p by position in the response"),
        "nll_curves": figures.curves(log_of("nll"), label="NLL (training rows)"),
        "p_curves": figures.curves(log_of("mean_p"), label="mean p (training rows)"),
        "norm_curves": figures.curves(log_of("grad_norm"), label="gradient norm"),
        "items": _items(record, [run["name"] for run in record["runs"]]),
    }


def _items(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """A few held-out items: first those on which the models disagree."""
    runs = {run["name"]: run["heldout"]["items"] for run in record["runs"]}
    if not all("exact" in items for items in runs.values()):
        return []
    shown = record["data"]["items"]
    disagree = [
        i
        for i in range(len(shown))
        if len({runs[name]["exact"][i] for name in names if name != "base"}) > 1
    ]
    rest = [i for i in range(len(shown)) if i not in set(disagree)]
    return [
        {
            **shown[i],
            "answers": [
                {"name": name, "text": runs[name]["prediction"][i], "right": runs[name]["exact"][i]}
                for name in names
            ],
        }
        for i in (disagree + rest)[:_MAX_ITEMS]
    ]


def _demo(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for cell in record["cells"]:
        for row in cell["differences"]:
            if (row["second"], row["first"]) == ("nll()", "p()"):
                noise = f"{cell['noise']} {cell['rate']:g}" if cell["rate"] else "clean"
                rows.append((f"{cell['level']}, {noise}", row["difference"]))
    return {
        "continuum": figures.continuum(record["cells"]),
        "pair": figures.differences(
            rows, label="exact match of p() minus that of nll(), paired by seed"
        ),
        "objectives": list(
            dict.fromkeys(n for cell in record["cells"] for n in cell["exact_match"] if n != "base")
        ),
    }


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"


def _estimate(found: Mapping[str, Any], digits: int = 3) -> str:
    """value ± standard error"""
    if found["standard_error"] is None:
        return _number(found["value"], digits)
    return f"{_number(found['value'], digits)} ± {_number(found['standard_error'], digits)}"


def _interval(found: Mapping[str, Any], digits: int = 3) -> str:
    """value [low, high]"""
    if found["low"] is None:
        return _number(found["value"], digits)
    return (
        f"{_number(found['value'], digits)} [{_number(found['low'], digits)},"
        f" {_number(found['high'], digits)}]"
    )


def _signed_points(found: Mapping[str, Any]) -> str:
    """+value [+low, +high] in points of 100"""
    scaled = {
        key: None if found[key] is None else 100 * found[key] for key in ("value", "low", "high")
    }
    return _signed(scaled, 2)


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _signed(found: Mapping[str, Any], digits: int = 3) -> str:
    """+value [+low, +high]"""
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:+.{digits}f}"
    return f"{found['value']:+.{digits}f} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"
