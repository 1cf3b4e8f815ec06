"""Coverage of the intervals, by the simulation of benchmarks/intervals.py.

The default tests draw few replications where an interval is slow; the slow one draws enough to tell
94 % from 96 %.
"""

import math

import numpy as np
import pytest

from benchmarks.intervals import INTERVALS, SIZES, TESTS, coverage, false_alarms, record
from probtune.statistics import macro_average

FAST = [
    "avg@16, t",
    "avg@16 of a hard benchmark, t",
    "one answer, Wilson",
    "one answer, hard, Wilson",
    "pass@8 from 16, t",
    "five copies as clusters, t",
    "paired difference, t",
    "mean of five benchmarks, t",
]
SLOW = [
    "avg@16, BCa",
    "avg@16 of a hard benchmark, BCa",
    "paired difference, BCa",
    "mean of five benchmarks, stratified bootstrap",
    "3 seeds with a spread of 1%, two-level bootstrap",
    "3 seeds with a spread of 1%, random effects",
    "5 seeds with a spread of 1%, two-level bootstrap",
    "5 seeds with a spread of 1%, random effects",
]


def band(replications, share=0.95):
    """The effect of chance alone on an observed share: three standard errors."""
    return 3 * math.sqrt(share * (1 - share) / replications)


@pytest.mark.parametrize("name", FAST)
def test_intervals_cover_at_272(name):
    assert 0.94 <= coverage(name, 272, 2000) <= 0.96


@pytest.mark.parametrize("name", [SLOW[0], SLOW[3], SLOW[4]])
def test_bootstrap_intervals_cover_at_272_as_far_as_few_replications_tell(name):
    replications = 60 if "mean" in name else 120
    expected = pytest.approx(0.95, abs=0.01 + band(replications))
    assert coverage(name, 272, replications) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST + SLOW)
def test_every_interval_covers_at_272(name):
    assert 0.94 <= coverage(name, 272, 8000) <= 0.96


def test_samples_taken_for_independent_cover_six_in_ten():
    name = "all samples as independent, binomial"
    for n in SIZES:
        assert 0.55 <= coverage(name, n, 1000) <= 0.63
    assert coverage("five copies as questions, t", 272, 800) < 0.87


def test_few_questions_of_a_hard_benchmark_are_covered_less():
    assert 0.88 <= coverage("avg@16 of a hard benchmark, t", 30, 2000) <= 0.94


def test_few_seeds_that_differ_much_are_a_weakness_of_the_bootstrap():
    assert coverage("3 seeds with a spread of 4%, two-level bootstrap", 272, 200) < 0.93


@pytest.mark.slow
def test_random_effects_come_closer_with_few_seeds():
    drawn, truth = (
        coverage(f"3 seeds with a spread of 4%, {name}", 272, 4000)
        for name in ("two-level bootstrap", "random effects")
    )
    assert drawn < 0.90 < truth < 0.95


@pytest.mark.parametrize("name", TESTS)
def test_false_alarms_stay_below_the_level(name):
    replications = 80 if "mean" in name else 200
    assert false_alarms(name, 40, replications) <= 0.05 + band(replications, 0.05)


def test_the_record_of_the_time_is_the_protocol_of_one_checkpoint():
    estimate = record(np.random.default_rng(0))
    assert len(estimate) == 3
    for benchmarks in estimate.values():
        assert sum(len(x) for rows in benchmarks.values() for x in rows.values()) == 24_272
        assert 0 < macro_average(benchmarks, method="t").value < 1
    assert set(FAST + SLOW) <= set(INTERVALS)
