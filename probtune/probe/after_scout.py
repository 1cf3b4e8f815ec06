"""The choice after a scout: one question decides. Does the model, once it knows the form, see wrong
rows?

                                                    greedy answers    sampled answers
    it sees them (at least 8 % of the rows)         power(0.5)        p()
    it sees them, but p would not keep them away    inliers(nll())    inliers(power(0.3))
    it knows the rows, and few or none look wrong   nll()             power(0.3)
    it cannot tell                                  nll()             nll()

Where NLL goes first, since the base model does not expect the form (`probtune.probe.warmed`), wrong
rows that are seen have power(0.5) taken for sampled answers too: a few steps of NLL leave too many
right tokens improbable for p(). On 24 cells of benchmarks/choice/real that is level with p() for
sampled answers, and ahead of it for greedy ones.

Where it cannot tell wrong rows from new ones, objectives that trust the model lose most. They lose
as well where one mistake is made often, which a model learns to expect within a few steps, and they
learn no less from a row that is cut short where the base model does not expect the end of its
answers: what is wrong there is a special token, which keeps NLL then. In both cases every row is
weighed by two scouts, and what is trained on is what is taken where no row is wrong.

The objectives are the best of the family nll, power(0.3), power(0.5), p on the development cells of
the bench of small models, among those that lose more than a point in at most 3 % of them and never
more than 4; benchmarks/choice/after_scout.py makes that choice, and after_scout.json with what they
gained on the other cells. Weights for every row (`probtune.probe.weighing`) are taken only where p
cannot help: elsewhere what the scouts miss is memorised in many passes, and other engines have no
scouts. Of clean rows that a model knows a few percent look wrong, hence the 8 %, and a lower end of
the interval of at least 5 %; docs/choosing-an-objective.md says where that fails. No torch.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..statistics import Estimate
from .choosing import METRICS, NLL, NO_GAIN, Choice, Gain
from .noise import (
    KNOWN_HALFWAY,
    KNOWN_SHARE,
    KNOWN_UNMOVED,
    LEAST_TOKENS,
    POWER,
    Noise,
)

__all__ = [
    "LEAST_LOW",
    "LEAST_NOISE",
    "TAKEN",
    "WEIGHED",
    "Taken",
    "after_scout",
    "both_ways",
    "sees_wrong_rows",
    "stated_gain",
    "taken_for",
]

LEAST_NOISE = 0.08
"""Share of rows that look wrong from which they count as seen."""
LEAST_LOW = 0.05
"""Least lower end of the share's 95 % interval: of few rows some look wrong by chance."""


class Taken(NamedTuple):
    """Objectives that are taken where the model knows the rows."""

    wrong: str
    """Taken if it sees wrong rows."""
    right: str
    """Taken if few or none look wrong."""


TAKEN = {"greedy": Taken("power(0.5)", NLL), "sampled": Taken("p()", "power(0.3)")}
"""Way of drawing answers -> what is taken."""
WEIGHED = {metric: f"inliers({taken.right})" for metric, taken in TAKEN.items()}
"""Way of drawing answers -> what is taken where wrong rows are seen that p would not keep away."""


def taken_for(metric: str, case: str, *, knows_form: bool = True) -> str:
    """Return what is taken in a case (`wrong`, `right`); `knows_form` as in `after_scout`."""
    way = "greedy" if case == "wrong" and not knows_form else metric
    taken: str = getattr(TAKEN[way], case)
    return taken


@cache
def _bench() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("after_scout.json").read_text(encoding="utf-8"))


def stated_gain(case: str, objective: str, metric: str) -> Gain:
    """Return the gain over NLL that is stated of an objective, from the bench of small models.

    Args:
        case: `wrong` or `right`, the field of `Taken`.
        metric: how answers are drawn, `greedy` or `sampled`.
    """
    if objective == NLL:
        return NO_GAIN
    figures = _bench()[case][objective][metric]
    return Gain(figures["points"], figures["low"], figures["high"])


def _case(noise: Noise, knows_ends: bool) -> str | None:
    """Name of the field of `Taken` for this estimate, or `weighed`; None where the model cannot
    tell.
    """
    if not noise.known:
        return None
    if noise.repeated > KNOWN_UNMOVED:
        return "weighed"
    if sees_wrong_rows(noise, knows_ends=knows_ends):
        return "wrong"
    return "weighed" if sees_wrong_rows(noise) else "right"


def sees_wrong_rows(noise: Noise, *, knows_ends: bool = True) -> bool:
    """True if the model can tell wrong rows from new ones, and enough look wrong to be sure.

    Args:
        knows_ends: False if special tokens keep NLL, since the base model does not expect them; no
            objective learns less from a row that is cut short then, so these do not count.
    """
    share = _counted(noise, knows_ends)
    return noise.known and share.value >= LEAST_NOISE and share.low >= LEAST_LOW


def _counted(noise: Noise, knows_ends: bool) -> Estimate:
    """Share of the rows that look wrong and count for the choice."""
    return noise.share if knows_ends else noise.contradicting


