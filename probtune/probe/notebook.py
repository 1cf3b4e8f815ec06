"""A probe as a notebook shows it: the decision, the numbers, and the histogram of p."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..numbers import interval, percent
from ..objectives.notebook import bars, definitions

if TYPE_CHECKING:
    from .capability import Probe

__all__ = ["probe_html"]


def probe_html(probe: Probe) -> str:
    """Return a probe as HTML."""
    suggestion = probe.suggestion
    named = suggestion.objective
    if suggestion.undecided:
        named = f"undecided between {' and '.join(suggestion.race)}"
    rows = [
        ("mean p", interval(probe.mean_p._asdict(), share=True)),
        ("p < 0.1", percent(probe.below_0_1._asdict())),
        ("most probable token is right", percent(probe.token_accuracy._asdict())),
        ("NLL, nats", interval(probe.nll._asdict(), nonnegative=True)),
        ("target tokens", f"{probe.tokens:,} of {probe.examples:,} rows"),
    ]
    picture = bars(probe.histogram, f"target tokens by p, {len(probe.histogram)} bins from 0 to 1")
    cautions = "".join(f"<p>{escape(text)}</p>" for text in suggestion.cautions)
    return (
        f"<div><strong>{escape(suggestion.verdict)}: <code>{escape(named)}</code></strong>"
        f"<p>{escape(suggestion.reason)}</p>{definitions(rows)}{picture}{cautions}</div>"
    )
