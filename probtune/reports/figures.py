"""Numbers -> SVG. Every function takes plain lists and returns the text of one `<svg>` element.

The charts of pages are drawn by `svg`; matplotlib, imported when it is first needed, draws what is
saved to files, and figures of the wings.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .svg import Chart

__all__ = [
    "PALETTE",
    "as_svg",
    "canvas",
    "colour_of",
    "continuum",
    "curves",
    "differences",
    "excludes_zero",
    "histogram",
    "interval_bar",
    "objective_curves",
    "save",
    "shares",
    "styled",
]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#7f7f7f")
"""Okabe and Ito's palette, told apart also with colour-blind eyes."""

_FIXED = {"nll()": 0, "p()": 1, "power(0.5)": 2, "base": 7}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small files, selectable
    "svg.hashsalt": "probtune",  # the same numbers give the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def colour_of(name: str, others: Sequence[str] = ()) -> str:
    """Return the same colour for the same objective in every figure of a report."""
    if name in _FIXED:
        return PALETTE[_FIXED[name]]
    free = [i for i in range(3, 7)]
    rest = [other for other in others if other not in _FIXED]
    return PALETTE[free[(rest.index(name) if name in rest else 0) % len(free)]]


def histogram(
    counts: Sequence[int],
    *,
    label: str = "target probability p",
    curves: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> str:
    """Draw how the target tokens are spread over p, in equal bins from 0 to 1.

    Args:
        curves: lines over the same axis, each scaled to the height of the chart at its largest.
    """
    total = max(sum(counts), 1)
    shares_of = [100 * count / total for count in counts]
    most = max(*shares_of, 1e-9) * 1.05
    chart = Chart("histogram of the target probability", x=(0, 1), y=(0, most))
    chart.axes(label, "% of tokens")
    width = 1.0 / len(counts)
    pale = 0.35 if curves else 1.0
    for i, share in enumerate(shares_of):
        title = f"p {i * width:.2f} to {(i + 1) * width:.2f}: {share:.1f} %"
        chart.bar(i * width, (i + 1) * width, 0, share, PALETTE[0], opacity=pale, title=title)
    for name, points in (curves or {}).items():
        peak = max((y for _, y in points), default=0) or 1.0
        chart.line([(x, y / peak * most) for x, y in points], colour_of(name, list(curves or {})))
    chart.legend([(name, colour_of(name, list(curves or {}))) for name in curves or {}])
    return chart.svg()


def shares(groups: Sequence[Mapping[str, Any]], *, label: str) -> str:
    """Mean p of groups of tokens with 95 % intervals, and the number of tokens beside it."""
    rows = [(g["name"], g["mean_p"], PALETTE[0], f"{g['tokens']:,}") for g in groups]
    return _forest(rows, label=label, x=(0.0, 1.0))


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    x_label: str = "optimizer step",
    colours: Mapping[str, str] | None = None,
) -> str:
    """Draw one line per objective: a quantity that means the same for all of them, against the
    step. A single point is drawn as a point.

    Args:
        colours: colour of each line; default: that of its objective.
    """
    colours = colours or {name: colour_of(name, list(series)) for name in series}
    points = [point for line in series.values() for point in line]
    xs, ys = ([point[i] for point in points] or [0.0, 1.0] for i in (0, 1))
    room = 0.05 * (max(ys) - min(ys))
    chart = Chart(
        f"{label} during training",
        x=(min(xs), max(xs)),
        y=(min(ys) - room, max(ys) + room),
        height=200,
    )
    chart.axes(x_label, label)
    widths = [3.4 - 1.8 * i / max(len(series) - 1, 1) for i in range(len(series))]
    for (name, line), width in zip(series.items(), widths, strict=True):
        # Wider below narrower: lines that coincide stay visible.
        chart.line(line, colours[name], width=width if len(series) > 1 else 1.7)
    chart.legend([(name, colours[name]) for name, line in series.items() if line])
    return chart.svg()


