"""Pictures of the theory: plain lists in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .figures import PALETTE, styled

__all__ = ["crossover_lines", "escape_curves", "phase_map", "theorem_lines"]


def crossover_lines(
    noise: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    below: str = "NLL lowers the clean risk faster",
    above: str = "-p lowers the clean risk faster",
) -> Any:
    """Lines over the noise rate that part the plane into a lower and an upper side."""
    with styled() as pyplot:
        figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
        for index, (name, values) in enumerate(lines.items()):
            axes.plot(
                noise,
                values,
                color=PALETTE[index % 7],
                label=name,
                linestyle="-" if index == 0 else "--",
            )
        first = next(iter(lines.values()))
        axes.fill_between(noise, first, 1.0, color=PALETTE[1], alpha=0.10, linewidth=0)
        axes.fill_between(noise, 0.0, first, color=PALETTE[0], alpha=0.10, linewidth=0)
        axes.text(0.97, 0.95, above, transform=axes.transAxes, ha="right", va="top", fontsize=8)
        axes.text(0.03, 0.05, below, transform=axes.transAxes, fontsize=8)
        axes.set(
            xlim=(noise[0], noise[-1]),
            ylim=(0, 1),
            xlabel="label noise",
            ylabel="p of the right label",
        )
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
        return figure


def phase_map(
    objectives: Sequence[str],
    noise: Sequence[float],
    p: Sequence[float],
    winner: Sequence[Sequence[int]],
    *,
    title: str,
    lines: Mapping[str, Sequence[float]],
) -> Any:
    """Draw which objective wins at each noise rate (upwards) and starting p (to the right); lines
    give p over the noise rate.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    with styled() as pyplot:
        figure, axes = pyplot.subplots(figsize=(6.6, 4.4), layout="constrained")
        # From prior-averse to prior-leaning in the order given.
        shades = pyplot.get_cmap("viridis")(
            [i / max(1, len(objectives) - 1) for i in range(len(objectives))]
        )
        axes.pcolormesh(
            p,
            noise,
            winner,
            cmap=ListedColormap(shades),
            vmin=-0.5,
            vmax=len(objectives) - 0.5,
            rasterized=True,
            shading="nearest",
        )
        for name, values in lines.items():
            axes.plot(
                values, noise, color="white", linestyle="--" if "start" in name else ":", label=name
            )
        axes.grid(visible=False)
        axes.set(
            xlim=(p[0], p[-1]),
            ylim=(noise[0], noise[-1]),
            xlabel="p of the right label before training",
            ylabel="label noise",
            title=title,
        )
        seen = {index for row in winner for index in row}
        patches = [
            Patch(color=shades[i], label=name) for i, name in enumerate(objectives) if i in seen
        ]
        legend = figure.legend(handles=patches, loc="outside right upper", fontsize=8)
        legend.set_title("highest p after")
        if lines:
            drawn = axes.legend(fontsize=7, loc="upper right", framealpha=0.6, frameon=True)
            drawn.get_frame().set_facecolor("#444444")
            for text in drawn.get_texts():
                text.set_color("white")
        return figure


def escape_curves(p: Sequence[float], curves: Mapping[str, Sequence[float]], *, title: str) -> Any:
    """Time to become likely over the starting probability, on logarithmic axes."""
    with styled() as pyplot:
        figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
        for index, (name, times) in enumerate(curves.items()):
            style = ("-", "--", ":")[index // 7 % 3]
            axes.plot(p, times, color=PALETTE[index % 7], linestyle=style, label=name)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="p of the target before training",
            ylabel="time to p = 1/2",
            title=title,
        )
        axes.legend(fontsize=8)
        return figure


def theorem_lines(
    p: Sequence[float], lines: Mapping[str, Sequence[float]], *, first: str, second: str
) -> Any:
    """R'(first) - R'(second) over p, a line per noise rate; above 0 the first leads."""
    with styled() as pyplot:
        figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
        for index, (name, values) in enumerate(lines.items()):
            axes.plot(p, values, color=PALETTE[index % 7], label=name)
        axes.axhline(0.0, color="#555555", linewidth=1)
        axes.set(
            xlim=(0, 1),
            xlabel="p of the right label (the rest spread evenly)",
            ylabel=f"R'({first}) - R'({second})",
        )
        axes.legend(fontsize=8)
        return figure
