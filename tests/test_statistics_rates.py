"""Scores read and checked; avg@k, Wilson, pass@k against libraries, fractions and enumeration."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from probtune.statistics import (
    Estimate,
    avg_at_k,
    by_question,
    mean,
    pass_at_k,
    rate,
    ratio,
    read_scores,
    share,
    wilson,
)

RNG = np.random.default_rng(0)
SAMPLES = (RNG.random((40, 8)) < RNG.beta(0.9, 1.4, (40, 1))).astype(int)


def same(a: Estimate, b: Estimate):
    assert a == pytest.approx(b, nan_ok=True)


def test_every_shape_of_the_same_scores_is_the_same():
    expected = avg_at_k(SAMPLES)
    named = {f"q{i}": row for i, row in enumerate(SAMPLES.tolist())}
    long = by_question(SAMPLES.ravel(), np.repeat(list(named), 8))
    for scores in (SAMPLES.tolist(), list(SAMPLES), SAMPLES.astype(bool), named, long):
        assert avg_at_k(scores) == expected
    assert avg_at_k(read_scores(named)) == expected
    same(avg_at_k(SAMPLES[:, 0]), avg_at_k(SAMPLES[:, :1]))
    same(avg_at_k({"a": 1.0, "b": 0.0}), avg_at_k([[1], [0]]))


def test_questions_may_have_different_numbers_of_samples():
    estimate = avg_at_k([[1, 0], [1], [0, 0, 1, 1, 1]])
    same(estimate, mean([0.5, 1.0, 0.6]))


def test_avg_at_k_is_the_mean_over_questions_of_means():
    same(avg_at_k(SAMPLES), mean(SAMPLES.mean(axis=1)))
    bca = avg_at_k(SAMPLES, method="bca")
    expected = scipy.stats.bootstrap(
        (SAMPLES.mean(axis=1),), np.mean, n_resamples=2000, rng=np.random.default_rng(0)
    )
    assert bca[2:4] == pytest.approx(tuple(expected.confidence_interval))
    assert bca[1] == pytest.approx(expected.standard_error)


def test_clustered_error_is_that_of_a_regression_with_clusters():
    """statsmodels' cluster-robust error of an intercept, up to its factor for the small sample."""
    from statsmodels.api import OLS

    labels = np.repeat(np.arange(13), [1, 2, 3, 4, 5, 2, 3, 1, 4, 5, 4, 3, 3])
    x = SAMPLES.mean(axis=1)
    fit = OLS(x, np.ones(40)).fit(
        cov_type="cluster", cov_kwds={"groups": labels, "use_correction": False}
    )
    estimate = avg_at_k(SAMPLES, clusters=labels)
    assert estimate.n == 13
    assert estimate.standard_error == pytest.approx(float(fit.bse[0]) * math.sqrt(13 / 12))
    names = [f"q{i}" for i in range(40)]
    by_name = avg_at_k(
        dict(zip(names, SAMPLES, strict=True)), clusters=dict(zip(names, labels, strict=True))
    )
    same(by_name, estimate)


def test_copies_of_questions_as_clusters_are_the_questions():
    five = np.repeat(SAMPLES, 5, axis=0)
    labels = np.repeat(np.arange(40), 5)
    for method in ("t", "bca"):
        same(avg_at_k(five, clusters=labels, method=method), avg_at_k(SAMPLES, method=method))
    assert avg_at_k(five).standard_error < 0.5 * avg_at_k(SAMPLES).standard_error


def test_wilson_is_scipys():
    for k, n in ((0, 30), (3, 30), (30, 30), (100, 272)):
        interval = wilson([1] * k + [0] * (n - k))
        expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        assert interval[2:4] == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert interval.value == k / n and interval.n == n
        assert interval.standard_error == pytest.approx(math.sqrt(k / n * (1 - k / n) / n))


def test_rate_chooses_by_what_the_questions_show():
    greedy = SAMPLES[:, 0]
    assert rate(greedy) == wilson(greedy)
    same(rate(SAMPLES), avg_at_k(SAMPLES))
    same(rate([0.3, 0.7, 1.0]), mean([0.3, 0.7, 1.0]))  # not right or wrong, but a similarity
    # nothing solved in 16 tries is one answer per question
    assert rate(np.zeros((30, 16))) == wilson([0] * 30)
    # copies with the same answer are one question, others are clusters
    labels = np.repeat(np.arange(40), 5)
    assert rate(np.repeat(greedy, 5), clusters=labels) == wilson(greedy)
    other = np.repeat(greedy, 5)
    other[::5] = 1 - other[::5]
    same(rate(other, clusters=labels), avg_at_k(other, clusters=labels))
    uneven = [0] * 5 + [1] * 2 + [1]
    groups = [*"aaaaabbc"]
    same(rate(uneven, clusters=groups), avg_at_k(uneven, clusters=groups))
    assert rate([0] * 8, clusters=groups) == wilson([0] * 3)