def differences(rows: Sequence[tuple[str, Mapping[str, Any]]], *, label: str) -> str:
    """Paired differences with 95 % intervals around the line of no difference."""
    shown = [
        (name, estimate, "#333333" if excludes_zero(estimate) else "#aaaaaa", "")
        for name, estimate in rows
    ]
    return _forest(shown, label=label, zero=True)


_Row = tuple[str, Mapping[str, Any], str, str]


def _forest(
    rows: Sequence[_Row], *, label: str, x: tuple[float, float] | None = None, zero: bool = False
) -> str:
    """Draw estimates with their intervals below each other: (name, estimate, colour, remark)."""
    ends = [e[k] for _, e, _, _ in rows for k in ("low", "high", "value") if e[k] is not None]
    if x is None:
        low, high = min([*ends, 0.0]), max([*ends, 0.0])
        room = 0.06 * (high - low) or 0.5
        x = (low - room, high + room)
    longest = max((len(name) for name, *_ in rows), default=0)
    left = min(6.2 * longest + 14, 230)
    right = 44 if any(remark for *_, remark in rows) else 12
    chart = Chart(
        label,
        x=x,
        y=(-0.6, len(rows) - 0.4),
        width=max(360.0, left + 200),
        height=46 + 24 * len(rows),
        left=left,
        right=right,
    )
    chart.axes(label, y_ticks=())
    if zero:
        chart.segment(0, -0.6, 0, len(rows) - 0.4, "#aaaaaa", 1)
    for row, (name, estimate, colour, remark) in enumerate(reversed(rows)):
        chart.label(chart.x[0], row, name if len(name) < 38 else name[:36] + "..", dx=-7)
        if estimate["low"] is not None and estimate["high"] is not None:
            low, high = max(estimate["low"], chart.x[0]), min(estimate["high"], chart.x[1])
            chart.segment(low, row, high, row, colour)
        if estimate["value"] is not None:
            chart.dot(estimate["value"], row, colour, 3.5)
        if remark:
            chart.label(chart.x[1], row, remark, anchor="start", dx=4)
    return chart.svg()


def continuum(cells: Sequence[Mapping[str, Any]]) -> str:
    """Draw the demo: exact match per seed (dots) and over seeds (bar with 95 % interval), by cell
    and objective; a frame around the bar that `auto` took with most seeds.
    """
    objectives = list(
        dict.fromkeys(name for cell in cells for name in cell["exact_match"] if name != "base")
    )
    chart = Chart(
        "exact match by capability level and objective",
        x=(-0.5, len(cells) - 0.5),
        y=(0, 1.02),
        width=max(360, 140 * len(cells)),
        height=270,
        bottom=52,
    )
    chart.axes("", "exact match on clean problems", x_ticks=())
    for index, cell in enumerate(cells):
        trained = [name for name in objectives if name in cell["exact_match"]]
        base = cell["exact_match"]["base"]["estimate"]["value"]
        width = 0.8 / max(len(trained), 1)
        taken = max(set(cell["auto"]["takes"]), key=cell["auto"]["takes"].count) if (
            "auto" in cell
        ) else None  # fmt: skip
        for k, name in enumerate(trained):
            middle = index + (k - (len(trained) - 1) / 2) * width
            results = cell["exact_match"][name]
            estimate, colour = results["estimate"], colour_of(name, objectives)
            chart.bar(
                middle - 0.45 * width, middle + 0.45 * width, 0, estimate["value"], colour,
                opacity=0.4, frame="#333333" if name == taken else "",
                title=f"{name}: {estimate['value']:.3f}",
            )  # fmt: skip
            if estimate["low"] is not None:
                low, high = max(estimate["low"], 0.0), min(estimate["high"], 1.0)
                chart.segment(middle, low, middle, high, colour)
            for i, value in enumerate(results["by_seed"]):
                chart.dot(middle + (i - (len(results["by_seed"]) - 1) / 2) * 0.03, value, colour, 2)
        chart.segment(index - 0.44, base, index + 0.44, base, PALETTE[7], 1.4)
        for line, text in enumerate(_cell_label(cell).split("\n")):
            chart.label(index, -0.055 - 0.075 * line, text, anchor="middle")
    entries = [(name, colour_of(name, objectives)) for name in objectives]
    if any("auto" in cell for cell in cells):
        entries.append(("frame: auto takes it", "#333333"))
    chart.legend([*entries, ("before", PALETTE[7])])
    return chart.svg()


