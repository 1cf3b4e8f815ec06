"""The rules that the choice is compared with, and a race from recorded scores."""

import pytest
from test_choosing import NOISY, WEAK, case, rule

from benchmarks.choice.rules import (
    after_race,
    always,
    first_rule,
    fitted,
    paper_rule,
    theory_rule,
)
from probtune.errors import UsageError
from probtune.probe import choosing
from probtune.probe.choosing import Choice, auto, predicted, rank_race
from probtune.theory import crossover


def test_the_plain_rules():
    assert always("p()").objective == "p()"
    assert [paper_rule(f).objective for f in (WEAK, NOISY)] == ["nll()", "p()"]
    assert [first_rule(f).objective for f in (WEAK, NOISY, case())] == ["nll()", "nll()", "p()"]


def test_the_theory_never_leaves_nll_without_noise_and_does_with_it():
    assert theory_rule(case()).objective == "nll()"
    assert theory_rule(NOISY).objective == "p()"
    assert theory_rule(WEAK).objective == "nll()"
    for noise in (0.05, 0.2, 0.4):
        at = float(crossover(noise=noise, classes=10))
        for p, expected in ((at - 1e-6, "nll()"), (at + 1e-6, "p()")):
            choice = theory_rule(case(noise=noise, usual_p=p), time_per_epoch=1e-3)
            assert choice.objective == expected
            assert f"crossover {at:.2f}" in choice.reason


@pytest.mark.parametrize("metric", choosing.METRICS)
@pytest.mark.parametrize("form", ("regimes", "linear"))
def test_a_weak_model_gets_no_p_and_a_strong_one_under_noise_leaves_nll(form, metric):
    assert fitted(WEAK, form=form, metric=metric).objective != "p()"
    gains, reason = predicted(WEAK, form=form, metric=metric)
    assert gains["p()"].points < -5.0 and reason
    assert fitted(NOISY, form=form, metric=metric).objective != "nll()"


def test_the_race_decides_and_says_so():
    undecided = auto(case(), rule=rule(4.0, -6.0, 9.0))
    won = after_race(undecided, {"p()": 0.5, "power(0.5)": 0.7})
    assert (won.objective, won.runner_up, won.undecided) == ("power(0.5)", "p()", False)
    assert "after 10 % of the steps: p() 0.500, power(0.5) 0.700" in won.reason
    with pytest.raises(UsageError, match="finite score for each of p"):
        after_race(undecided, {"p()": 0.5, "power(0.5)": float("nan")})
    with pytest.raises(UsageError, match="a race"):
        after_race(always("p()"), {})


def test_what_cannot_be_chosen_from_is_said():
    with pytest.raises(UsageError, match="features lack mean_p"):
        paper_rule({})
    with pytest.raises(UsageError, match="form must be one of"):
        fitted(case(), form="forest")
    assert isinstance(always("nll()"), Choice)


def test_a_race_of_the_bench_and_of_the_product_end_the_same():
    """Token accuracy decides, and mean p where it is level."""
    undecided = auto(case(), rule=rule(4.0, -6.0, 9.0))
    for p, power in (((0.5, 0.4), (0.5, 0.6)), ((0.6, 0.1), (0.5, 0.9)), ((0.2, 0.2), (0.2, 0.1))):
        legs = {"p()": p, "power(0.5)": power}
        won = after_race(undecided, {o: choosing.race_score(*leg) for o, leg in legs.items()})
        named = {o: {"token_accuracy": leg[0], "mean_p": leg[1]} for o, leg in legs.items()}
        assert rank_race(named)[0] == won.objective == max(legs, key=legs.__getitem__)
