"""The choice of an objective before training: features -> a choice with its reason, its expected
gain over NLL and how sure that is.

`auto` chooses. It was compared with other rules on a bench of small controlled cells where the best
objective in hindsight is known: docs/choice-bench.md has the figures, and what is unknown.
`choosing.json` holds the fitted numbers, which the bench's script writes from its development
cells. No torch.

    from probtune.probe.features import features
    choice = auto(features(**columns, steps=500, epochs=3, learning_rate=1e-5))
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..numbers import signed
from .features import DESCRIPTIONS

__all__ = [
    "METRICS",
    "NLL",
    "NO_GAIN",
    "Choice",
    "Gain",
    "as_written",
    "auto",
    "predicted",
    "race_score",
    "rank_race",
    "ranked",
    "read_rule",
    "terms",
    "values_of",
]

METRICS = ("greedy", "sampled")
"""Ways of drawing answers from the trained model."""

NLL = "nll()"


class Gain(NamedTuple):
    """An expected difference to NLL in points of accuracy, with its 90 % interval for one run."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return signed({"value": self.points, "low": self.low, "high": self.high}, 1)


@dataclass(frozen=True)
class Choice:
    """An objective with its reason."""

    objective: str
    """Objective to train with, as `probtune.objectives.objective` reads it; where `undecided`, the
    first of the two."""
    reason: str
    runner_up: str
    expected_gain: Gain | None
    """Over NLL; None where the rule states none."""
    undecided: bool = False
    race: tuple[str, ...] = ()
    """Objectives to compare, if undecided (`select:A,B`)."""
    race_share: float = 0.0
    """Share of the planned steps after which the bench compared them."""
    cautions: tuple[str, ...] = ()
    runner_up_gain: Gain | None = None
    """Its expected difference to NLL; None where the rule states none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a mapping, for a record."""
        gains = {n: getattr(self, n) for n in ("expected_gain", "runner_up_gain")}
        as_mappings = {n: None if g is None else g._asdict() for n, g in gains.items()}
        return {**asdict(self), **as_mappings}

    def __str__(self) -> str:
        gain = self.expected_gain
        lines = [
            f"undecided between {' and '.join(self.race)}" if self.undecided else self.objective,
            self.reason,
            f"runner-up {self.runner_up}",
            *([f"expected over NLL: {gain} points of accuracy"] if gain is not None else []),
            *self.cautions,
        ]
        return "\n".join(lines)


@cache
def read_rule() -> dict[str, Any]:
    """Return the fitted numbers, with where they come from."""
    return json.loads(Path(__file__).with_name("choosing.json").read_text(encoding="utf-8"))


def terms(features: Mapping[str, float]) -> dict[str, float]:
    """Return what the fitted rules see: a few numbers by name.

    to_learn    share of the tokens of usual sequences with p < 0.1
    known       share of sequences whose every token is the model's first choice
    strength    mean p of the tokens of usual sequences
    unsure      4 strength (1 - strength): largest where the model is half sure
    noise       estimated share of wrong sequences; 0 where it cannot be told
    repeated    noise times log2(1 + epochs): wrong labels that are seen again and again
    passes      log2(1 + epochs)
    length      log10 of the steps
    """
    low, right, p, noise, epochs, steps = values_of(
        features, "usual_low", "sequence_right", "usual_p", "noise", "epochs", "steps"
    )
    passes = math.log2(1.0 + epochs)
    return {
        "to_learn": low,
        "known": right,
        "strength": p,
        "unsure": 4.0 * p * (1.0 - p),
        "noise": noise,
        "repeated": noise * passes,
        "passes": passes,
        "length": math.log10(max(1.0, steps)),
    }


def predicted(
    features: Mapping[str, float],
    *,
    form: str,
    metric: str = "greedy",
    rule: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Gain], str]:
    """Gains over NLL of the candidate objectives, and what they rest on in words.

    Args:
        form: `regimes`, a shallow tree whose leaves state what the bench's development cells
            gained; or `linear`, ridge regression on the same terms.
        metric: `greedy`, exact match under greedy decoding; or `sampled`, at temperature 1.
        rule: fitted numbers in place of the package's.
    """
    if form not in _FORMS:
        raise UsageError(f"form must be one of {', '.join(_FORMS)}, got {form!r}.")
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    return _FORMS[form](features, (rule or read_rule())[metric][form])


