"""Calibration against closed forms and scikit-learn, where it is installed."""

import math

import numpy as np
import pytest

from probtune.evaluation.calibration import (
    area_under_risk,
    auroc,
    calibration_error,
    entropy_gap,
    option_calibration,
    overconfidence,
    reliability,
    risk_coverage,
    token_calibration,
    vote_calibration,
)
from probtune.statistics import mean, wilson


def predictions(n, *, over=0.0, seed=0):
    """Probabilities, and hits with that chance less `over`."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.2, 1.0, n)
    return p, (rng.random(n) < p - over) * 1.0


def test_error_by_hand():
    probs, hits = [0.1, 0.2, 0.9, 0.8, 0.95], [0, 1, 1, 1, 0]
    low, high = abs(0.15 - 0.5), abs((0.9 + 0.8 + 0.95) / 3 - 2 / 3)
    distance = calibration_error(probs, hits, bins=2).error
    assert distance.value == pytest.approx(0.4 * low + 0.6 * high)
    table = reliability(probs, hits, bins=2)
    assert [(b.low, b.high, b.size) for b in table] == [(0, 0.5, 2), (0.5, 1, 3)]
    assert table[1].probability == pytest.approx(2.65 / 3)
    assert table[1].accuracy == pytest.approx(mean([1, 1, 0]))
    error = sum(b.size / 5 * abs(b.probability - b.accuracy.value) for b in table)
    assert distance.value == pytest.approx(error)


def test_bins_hold_their_lower_edge_and_the_last_holds_one():
    table = reliability([0.0, 0.5, 1.0], [0, 1, 1], bins=2)
    assert [b.size for b in table] == [1, 2]


def test_adaptive_bins_hold_equally_many_and_keep_ties_together():
    p = np.random.default_rng(0).beta(8, 1, 1500)
    hits = np.ones(1500)
    assert {b.size for b in reliability(p, hits, adaptive=True)} == {100}
    tied = reliability([0.7] * 50 + [1.0] * 50, np.ones(100), adaptive=True)
    assert [b.size for b in tied] == [50, 50]
    assert len(reliability([0.7] * 20, np.ones(20), adaptive=True)) == 1
    one = calibration_error([0.7] * 20, [1] * 14 + [0] * 6, adaptive=True)
    assert one.error.value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_calibrated_model_has_the_error_of_chance_and_zero_in_its_interval(adaptive):
    """E of |deviation| of a bin is sqrt(2 / pi) times its standard deviation, from p (1 - p)."""
    p, _ = predictions(20_000)
    edges = [b.low for b in reliability(p, np.zeros_like(p), adaptive=adaptive)[1:]]
    index = np.searchsorted(edges, p, side="right")
    spread = np.sqrt(np.bincount(index, p * (1 - p)))
    expected = math.sqrt(2 / math.pi) * spread.sum() / len(p)
    rng = np.random.default_rng(5)
    actual = [calibration_error(p, rng.random(len(p)) < p, adaptive=adaptive) for _ in range(200)]
    assert np.mean([x.error.value for x in actual]) == pytest.approx(expected, rel=0.05)
    assert np.mean([x.by_chance for x in actual]) == pytest.approx(expected, rel=0.01)
    assert np.mean([x.error.low == 0 for x in actual]) > 0.95


def test_overconfidence_is_the_whole_error_where_it_has_one_sign():
    p, hits = predictions(20_000, over=0.1)
    assert overconfidence(p, hits).value == pytest.approx(0.1, abs=0.01)
    assert overconfidence(p, hits).excludes_zero
    error = calibration_error(p, hits).error
    assert error.value == pytest.approx(overconfidence(p, hits).value)
    assert error[1:4:2] == pytest.approx(overconfidence(p, hits)[1:4:2])


def test_interval_of_the_error_covers_the_truth():
    """Sequences of 30 tokens that share what they are wrong by: of 400 samples the 95 % interval
    holds the population's error in 95 % or more; with tokens as the unit in fewer."""
    rng = np.random.default_rng(0)
    truth = float(rng.normal(0.1, 0.2, 10**6).clip(-0.1, 0.3).mean())
    items = np.repeat(np.arange(100), 30)
    covered = by_token = 0
    for _ in range(400):
        p = rng.uniform(0.3, 0.9, (100, 30))
        shift = rng.normal(0.1, 0.2, (100, 1)).clip(-0.1, 0.3)
        hits = (rng.random(p.shape) < p - shift).ravel()
        distance = calibration_error(p.ravel(), hits, items=items).error
        covered += distance.low <= truth <= distance.high
        distance = overconfidence(p.ravel(), hits)
        by_token += distance.low <= truth <= distance.high
    assert covered / 400 > 0.95 - 2 * math.sqrt(0.95 * 0.05 / 400)
    assert by_token / 400 < 0.8


