"""Closed forms against the simulation, and the laws they must obey."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from probtune import theory
from probtune.errors import UsageError
from probtune.objectives import dft, nll, p, power

ALPHAS = (-0.5, 0.0, 0.3, 0.5, 1.0, 2.0, 10.0)
GRID = [(k, eps) for k in (2, 10, 1000) for eps in (0.0, 0.05, 0.3)]

probabilities = st.floats(0.001, 0.999)
many_classes = st.integers(2, 50_000)


def noise_below_limit(classes, share):
    return share * (classes - 1) / classes * 0.999


# --- the rate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes, noise", GRID)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_rate_is_that_of_the_general_flow(alpha, classes, noise):
    law = theory.uniform(noise=noise, classes=classes)[0]
    for start in (0.01, 0.3, 0.7, 0.97):
        q, _, _ = theory.diffuse_model(start, classes=classes)
        general = theory.probability_velocity(np.log(q[0]), law, power(alpha))[0]
        closed = theory.risk_reduction_rate(start, alpha=alpha, noise=noise, classes=classes)
        assert closed == pytest.approx(general, abs=1e-12, rel=1e-9)
        one = theory.rate(start, objective=power(alpha), noise=noise, classes=classes)
        assert one == pytest.approx(closed, rel=1e-11, abs=1e-14)


def test_the_rate_is_the_finite_difference_of_the_integrated_flow():
    rng = np.random.default_rng(0)
    for _ in range(20):
        k, start = int(rng.integers(2, 40)), rng.uniform(0.05, 0.95)
        noise, alpha = rng.uniform(0, 0.45), rng.uniform(-0.5, 3.0)
        q, _, _ = theory.diffuse_model(start, classes=k)
        law = theory.uniform(noise=noise, classes=k)[0]
        flow = theory.integrate(np.log(q[0]), law, power(alpha), [0.0, 1e-4, 2e-4])
        c = flow.p[:, 0]
        slope = (-3 * c[0] + 4 * c[1] - c[2]) / 2e-4
        closed = theory.risk_reduction_rate(start, alpha=alpha, noise=noise, classes=k)
        assert slope == pytest.approx(closed, abs=2e-7)


@given(probabilities, many_classes, st.floats(0, 1))
def test_minus_p_never_raises_the_risk(start, classes, share):
    noise = noise_below_limit(classes, share)
    assert theory.risk_reduction_rate(start, alpha=1, noise=noise, classes=classes) > 0


@given(st.floats(0.001, 0.999), many_classes)
def test_nll_rests_where_it_is_calibrated_to_the_labels(share, classes):
    noise = noise_below_limit(classes, share)
    rest = theory.fixed_point(alpha=0, noise=noise, classes=classes)
    assert rest.stable and rest.p == pytest.approx(1 - noise, rel=1e-12)
    at = theory.risk_reduction_rate(rest.p, alpha=0, noise=noise, classes=classes)
    assert abs(at) < 1e-12


@given(st.floats(0.02, 0.98), st.floats(0.01, 0.4), st.floats(0.01, 0.99))
def test_two_classes_are_symmetric(start, noise, alpha):
    """Renaming the classes: from 1 - p with noise 1 - eps would be the mirror; here through z."""
    law = np.array([1 - noise, noise])
    z = np.array([math.log(start), math.log(1 - start)])
    forward = theory.logit_velocity(z, law, power(alpha))
    mirrored = theory.logit_velocity(z[::-1].copy(), law[::-1].copy(), power(alpha))
    np.testing.assert_allclose(forward, mirrored[::-1], rtol=1e-12, atol=1e-15)


@given(probabilities, st.integers(2, 100))
def test_without_noise_a_larger_alpha_is_never_faster(start, classes):
    rates = [theory.risk_reduction_rate(start, alpha=a, noise=0, classes=classes) for a in ALPHAS]
    assert all(a >= b for a, b in zip(rates[:-1], rates[1:], strict=True))


def test_the_rate_is_vectorised():
    grid = theory.risk_reduction_rate(
        np.linspace(0, 1, 5)[:, None], alpha=np.array([0.0, 1.0]), noise=0.1, classes=10
    )
    assert grid.shape == (5, 2) and grid.dtype == np.float64
    assert grid[0, 1] == grid[-1, 1] == 0.0
    assert grid[2, 0] == theory.risk_reduction_rate(0.5, alpha=0, noise=0.1, classes=10)


# --- crossover -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classes, figures",
    [
        (2, (1, 0.909, 0.813, 0.750, 0.667, 0.604, 0.551)),
        (10, (1, 0.905, 0.797, 0.721, 0.616, 0.534, 0.462)),
        (50_000, (1, 0.904, 0.795, 0.718, 0.610, 0.526, 0.451)),
    ],
)
def test_crossover_figures(classes, figures):
    noise = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)
    np.testing.assert_allclose(theory.crossover(noise=noise, classes=classes), figures, atol=6e-4)


@given(st.floats(1e-6, 0.999), many_classes)
def test_crossover_is_where_the_rates_meet(share, classes):
    noise = noise_below_limit(classes, share)
    x = theory.crossover(noise=noise, classes=classes)
    first, second = (
        theory.risk_reduction_rate(x, alpha=a, noise=noise, classes=classes) for a in (0, 1)
    )
    assert first == pytest.approx(second, abs=1e-13)
    assert theory.noise_at_crossover(x, classes=classes) == pytest.approx(noise, rel=1e-6)


@given(st.integers(2, 1000), st.floats(0.01, 0.98))
def test_crossover_falls_with_noise(classes, share):
    low, high = (noise_below_limit(classes, s) for s in (share, min(1, share * 1.02)))
    assert theory.crossover(noise=low, classes=classes) > theory.crossover(
        noise=high, classes=classes
    )


@pytest.mark.parametrize("classes, noise", [(2, 0.1), (10, 0.3), (1000, 0.05)])
def test_crossover_agrees_with_the_search(classes, noise):
    (crossing,) = theory.crossings("p()", "nll()", noise=noise, classes=classes)
    assert crossing == pytest.approx(theory.crossover(noise=noise, classes=classes), abs=1e-9)


def test_crossover_near_the_square_root_law():
    for noise in (1e-3, 1e-4):
        assert theory.crossover(noise=noise, classes=10**6) == pytest.approx(
            1 - math.sqrt(noise), abs=2 * noise
        )


@pytest.mark.parametrize(
    "noise, limit, square_root", [(0.05, 0.795, 0.776), (0.1, 0.718, 0.684), (0.4, 0.451, 0.368)]
)
def test_the_limit_of_many_classes(noise, limit, square_root):
    closed = 2 * (1 - noise) / (2 - noise + math.sqrt(noise * (4 - 3 * noise)))
    assert theory.crossover(noise=noise, classes=10**7) == pytest.approx(closed, abs=1e-6)
    assert (round(closed, 3), round(1 - math.sqrt(noise), 3)) == (limit, square_root)


@pytest.mark.parametrize(
    "classes, noise, gain", [(10, 0.1, 1.01), (10, 0.2, 1.03), (10, 0.4, 1.08), (2, 0.4, 2.99)]
)
def test_powers_above_one(classes, noise, gain):
    """Their rate over the best rate of alpha up to 1, at the p where they gain most."""
    p = np.arange(1, 400)[:, None] / 400
    alpha = np.linspace(0, 6, 301)
    rates = theory.risk_reduction_rate(p, alpha=alpha, noise=noise, classes=classes)
    most, best = rates[:, alpha > 1].max(1), rates[:, alpha <= 1].max(1)
    assert round(float((most / best)[best > 0].max()), 2) == gain


# --- fixed points --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.5, -0.5, 0.0, 0.3, 0.5, 0.8, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("classes, noise", [(2, 0.1), (10, 0.3)])
def test_fixed_points_and_their_stability(alpha, classes, noise):
    closed = theory.fixed_point(alpha=alpha, noise=noise, classes=classes)
    (point,) = theory.resting_points(objective=power(alpha), noise=noise, classes=classes)
    assert point.p == pytest.approx(closed.p, rel=1e-8)
    assert point.stable == closed.stable == (alpha < 1)


def test_between_nll_and_minus_p_the_noise_floor_falls():
    rests = [theory.fixed_point(alpha=a, noise=0.2, classes=10).p for a in (0, 0.3, 0.6, 0.9, 1)]
    assert rests == sorted(rests) and rests[0] == pytest.approx(0.8) and rests[-1] == 1.0


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes, noise", GRID)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("start", [1e-3, 0.2, 0.6, 0.99])
def test_time_integrals_agree_with_the_integrated_flow(start, alpha, classes, noise):
    for time in (0.5, 10.0):
        given_ = {"noise": noise, "classes": classes}
        closed = theory.probability_after(time, start, alpha=alpha, **given_)
        flow = theory.flow_probability(time, start, objective=power(alpha), **given_)
        assert closed == pytest.approx(flow, abs=1e-8)
        if abs(closed - start) > 1e-6:
            back = theory.flow_time(start, closed, alpha=alpha, **given_)
            assert back == pytest.approx(time, rel=1e-6)


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 10.0])
@pytest.mark.parametrize("classes", [2, 1000])
def test_escape_times_agree_with_quadrature(alpha, classes):
    for start in (1e-4, 1e-2, 0.3):
        closed = theory.escape_time(start, alpha=alpha, classes=classes)
        quad = theory.passage_time(start, 0.5, objective=power(alpha), noise=0.0, classes=classes)
        assert closed == pytest.approx(quad, rel=1e-8)


@pytest.mark.parametrize(
    "alpha, near, far", [(0, 2.8, 5.1), (0.5, 10, 101), (0.7, 19, 453), (1, 54, 5009)]
)
def test_escape_times_of_the_survey(alpha, near, far):
    """The figures of a numerical check made apart from this code, for a confident conflict."""
    times = theory.escape_time([1e-2, 1e-4], alpha=alpha)
    np.testing.assert_allclose(times, [near, far], rtol=0.05)


@pytest.mark.parametrize(
    "text, near, far",
    [
        ("tailr(0.1)", 7.9, 506),
        ("floor(0.2, tailr(0.1))", 6.8, 18),
        ("mixce(0.5)", 4.8, 9.4),
        ("talr(0.5, 0.01)", 161, 392),
        ("focal(2)", 2.7, 5.0),
        ("infosft(0.93)", 9.3, 470),
        ("chord()", 58, 5015),
        ("cayley(0.5)", 5.6, 19),
    ],
)
def test_escape_times_of_the_catalogue(text, near, far):
    values = [
        theory.passage_time(start, 0.5, objective=text, noise=0.0, classes=2)
        for start in (1e-2, 1e-4)
    ]
    np.testing.assert_allclose(values, [near, far], rtol=0.025)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_escape_law_is_the_leading_term(alpha, noise):
    given_ = {"noise": noise, "classes": 10}
    ratios = []
    for start in (1e-4, 1e-8, 1e-12):
        exact = theory.passage_time(start, 0.5, objective=power(alpha), **given_)
        ratios.append(exact / theory.escape_law(start, alpha=alpha, **given_))
    assert abs(ratios[-1] - 1) < (0.06 if alpha == 0 else 1e-3)
    assert abs(ratios[2] - 1) < abs(ratios[1] - 1) < abs(ratios[0] - 1)


def test_with_noise_a_power_above_one_never_escapes():
    assert theory.escape_law(1e-4, alpha=2, noise=0.1, classes=10) == math.inf
    assert theory.passage_time(1e-4, 0.5, objective=power(2), noise=0.1, classes=10) == math.inf


def test_a_flow_does_not_pass_its_fixed_point_nor_run_backwards():
    given_ = {"alpha": 0.0, "noise": 0.1, "classes": 10}
    assert theory.flow_time(0.2, 0.95, **given_) == math.inf
    assert theory.flow_time(0.5, 0.4, **given_) == math.inf
    assert theory.flow_time(0.95, 0.89, **given_) == math.inf
    assert 0 < theory.flow_time(0.95, 0.91, **given_) < math.inf
    assert theory.flow_time(0.3, 0.3, **given_) == 0.0


def test_small_noise_is_the_limit_of_noise():
    for alpha in (0.0, 1.0):
        zero, tiny = (
            theory.flow_time(0.01, 0.9, alpha=alpha, noise=eps, classes=10) for eps in (0, 1e-12)
        )
        assert tiny == pytest.approx(zero, rel=1e-9)


@pytest.mark.parametrize(
    "noise, figures",
    [(0.3, (0.457, 0.263, 0.069, 0.0158, 0.0048)), (0.1, (0.650, 0.409, 0.075, 0.0129, 0.0037))],
)
def test_budget_crossover_figures(noise, figures):
    crossovers = theory.budget_crossover([3, 10, 30, 100, 300], noise=noise, classes=10)
    np.testing.assert_allclose(crossovers, figures, rtol=0.01)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 0.6), st.integers(2, 200), st.floats(0.5, 200))
def test_budget_crossover_is_where_the_ends_meet(share, classes, time):
    given_ = {"noise": noise_below_limit(classes, share), "classes": classes}
    start = theory.budget_crossover(time, **given_)
    ends = [theory.probability_after(time, start, alpha=a, **given_) for a in (0, 1)]
    assert logit(ends[0]) == pytest.approx(logit(ends[1]), abs=1e-6)
    assert start <= theory.crossover(**given_) + 1e-12


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("time", [3.0, 30.0, 300.0])
def test_budget_crossover_agrees_with_the_simulation(time, noise):
    options = {"noise": noise, "classes": 10}
    start = theory.budget_crossover(time, **options)
    ends = [theory.flow_probability(time, start, objective=f, **options) for f in (nll(), p())]
    assert ends[0] == pytest.approx(ends[1], abs=1e-8)


def test_overtaking_is_the_inverse_of_the_budget_crossover():
    given_ = {"noise": 0.3, "classes": 10}
    for time in (3.0, 30.0):
        start = theory.budget_crossover(time, **given_)
        assert theory.overtaking_time(start, p(), nll(), **given_) == pytest.approx(time, rel=1e-5)
    assert theory.overtaking_time(0.9, p(), nll(), **given_) == 0.0
    assert theory.overtaking_time(0.5, p(), nll(), noise=0.0, classes=10, limit=50) == math.inf


def test_without_noise_nll_is_never_behind():
    assert theory.crossover(noise=0.0, classes=10) == 1.0
    assert theory.budget_crossover(100.0, noise=0.0, classes=10) == 1.0


# --- any label law -------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=8), st.floats(-1.0, 0.6))
def test_escort_is_stationary(masses, alpha):
    law = np.asarray(masses) / np.sum(masses)
    rest = theory.escort(law, alpha=alpha)
    speed = theory.logit_velocity(np.log(rest), law, power(alpha))
    assert np.abs(speed).max() < 1e-12


def test_the_flow_ends_at_the_escort():
    law = np.array([0.5, 0.3, 0.2])
    for alpha in (-0.5, 0.0, 0.5):
        flow = theory.integrate(np.zeros(3), law, power(alpha), 500.0)
        np.testing.assert_allclose(flow.p[-1], theory.escort(law, alpha=alpha), atol=1e-8)
    np.testing.assert_allclose(theory.escort(law, alpha=0), law, atol=1e-15)
    vertex = theory.integrate(np.zeros(3), law, p(), 5000.0)
    assert vertex.p[-1, 0] > 0.99


def test_dft_flows_as_minus_p():
    law = theory.uniform(noise=0.2, classes=5)[0]
    ends = [
        theory.integrate(np.arange(5.0), law, f, 20.0).logits[-1] for f in (p(), dft(), power(1))
    ]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-12)
    np.testing.assert_allclose(ends[0], ends[2], atol=1e-12)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: theory.crossover(noise=0.9, classes=10), "0.9.*no class is more often right"),
        (lambda: theory.crossover(noise=[0.1, 0.6], classes=2), r"\[0, 0.5\), got 0.6"),
        (lambda: theory.crossover(noise=-0.1, classes=10), "got -0.1"),
        (lambda: theory.crossover(noise=math.nan, classes=10), "got nan"),
        (lambda: theory.crossover(noise=0.1, classes=1), "at least 2, got 1"),
        (lambda: theory.risk_reduction_rate(1.2, alpha=0, noise=0, classes=2), "got 1.2"),
        (
            lambda: theory.risk_reduction_rate(0.0, alpha=-1, noise=0, classes=2),
            "diverges at p = 0",
        ),
        (lambda: theory.flow_time(0.1, 1.0, alpha=0, noise=0, classes=2), "strictly between"),
        (lambda: theory.flow_time(0.1, 0.9, alpha=0.5, noise=0.1, classes=2), "passage_time"),
        (lambda: theory.probability_after(1, 0.5, alpha=2, noise=0, classes=2), "flow_probability"),
        (lambda: theory.probability_after(-1, 0.5, alpha=0, noise=0, classes=2), "not negative"),
        (lambda: theory.escape_law(0.1, alpha=-1, noise=0, classes=2), "stays bounded"),
        (lambda: theory.escort([0.5, 0.5], alpha=1.0), "below 1.*vertex"),
        (lambda: theory.escort([0.5, 0.6], alpha=0.5), "sums to 1.1"),
        (lambda: theory.noise_at_crossover(0.0, classes=2), "strictly between 0 and 1, got 0"),
    ],
)
def test_bad_input_gets_the_rule(call, words):
    with pytest.raises(UsageError, match=words):
        call()
