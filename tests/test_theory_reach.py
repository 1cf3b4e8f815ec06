"""Range in which the short forms hold: inside it they do, and beyond it they do not."""

import math

import numpy as np
import pytest

from probtune import theory
from probtune.errors import UsageError

CELLS = [(k, eps) for k in (2, 3, 10, 1000) for eps in (0.01, 0.1, 0.4)]


@pytest.mark.parametrize("classes, noise", CELLS)
def test_the_best_power_is_the_top_of_the_rate(classes, noise):
    """Beside a fine grid of alpha, at probabilities on both sides of p_1."""
    alpha = np.linspace(-0.9, 12, 6451)
    for p in (0.6, 0.8, 0.95, 0.999):
        best = theory.best_power(p, noise=noise, classes=classes)
        rates = theory.risk_reduction_rate(p, alpha=alpha, noise=noise, classes=classes)
        if -0.9 < best < 12:
            assert alpha[rates.argmax()] == pytest.approx(best, abs=2e-3)
        top = theory.risk_reduction_rate(p, alpha=best, noise=noise, classes=classes)
        assert top >= rates.max() * (1 - 1e-12)


def test_without_noise_a_smaller_power_is_faster_at_every_p():
    p = np.linspace(0.2, 0.999, 200)[:, None]
    rates = theory.risk_reduction_rate(p, alpha=np.linspace(-0.9, 5, 60), noise=0.0, classes=10)
    assert (np.diff(rates, axis=1) < 0).all()
    assert (theory.best_power(p, noise=0.0, classes=10) == -math.inf).all()
    assert theory.powers_above_one(noise=0.0, classes=10) == (1.0, 0.0)


@pytest.mark.parametrize("classes, noise", CELLS)
def test_powers_above_one_lead_above_p_1_alone_and_by_no_more_than_their_bound(classes, noise):
    edge, gain = theory.powers_above_one(noise=noise, classes=classes)
    alpha = np.linspace(-0.5, 12, 6251)
    above = alpha > 1

    def lead(p):
        rates = theory.risk_reduction_rate(p, alpha=alpha, noise=noise, classes=classes)
        return rates[above].max() / rates[~above].max() - 1

    x = edge * (1 - edge)
    assert theory.best_power(edge, noise=noise, classes=classes) == pytest.approx(1, abs=1e-9)
    assert lead(edge - 0.1 * x) < 0  # "never the fastest" holds on this side,
    for p in (edge + 0.1 * x, 0.5 * (1 + edge), 1 - 1e-9):  # and stops to hold on this one
        assert 0 < lead(p) <= gain * (1 + 1e-9)
    assert lead(1 - 1e-9) == pytest.approx(gain, rel=1e-3)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("tolerance", [0.005, 0.01, 0.03])
def test_short_forms_hold_up_to_their_reach_and_not_beyond(classes, tolerance):
    def square_root(noise):
        return theory.crossover(noise=noise, classes=classes) - (1 - math.sqrt(noise))

    def many(noise):
        return theory.crossover(noise=noise, classes=classes) - theory.crossover(
            noise=noise, classes=10**9
        )

    for error, reach in (
        (square_root, theory.square_root_reach(tolerance, classes=classes)),
        (many, theory.many_classes_reach(tolerance, classes=classes)),
    ):
        inside = np.linspace(0, reach, 50)[:-1]
        assert max(abs(error(noise)) for noise in inside) <= tolerance + 1e-8
        if reach < (classes - 1) / classes - 1e-9:
            assert abs(error(reach)) == pytest.approx(tolerance, abs=1e-6)
            assert abs(error(reach + 1e-4)) > tolerance


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_first_error_of_the_square_root(classes):
    """K/(K-1) eps/2: the remainder falls as eps^1.5."""
    rest = [
        theory.crossover(noise=e, classes=classes)
        - (1 - math.sqrt(e) + classes / (classes - 1) * e / 2)
        for e in (1e-6, 1e-4)
    ]
    assert rest[1] / rest[0] == pytest.approx(1000, rel=0.05)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="above 1/K"):
        theory.best_power(0.1, noise=0.1, classes=10)
    with pytest.raises(UsageError, match="tolerance must be positive"):
        theory.square_root_reach(0.0, classes=10)
    with pytest.raises(UsageError, match="noise must lie in"):
        theory.powers_above_one(noise=0.5, classes=2)
