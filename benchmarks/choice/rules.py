"""Rules that `probtune.probe.choosing.auto` is compared with, and a race run from recorded scores.

from probtune.probe.features import features
choice = paper_rule(features(**columns, steps=500, epochs=3, learning_rate=1e-5))
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from probtune.errors import UsageError
from probtune.probe.choosing import (
    NLL,
    NO_GAIN,
    Choice,
    as_written,
    predicted,
    ranked,
    read_rule,
    values_of,
)

__all__ = ["after_race", "always", "first_rule", "fitted", "paper_rule", "theory_rule"]

P = "p()"

PAPER_STRONG = 0.65
"""Mean p from which `paper_rule` takes -p. The paper gives no number; its strong tasks have 0.76 to
0.81, its intermediate ones about 0.5, where it sees no winner. Half way is ours."""


_CLASSES = 10.0
"""Plausible tokens per place in `theory_rule`; the crossover hardly depends on it."""


def always(objective: str, _: Mapping[str, float] | None = None) -> Choice:
    """Return the same objective whatever the model and data."""
    return Choice(objective, f"always {objective}", NLL if objective != NLL else P, None)


def paper_rule(features: Mapping[str, float]) -> Choice:
    """By mean p alone, as the paper's continuum suggests: -p for a strong model, otherwise NLL.

    >>> paper_rule({"mean_p": 0.8}).objective, paper_rule({"mean_p": 0.2}).objective
    ('p()', 'nll()')

    Reference: Li et al., "Beyond Log Likelihood", 2025, https://arxiv.org/abs/2510.00526.
    """
    (mean_p,) = values_of(features, "mean_p")
    strong = mean_p >= PAPER_STRONG
    side = "at least" if strong else "below"
    reason = f"mean p {mean_p:.2f} is {side} {PAPER_STRONG}"
    return Choice(P if strong else NLL, reason, NLL if strong else P, None)


def first_rule(features: Mapping[str, float]) -> Choice:
    """Choose by the limits of `probtune.probe.capability.verdict` without its intervals, which the
    probe's first rule went by: -p if the model expects most of the data and has little of a tail,
    otherwise NLL.
    """
    mean_p, low = values_of(features, "mean_p", "below_0_1")
    strong = mean_p > 0.75 and low < 0.15
    reason = f"mean p {mean_p:.2f} with p < 0.1 for {100 * low:.0f} % of the tokens"
    return Choice(P if strong else NLL, reason, NLL if strong else P, None)


def theory_rule(features: Mapping[str, float], *, time_per_epoch: float | None = None) -> Choice:
    """Choose where gradient flow under symmetric noise lets NLL and -p trade places: -p where the
    model's p of usual sequences lies above, otherwise NLL.

    With noise rate e and K classes, kappa = 1 - e K/(K-1), the two trade places at

        p_x = 2 (1-e) / (1 + kappa + sqrt((1-kappa)^2 + 4 kappa e)),   about 1 - sqrt(e),

    at the first instant, and after a time T at about 1 / (kappa T) where that is lower; without
    noise NLL is never behind (docs/theory.md, sections 2 and 4). The flow's time has no fixed
    exchange rate with steps; `time_per_epoch` is fitted on the bench's development cells.
    """
    p, noise, epochs = values_of(features, "usual_p", "noise", "epochs")
    if time_per_epoch is None:
        time_per_epoch = float(read_rule()["theory"]["time_per_epoch"])
    noise = min(noise, 0.85)
    kappa = 1.0 - noise * _CLASSES / (_CLASSES - 1.0)
    root = math.sqrt((1.0 - kappa) ** 2 + 4.0 * kappa * noise)
    limit = 2.0 * (1.0 - noise) / (1.0 + kappa + root)
    if noise > 0.0:
        limit = min(limit, 1.0 / (kappa * time_per_epoch * epochs))
    strong = p > limit
    side = "above" if strong else "at most at"
    reason = f"p {p:.2f} lies {side} the crossover {limit:.2f} for noise {noise:.2f}"
    return Choice(P if strong else NLL, reason, NLL if strong else P, None)


def fitted(
    features: Mapping[str, float], *, form: str = "regimes", metric: str = "greedy"
) -> Choice:
    """Return the candidate with the largest predicted gain, or NLL where none is positive."""
    gains, reason = predicted(features, form=form, metric=metric)
    order = ranked(gains)
    return Choice(as_written(order[0], features), reason, order[1], gains.get(order[0], NO_GAIN))


def after_race(choice: Choice, scores: Mapping[str, float]) -> Choice:
    """Return the choice once the race has been run.

    Args:
        choice: an undecided one.
        scores: objective -> its `race_score` on held-out rows after `race_share` of the steps.

    Raises:
        UsageError: an objective of the race has no score, or one that is not finite.
    """
    missing = [o for o in choice.race if not math.isfinite(scores.get(o, math.nan))]
    if missing or not choice.race:
        raise UsageError(
            f"the race needs a finite score for each of {', '.join(choice.race) or 'nothing'};"
            f" missing: {', '.join(missing) or 'a race'}."
        )
    first, *rest = sorted(choice.race, key=lambda o: -scores[o])
    said = ", ".join(f"{o} {scores[o]:.3f}" for o in choice.race)
    return Choice(
        first,
        f"{choice.reason}; the race after {100 * choice.race_share:.0f} % of the steps: {said}",
        rest[0] if rest else NLL,
        choice.expected_gain if first == choice.objective else None,
        cautions=choice.cautions,
    )