def auto(
    features: Mapping[str, float],
    *,
    metric: str = "greedy",
    rule: Mapping[str, Any] | None = None,
) -> Choice:
    """Return the choice to act on.

    The candidate with the largest predicted gain whose 90 % interval for one run stays above the
    limit on losses; NLL where no gain is predicted. Where a larger gain is predicted of another,
    but could as well be a loss, or where the case lies outside of all development cells, the choice
    is undecided: compare the two (`select:A,B`).

    Args:
        features: of `probtune.probe.features.features`.
        metric: how answers will be drawn from the model: `greedy` or `sampled`. It matters: a model
            trained with NLL on noisy data keeps the noise's probability, which greedy decoding
            hides and sampling shows.
        rule: fitted numbers in place of the package's.

    Raises:
        UsageError: a feature is missing or not finite, or the metric is unknown.
    """
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    limits = (rule or read_rule())[metric]["auto"]
    gains, reason = predicted(features, form=limits["form"], metric=metric, rule=rule)
    safe = {o: g for o, g in gains.items() if g.low >= -limits["most_lost"]}
    order, bold = ranked(safe), ranked(gains)[0]
    best = order[0]
    gain = gains.get(best, NO_GAIN)
    cautions = _cautions(features)
    second = next(o for o in ranked(gains) if o != best)
    runner_up = as_written(second, features)
    promised = gains.get(bold, NO_GAIN).points - gain.points
    beyond = _beyond(features, limits["range"])
    if beyond:
        return _undecided(features, (NLL, bold if bold != NLL else runner_up), limits, beyond, gain)
    if bold != best and promised >= limits["worth_a_race"]:
        why = f"{as_written(bold, features)} may gain {gains[bold]} points over NLL, and may lose"
        return _undecided(features, (best, bold), limits, f"{reason}; {why}", gain)
    return Choice(
        as_written(best, features),
        reason,
        runner_up,
        gain,
        cautions=cautions,
        runner_up_gain=gains.get(second, NO_GAIN),
    )