def test_items_are_the_unit():
    p, hits = predictions(300)
    tripled = [np.repeat(x, 3) for x in (p, hits)]
    items = np.repeat(np.arange(300), 3)
    for name, measure in (
        ("error", lambda *p, **options: calibration_error(*p, **options).error),
        ("signed", overconfidence),
        ("auroc", auroc),
        ("risk", area_under_risk),
    ):
        once, thrice = measure(p, hits), measure(*tripled, items=items)
        assert thrice.n == 300, name
        assert thrice.value == pytest.approx(once.value, abs=2e-3), name
        assert thrice.standard_error == pytest.approx(once.standard_error, rel=0.02), name
        assert measure(*tripled, items=[f"q{i}" for i in items]).n == 300
    table = reliability(*tripled, items=items)
    assert [b.accuracy.n * 3 for b in table] == [b.size for b in table]


def test_auroc_is_scikit_learns_and_its_error_delongs():
    metrics = pytest.importorskip("sklearn.metrics")
    p, hits = predictions(400)
    p = p.round(1)  # ties
    area = auroc(p, hits)
    assert area.value == pytest.approx(metrics.roc_auc_score(hits, p))
    above = (p[hits == 1][:, None] > p[hits == 0]) + 0.5 * (p[hits == 1][:, None] == p[hits == 0])
    right, wrong = above.mean(axis=1), above.mean(axis=0)
    delong = right.var(ddof=1) / len(right) + wrong.var(ddof=1) / len(wrong)
    assert area.standard_error == pytest.approx(math.sqrt(delong), rel=0.01)
    assert auroc([0.9, 0.8, 0.1], [1, 1, 0]).value == 1.0
    assert auroc([0.5, 0.5], [1, 0]).value == 0.5
    assert math.isnan(auroc([0.5, 0.6], [1, 1]).value)


def test_risk_and_coverage_by_hand():
    curve = risk_coverage([0.9, 0.7, 0.8, 0.1], [1, 0, 1, 0])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area_under_risk([0.9, 0.7, 0.8, 0.1], [1, 0, 1, 0]).value == pytest.approx(5 / 24)
    # nothing known: the error rate at any coverage, whatever the order
    tied = risk_coverage([0.5] * 4, [1, 0, 0, 1])
    assert tied.risk.tolist() == [0.5] * 4
    assert risk_coverage([0.9, 0.5, 0.5], [1, 0, 1]).risk.tolist() == pytest.approx(
        [0, 0.25, 1 / 3]
    )
    assert len(risk_coverage([], []).risk) == 0


def test_tokens():
    p, hits = predictions(3000, over=0.05)
    items = np.repeat(np.arange(100), 30)
    calibration = token_calibration(p, hits, items)
    assert calibration["brier"].value == pytest.approx(((p - hits) ** 2).mean())
    assert calibration["accuracy"].value == pytest.approx(hits.mean())
    gap = calibration["probability"].value - calibration["accuracy"].value
    assert calibration["overconfidence"].value == pytest.approx(gap)
    assert {estimate.n for estimate in calibration.values()} == {100}
    assert calibration["ece_by_chance"].value == calibration_error(p, hits, items=items).by_chance


def test_entropy_gap_of_a_model_that_samples_itself_is_zero():
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(20), 5000)
    target = (q.cumsum(axis=1) > rng.random((5000, 1))).argmax(axis=1)
    nll = -np.log(q[np.arange(5000), target])
    entropy = -(q * np.log(q)).sum(axis=1)
    items = np.repeat(np.arange(500), 10)
    assert (
        abs(entropy_gap(nll, entropy, items).value)
        < 3 * entropy_gap(nll, entropy, items).standard_error
    )
    assert entropy_gap(nll + 0.2, entropy, items).excludes_zero
    with pytest.raises(ValueError, match="per token"):
        entropy_gap([1.0], [1.0, 2.0], [0])


