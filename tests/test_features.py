"""Features against closed forms, and what they refuse."""

import math

import numpy as np
import pytest

from probtune.errors import DataError, UsageError
from probtune.probe.features import DESCRIPTIONS, features, label_noise, sequence_outliers

PLAN = {"steps": 100, "epochs": 3, "learning_rate": 1e-3}


def table(p, *, entropy=0.1, length=4):
    """Sequences of `length` tokens with the probabilities given, in order."""
    p = np.asarray(p, dtype=float)
    position = np.arange(p.size)
    return {
        "logp": np.log(p),
        "entropy": np.full(p.size, entropy),
        "is_top1": p > 0.5,
        "token": position % length,
        "example": position // length,
        "position": position % length,
    }


def mixture(rate, *, sequences=200, seed=0, knows=0.95):
    """Sequences a model knows, a share of them with one confidently wrong token."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(knows - 0.04, knows, (sequences, 4))
    bad = np.arange(sequences) < round(rate * sequences)
    p[bad, rng.integers(0, 4, sequences)[bad]] = np.exp(rng.uniform(-9, -6, bad.sum()))
    return table(p.ravel()), bad


def test_every_feature_is_described_and_a_plain_number():
    measured = features(**mixture(0.1)[0], **PLAN)
    assert list(measured) == list(DESCRIPTIONS)
    assert all(type(v) is float and math.isfinite(v) for v in measured.values())


def test_closed_forms():
    measured = features(**table([0.9, 0.8, 0.05, 0.0005, 0.6, 0.7, 0.9, 0.8]), **PLAN)
    p = np.array([0.9, 0.8, 0.05, 0.0005, 0.6, 0.7, 0.9, 0.8])
    assert measured["mean_p"] == pytest.approx(p.mean())
    assert measured["median_p"] == pytest.approx(np.median(p))
    assert measured["below_0_1"] == pytest.approx(2 / 8)
    assert measured["below_0_001"] == pytest.approx(1 / 8)
    assert measured["top1"] == pytest.approx(6 / 8)
    assert measured["confident_conflict"] == pytest.approx(2 / 8)
    assert measured["surprise"] == pytest.approx(-np.log(p).mean())
    assert measured["overconfidence"] == pytest.approx(-np.log(p).mean() - 0.1)
    assert measured["sequence_right"] == pytest.approx(1 / 2)
    assert measured["sequence_p"] == pytest.approx((p[:4].mean() + p[4:].mean()) / 2)
    assert measured["first_p"] == pytest.approx((0.9 + 0.6) / 2)
    assert measured["end_p"] == pytest.approx((0.0005 + 0.8) / 2)
    assert measured["position_low"] == 0.0 and measured["steps"] == 100.0


def test_an_unsure_model_has_no_confident_conflict():
    assert features(**table([0.01] * 8, entropy=2.0), **PLAN)["confident_conflict"] == 0.0


def test_the_order_of_rows_and_the_names_of_sequences_do_not_matter():
    rows, _ = mixture(0.2)
    mixed = np.random.default_rng(1).permutation(rows["logp"].size)
    other = {name: np.asarray(column)[mixed] for name, column in rows.items()}
    other["example"] = 7 + 3 * other["example"]
    one, two = features(**rows, **PLAN), features(**other, **PLAN)
    assert one == pytest.approx(two)


@pytest.mark.parametrize("rate", (0.0, 0.05, 0.2, 0.5))
def test_noise_is_found_where_the_model_knows_the_task(rate):
    rows, bad = mixture(rate)
    noise = label_noise(rows["logp"], rows["entropy"], rows["example"])
    assert noise.known and noise.rate == pytest.approx(rate, abs=0.02)
    assert ((noise.suspect > 0.5) == bad).mean() > 0.98
    measured = features(**rows, **PLAN)
    assert measured["usual_low"] == 0.0 and measured["usual_p"] > 0.9


def test_noise_is_not_known_where_every_sequence_surprises():
    rows, _ = mixture(0.0, knows=0.05)
    measured = features(**rows, **PLAN)
    assert measured["noise_known"] == 0.0 and measured["usual_low"] == 1.0


def test_long_responses_do_not_look_worse_than_short_ones():
    rng = np.random.default_rng(0)
    for length in (10, 400):
        rows = table(rng.beta(2.0, 0.4, 80 * length), length=length)
        assert np.exp(rows["logp"]).min() < 0.1
        measured = features(**rows, **PLAN)
        assert measured["noise_known"] == 1.0 and measured["noise"] == 0.0


def test_a_minority_that_the_model_likes_is_not_taken_for_the_right_labels():
    rows, _ = mixture(0.8)
    measured = features(**rows, **PLAN)
    assert measured["noise_known"] == 0.0 and measured["noise"] == 0.0 and measured["usual_p"] < 0.8


def test_outliers_stand_out_and_an_even_model_has_none():
    rows, bad = mixture(0.1)
    z = sequence_outliers(rows["logp"], rows["example"])
    assert z[bad].min() > 2.0 > z[~bad].max()
    assert np.abs(sequence_outliers(np.full(8, -0.3), np.arange(8) // 2)).max() < 1e-9


def test_one_token_is_enough():
    measured = features(**table([0.4], length=1), **PLAN)
    assert measured["mean_p"] == pytest.approx(0.4) and measured["noise"] == 0.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logp": []}, "1-dimensional and of one length"),
        ({"logp": [0.5] * 4}, "at most 0; 4 are not, the first is 0.5"),
        ({"logp": [math.nan] * 4}, "the first is nan"),
        ({"entropy": [math.inf] * 4}, "entropy must be finite"),
    ],
)
def test_what_cannot_be_used_is_said(change, message):
    with pytest.raises(DataError, match=message):
        features(**{**table([0.5] * 4), **change}, **PLAN)


def test_no_tokens_and_no_plan():
    with pytest.raises(DataError, match="at least one sequence"):
        features(**table([]), **PLAN)
    with pytest.raises(UsageError, match="steps must be a positive number, got 0"):
        features(**table([0.5] * 4), **{**PLAN, "steps": 0})
