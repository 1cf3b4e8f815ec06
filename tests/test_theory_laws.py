import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probtune import theory
from probtune.errors import UsageError
from probtune.objectives import nll, p, power


@given(st.integers(2, 30), st.floats(0, 0.99))
def test_rows_are_distributions_with_the_noise_rate(classes, share):
    noise = share * (classes - 1) / classes
    law = theory.uniform(noise=noise, classes=classes)
    np.testing.assert_allclose(law.sum(1), 1.0)
    np.testing.assert_allclose(np.diag(law), 1 - noise)


def test_structured_noise_reaches_its_alternatives_only():
    law = theory.structured(noise=0.3, classes=6, alternatives=2)
    assert law[4].tolist() == pytest.approx([0.15, 0, 0, 0, 0.7, 0.15])
    np.testing.assert_array_equal(
        theory.structured(noise=0.3, classes=6, alternatives=5),
        theory.uniform(noise=0.3, classes=6),
    )
    np.testing.assert_array_equal(
        theory.pair_flips(noise=0.3, classes=4),
        theory.structured(noise=0.3, classes=4, alternatives=1),
    )


def test_few_alternatives_behave_as_few_classes():
    """Structured noise over m alternatives among many classes: NLL still rests at 1 - eps, and the
    vertex that -p ends in is the right class as long as eps < m / (m + 1)."""
    law = theory.structured(noise=0.4, classes=50, alternatives=2)[0]
    start = np.zeros(50)
    start[:3] = 4.0
    assert theory.integrate(start, law, nll(), 2000.0).p[-1, 0] == pytest.approx(0.6, abs=1e-3)
    assert theory.integrate(start, law, p(), 2000.0).p[-1, 0] > 0.95


def test_confident_conflict_hits_what_the_model_is_sure_of():
    rng = np.random.default_rng(0)
    logits, truth = theory.draw_contexts(500, classes=10, mean_p=0.6, rng=rng)
    q = np.exp(logits)
    law = theory.confident_conflict(q, truth, noise=0.2, strength=6.0)
    wrong = 1 - law[:, 0]
    assert wrong.mean() == pytest.approx(0.2, abs=1e-9)
    assert np.corrcoef(wrong, q[:, 0])[0, 1] > 0.8
    even = theory.confident_conflict(q, truth, noise=0.2, strength=0.0)
    np.testing.assert_allclose(1 - even[:, 0], 0.2)
    rival = q[:, 1:].argmax(1) + 1
    np.testing.assert_allclose(law[np.arange(500), rival], wrong)
    none = theory.confident_conflict(q, truth, noise=0.0)
    np.testing.assert_array_equal(none[:, 0], 1.0)


def test_long_tail():
    frequency = theory.long_tail(classes=5, ratio=100)
    assert frequency.sum() == pytest.approx(1.0)
    assert frequency[0] / frequency[-1] == pytest.approx(100)
    np.testing.assert_allclose(theory.long_tail(classes=4, ratio=1), 0.25)


def test_labels_missing_at_random_slow_the_flow_and_move_no_fixed_point():
    law = theory.uniform(noise=0.2, classes=4)[0]
    half = theory.missing(law, 0.5)
    start = np.zeros(4)
    np.testing.assert_allclose(
        theory.integrate(start, half, power(0.5), 20.0).logits[-1],
        theory.integrate(start, law, power(0.5), 10.0).logits[-1],
        atol=1e-8,
    )
    np.testing.assert_allclose(theory.escort(half, alpha=0.5), theory.escort(law, alpha=0.5))


def test_labels_missing_not_at_random_move_the_fixed_point():
    law = theory.uniform(noise=0.2, classes=4)[0]
    mass = theory.missing(law, [0.9, 0.0, 0.0, 0.0])  # right labels are mostly cut off
    end = theory.integrate(np.zeros(4), mass, nll(), 500.0).p[-1]
    np.testing.assert_allclose(end, mass / mass.sum(), atol=1e-6)
    assert end[0] < 0.3


def test_drawn_labels_are_frequencies_of_the_law():
    rng = np.random.default_rng(0)
    law = np.repeat(theory.uniform(noise=0.3, classes=4)[:1], 4000, axis=0)
    one = theory.drawn(law, copies=1, rng=rng)
    assert set(np.unique(one)) == {0.0, 1.0} and (one.sum(1) == 1).all()
    np.testing.assert_allclose(one.mean(0), law[0], atol=0.03)
    many = theory.drawn(law[:1], copies=100_000, rng=rng)
    np.testing.assert_allclose(many, law[:1], atol=0.01)
    gaps = theory.drawn(theory.missing(law, 0.5), copies=1, rng=rng)
    assert gaps.sum(1).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: theory.uniform(noise=0.9, classes=10), "got 0.9"),
        (lambda: theory.uniform(noise=0.1, classes=1), "at least 2"),
        (lambda: theory.pair_flips(noise=0.5, classes=10), r"\[0, 0.5\)"),
        (lambda: theory.structured(noise=0.1, classes=3, alternatives=3), "below the number"),
        (lambda: theory.long_tail(classes=3, ratio=0.5), "at least 1"),
        (lambda: theory.missing([0.5, 0.5], 1.0), r"\[0, 1\)"),
        (lambda: theory.missing([0.5, 0.7], 0.1), "sums to 1.2"),
        (lambda: theory.drawn([[0.5, 0.5]], copies=0, rng=np.random.default_rng(0)), "at least 1"),
        (lambda: theory.drawn([[-0.5, 1.5]], copies=1, rng=np.random.default_rng(0)), "negative"),
        (lambda: theory.confident_conflict([[0.5, 0.5]], [0], noise=1.0), r"\[0, 1\)"),
    ],
)
def test_bad_input_gets_the_rule(call, words):
    with pytest.raises(UsageError, match=words):
        call()
