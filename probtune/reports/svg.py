"""Charts as SVG text, without a drawing library: a page of ten runs has a hundred of them.

Colours are CSS variables with a fallback, so that a chart follows the page's dark mode and keeps
its colours where it is saved alone. Text is 11 units high in a chart 360 wide, which is readable
on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["Chart", "ink", "nice_ticks"]

_AXIS = "var(--axis, #777777)"
_LABEL = "var(--label, #333333)"
_TICK = "var(--tick, #555555)"
_GRID = "var(--grid, #e8e8e8)"


def ink(colour: str) -> str:
    """Return a colour of the palette as a variable of the page, with itself as the fallback."""
    from .figures import PALETTE

    if colour in PALETTE:
        return f"var(--c{PALETTE.index(colour)}, {colour})"
    return {"#333333": "var(--dark, #333333)", "#aaaaaa": "var(--pale, #aaaaaa)"}.get(
        colour, colour
    )


def nice_ticks(low: float, high: float, number: int = 5) -> list[float]:
    """Return round numbers within [low, high], about `number` of them.

    >>> nice_ticks(0.0, 1.0), nice_ticks(-0.03, 0.021)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-0.03, -0.02, -0.01, 0.0, 0.01, 0.02])
    """
    if not high > low:
        return [low]
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


class Chart:
    """One chart with linear axes; everything is drawn in the coordinates of the data."""

    def __init__(
        self,
        title: str,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        width: float = 360,
        height: float = 170,
        left: float = 56,
        right: float = 10,
        top: float = 8,
        bottom: float = 36,
    ):
        self.title, self.width, self.height = title, width, height
        self.x, self.y = _wide(x), _wide(y)
        self.box = (left, top, width - right, height - bottom)
        self._parts: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in units of the picture."""
        left, top, right, bottom = self.box
        u = (x - self.x[0]) / (self.x[1] - self.x[0])
        v = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + u * (right - left), bottom - v * (bottom - top)

    def axes(
        self,
        x_label: str = "",
        y_label: str = "",
        *,
        x_ticks: Sequence[float] | None = None,
        y_ticks: Sequence[float] | None = None,
    ) -> None:
        """Draw the frame, ticks with their numbers, and labels; before the data."""
        left, top, right, bottom = self.box
        for tick in nice_ticks(*self.x) if x_ticks is None else x_ticks:
            px, _ = self.at(tick, self.y[0])
            self._line(px, top, px, bottom, _GRID, 1)
            self._text(px, bottom + 13, _short(tick), _TICK, "middle", 10)
        for tick in nice_ticks(*self.y, 4) if y_ticks is None else y_ticks:
            _, py = self.at(self.x[0], tick)
            self._line(left, py, right, py, _GRID, 1)
            self._text(left - 5, py + 3.5, _short(tick), _TICK, "end", 10)
        self._line(left, bottom, right, bottom, _AXIS, 1)
        if y_ticks is None or y_ticks:
            self._line(left, top, left, bottom, _AXIS, 1)
        if x_label:
            middle, half = (left + right) / 2, 3.0 * len(x_label)
            middle = max(min(middle, self.width - half), half)  # a long label may leave the frame
            self._text(middle, self.height - 6, x_label, _LABEL, "middle")
        if y_label:
            middle = (top + bottom) / 2
            self._parts.append(
                f'<text x="11" y="{middle:.1f}" transform="rotate(-90 11 {middle:.1f})"'
                f' text-anchor="middle" style="fill: {_LABEL}; font-size: 11px">'
                f"{escape(y_label)}</text>"
            )

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 1.7,
        dash: str = "",
    ) -> None:  # fmt: skip
        """Draw a line through points, with a dot where they are three or fewer."""
        places = [self.at(x, y) for x, y in points]
        if len(places) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            self._parts.append(
                f'<polyline points="{path}" fill="none"{dashed} style="stroke: {ink(colour)};'
                f' stroke-width: {width}"/>'
            )
        if len(places) <= 3:
            for px, py in places:
                self._dot(px, py, colour, 3)

    def dot(self, x: float, y: float, colour: str, radius: float = 3) -> None:
        """Draw a dot."""
        self._dot(*self.at(x, y), colour, radius)

    def segment(
        self, x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 2
    ) -> None:
        """Draw a straight line."""
        self._line(*self.at(x0, y0), *self.at(x1, y1), ink(colour), width)

    def bar(
        self, x0: float, x1: float, y0: float, y1: float, colour: str, *, opacity: float = 1.0,
        frame: str = "", title: str = "",
    ) -> None:  # fmt: skip
        """Draw a rectangle, with a frame and a text that a pointer shows."""
        (left, top), (right, bottom) = self.at(x0, y1), self.at(x1, y0)
        stroke = f"; stroke: {ink(frame)}; stroke-width: 1.4" if frame else ""
        inner = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0):.1f}"'
            f' height="{max(bottom - top, 0):.1f}" style="fill: {ink(colour)};'
            f' fill-opacity: {opacity}{stroke}">{inner}</rect>'
        )

    def label(self, x: float, y: float, text: str, *, anchor: str = "end", dx: float = 0) -> None:
        """Write a text beside a place."""
        px, py = self.at(x, y)
        self._text(px + dx, py + 3.5, text, _LABEL, anchor)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Name colours, in a line below the chart."""
        self._legend = list(entries)

    def svg(self) -> str:
        """Return the element, which scales with the page and is named for screen readers."""
        parts, height = list(self._parts), self.height
        px, row = self.box[0], 0
        for name, colour in self._legend:
            size = 22 + 6.1 * len(name)
            if px + size > self.width and px > self.box[0]:
                px, row = self.box[0], row + 1
            y = self.height + 8 + 15 * row
            parts.append(
                f'<rect x="{px:.1f}" y="{y - 6:.1f}" width="11" height="4"'
                f' style="fill: {ink(colour)}"/>'
                f'<text x="{px + 15:.1f}" y="{y:.1f}" style="fill: {_LABEL}; font-size: 11px">'
                f"{escape(name)}</text>"
            )
            px += size
        if self._legend:
            height += 15 * (row + 1)
        title = escape(self.title, quote=True)
        return (
            f'<svg role="img" aria-label="{title}" viewBox="0 0 {self.width:g} {height:g}"'
            f' font-family="system-ui, sans-serif" style="max-width:{1.15 * self.width:.0f}px;'
            f'width:100%">{"".join(parts)}</svg>'
        )

    def _line(self, x0: float, y0: float, x1: float, y1: float, stroke: str, width: float) -> None:
        self._parts.append(
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"'
            f' style="stroke: {stroke}; stroke-width: {width:g}"/>'
        )

    def _dot(self, px: float, py: float, colour: str, radius: float) -> None:
        self._parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius:g}" style="fill: {ink(colour)}"/>'
        )

    def _text(
        self, px: float, py: float, text: str, fill: str, anchor: str, size: float = 11
    ) -> None:
        self._parts.append(
            f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}"'
            f' style="fill: {fill}; font-size: {size:g}px">{escape(text)}</text>'
        )


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if high > low:
        return ends
    room = abs(low) * 0.1 or 0.5
    return low - room, low + room


def _short(value: float) -> str:
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else f"{value:.6g}"
