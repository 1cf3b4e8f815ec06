import time

import numpy as np
import pytest

from probtune import theory
from probtune.errors import UsageError
from probtune.theory.phase import ALPHAS


def test_a_diagram_is_its_cells():
    p, noise = np.array([0.05, 0.5, 0.9]), np.array([0.0, 0.2])
    diagram = theory.phase_diagram(["nll", "p"], p=p, noise=noise, classes=10, budget=5.0)
    assert diagram.objectives == ("nll()", "p()") and diagram.values.shape == (2, 2, 3)
    for index, alpha in enumerate((0.0, 1.0)):
        closed = theory.probability_after(
            5.0, p[None], alpha=alpha, noise=noise[:, None], classes=10
        )
        np.testing.assert_allclose(diagram.values[index], closed, atol=1e-8)
    assert diagram.winner.tolist() == [[0, 0, 0], [0, 1, 1]]
    np.testing.assert_allclose(diagram.margin, np.abs(diagram.values[0] - diagram.values[1]))


def test_at_budget_zero_it_is_the_rates():
    diagram = theory.phase_diagram(["nll", "p"], p=[0.3, 0.8], noise=[0.1], classes=10, budget=0)
    expected = [
        theory.risk_reduction_rate([0.3, 0.8], alpha=a, noise=0.1, classes=10) for a in (0, 1)
    ]
    np.testing.assert_allclose(diagram.values[:, 0], expected, rtol=1e-12)
    assert diagram.winner.tolist() == [[0, 1]]


def test_the_boundary_between_nll_and_minus_p_is_the_closed_form():
    p = np.linspace(0.005, 0.995, 100)
    for budget, line in ((0.0, theory.crossover), (10.0, theory.budget_crossover)):
        diagram = theory.phase_diagram(["nll", "p"], p=p, noise=[0.1, 0.3], budget=budget)
        for row, noise in enumerate((0.1, 0.3)):
            options = {"noise": noise, "classes": 10}
            edge = line(**options) if budget == 0 else line(budget, **options)
            np.testing.assert_array_equal(diagram.winner[row], p > edge)


@pytest.mark.parametrize("side", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_seven_objectives_in_time(side):
    started = time.monotonic()
    diagram = theory.phase_diagram(
        p=np.linspace(0, 1, side + 2)[1:-1], noise=np.linspace(0, 0.6, side), budget=30.0
    )
    assert time.monotonic() - started < 20.0
    assert diagram.values.shape == (len(ALPHAS), side, side) and len(ALPHAS) == 7
    assert np.isfinite(diagram.values).all()


def test_advice_follows_capability_noise_and_budget():
    strong = theory.advise(0.9, noise=0.2, budget=30)
    assert strong.best == "power(1.0)" and "power(0.0)" in strong.harms and strong.floor == 0.0
    assert strong.learning_rate_factor == pytest.approx(1 / 0.9)
    weak = theory.advise(0.01, noise=0.2, budget=30)
    assert weak.best == "power(0.3)" and 0 < weak.floor < 1
    hopeless = theory.advise(1e-4, noise=0.2, budget=0.5)
    assert hopeless.floor == float("inf")
    clean = theory.advise(0.9, noise=0.0, budget=30)
    assert clean.best == "power(-0.5)" and clean.harms == ()


def test_a_weight_at_the_floor_is_enough():
    """NLL scaled by the floor reaches 1/2 within the budget: time scales with the weight."""
    advice = theory.advise(0.01, noise=0.1, budget=40.0)
    time_needed = theory.escape_time(0.01, alpha=0, noise=0.1, classes=10) / advice.floor
    assert time_needed == pytest.approx(40.0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: theory.phase_diagram(p=[0.5], noise=[0.95], budget=1), "got 0.95"),
        (lambda: theory.phase_diagram(p=[0.0, 0.5], noise=[0.1], budget=1), "strictly between"),
        (lambda: theory.phase_diagram(p=[0.5], noise=[0.1], budget=-1), "not negative"),
        (lambda: theory.advise(1.0, noise=0.1, budget=1), "strictly between"),
        (lambda: theory.advise(0.5, noise=0.1, budget=0), "must be positive"),
    ],
)
def test_bad_input_gets_the_rule(call, words):
    with pytest.raises(UsageError, match=words):
        call()