def after_scout(
    noise: Noise, *, metric: str = "greedy", knows_ends: bool = True, knows_form: bool = True
) -> Choice:
    """Choose an objective from the rows that look wrong after the scout.

    Args:
        metric: how answers will be drawn, `greedy` or `sampled`.
        knows_ends: as in `sees_wrong_rows`.
        knows_form: False if NLL goes first, since the base model does not expect such rows.

    Raises:
        UsageError: the metric is unknown.
    """
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    case = _case(noise, knows_ends)
    if case is None:
        taken = taken_for(metric, "wrong", knows_form=knows_form)
        return Choice(NLL, _cannot_tell(noise), taken, NO_GAIN)
    if case == "weighed":
        return Choice(WEIGHED[metric], _has_to_weigh(noise, WEIGHED[metric]), NLL, None)
    taken = taken_for(metric, case, knows_form=knows_form)
    reason = (
        "After a short scout the model knows this kind of rows, and"
        f" {noise.share.value:.0%} of the rows look wrong to it"
    )
    if cut := float(noise.cut_short.mean()):
        reason += f", {cut:.0%} because they end where it would go on"
    if echoes := float(noise.echoes.mean()):
        reason += f", {echoes:.0%} because their answers repeat their questions or themselves"
    if case == "right" and _counted(noise, knows_ends).value >= LEAST_NOISE:
        reason += f", of {noise.share.n} too few to be sure"
    runner_up = taken_for(metric, "wrong", knows_form=knows_form) if taken == NLL else NLL
    if case == "wrong":
        reason += f"; {taken} learns less from those"
    elif taken == NLL:
        reason += ": few or none, so NLL is expected to do best"
    else:
        reason += (
            f": few or none; for answers that are sampled {taken} puts a little more of the"
            " probability on what the model finds likely"
        )
    if not noise.tells_ends:
        reason += ". It does not know yet where such rows end, so rows cut short are not seen"
    return Choice(taken, reason, runner_up, stated_gain(case, taken, metric))


def _cannot_tell(noise: Noise) -> str:
    """Why NLL is taken where the model cannot tell wrong rows from new ones."""
    if noise.power is not None and noise.share.value > KNOWN_SHARE:
        why = (
            f"{noise.share.value:.0%} of the rows look wrong, which says more of the model than of"
            " the rows: it knows too little"
        )
    elif noise.unmoved > KNOWN_UNMOVED and noise.power is not None and noise.power >= POWER:
        why = (
            f"{noise.unmoved:.0%} of the rows have an answer that the model gives to other prompts"
            " as well, a usual answer or a common mistake, too many"
        )
    elif noise.power is None or (noise.hesitates and noise.power >= POWER):
        rows, tokens = f"{noise.writes:.0%} of the rows", f"{noise.usual_tokens:.0%} of the tokens"
        few = tokens if noise.power is not None and noise.usual_tokens < LEAST_TOKENS else rows
        why = f"the model would write only {few} itself, too few"
    elif noise.halfway >= KNOWN_HALFWAY and noise.power >= POWER:
        why = (
            f"{noise.share.value:.0%} of the rows look wrong, too much like right ones that it"
            " would not write either: the model half knows such answers, too little"
        )
    else:
        why = (
            f"only {noise.power:.0%} of the answers are more likely behind their own prompt than"
            " behind another, or by too little,"
        )
    return f"After a short scout {why} to tell wrong rows from new ones, so NLL is the safe choice"


def _has_to_weigh(noise: Noise, objective: str) -> str:
    """Why rows are weighed."""
    if noise.repeated > KNOWN_UNMOVED:
        why = (
            f"and {noise.repeated:.0%} of the rows have wrong answers that are given often. A few"
            " steps are enough for a model to expect those, and an objective that trusts it learns"
            " them too"
        )
    else:
        why = (
            f"{noise.cut_short.mean():.0%} because they end where it would go on. The base model"
            " does not expect the end, so special tokens must keep NLL, and such rows teach to stop"
            " too soon"
        )
    return (
        f"After a short scout {noise.share.value:.0%} of the rows look wrong, {why}:"
        f" {objective} has two scouts judge every row first, for about two thirds of a pass, and"
        " trains little on those that look wrong. To mend them or leave them out serves as well"
    )


def both_ways(noise: Noise, *, knows_ends: bool = True, knows_form: bool = True) -> str:
    """Return what is taken for greedy and for sampled answers, what either gives with the other,
    and what to take for both, in words. Arguments as `after_scout`.
    """
    case = _case(noise, knows_ends)
    if case is None:
        return "The same for greedy and for sampled answers."
    if case == "weighed":
        greedy, sampled = WEIGHED["greedy"], WEIGHED["sampled"]
        return (
            f"For greedy answers auto takes {greedy}, for sampled ones (--decoding sampled)"
            f" {sampled}. For both, take {greedy}."
        )
    greedy, sampled = (
        taken_for(metric, case, knows_form=knows_form) for metric in ("greedy", "sampled")
    )
    if greedy == sampled:
        return f"The same for greedy and for sampled answers: {_both_gains(case, greedy)}."
    sentences = [f"For greedy answers auto takes {greedy}"]
    if greedy != NLL:
        sentences[0] += f": {_both_gains(case, greedy)}"
    sentences.append(
        f"For sampled ones (--decoding sampled) it takes {sampled}: {_both_gains(case, sampled)}"
    )
    return f"{'. '.join(sentences)}. For both, take {greedy}."


def _both_gains(case: str, objective: str) -> str:
    gains = {metric: stated_gain(case, objective, metric) for metric in ("greedy", "sampled")}
    return (
        f"{gains['greedy']} points over NLL are expected with greedy answers,"
        f" {gains['sampled']} with sampled ones"
    )
