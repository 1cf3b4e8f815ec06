import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probtune import theory
from probtune.errors import UsageError
from probtune.objectives import power


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("text", ["nll()", "p()", "power(0.3)", "log1m()"])
def test_the_rate_at_the_start_is_the_flows(text):
    """-dR/dt summed over contexts, from the exact right-hand side."""
    rng = np.random.default_rng(0)
    z, truth = rng.normal(size=(8, 5)), rng.integers(5, size=8)
    law = rng.dirichlet(np.ones(5), 8)
    moved = theory.probability_velocity(z, law, text)[np.arange(8), truth].mean()
    rates = theory.risk_reduction_at_start(softmax(z), truth, law, text)
    assert rates == pytest.approx(moved, rel=1e-10)


def test_for_one_symmetric_context_it_is_the_closed_form():
    q, truth, _ = theory.diffuse_model(0.7, classes=10)
    law = theory.uniform(noise=0.2, classes=10)[:1]
    for alpha in (0.0, 0.5, 1.0, 2.0):
        closed = theory.risk_reduction_rate(0.7, alpha=alpha, noise=0.2, classes=10)
        assert theory.risk_reduction_at_start(q, truth, law, power(alpha)) == pytest.approx(closed)


@pytest.mark.parametrize(
    "level, noise", [(0.6, 0.2105), (0.8, 0.0476), (0.9, 0.0110), (0.95, 0.0026)]
)
def test_required_noise(level, noise):
    parts = theory.difference_parts(*theory.diffuse_model(level, classes=50_000), "p()", "nll()")
    assert parts.right < 0 < parts.wrong
    assert parts.required_noise == pytest.approx(noise, abs=1e-4)
    assert parts.difference(noise - 1e-3) < 0 < parts.difference(noise + 1e-3)
    assert parts.difference(parts.required_noise) == pytest.approx(0, abs=1e-15)


@given(st.floats(0.05, 0.95), st.integers(2, 500))
def test_required_noise_is_the_crossover_seen_from_the_side(level, classes):
    parts = theory.difference_parts(*theory.diffuse_model(level, classes=classes), "p()", "nll()")
    expected = theory.noise_at_crossover(level, classes=classes)
    assert parts.required_noise == pytest.approx(expected, rel=1e-8)


def test_with_clean_labels_nll_leads_at_both_ends():
    """A < 0 at the model-weak and at the model-strong end: the theorem is about noise."""
    for level in (1 / 1000, 0.6, 0.9, 0.99):
        parts = theory.difference_parts(*theory.diffuse_model(level, classes=1000), "p()", "nll()")
        assert parts.difference(0.0) < 0


def test_the_weak_end_is_the_papers_formula():
    """(f2' - f1')(1/V) V^-3 ((V-1)(1-E) - E) on uniform predictions."""
    v, noise = 50, 0.3
    parts = theory.difference_parts(*theory.diffuse_model(1 / v, classes=v), "p()", "nll()")
    derivative = -v + 1.0  # f2' - f1' of -log p and 1 - p at 1/V
    paper = derivative * v**-3.0 * ((v - 1) * (1 - noise) - noise)
    assert parts.difference(noise) == pytest.approx(paper, rel=1e-12)


def test_the_headline_pair_violates_the_theorems_condition():
    checks = {check.name: check for check in theory.check_pair("p()", "nll()")}
    assert checks["order"].holds
    assert checks["c < 10 d"].value == pytest.approx(1.0)
    assert checks["c < 10 d"].limit == pytest.approx(0.5)
    assert not checks["c < 10 d"].holds and not checks["c < 8.2 d"].holds


def test_the_gap_in_the_proof():
    """The proof bounds -q_i - q_j + |q|^2 and drops the factor q_i q_j, which can be tiny."""
    right, label = 0.9, 1e-6
    inner = -right - label + right**2 + label**2  # the rest spread thinly
    assert inner < -0.045 and right * label * inner == pytest.approx(-8.1e-8, rel=1e-3)
    # its other bound, the largest q_i q_j (-q_i - q_j + |q|^2), is tight and 8.2 times smaller
    x = np.linspace(0, 0.5, 100_001)
    largest = (x**2 * (-2 * x + 2 * x**2 + (1 - 2 * x) ** 2)).max()
    assert largest == pytest.approx((11 * np.sqrt(33) - 59) / 768, rel=1e-8)
    assert 0.045 / largest == pytest.approx(8.2, abs=0.05)


def test_a_pair_that_meets_the_conditions():
    """Against a weight that is larger everywhere by half, c = d."""
    checks = theory.check_pair("power(10)", "log1m()")
    assert checks[0].holds and not theory.check_pair("nll()", "p()")[0].holds


def test_assumptions_on_pairs_of_probabilities():
    strong = theory.check_assumptions([0.8] * 9 + [0.1], [0.01] * 10, vocabulary=1000)
    assert [c.holds for c in strong] == [True, True, False, True]
    weak = theory.check_assumptions([1e-3] * 5, [1e-3] * 5, vocabulary=1000)
    assert [c.holds for c in weak] == [False, False, True, True]
    sure = theory.check_assumptions([0.99] * 10, [0.0] * 10, vocabulary=1000)
    assert sure[0].holds and not sure[1].holds
    assert not theory.check_assumptions([0.5], [0.5], vocabulary=3)[3].holds


def test_objectives_that_never_lead():
    parts = theory.difference_parts(*theory.diffuse_model(0.5, classes=10), "nll()", "nll()")
    assert parts.required_noise == 0.0 and parts.difference(0.3) == 0.0
    parts = theory.Parts(-1.0, -0.5)
    assert parts.required_noise == float("inf")


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: theory.risk_reduction_at_start([[0.5, 0.6]], [0], [[1, 0]], "p()"),
            "sums to 1.1",
        ),
        (
            lambda: theory.risk_reduction_at_start([[0.5, 0.4]], [0], [[1, 0]], "p()"),
            "must sum to 1; row 0 sums to 0.9",
        ),
        (lambda: theory.risk_reduction_at_start([0.5, 0.5], [0], [[1, 0]], "p()"), "must be"),
        (
            lambda: theory.difference_parts([[0.5, 0.5]], [0], [[0.5, 0.5]], "p()", "nll()"),
            "must be 0 at the right class",
        ),
        (lambda: theory.check_assumptions([1.5], [0.1], vocabulary=9), r"\[0, 1\]"),
    ],
)
def test_bad_input_gets_the_rule(call, words):
    with pytest.raises(UsageError, match=words):
        call()
