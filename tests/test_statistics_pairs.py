"""Paired comparisons, means over benchmarks, seeds, power: against closed forms and libraries."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from probtune.statistics import (
    avg_at_k,
    detectable_difference,
    holm,
    macro_average,
    macro_difference,
    mcnemar,
    mcnemar_interval,
    mean,
    minimum_detectable_difference,
    paired_difference,
    questions_needed,
    sign_flip_test,
    two_level_bootstrap,
    two_level_difference,
)

RNG = np.random.default_rng(1)


def graded(n, k=16, shift=0.0):
    chances = np.clip(RNG.beta(0.9, 1.4, (n, 1)) + shift, 0, 1)
    return (RNG.random((n, k)) < chances) * 1


def pair_of(n, k=16):
    chances = RNG.beta(0.9, 1.4, (n, 1))
    a = RNG.random((n, k)) < np.clip(chances + 0.05, 0, 1)
    return a * 1, (RNG.random((n, k)) < chances) * 1


# --- paired -------------------------------------------------------------------------------------


def test_paired_difference_is_scipys_paired_t():
    a, b = pair_of(50)
    estimate = paired_difference(a, b)
    expected = scipy.stats.ttest_rel(a.mean(1), b.mean(1)).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.value == pytest.approx(avg_at_k(a).value - avg_at_k(b).value)
    unpaired = math.hypot(avg_at_k(a).standard_error, avg_at_k(b).standard_error)
    assert estimate.standard_error < 0.5 * unpaired
    bca = paired_difference(a, b, method="bca")
    assert bca[1:4] == pytest.approx(estimate[1:4], abs=0.3 * estimate.standard_error)


def test_named_questions_are_paired_by_name():
    a, b = pair_of(20)
    names = [f"q{i}" for i in range(20)]
    first = dict(zip(names, a, strict=True))
    second = {name: b[names.index(name)] for name in reversed(names)}
    assert paired_difference(first, second) == paired_difference(a, b)
    assert sign_flip_test(first, second) == sign_flip_test(a, b)


def test_copies_as_clusters_are_the_questions():
    a, b = pair_of(12)
    labels = np.repeat(np.arange(12), 5)
    five = [np.repeat(x, 5, axis=0) for x in (a, b)]
    assert paired_difference(*five, clusters=labels) == pytest.approx(paired_difference(a, b))
    assert sign_flip_test(*five, clusters=labels) == sign_flip_test(a, b)


def test_sign_flips_are_exact_where_they_can_be():
    a, b = pair_of(10)
    difference = (a - b).mean(axis=1)
    sums = [
        abs(sum(s * x for s, x in zip(signs, difference, strict=True)))
        for signs in product((-1, 1), repeat=10)
    ]
    share = np.mean([x >= abs(difference.sum()) - 1e-12 for x in sums])
    assert sign_flip_test(a, b) == pytest.approx(share)


def test_sign_flips_of_single_answers_are_mcnemar():
    a = [1] * 9 + [0] * 2 + [1] * 40
    b = [0] * 9 + [1] * 2 + [1] * 40
    assert sign_flip_test(a, b) == pytest.approx(mcnemar(a, b))
    assert sign_flip_test(a, a) == 1.0
    assert math.isnan(sign_flip_test([], []))


def test_random_sign_flips_come_near_the_t_test_and_repeat():
    a, b = pair_of(200)
    p = sign_flip_test(a, b)
    assert p == sign_flip_test(a, b)
    assert sign_flip_test(b, a) == pytest.approx(p, abs=0.01)
    assert p == pytest.approx(scipy.stats.ttest_rel(a.mean(1), b.mean(1)).pvalue, abs=0.01)
    assert sign_flip_test(np.ones(50), np.zeros(50)) == 2 / 10_000


def test_mcnemar_is_statsmodels_exact_test():
    from statsmodels.stats.contingency_tables import mcnemar as expected

    a, b = (RNG.random((2, 80)) < 0.5).astype(int)
    table = np.histogram2d(a, b, bins=2)[0]
    assert mcnemar(a, b) == pytest.approx(expected(table, exact=True).pvalue)
    with pytest.raises(ValueError, match="same items"):
        mcnemar([1, 0, 1], [1])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"x": 1, "y": 0}, {"x": 1, "z": 0}, "question 'y' is in the first .* not in the second"),
        ({"x": 1}, {"x": 1, "z": 0}, "question 'z' is in the second .* not in the first"),
        ([1, 0, 1], [1, 0], "question 2 has no partner: 3 .* 2"),
        ({"x": 1}, [1], "one names its questions"),
        ([1, math.nan], [1, 0], "question 1: .* finite"),
    ],
)
def test_other_questions_are_named(a, b, message):
    for call in (paired_difference, sign_flip_test):
        with pytest.raises(ValueError, match=message):
            call(a, b)
    with pytest.raises(ValueError, match=f"benchmark 'math': .*{message}"):
        macro_difference({"math": a}, {"math": b})


# --- macro --------------------------------------------------------------------------------------


def test_macro_average_adds_the_variances_of_benchmarks():
    benchmarks = {"a": graded(60), "b": graded(200), "c": graded(30)}
    each = [avg_at_k(x) for x in benchmarks.values()]
    error = math.sqrt(sum(x.standard_error**2 for x in each)) / 3
    t = macro_average(benchmarks, method="t")
    assert t.value == pytest.approx(np.mean([x.value for x in each])) and t.n == 290
    assert t.standard_error == pytest.approx(error)
    drawn = macro_average(benchmarks, resamples=5000)
    assert drawn.value == t.value
    assert drawn.standard_error == pytest.approx(error, rel=0.05)
    assert drawn[2:4] == pytest.approx(t[2:4], abs=0.2 * error)
    assert macro_average(benchmarks, resamples=5000) == drawn


def test_two_equal_benchmarks_by_t_are_welch():
    a, b = graded(30), graded(90)
    estimate = macro_average({"a": a, "b": 1 - b}, method="t")
    expected = scipy.stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    low, high = expected.confidence_interval(0.95)
    # (mean a + 1 - mean b) / 2 has half the interval of mean a - mean b
    assert estimate[2:4] == pytest.approx(((low + 1) / 2, (high + 1) / 2))


def test_macro_average_of_one_benchmark_is_its_average():
    a = graded(80)
    assert macro_average({"a": a}, method="t") == pytest.approx(avg_at_k(a))
    bca = avg_at_k(a, method="bca")
    assert macro_average({"a": a}) == pytest.approx(bca, abs=1e-9)
    big = macro_average({"a": graded(1200), "b": a})
    assert big.low < big.value < big.high


def test_questions_asked_in_two_benchmarks_are_one_cluster():
    """The same questions in two benchmarks: two benchmarks say no more than one."""
    a = graded(80)
    labels = [f"stem{i}" for i in range(80)]
    for method in ("bootstrap", "t"):
        one = macro_average({"four": a}, method=method)
        linked = macro_average(
            {"four": a, "five": a}, clusters={"four": labels, "five": labels}, method=method
        )
        assert linked == pytest.approx(one)
        apart = macro_average({"four": a, "five": a}, method=method)
        assert apart.standard_error == pytest.approx(one.standard_error / math.sqrt(2), rel=0.05)


def test_chains_of_shared_labels_are_drawn_together():
    a, b, c, d = (graded(20) for _ in range(4))
    labels = {"a": range(20), "b": range(10, 30), "c": range(25, 45)}
    estimate = macro_average({"a": a, "b": b, "c": c, "d": d}, clusters=labels, method="t")
    assert estimate.n == 45 + 20


def test_clusters_of_different_size_enter_as_in_a_ratio():
    a = graded(60)
    labels = np.repeat(np.arange(20), [1, 5] * 10)
    expected = avg_at_k(a, clusters=labels)
    assert macro_average({"a": a}, clusters={"a": labels}, method="t") == pytest.approx(expected)


def test_macro_difference_is_paired():
    a, b = {}, {}
    for name, n in (("x", 100), ("y", 30), ("z", 300)):
        a[name], b[name] = pair_of(n)
    estimate = macro_difference(a, b)
    each = [paired_difference(a[name], b[name]) for name in a]
    assert estimate.difference.value == pytest.approx(np.mean([x.value for x in each]))
    error = math.sqrt(sum(x.standard_error**2 for x in each)) / 3
    assert estimate.difference.standard_error == pytest.approx(error, rel=0.05)
    z = scipy.stats.norm.sf(estimate.difference.value / error) * 2
    assert estimate.p_value == pytest.approx(z, abs=0.02)
    one = macro_difference({"x": a["x"]}, {"x": b["x"]})
    assert one.p_value == pytest.approx(sign_flip_test(a["x"], b["x"]))
    assert macro_difference(a, a) == ((0.0, 0.0, 0.0, 0.0, 430), 1.0)


def test_wrong_benchmarks_are_named():
    with pytest.raises(ValueError, match="benchmark 'b' is in one"):
        macro_difference({"a": [1, 0]}, {"a": [1, 0], "b": [1, 0]})
    with pytest.raises(ValueError, match="benchmark 'b' has no question"):
        macro_average({"a": [1, 0], "b": []})
    with pytest.raises(ValueError, match="labels for 'b'"):
        macro_average({"a": [1, 0]}, clusters={"b": [1, 2]})
    with pytest.raises(ValueError, match="method must be"):
        macro_average({"a": [1, 0]}, method="bca")
    assert math.isnan(macro_average({}).value)
    assert math.isnan(macro_average({"a": [1, 0], "b": [1]}).low)


def test_holm_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.4]) == [0.4]
    with pytest.raises(ValueError, match="p-value 1 must be between 0 and 1, got nan"):
        holm([0.1, math.nan])


# --- seeds --------------------------------------------------------------------------------------


def runs(seeds, n, k=4):
    table = (
        RNG.normal(size=(seeds, 1)) * 0.1 + RNG.normal(size=n) + 0.3 * RNG.normal(size=(seeds, n))
    )
    return table[..., None] + RNG.normal(size=(seeds, n, k))


def test_two_levels_show_seeds_apart_from_questions():
    scores = runs(5, 60)
    estimate = two_level_bootstrap(scores)
    assert estimate.bootstrap.value == pytest.approx(scores.mean())
    assert estimate.seed_sd == pytest.approx(scores.mean(axis=(1, 2)).std(ddof=1))
    assert estimate.question_error == pytest.approx(mean(scores.mean(axis=(0, 2))).standard_error)
    assert (estimate.seeds, estimate.questions) == (5, 60)
    assert two_level_bootstrap({"a": scores[0], "b": scores[1]}).seeds == 2


def test_bootstrap_variance_of_a_crossed_table_in_closed_form():
    """E over draws of rows and columns of (average - average of the table)^2, from the sums of
    squares of rows, columns and rest."""
    table = runs(4, 30).mean(axis=2)
    s, n = table.shape
    rows = table.mean(1) - table.mean()
    columns = table.mean(0) - table.mean()
    rest = table - table.mean() - rows[:, None] - columns
    variance = (rows**2).mean() / s + (columns**2).mean() / n + (rest**2).mean() / (s * n)
    estimate = two_level_bootstrap(table, resamples=40_000).bootstrap
    assert estimate.standard_error == pytest.approx(math.sqrt(variance), rel=0.02)


def test_random_effects_are_the_analysis_of_variance():
    """Against the crossed two-way table of statsmodels."""
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = runs(4, 12).mean(axis=2) + 2 * RNG.normal(size=(4, 1))
    seed, question = np.indices(table.shape)
    data = pandas.DataFrame({"x": table.ravel(), "s": seed.ravel(), "q": question.ravel()})
    squares = anova_lm(ols("x ~ C(s) + C(q)", data).fit())["mean_sq"]
    variance = (squares["C(s)"] + squares["C(q)"] - squares["Residual"]) / table.size
    estimate = two_level_bootstrap(table).random_effects
    assert estimate.standard_error == pytest.approx(math.sqrt(variance))
    assert estimate.high - estimate.value > 1.96 * estimate.standard_error


def test_copies_of_questions_do_not_narrow_the_interval_over_seeds():
    table = runs(3, 20).mean(axis=2)
    expected = two_level_bootstrap(table)
    estimate = two_level_bootstrap(
        np.repeat(table, 4, axis=1), clusters=np.repeat(np.arange(20), 4)
    )
    assert estimate.bootstrap == pytest.approx(expected.bootstrap)
    assert estimate.random_effects == pytest.approx(expected.random_effects)
    assert estimate.question_error == pytest.approx(expected.question_error)
    assert estimate.questions == 20


def test_pairs_of_seeds_cancel_what_they_share():
    a = runs(4, 50)
    b = a - 0.1 + 0.01 * RNG.normal(size=a.shape)
    estimate = two_level_difference(a, b)
    assert estimate.bootstrap.value == pytest.approx(0.1, abs=0.01)
    assert estimate.bootstrap.excludes_zero
    assert estimate.seed_sd < 0.1 * two_level_bootstrap(a).seed_sd
    assert estimate == two_level_difference(dict(enumerate(a)), dict(enumerate(b)))


def test_one_seed_says_nothing_of_another():
    estimate = two_level_bootstrap(runs(1, 30))
    assert math.isnan(estimate.bootstrap.standard_error) and math.isnan(estimate.seed_sd)
    assert estimate.question_error > 0
    assert math.isnan(two_level_bootstrap([]).bootstrap.value)
    same = two_level_bootstrap(np.ones((3, 5, 2)))
    assert same.random_effects[:4] == same.bootstrap[:4] == (1.0, 0.0, 1.0, 1.0)


def test_missing_seeds_and_questions_are_named():
    with pytest.raises(ValueError, match="seed 0 first, seed 1 second: question 'b'"):
        two_level_bootstrap([{"a": 1, "b": 0}, {"a": 1, "c": 0}])
    with pytest.raises(ValueError, match="seed 7 is in one"):
        two_level_difference({1: [1, 0], 7: [1, 1]}, {1: [1, 0]})
    with pytest.raises(ValueError, match="seed 0: question 2 has no partner"):
        two_level_difference([[1, 0, 1]], [[1, 0]])


# --- power --------------------------------------------------------------------------------------


def test_detectable_difference_in_closed_form():
    """7.85 Var / n for many questions; a little more for few, as t has longer tails."""
    factor = (scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) ** 2
    assert factor == pytest.approx(7.85, abs=0.002)
    many = minimum_detectable_difference(5000, 0.04)
    assert many == pytest.approx(math.sqrt(factor * 0.04 / 5000), rel=1e-3)
    few = minimum_detectable_difference(30, 0.04)
    assert 1.02 < few / math.sqrt(factor * 0.04 / 30) < 1.06
    assert math.isnan(minimum_detectable_difference(1, 0.04))


@pytest.mark.parametrize("n", [2, 5, 30, 78, 272, 675])
def test_power_is_statsmodels(n):
    """One tail of it, to the digits its solver finds."""
    from statsmodels.stats.power import TTestPower

    test, smallest = TTestPower(), minimum_detectable_difference(n, 1.0)
    assert test.power(smallest, n, 0.025, alternative="larger") == pytest.approx(0.8, abs=1e-9)
    solved = test.solve_power(nobs=n, alpha=0.025, power=0.8, alternative="larger")
    assert smallest == pytest.approx(float(np.squeeze(solved)), rel=1e-4)


def test_the_detectable_difference_is_detected_in_four_of_five():
    n, sd = 30, 0.3
    delta = minimum_detectable_difference(n, sd**2)
    x = np.random.default_rng(0).normal(delta, sd, (4000, n))
    estimate = (scipy.stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05).mean()
    assert estimate == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 4000))


def test_power_of_a_paired_estimate():
    a, b = pair_of(100)
    difference = paired_difference(a, b)
    variance = float(np.var((a - b).mean(axis=1), ddof=1))
    smallest = detectable_difference(difference)
    assert smallest == pytest.approx(minimum_detectable_difference(100, variance))
    assert questions_needed(smallest * 1.0001, variance) == 100
    assert math.isnan(detectable_difference(paired_difference(a, a)))
    assert math.isnan(detectable_difference(paired_difference(a[:1], b[:1])))


@pytest.mark.parametrize("effect", [0.01, 0.1, 0.5, 1.0, 3.0, 8.0, 30.0, 1e6])
def test_questions_needed_are_the_fewest(effect):
    n = questions_needed(effect, 1.0)
    assert minimum_detectable_difference(n, 1.0) <= effect
    assert n == 2 or minimum_detectable_difference(n - 1, 1.0) > effect


def test_wrong_power_is_named():
    with pytest.raises(ValueError, match="delta must not be 0"):
        questions_needed(0.0, 1.0)
    with pytest.raises(ValueError, match="variance must be .* got -1"):
        minimum_detectable_difference(10, -1.0)
    with pytest.raises(ValueError, match="power must be between 0 and 1, got 80"):
        questions_needed(0.1, 1.0, power=80)
    assert questions_needed(0.1, 0.0) == 2


@pytest.mark.parametrize("items", [1, 7, 24])
def test_the_exact_interval_agrees_with_the_exact_test(items):
    for only_a in range(items + 1):
        for only_b in range(items + 1 - only_a):
            a = [True] * only_a + [False] * (items - only_a)
            b = [False] * only_a + [True] * only_b + [False] * (items - only_a - only_b)
            low, high = mcnemar_interval(a, b)
            assert -1 <= low <= (only_a - only_b) / items <= high <= 1
            assert (low > 0 or high < 0) == (mcnemar(a, b) < 0.05)
            assert mcnemar_interval(b, a) == pytest.approx((-high, -low))
