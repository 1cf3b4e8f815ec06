"""The choice after a scout: one question decides. Does the model, once it knows the form, see wrong
rows?

    it sees them (at least 8 % of the rows)     power(0.5), for greedy and for sampled answers
    it sees none, or cannot tell                NLL

Where labels are right no objective beats NLL by much, and where the model knows too little to tell
wrong rows from new ones, objectives that trust it lose most. power(0.5) is taken because it is near
the best objective wherever wrong rows are seen and never far behind NLL; what it gained there on
the bench of small models stands in after_scout.json, which benchmarks/choice/after_scout.py writes.
Of clean rows that a model knows a few percent look wrong, hence the 8 %;
docs/choosing-an-objective.md says where that fails. No torch.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .choosing import METRICS, NLL, NO_GAIN, Choice, Gain
from .noise import Noise

__all__ = ["LEAST_NOISE", "SEEN", "after_scout", "both_ways"]

LEAST_NOISE = 0.08
"""Share of rows that look wrong from which `SEEN` is taken."""

SEEN = "power(0.5)"


@cache
def _bench() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("after_scout.json").read_text(encoding="utf-8"))


def after_scout(noise: Noise, *, metric: str = "greedy") -> Choice:
    """Choose an objective from the rows that look wrong after the scout.

    Args:
        metric: how answers will be drawn, `greedy` or `sampled`; the choice is the same, the
            expected gain is not.

    Raises:
        UsageError: the metric is unknown.
    """
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    share = f"{noise.share.value:.0%} of the rows look wrong to it"
    bench = _bench()[metric]
    gain = Gain(bench["points"], bench["low"], bench["high"])
    if not noise.known:
        why = (
            f"the model would write only {noise.writes:.0%} of the rows itself, too few"
            if noise.power is None
            else f"only {noise.power:.0%} of the answers are more likely behind their own prompt"
            " than behind another, or by too little,"
        )
        reason = (
            f"After a short scout {why} to tell wrong rows from new ones, so NLL is the safe choice"
        )
        return Choice(NLL, reason, SEEN, NO_GAIN)
    if noise.share.value < LEAST_NOISE:
        reason = f"After a short scout the model knows this kind of rows, and {share}: few or none"
        return Choice(NLL, f"{reason}, so NLL is expected to do best", SEEN, NO_GAIN)
    reason = (
        f"After a short scout the model knows this kind of rows, and {share}; {SEEN} learns less"
        " from those"
    )
    return Choice(SEEN, reason, NLL, gain)


def both_ways(objective: str) -> str:
    """Return what the choice means for greedy and for sampled answers, in words. The two agree, so
    nobody has to say in advance how answers will be drawn.

    >>> both_ways("nll()")
    'The same for greedy and for sampled answers.'
    """
    same = "The same for greedy and for sampled answers"
    if SEEN not in objective:
        return f"{same}."
    gains = {}
    for metric in METRICS:
        bench = _bench()[metric]
        gains[metric] = Gain(bench["points"], bench["low"], bench["high"])
    return (
        f"{same}; expected over NLL: {gains['greedy']} points with greedy ones,"
        f" {gains['sampled']} with sampled ones."
    )
