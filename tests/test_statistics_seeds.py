"""Differences over seeds and questions: equivalences of `difference_over_seeds`."""

import numpy as np
import pytest

from probtune.statistics import (
    difference_over_seeds,
    macro_difference,
    two_level_difference,
)


def drawn(seeds, questions, *, spread=0.3, seed=0):
    """Two objectives' scores of each seed on the same questions."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal(questions)
    return [
        [
            (
                shared + spread * rng.standard_normal() + 0.5 * rng.standard_normal(questions)
            ).tolist()
            for _ in range(seeds)
        ]
        for _ in range(2)
    ]


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8]])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_of_one_benchmark_it_is_the_crossed_model(spread, clusters):
    a, b = drawn(3, 12, spread=spread)
    whole = two_level_difference(a, b, clusters=clusters).random_effects
    one = difference_over_seeds(
        [{"x": s} for s in a],
        [{"x": s} for s in b],
        clusters=None if clusters is None else {"x": clusters},
    )
    if clusters is None:
        assert one.difference == pytest.approx(whole)
    else:  # two_level scales clusters by their size, to first order the same
        assert one.difference.value == pytest.approx(whole.value)
        assert one.difference.standard_error == pytest.approx(whole.standard_error, rel=0.15)


@pytest.mark.parametrize("seed", range(8))
def test_the_p_value_belongs_to_the_interval(seed):
    a, b = drawn(3, 30, seed=seed)
    first, second = ([{"x": s, "y": s[:10]} for s in side] for side in (a, b))
    result = difference_over_seeds(first, second)
    low, high = result.difference.low, result.difference.high
    assert (result.p_value <= 0.05) == (not low <= 0 <= high)
    other = difference_over_seeds(second, first)
    assert other.p_value == pytest.approx(result.p_value)
    assert other.difference.value == pytest.approx(-result.difference.value)


def test_seeds_without_a_spread_add_nothing():
    """Equal runs: the error over questions alone, as of one run."""
    a, b = drawn(1, 40)
    benchmarks = [{"x": side[0], "y": side[0][::2]} for side in (a, b)]
    several = difference_over_seeds([benchmarks[0]] * 4, [benchmarks[1]] * 4)
    one = macro_difference(*benchmarks, method="t").difference
    assert several.difference.standard_error == pytest.approx(one.standard_error)
    assert (several.difference.low, several.difference.high) == pytest.approx((one.low, one.high))


def test_a_seed_that_moves_all_benchmarks_widens_their_mean():
    rng = np.random.default_rng(1)
    moves = rng.standard_normal(3)
    quiet = {str(i): rng.standard_normal(200) * 0.01 for i in range(5)}
    a = [{name: (x + move).tolist() for name, x in quiet.items()} for move in moves]
    b = [{name: [0.0] * 200 for name in quiet} for _ in moves]
    estimate = difference_over_seeds(a, b).difference
    assert estimate.standard_error == pytest.approx(moves.std(ddof=1) / 3**0.5, rel=1e-2)
    assert estimate.high - estimate.low == pytest.approx(
        2 * 4.3027 * moves.std(ddof=1) / 3**0.5, rel=2e-2
    )


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="two or more, got 1 and 1"):
        difference_over_seeds([{"x": [1]}], [{"x": [0]}])
    with pytest.raises(ValueError, match="other benchmarks"):
        difference_over_seeds([{"x": [1, 0]}, {"y": [1, 0]}], [{"x": [0, 0]}] * 2)


def test_false_alarms_are_nominal_with_ten_seeds():
    """The committed table has all sizes; this is one of its cells, with fewer replications."""
    from benchmarks.intervals import between_seeds

    assert between_seeds(1, 10, 0.04, 40, 400) == pytest.approx(0.05, abs=0.03)