def enumerated(row, k):
    chosen = list(combinations(row, k))
    return Fraction(sum(any(subset) for subset in chosen), len(chosen))


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample():
    rates = pass_at_k(SAMPLES)
    assert list(rates) == [1, 2, 4, 8]
    for k, estimate in rates.items():
        exact = [float(enumerated(row, k)) for row in SAMPLES.tolist()]
        assert estimate.value == pytest.approx(np.mean(exact), abs=1e-15)
    same(rates[1], avg_at_k(SAMPLES))
    assert rates[8] == wilson(SAMPLES.any(axis=1))
    values = [estimate.value for estimate in rates.values()]
    assert values == sorted(values)


def test_pass_at_k_is_exact_for_many_samples_and_rare_success():
    n, c, k = 100_000, 1, 16
    rates = pass_at_k([[1] * c + [0] * (n - c), [0] * n], [k])[k]
    assert rates.value == k * c / n / 2  # one success: k / n; products of ratios lose its digits
    ragged = pass_at_k([[1, 0, 0], [0, 1, 0, 0, 0]], [2])[2]
    assert ragged.value == pytest.approx((2 / 3 + 2 / 5) / 2)


def test_pass_at_k_of_samples_is_unbiased():
    """With chance p the average over all outcomes of n samples is 1 - (1 - p)^k."""
    p, n, k = 0.3, 6, 4
    expected = 0.0
    for c in range(n + 1):
        outcome = [1] * c + [0] * (n - c)
        expected += scipy.stats.binom.pmf(c, n, p) * pass_at_k([outcome], [k])[k].value
    assert expected == pytest.approx(1 - (1 - p) ** k)


def test_no_data_is_nan():
    assert math.isnan(avg_at_k([]).value) and avg_at_k([]).n == 0
    assert math.isnan(rate({}).value) and math.isnan(wilson([]).low)
    assert pass_at_k([]) == {} and math.isnan(pass_at_k([], [4])[4].value)
    assert math.isnan(avg_at_k([[1, 0]]).standard_error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: avg_at_k([[1, 0], []]), "question 1 has no sample"),
        (lambda: avg_at_k({"a": [1], "b": [0, math.nan]}), "question 'b': .* finite .* nan"),
        (lambda: avg_at_k([[1, None]]), "question 0: .* finite"),
        (lambda: avg_at_k(np.array([[1.0], [math.inf]])), "question 1: .* finite"),
        (lambda: avg_at_k(np.zeros((2, 3, 4))), r"questions x samples, got the shape \(2, 3, 4\)"),
        (lambda: avg_at_k([[[1, 0]]]), "question 0: its samples"),
        (lambda: avg_at_k([1, "yes"]), "question 1: its samples .*'yes'"),
        (lambda: avg_at_k(3.0), "questions x samples"),
        (lambda: avg_at_k("1101"), "questions x samples"),
        (lambda: avg_at_k([1, 0], clusters=["a"]), "question 1 has no cluster label"),
        (lambda: avg_at_k([1, 0], clusters=["a", None]), "question 1 has no cluster label"),
        (lambda: avg_at_k([1, 0], clusters=["a", "b", "c"]), "3 cluster labels for 2"),
        (lambda: avg_at_k({"a": 1, "b": 0}, clusters={"a": 1}), "question 'b' has no cluster"),
        (lambda: avg_at_k([1, 0], clusters={"a": 1}), "name their questions"),
        (lambda: avg_at_k([1, 0], method="normal"), "method must be t or bca, got 'normal'"),
        (lambda: wilson([0, 0.5]), "question 1: correctness must be 0 or 1, got 0.5"),
        (lambda: wilson([[0], [0, 1]]), "question 1 has 2 samples"),
        (lambda: pass_at_k([[1, 0], [1, 0.2]]), "question 1: correctness .* 0.2"),
        (lambda: pass_at_k({"a": [1] * 8, "b": [1]}, [4]), "pass@4 needs 4 samples, .*'b' has 1"),
        (lambda: pass_at_k([[1]], [0]), "k must be at least 1"),
        (lambda: by_question([1, 0], ["a"]), "every sample needs its question, got 2 and 1"),
    ],
)
def test_wrong_scores_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_share_of_zeros_and_ones_has_wilsons_interval():
    for right in ([0] * 9, [1] * 9, [0, 1, 1, 0, 1, 1, 1]):
        share_of, wilson_of = share(right, [1] * len(right)), wilson(right)
        assert share_of.low == pytest.approx(wilson_of.low, abs=1e-9)
        assert share_of.high == pytest.approx(wilson_of.high, abs=1e-9)
    # An item without a count does not count.
    assert share([1, 0, 0], [1, 1, 0])[2:] == share([1, 0], [1, 1])[2:]


def test_a_share_far_from_its_ends_has_the_t_interval():
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 15, 4000)
    sums = rng.binomial(counts, 0.5)
    for ends in zip(share(sums, counts)[2:4], ratio(sums, counts)[2:4], strict=True):
        assert ends[0] == pytest.approx(ends[1], abs=1e-4)


def test_a_share_never_leaves_its_range_and_covers():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        p = np.clip(rng.beta(8, 1, 20), 0, 1)  # mean 8 / 9, close to 1
        estimate = share(p, np.ones(20))
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
        covered.append(estimate.low <= 8 / 9 <= estimate.high)
    assert 0.92 <= np.mean(covered) <= 0.99
    assert np.isnan(share([0.5], [1]).low) and np.isnan(share([], []).value)
