"""Evaluations -> SVG: scores with intervals beside the paper's, pass@k, the figures of panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...numbers import in_points
from ...reports.figures import PALETTE, as_svg, canvas, excludes_zero, interval_bar

__all__ = ["excludes_zero", "lines", "panel_figure", "pass_curves", "score_intervals"]

Row = tuple[str, Sequence[tuple[str, Mapping[str, Any]]], Mapping[str, float]]
"""A benchmark's title, (series, estimate) from 0 to 1, and the paper's figures in points."""

_MARKS = ("D", "s", "^", "v", "P", "X")


def score_intervals(rows: Sequence[Row], *, label: str) -> str:
    """Draw one line per benchmark: estimates with 95 % intervals, in points; the paper's as hollow
    marks.
    """
    series = list(dict.fromkeys(name for _, estimates, _ in rows for name, _ in estimates))
    printed = list(dict.fromkeys(name for _, _, paper in rows for name in paper))
    with canvas(6.4, 0.9 + 0.22 * len(rows) * (1 + len(series))) as (figure, axes):
        for row, (_, estimates, paper) in enumerate(reversed(rows)):
            for name, estimate in estimates:
                index = series.index(name)
                y = row + (0.5 * (len(series) - 1) - index) * 0.7 / max(len(series), 1)
                interval_bar(
                    axes, y, in_points(estimate, share=True), PALETTE[index % len(PALETTE)]
                )
            for name, value in paper.items():
                mark = _MARKS[printed.index(name) % len(_MARKS)]
                axes.plot(
                    [value], [row], mark, markerfacecolor="none", color="#666666", markersize=5
                )
        for index, name in enumerate(series):
            axes.plot([], [], "o-", color=PALETTE[index % len(PALETTE)], markersize=4, label=name)
        for index, name in enumerate(printed):
            mark = _MARKS[index % len(_MARKS)]
            axes.plot([], [], mark, color="#666666", markerfacecolor="none", label=f"paper: {name}")
        axes.set(xlabel=label, yticks=range(len(rows)), ylim=(-0.6, len(rows) - 0.4))
        axes.set_yticklabels([title for title, _, _ in reversed(rows)])
        axes.set_xlim(left=0)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
        return as_svg(figure, label)


def pass_curves(curves: Mapping[str, Mapping[str, Any]], *, title: str) -> str:
    """name -> (k -> pass@k as an estimate or a number), with 95 % bands where there are any."""
    with canvas(3.6, 2.6) as (figure, axes):
        for index, (name, curve) in enumerate(curves.items()):
            ks = sorted(map(int, curve))
            estimates = [curve[str(k)] for k in ks]
            colour = PALETTE[index % len(PALETTE)]
            if all(isinstance(value, Mapping) and value["low"] is not None for value in estimates):
                low, high = ([100 * value[end] for value in estimates] for end in ("low", "high"))
                axes.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
            values = [v["value"] if isinstance(v, Mapping) else v for v in estimates]
            axes.plot(ks, [100 * v for v in values], "o-", color=colour, markersize=3, label=name)
            axes.set_xscale("log", base=2)
            axes.set_xticks(ks, [str(k) for k in ks])
        axes.set(xlabel="k", ylabel="pass@k, points", title=title)
        axes.title.set_fontsize(9)
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend(fontsize=8)
        return as_svg(figure, f"pass@k of {title}")


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> str:
    """Draw one line per name."""
    with canvas(4.2, 2.6) as (figure, axes):
        for index, (name, points) in enumerate(series.items()):
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, "o-", color=PALETTE[index % len(PALETTE)], markersize=3, label=name)
        axes.set(xlabel=x_label, ylabel=y_label)
        if len(series) > 1:
            axes.legend(fontsize=8)
        return as_svg(figure, f"{y_label} against {x_label}")


def panel_figure(figure: Mapping[str, Any]) -> str:
    """Draw the figure of a panel (docs/records.md): `lines` or `intervals`."""
    if figure["kind"] == "lines":
        return lines(figure["series"], x_label=figure["x_label"], y_label=figure["y_label"])
    assert figure["kind"] == "intervals", figure["kind"]
    rows = figure["rows"]
    with canvas(5.2, 0.7 + 0.3 * len(rows)) as (drawn, axes):
        axes.axvline(0.0, color="#999999", linewidth=1)
        for row, (_, estimate) in enumerate(reversed(rows)):
            decided = excludes_zero(estimate) and not estimate.get("undecided")
            interval_bar(axes, row, estimate, "#333333" if decided else "#aaaaaa")
        axes.set(xlabel=figure["label"], yticks=range(len(rows)), ylim=(-0.6, len(rows) - 0.4))
        axes.set_yticklabels([name for name, _ in reversed(rows)])
        return as_svg(drawn, figure["label"])
