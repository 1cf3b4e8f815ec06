"""Numbers as text: intervals, shares, and what is no number."""

import math

import pytest

from probtune import numbers


def estimate(value, low, high, error=None):
    return {"value": value, "low": low, "high": high, "standard_error": error}


def test_an_interval_of_a_share_ends_at_0_and_1_and_one_of_a_difference_does_not():
    wide = estimate(0.625, -0.1, 1.087)
    assert numbers.interval(wide, share=True) == "0.625 [0.000, 1.000]"
    assert numbers.interval(wide) == "0.625 [-0.100, 1.087]"
    assert numbers.interval(wide, nonnegative=True) == "0.625 [0.000, 1.087]"
    assert numbers.points(wide, 1) == "62.5 [0.0, 100.0]"
    assert numbers.signed_points(wide, 1) == "+62.5 [-10.0, +108.7]"
    inside = estimate(0.5, 0.4, 0.6)
    assert numbers.interval(inside, share=True) == numbers.interval(inside)


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_no_value_is_a_dash_and_no_interval_is_left_out(nothing):
    assert numbers.number(nothing) == "-"
    assert numbers.interval(estimate(nothing, nothing, nothing)) == "-"
    assert numbers.interval(estimate(0.25, nothing, nothing), spec=".2f", share=True) == "0.25"
    assert numbers.plus_minus(estimate(0.25, None, None, nothing)) == "0.250"
    assert numbers.percent(estimate(nothing, None, None)) == numbers.points(None) == "-"


def test_units_signs_and_halves():
    difference = estimate(0.1, -0.05, 0.25, 0.076)
    assert numbers.signed(difference, 1, unit="nats") == "+0.1 nats [-0.1, +0.2]"
    assert numbers.signed(numbers.negative(difference), 2) == "-0.10 [-0.25, +0.05]"
    assert numbers.plus_minus(difference, spec=".3f") == "0.100 ± 0.076"
    assert numbers.in_points(difference) == {"value": 10.0, "low": -5.0, "high": 25.0}
    assert numbers.p_value(0.0004) == "4.0e-04" and numbers.p_value(None) == "-"