def rank_race(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the objectives of a race, the best first, from the `token_accuracy` and `mean_p` of
    each on rows that none of them was trained on.

    >>> rank_race({
    ...     "nll()": {"token_accuracy": 0.5, "mean_p": 0.4},
    ...     "p()": {"token_accuracy": 0.5, "mean_p": 0.6},
    ... })
    ['p()', 'nll()']
    """
    values = {o: race_score(s["token_accuracy"], s["mean_p"]) for o, s in scores.items()}
    return sorted(values, key=lambda o: -values[o])


def race_score(token_accuracy: Any, mean_p: Any) -> Any:
    """Return what decides a race, of numbers or arrays: the share of target tokens that are the
    model's first choice; a difference in mean p counts a thousandth of one in that share, and so
    breaks ties.
    """
    return token_accuracy + 1e-3 * mean_p


# --- the two forms -------------------------------------------------------------------------------

NO_GAIN = Gain(0.0, 0.0, 0.0)

_WORDS = {
    "to_learn": "share of usual tokens with p < 0.1",
    "known": "share of sequences the model would write itself",
    "strength": "mean p in usual rows",
    "unsure": "half-sureness 4 p (1 - p) there",
    "noise": "estimated label noise",
    "repeated": "label noise x log2(1 + passes)",
    "passes": "log2(1 + passes)",
    "length": "log10(steps)",
}


def _linear(features: Mapping[str, float], rule: Mapping[str, Any]) -> tuple[dict[str, Gain], str]:
    x = terms(features)
    scaled = [
        (x[t] - c) / s for t, c, s in zip(rule["terms"], rule["centre"], rule["scale"], strict=True)
    ]
    band = sum(x["strength"] > limit for limit in rule["bands"])
    gains = {}
    for name, fit in rule["objectives"].items():
        points = fit["intercept"] + sum(w * z for w, z in zip(fit["weights"], scaled, strict=True))
        gains[name] = Gain(points, points + fit["low"][band], points + fit["high"][band])
    return gains, ", ".join(f"{_WORDS[t]} {x[t]:.2f}" for t in rule["terms"])


def _regimes(features: Mapping[str, float], rule: Mapping[str, Any]) -> tuple[dict[str, Gain], str]:
    x = terms(features)
    node, words = rule, []
    while "term" in node:
        name, at = node["term"], node["at"]
        below = x[name] <= at
        words.append(f"{_WORDS[name]} {x[name]:.2f} ({'at most' if below else 'above'} {at:g})")
        node = node["below" if below else "above"]
    gains = {name: Gain(*values) for name, values in node["gains"].items()}
    like = f"as in {node['cells']} development cells of {node['families']} families"
    return gains, f"{'; '.join(words)}: {like}"


_FORMS = {"regimes": _regimes, "linear": _linear}


def ranked(gains: Mapping[str, Gain]) -> list[str]:
    """NLL and the candidates, the largest predicted gain first; NLL first among equals."""
    points = {NLL: 0.0, **{name: gain.points for name, gain in gains.items()}}
    return sorted(points, key=lambda name: -points[name])


def as_written(name: str, features: Mapping[str, float]) -> str:
    """Return the objective as it is written; Cayley's parameter is the model's own mean p."""
    (mean_p,) = values_of(features, "mean_p")
    return name.replace("mean_p", f"{mean_p:.3f}")


def _undecided(
    features: Mapping[str, float],
    pair: tuple[str, str],
    limits: Mapping[str, Any],
    reason: str,
    gain: Gain,
) -> Choice:
    """Race the two; the first is taken if no race is run."""
    race = (as_written(pair[0], features), as_written(pair[1], features))
    return Choice(
        race[0],
        reason,
        race[1],
        gain if pair[0] != NLL else NO_GAIN,
        undecided=True,
        race=race,
        race_share=limits["race_share"],
        cautions=_cautions(features),
    )


def _beyond(features: Mapping[str, float], ranges: Mapping[str, Sequence[float]]) -> str:
    """Return what lies outside of all development cells, in words; empty if nothing does."""
    x = terms(features)
    for name, (low, high) in ranges.items():
        slack = 0.1 * (high - low)
        if not low - slack <= x[name] <= high + slack:
            return (
                f"{_WORDS[name]} {x[name]:.2f} lies outside of what the rule was fitted on"
                f" ({low:g} to {high:g})"
            )
    return ""


def _cautions(features: Mapping[str, float]) -> tuple[str, ...]:
    end, noise_known, noise, sequences = values_of(
        features, "end_p", "noise_known", "noise", "sequences"
    )
    cautions = []
    if end < 0.05:
        cautions.append(
            f"The last token of a response has mean p {end:.3f}: an objective that leans on the"
            " prior may never learn to stop; keep NLL on special tokens."
        )
    if not noise_known:
        cautions.append(
            "The model knows too little of the data to tell wrong labels from new ones: noise"
            " counts as 0."
        )
    elif noise > 0.2:
        cautions.append(
            f"About {100 * noise:.0f} % of the demonstrations stand out as wrong: look at some of"
            " them; mending data helps every objective. Compare with inliers(nll()), which weighs"
            " such demonstrations down."
        )
    if sequences < 64:
        cautions.append(f"Only {sequences:.0f} sequences were probed; probe 128 or more.")
    return tuple(cautions)


def values_of(features: Mapping[str, float], *names: str) -> tuple[float, ...]:
    """Features by name, or the error that says which is missing."""
    missing = [n for n in names if n not in features]
    if missing:
        raise UsageError(
            f"features lack {', '.join(missing)}; give what probtune.probe.features.features"
            f" returns: {', '.join(DESCRIPTIONS)}."
        )
    wrong = [n for n in names if not math.isfinite(features[n])]
    if wrong:
        raise UsageError(f"feature {wrong[0]} must be finite, got {features[wrong[0]]}.")
    return tuple(features[n] for n in names)
