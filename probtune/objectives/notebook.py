"""Objectives as a notebook shows them: formula, weight, and the curve of the weight over p. Also
the small pictures that others draw there.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .base import Objective

__all__ = ["bars", "curve", "definitions", "objective_html"]

_WIDTH, _HEIGHT = 260, 90


def objective_html(objective: Objective) -> str:
    """Return an objective as HTML."""
    from .table import MEMBERS

    member: Any = MEMBERS.get(type(objective).__name__, type(objective))
    rows = [("f(p)", member.formula), ("w(p)", member.weight_formula)]
    rows.append(("for", getattr(member, "summary", "")))
    if not objective.kinds <= {"progress"}:
        rows.append(("needs", ", ".join(sorted(objective.needs))))
        return f"<div><code>{escape(str(objective))}</code>{definitions(rows)}</div>"
    p = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    weights = objective.at(0.0).token_weight(p.log()).tolist()
    picture = curve(p.tolist(), weights, f"weight of {objective} for p from 0 to 1")
    rows.append(("leaning", objective.at(0.0).leaning()))
    return f"<div><code>{escape(str(objective))}</code>{definitions(rows)}{picture}</div>"


def definitions(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and texts as a table; those without a text are left out."""
    lines = (
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(text)}</td></tr>"
        for name, text in rows
        if text
    )
    return f"<table>{''.join(lines)}</table>"


def curve(x: Sequence[float], y: Sequence[float], label: str) -> str:
    """Return a curve over [0, 1] as SVG, in the colour of the text."""
    top = max(max(y), 1e-9)
    low = min(0.0, *y)
    points = " ".join(
        f"{_WIDTH * a:.1f},{_HEIGHT * (1 - (b - low) / (top - low)):.1f}"
        for a, b in zip(x, y, strict=True)
    )
    shape = f"<polyline points='{points}' fill='none' stroke='currentColor' stroke-width='1.5'/>"
    return _picture(shape, label, f"{top:.3g}")


def bars(counts: Sequence[int], label: str) -> str:
    """Return counts in equal bins of [0, 1] as SVG, in the colour of the text."""
    top, width = max(*counts, 1), _WIDTH / len(counts)
    shapes = "".join(
        f"<rect x='{index * width:.1f}' y='{_HEIGHT * (1 - count / top):.1f}'"
        f" width='{0.9 * width:.1f}' height='{_HEIGHT * count / top:.1f}' fill='currentColor'/>"
        for index, count in enumerate(counts)
    )
    return _picture(shapes, label, f"{top:,}")


def _picture(shapes: str, label: str, top: str) -> str:
    """Return shapes with their axis: 0 and 1, and the largest value."""
    text = "fill='currentColor' font-size='11'"
    return (
        f"<svg role='img' aria-label='{escape(label, quote=True)}' width='{_WIDTH + 60}'"
        f" height='{_HEIGHT + 24}' viewBox='-10 -6 {_WIDTH + 60} {_HEIGHT + 24}'>{shapes}"
        f"<line x1='0' y1='{_HEIGHT}' x2='{_WIDTH}' y2='{_HEIGHT}' stroke='currentColor'"
        f" stroke-width='0.5'/><text x='0' y='{_HEIGHT + 13}' {text}>p = 0</text>"
        f"<text x='{_WIDTH}' y='{_HEIGHT + 13}' text-anchor='end' {text}>1</text>"
        f"<text x='{_WIDTH + 4}' y='6' {text}>{escape(top)}</text></svg>"
    )
