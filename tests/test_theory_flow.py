"""The exact flow: its equations, its times, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probtune import theory
from probtune.errors import UsageError
from probtune.objectives import above, below, log1m, nll, objective, p, power

OBJECTIVES = ("nll()", "p()", "power(0.5)", "power(-0.5)", "log1m()", "above(0.2, nll())")


def rows(seed, classes=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=classes), rng.dirichlet(np.ones(classes))


@pytest.mark.parametrize("text", OBJECTIVES)
def test_the_velocity_is_the_gradient_that_training_follows(text):
    """Autograd through the value of the objective, averaged over the label law."""
    logits, law = rows(1)
    z = torch.tensor(logits, requires_grad=True)
    loss = (torch.tensor(law) * objective(text).value(torch.log_softmax(z, -1))).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    velocity = theory.logit_velocity(logits, law, text)
    np.testing.assert_allclose(velocity, -gradient.numpy(), atol=1e-12)
    assert abs(velocity.sum()) < 1e-14


@given(st.integers(0, 10_000), st.sampled_from(OBJECTIVES))
def test_probabilities_stay_a_distribution(seed, text):
    logits, law = rows(seed)
    assert abs(theory.probability_velocity(logits, law, text).sum()) < 1e-12


@given(st.integers(0, 10_000), st.sampled_from(OBJECTIVES))
def test_classes_are_exchangeable(seed, text):
    logits, law = rows(seed)
    order = np.random.default_rng(seed).permutation(len(law))
    np.testing.assert_allclose(
        theory.logit_velocity(logits[order], law[order], text),
        theory.logit_velocity(logits, law, text)[order],
        atol=1e-13,
    )


def test_a_constant_on_the_logits_changes_nothing():
    logits, law = rows(2)
    np.testing.assert_allclose(
        theory.logit_velocity(logits + 100.0, law, p()),
        theory.logit_velocity(logits, law, p()),
        atol=1e-13,
    )


def test_velocities_are_vectorised():
    logits, law = (np.stack(x) for x in zip(*(rows(i) for i in range(4)), strict=True))
    whole = theory.logit_velocity(logits, law, power(0.5))
    for i in range(4):
        np.testing.assert_allclose(whole[i], theory.logit_velocity(logits[i], law[i], power(0.5)))


def test_the_loss_falls_along_its_own_flow():
    logits, law = rows(3)
    for text in ("nll()", "p()", "power(-0.5)"):
        flow = theory.integrate(logits, law, text, 20.0)
        logp = torch.from_numpy(np.log(flow.p))
        loss = (objective(text).value(logp).numpy() * law).sum(-1)
        assert (np.diff(loss) <= 1e-12).all()


def test_the_flow_is_the_same_in_two_halves():
    logits, law = rows(4)
    whole = theory.integrate(logits, law, power(0.5), 8.0)
    half = theory.integrate(logits, law, power(0.5), 4.0)
    rest = theory.integrate(half.logits[-1], law, power(0.5), 4.0)
    np.testing.assert_allclose(rest.logits[-1], whole.logits[-1], atol=1e-8)


def test_gradient_descent_with_small_steps_is_the_flow():
    logits, law = rows(5)
    z, step = logits.copy(), 1e-4
    for _ in range(20_000):
        z = z + step * theory.logit_velocity(z, law, p())
    flow = theory.integrate(logits, law, p(), 2.0)
    np.testing.assert_allclose(z, flow.logits[-1], atol=1e-4)


def test_events_end_the_flow():
    start, law = np.array([-4.0, 0.0, 0.0]), np.array([0.9, 0.05, 0.05])
    flow = theory.integrate(start, law, nll(), 100.0, reaches=(0, 0.5))
    first = math.exp(-4) / (math.exp(-4) + 2)
    assert flow.ended == "reached" and flow.p[-1, 0] == pytest.approx(0.5, abs=1e-9)
    closed = theory.flow_time(first, 0.5, alpha=0, noise=0.1, classes=3)
    assert flow.time[-1] == pytest.approx(closed, rel=1e-8)
    flow = theory.integrate(start, law, nll(), 1e4, to_rest=True)
    assert flow.ended == "rest" and flow.time[-1] < 1e3
    np.testing.assert_allclose(flow.p[-1], law, atol=1e-7)
    assert theory.integrate(start, law, nll(), 0.1, reaches=(0, 0.5), to_rest=True).ended is None


def test_stiff_flows_are_integrated():
    """A weight of p^-0.5 at p = 1e-8 moves a logit 10^4 times faster than NLL."""
    end = theory.flow_probability(
        30.0, [1e-8, 0.5, 1 - 1e-8], objective=power(-0.5), noise=0.3, classes=10
    )
    rest = theory.fixed_point(alpha=-0.5, noise=0.3, classes=10).p
    np.testing.assert_allclose(end, rest, atol=1e-8)


def test_a_threshold_stops_what_is_below_it():
    given_ = {"noise": 0.1, "classes": 10}
    gate = above(0.2, nll())
    assert theory.flow_probability(50.0, 0.1, objective=gate, **given_) == pytest.approx(0.1)
    assert theory.flow_probability(50.0, 0.3, objective=gate, **given_) > 0.95
    assert theory.passage_time(0.1, 0.5, objective=gate, **given_) == math.inf
    assert math.isfinite(theory.passage_time(0.3, 0.9, objective=gate, **given_))


def test_a_flow_held_at_an_edge_is_an_error_and_its_edge_a_resting_point():
    given_ = {"noise": 0.2, "classes": 3}
    gate = below(0.7, nll())
    assert theory.resting_points(objective=gate, **given_)[0] == pytest.approx((0.7, True))
    with pytest.raises(UsageError, match="hold a flow at its edge"):
        theory.flow_probability(50.0, 0.3, objective=gate, **given_)


@pytest.mark.parametrize(
    "start, classes, figures",
    [
        (0.45, 10, (0.34, 3.07, 0.72, 17.1, 1.53, 138)),
        (0.01, 10, (5.03, 2.64, 97.4, 10.8, 4688, 54.0)),
        (0.3, 100, (1.41, 5.66, 3.56, 140, 10.9, 5440)),
    ],
)
def test_memorisation_times(start, classes, figures):
    result = [
        theory.memorisation_time(start, objective=f, classes=classes, correct=c)
        for f in (nll(), p(), power(2))
        for c in (True, False)
    ]
    np.testing.assert_allclose(result[:4], figures[:4], rtol=0.015)
    if classes == 10:
        np.testing.assert_allclose(result[4:], figures[4:], rtol=0.01)


@pytest.mark.parametrize("text", ["nll()", "p()", "power(2.0)"])
def test_memorisation_is_the_general_flow_with_one_label(text):
    for start, correct in ((0.45, True), (0.45, False), (0.02, False)):
        q, _, _ = theory.diffuse_model(start, classes=7)
        law = np.eye(7)[0 if correct else 1]
        flow = theory.integrate(np.log(q[0]), law, text, 1e4, reaches=(0 if correct else 1, 0.5))
        fast = theory.memorisation_time(start, objective=text, classes=7, correct=correct)
        assert fast == pytest.approx(flow.time[-1], rel=1e-7)


def test_memorisation_of_the_right_label_is_escape():
    for alpha in (0.0, 1.0):
        time = theory.memorisation_time(0.05, objective=power(alpha), classes=9, correct=True)
        assert time == pytest.approx(theory.escape_time(0.05, alpha=alpha, classes=9), rel=1e-8)
    assert theory.memorisation_time(0.1, objective=above(0.2, nll()), classes=9, correct=True) == (
        math.inf
    )
    assert theory.memorisation_time(0.3, objective=p(), classes=2, correct=False) == 0.0


def test_minus_p_memorises_wrong_labels_first_where_the_model_is_weak():
    weak = {"objective": p(), "classes": 10}
    assert theory.memorisation_time(0.01, correct=False, **weak) < theory.memorisation_time(
        0.01, correct=True, **weak
    )
    assert theory.memorisation_time(0.45, correct=False, **weak) > theory.memorisation_time(
        0.45, correct=True, **weak
    )


def test_log1m_flows_too():
    assert theory.flow_probability(20.0, 0.6, objective=log1m(), noise=0.1, classes=10) > 0.9


@settings(max_examples=10, deadline=None)
@given(st.floats(0.05, 0.9), st.floats(0.0, 0.4), st.floats(0.1, 20.0))
def test_minus_p_only_rises(start, noise, time):
    end = theory.flow_probability(time, start, objective=p(), noise=noise, classes=10)
    assert end > start


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: theory.integrate([0.0, 0.0], [0.5, 0.6], nll(), 1.0), "sums to 1.1"),
        (lambda: theory.integrate([0.0, 0.0], [0.5], nll(), 1.0), "must both be"),
        (lambda: theory.integrate([0.0, 0.0], [1.0, 0.0], nll(), -1.0), "time must be positive"),
        (lambda: theory.integrate([0.0, 0.0], [1.0, 0.0], nll(), [1.0, 2.0]), "rise from 0"),
        (lambda: theory.integrate([0.0, math.inf], [1.0, 0.0], nll(), 1.0), "not finite"),
        (
            lambda: theory.integrate([-800.0, 0.0], [1.0, 0.0], power(-2), 1.0),
            "overflows there",
        ),
        (
            lambda: theory.flow_probability(1.0, 1.0, objective=p(), noise=0, classes=2),
            "strictly between",
        ),
        (
            lambda: theory.flow_probability(math.nan, 0.5, objective=p(), noise=0, classes=2),
            "finite",
        ),
        (lambda: theory.rate(0.5, objective="pp()", noise=0, classes=2), "unknown objective"),
        (lambda: theory.rate(0.5, objective=p(), noise=0.5, classes=2), "no class is more often"),
    ],
)
def test_bad_input_gets_the_rule(call, words):
    with pytest.raises(UsageError, match=words):
        call()