def test_options_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 4)) * 2 - 30
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    gold = (p.cumsum(axis=1) > rng.random((200, 1))).argmax(axis=1)
    calibration = option_calibration(z.tolist(), gold.tolist())
    hits = p.argmax(axis=1) == gold
    assert calibration["nll"].value == pytest.approx(metrics.log_loss(gold, p))
    assert calibration["brier"].value == pytest.approx(
        metrics.brier_score_loss(gold, p, labels=[0, 1, 2, 3], scale_by_half=False)
    )
    assert calibration["auroc"].value == pytest.approx(metrics.roc_auc_score(hits, p.max(axis=1)))
    assert calibration["accuracy"] == wilson(hits)
    assert calibration["ece"] == pytest.approx(calibration_error(p.max(axis=1), hits).error)
    for name, estimate in option_calibration((z + 7).tolist(), gold.tolist()).items():
        assert estimate == pytest.approx(calibration[name], nan_ok=True)


def test_options_of_different_number_and_impossible_ones():
    calibration = option_calibration([[0.0, 0.0], [0.0, 0.0, -math.inf, 0.0]], [0, 1])
    assert calibration["nll"].value == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert calibration["brier"].value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert calibration["accuracy"].value == 0.5


def test_votes():
    answers = [["a"] * 4, ["a", "a", "b", None], ["a", "b", "b", "a"], [None] * 4]
    correct = [[1] * 4, [0, 0, 1, 0], [1, 0, 0, 1], [0] * 4]
    calibration = vote_calibration(answers, correct)
    assert calibration["accuracy"] == wilson([1, 0, 1, 0])
    assert calibration["share"].value == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert calibration["auroc"].value == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert calibration["area_under_risk"].value == pytest.approx((0 + 1 / 4 + 1 / 3 + 1 / 2) / 4)
    five = vote_calibration(answers * 5, correct * 5, clusters=[0, 1, 2, 3] * 5)
    assert five["accuracy"] == calibration["accuracy"]
    assert five["overconfidence"] == pytest.approx(calibration["overconfidence"])


def test_no_data_is_nan_and_one_item_has_no_error():
    def error(probs, hits):
        return calibration_error(probs, hits).error

    for measure in (error, overconfidence, auroc, area_under_risk):
        assert math.isnan(measure([], []).value), measure
        assert math.isnan(measure([0.5], [1]).standard_error), measure
    assert reliability([], []) == []
    assert math.isnan(option_calibration([], [])["ece"].value)
    assert math.isnan(vote_calibration([], [])["auroc"].value)
    sure = calibration_error([1.0, 1.0], [1, 1])
    assert sure == ((0.0, 0.0, 0.0, 0.0, 2), 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration_error([0.5, 1.2], [1, 0]), "prediction 1: the probability .* 1.2"),
        (lambda: calibration_error([math.nan], [1]), "prediction 0: the probability .* nan"),
        (lambda: auroc([0.5], [2]), "prediction 0: the hit"),
        (lambda: auroc([0.5, 0.4], [1, 0.5]), "right or wrong"),
        (lambda: reliability([0.5, 0.5], [1]), "two lists of one length"),
        (lambda: calibration_error([0.5], [1], items=["a", "b"]), "needs its item, got 1 and 2"),
        (lambda: calibration_error([0.5], [1], bins=0), "bins must be at least 1"),
        (lambda: option_calibration([[0.0, 1.0], [0.0]], [0, 0]), "question 1 must have two"),
        (lambda: option_calibration([[0.0, math.nan]], [0]), "question 0 must have two"),
        (lambda: option_calibration([[0.0, 1.0]], [2]), "question 0: gold 2 is not one of 2"),
        (lambda: option_calibration([[0.0, 1.0]], []), "1 questions and 0 golds"),
        (lambda: vote_calibration([["a"], ["b", "c"]], [[1], [0, 1]]), "question 1 has 2"),
    ],
)
def test_wrong_predictions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