def objective_curves(
    p: Sequence[float], curves: Mapping[str, Mapping[str, Sequence[float]]]
) -> Any:
    """f, w and W_f against p for several objectives, side by side, as a matplotlib figure."""
    with styled() as pyplot:
        figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
        titles = {
            "value": "f(p)",
            "token_weight": "token weight w(p)",
            "logit_gradient": "logit gradient W_f(p) = w(p)(1 - p)",
        }
        limits = {"value": (-3.0, 5.0), "token_weight": (0.0, 3.0), "logit_gradient": (0.0, 1.5)}
        for panel, (quantity, title) in zip(panels, titles.items(), strict=True):
            for index, (name, values) in enumerate(curves.items()):
                colour = PALETTE[index % len(PALETTE)]
                panel.plot(
                    p,
                    values[quantity],
                    color=colour,
                    label=name,
                    linestyle=("-", "--", ":")[index // len(PALETTE) % 3],
                    linewidth=1.4
                    + 3.0 * (1 - index / len(curves)),  # coinciding curves stay visible
                )
            panel.set(title=title, xlabel="p", xlim=(0, 1), ylim=limits[quantity])
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(len(curves), 7),
            fontsize=8,
        )
        return figure


def save(figure: Any, path: str) -> None:
    """Write a figure to a .png, .svg or .pdf file; the same numbers give the same SVG."""
    with styled() as pyplot:
        metadata = {"Date": None} if path.endswith(".svg") else None
        figure.savefig(path, dpi=150, metadata=metadata)
        pyplot.close(figure)


def _cell_label(cell: Mapping[str, Any]) -> str:
    noise = f"{cell['noise']} noise {cell['rate']:g}" if cell["rate"] else "clean labels"
    mean_p = cell["mean_p"]["value"]
    return f"{cell['level']}\nmean p {mean_p:.2f}\n{noise}"


def excludes_zero(estimate: Mapping[str, Any]) -> bool:
    return estimate["low"] is not None and (estimate["low"] > 0 or estimate["high"] < 0)


def interval_bar(axes: Any, row: float, estimate: Mapping[str, Any], colour: str) -> None:
    if estimate["low"] is not None:
        axes.plot([estimate["low"], estimate["high"]], [row, row], color=colour, linewidth=2)
    if estimate["value"] is not None:
        axes.plot([estimate["value"]], [row], "o", color=colour, markersize=4)


@contextmanager
def styled():
    """Matplotlib's pyplot in our style, drawing to files only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_STYLE):
        yield pyplot


@contextmanager
def canvas(width: float, height: float):
    with styled() as pyplot:
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axes
        finally:
            pyplot.close(figure)


_VARIABLES = {
    "#ffffff": "chart",
    "#777777": "axis",
    "#333333": "label",
    "#555555": "tick",
    "#e8e8e8": "grid",
    "#000000": "label",
    "#262626": "label",
}
"""Colour that matplotlib writes -> variable of the page."""


def as_svg(figure: Any, title: str) -> str:
    """Return the figure as an inline element that scales with the page and is named for screen
    readers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()  # type: ignore[union-attr]
    opening = (
        f'<svg role="img" aria-label="{title}" style="max-width:{float(width):.0f}pt;width:100%"'
    )
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    text = re.sub(r"<svg ", opening + " ", text, count=1)
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
