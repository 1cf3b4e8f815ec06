"""Choosers: what they choose, how they explain it, and what they refuse."""

import json
import subprocess
import sys

import pytest

from probtune.errors import UsageError
from probtune.objectives import objective
from probtune.probe import choosing
from probtune.probe.choosing import (
    Gain,
    auto,
    predicted,
    read_rule,
    terms,
)
from probtune.probe.features import DESCRIPTIONS


def case(**changes):
    """Features of a strong model on clean data, changed."""
    typical = dict.fromkeys(DESCRIPTIONS, 0.0)
    typical |= {"sequences": 128, "tokens": 1000, "mean_p": 0.95, "top1": 0.97, "usual_p": 0.97}
    typical |= {
        "sequence_right": 0.95,
        "end_p": 0.99,
        "noise_known": 1.0,
        "steps": 100,
        "epochs": 12,
    }
    return {**typical, "learning_rate": 1e-3, **changes}


WEAK = case(
    mean_p=0.15,
    top1=0.1,
    usual_p=0.15,
    usual_low=0.8,
    below_0_1=0.8,
    sequence_right=0.0,
    noise_known=0.0,
)
NOISY = case(mean_p=0.75, noise=0.4, below_0_1=0.2, sequence_right=0.55)


def test_importing_the_choosers_loads_no_torch():
    script = (
        "import sys, probtune.probe.choosing, probtune.probe.features;"
        " print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("metric", choosing.METRICS)
@pytest.mark.parametrize("features", (WEAK, NOISY, case(), case(sequences=20, end_p=0.01)))
def test_auto_says_what_it_is_asked_to_say(features, metric):
    choice = auto(features, metric=metric)
    assert str(objective(choice.objective)) and str(objective(choice.runner_up))
    assert choice.runner_up != choice.objective
    gain = choice.expected_gain
    assert isinstance(gain, Gain) and gain.low <= gain.points <= gain.high
    assert any(c.isdigit() for c in choice.reason)
    assert choice.undecided == bool(choice.race)
    assert json.loads(json.dumps(choice.to_dict()))["objective"] == choice.objective
    assert choice.objective in str(choice)
    if features["sequences"] < 64:
        assert any("20 sequences" in c for c in choice.cautions)
        assert any("learn to stop" in c for c in choice.cautions)
    if not features["noise_known"]:
        assert any("too little" in c for c in choice.cautions)


RACE = {"race_share": 0.1, "range": {"strength": [0.1, 0.99], "repeated": [0.0, 2.3]}}


def rule(points, low, high, *, most_lost=1.0):
    """A rule of one leaf: gains of power(0.5), and of p, which is a little better and safe."""
    leaf = {"cells": 9, "families": 3}
    leaf["gains"] = {"power(0.5)": [points, low, high], "p()": [0.2, -0.5, 0.9]}
    limits = {"form": "regimes", "most_lost": most_lost, "worth_a_race": 1.0, **RACE}
    return {"greedy": {"auto": limits, "regimes": leaf}}


def test_a_gain_that_may_be_a_loss_is_raced_and_a_safe_one_is_taken():
    risky = auto(case(), rule=rule(4.0, -6.0, 9.0))
    assert risky.undecided and risky.race == ("p()", "power(0.5)")
    assert str(risky).startswith("undecided between p() and power(0.5)")
    assert "power(0.5) may gain +4.0 [-6.0, +9.0] points" in risky.reason
    safe = auto(case(), rule=rule(4.0, -0.5, 9.0))
    assert (safe.objective, safe.undecided, safe.runner_up) == ("power(0.5)", False, "p()")
    assert "9 development cells of 3 families" in safe.reason
    small = auto(case(), rule=rule(0.9, -6.0, 9.0))
    assert (small.objective, small.undecided) == ("p()", False)
    none = auto(case(), rule=rule(-3.0, -6.0, 1.0, most_lost=0.1))
    assert none.objective == "nll()" and none.expected_gain == Gain(0.0, 0.0, 0.0)


def test_a_case_unlike_all_that_were_seen_is_undecided():
    far = auto(case(noise=0.9, epochs=100), rule=rule(4.0, -0.5, 9.0))
    assert far.undecided and far.race == ("nll()", "power(0.5)")
    assert "outside of what the rule was fitted on (0 to 2.3)" in far.reason


def test_cayley_is_written_with_the_models_own_mean_p():
    leaf = {"cells": 9, "families": 3, "gains": {"cayley(mean_p)": [2.0, 0.5, 3.0]}}
    limits = {"form": "regimes", "most_lost": 1.0, "worth_a_race": 1.0, **RACE}
    choice = auto(case(mean_p=0.8), rule={"greedy": {"auto": limits, "regimes": leaf}})
    assert choice.objective == "cayley(0.800)"
    assert str(objective(choice.objective)) == "cayley(0.8)"


def test_the_terms_are_what_they_say():
    parts = terms(case(noise=0.25, epochs=3, steps=1000, usual_low=0.1))
    assert parts["repeated"] == pytest.approx(0.5) and parts["passes"] == 2.0
    assert parts["length"] == pytest.approx(3.0) and parts["to_learn"] == 0.1


def test_what_cannot_be_chosen_from_is_said():
    with pytest.raises(UsageError, match="features lack"):
        auto({})
    with pytest.raises(UsageError, match="feature usual_p must be finite, got nan"):
        auto(case(usual_p=float("nan")))
    with pytest.raises(UsageError, match="metric must be one of greedy, sampled, got 'beam'"):
        auto(case(), metric="beam")
    with pytest.raises(UsageError, match="form must be one of"):
        predicted(case(), form="forest")


def test_the_rule_says_where_it_comes_from():
    source = read_rule()["source"]
    assert source["development cells"] > 10 and len(source["table"]) == 64
