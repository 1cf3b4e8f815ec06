"""Numbers -> SVG. Every function takes plain lists and returns the text of one `<svg>` element.

Matplotlib draws; it is imported when the first figure is made.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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


def histogram(counts: Sequence[int], *, label: str = "target probability p") -> str:
    """Draw how the target tokens are spread over p, in equal bins from 0 to 1."""
    with canvas(5.2, 2.3) as (figure, axes):
        width = 1.0 / len(counts)
        total = max(sum(counts), 1)
        axes.bar(
            [(i + 0.5) * width for i in range(len(counts))],
            [100 * c / total for c in counts],
            width,
            color="#0072b2",
        )
        axes.set(xlim=(0, 1), xlabel=label, ylabel="% of tokens")
        return as_svg(figure, "histogram of the target probability")


def shares(groups: Sequence[Mapping[str, Any]], *, label: str) -> str:
    """Mean p of groups of tokens with 95 % intervals, and the number of tokens beside it."""
    with canvas(5.2, 0.6 + 0.28 * len(groups)) as (figure, axes):
        for row, group in enumerate(reversed(groups)):
            estimate = group["mean_p"]
            interval_bar(axes, row, estimate, "#0072b2")
            axes.text(
                1.02,
                row,
                f"{group['tokens']:,}",
                va="center",
                fontsize=8,
                color="#777777",
                transform=axes.get_yaxis_transform(),
            )
        axes.set(
            xlim=(0, 1), xlabel=label, yticks=range(len(groups)), ylim=(-0.6, len(groups) - 0.4)
        )
        axes.set_yticklabels([group["name"] for group in reversed(groups)])
        return as_svg(figure, label)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    x_label: str = "optimizer step",
) -> str:
    """Draw one line per objective: a quantity that means the same for all of them, against the
    step.
    """
    with canvas(3.6, 2.4) as (figure, axes):
        for name, points in series.items():
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour_of(name, list(series)), label=name
                )
        axes.set(xlabel=x_label, ylabel=label)
        axes.margins(x=0.02)
        if len(series) > 1:
            axes.legend(fontsize=8)
        return as_svg(figure, f"{label} during training")


def differences(rows: Sequence[tuple[str, Mapping[str, Any]]], *, label: str) -> str:
    """Paired differences with 95 % intervals around the line of no difference."""
    with canvas(5.2, 0.7 + 0.3 * len(rows)) as (figure, axes):
        axes.axvline(0.0, color="#999999", linewidth=1)
        for row, (_, difference) in enumerate(reversed(rows)):
            interval_bar(
                axes, row, difference, "#333333" if excludes_zero(difference) else "#aaaaaa"
            )
        axes.set(xlabel=label, yticks=range(len(rows)), ylim=(-0.6, len(rows) - 0.4))
        axes.set_yticklabels([name for name, _ in reversed(rows)])
        axes.locator_params(axis="x", nbins=6)
        return as_svg(figure, label)


def continuum(cells: Sequence[Mapping[str, Any]]) -> str:
    """Draw the demo: exact match per seed (dots) and over seeds (bar with 95 % interval), by cell
    and objective; a frame around the bar that `auto` took with most seeds.
    """
    with canvas(7.4, 3.2) as (figure, axes):
        objectives = list(
            dict.fromkeys(name for cell in cells for name in cell["exact_match"] if name != "base")
        )
        seen = set()
        for index, cell in enumerate(cells):
            trained = [name for name in objectives if name in cell["exact_match"]]
            base = cell["exact_match"]["base"]["estimate"]["value"]
            axes.plot(
                [index - 0.42, index + 0.42],
                [base, base],
                color="#999999",
                linewidth=1,
                linestyle=":",
                zorder=1,
            )
            for k, name in enumerate(trained):
                x = index + (k - (len(trained) - 1) / 2) * 0.8 / max(len(trained), 1)
                results = cell["exact_match"][name]
                estimate, colour = results["estimate"], colour_of(name, objectives)
                axes.bar(
                    x,
                    estimate["value"],
                    0.72 / len(trained),
                    color=colour,
                    alpha=0.35,
                    label=None if name in seen else name,
                )
                seen.add(name)
                if "auto" in cell and name == max(
                    set(takes := cell["auto"]["takes"]), key=takes.count
                ):
                    axes.bar(
                        x,
                        estimate["value"],
                        0.72 / len(trained),
                        fill=False,
                        edgecolor="#222222",
                        linewidth=1.2,
                        label=None if "auto" in seen else "auto takes it",
                    )
                    seen.add("auto")
                if estimate["low"] is not None:
                    low, high = max(estimate["low"], 0.0), min(estimate["high"], 1.0)
                    axes.plot([x, x], [low, high], color=colour, linewidth=2)
                spread = [
                    x + (i - (len(results["by_seed"]) - 1) / 2) * 0.02
                    for i in range(len(results["by_seed"]))
                ]
                axes.plot(spread, results["by_seed"], "o", color=colour, markersize=3)
        axes.set(ylim=(0, 1.02), ylabel="exact match on clean problems", xticks=range(len(cells)))
        axes.set_xticklabels([_cell_label(cell) for cell in cells], fontsize=8)
        axes.grid(axis="x", visible=False)
        axes.legend(
            fontsize=8, ncols=min(len(objectives), 7), loc="lower center", bbox_to_anchor=(0.5, 1.0)
        )
        return as_svg(figure, "exact match by capability level and objective")


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
    text = re.sub(r"<svg ", opening + " ", text, count=1)
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
