"""Calibration, the agreement of stated probabilities and accuracies: of tokens, of the options of a
multiple choice, and of the share of samples that agree.

A perfectly calibrated model that predicts with probability c is right in a share c of the cases.
Objectives such as -p reward putting all mass on the mode, so the cost to look for is
overconfidence: probabilities above the accuracy.

Items are the unit of every interval (a sequence, a question, a cluster of questions), as tokens of
one sequence are not independent.

References:
    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    2015, https://doi.org/10.1609/aaai.v29i1.9602 (ECE). Guo et al., "On Calibration of Modern
    Neural Networks", 2017, https://arxiv.org/abs/1706.04599. Nixon et al., "Measuring Calibration
    in Deep Learning", 2019, https://arxiv.org/abs/1904.01685 (adaptive bins). Brier, "Verification
    of Forecasts Expressed in Terms of Probability", 1950. DeLong, DeLong and Clarke-Pearson,
    "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves",
    1988, https://doi.org/10.2307/2531595. Geifman and El-Yaniv, "Selective Classification for Deep
    Neural Networks", 2017, https://arxiv.org/abs/1705.08500 (risk and coverage). Braverman et al.,
    "Calibration, Entropy Rates, and Memory in Language Models", 2019,
    https://arxiv.org/abs/1906.05664 (entropy beside log-loss).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..statistics import (
    Estimate,
    avg_at_k,
    paired_ratio_difference,
    rate,
    ratio,
    t_interval,
)
from .diversity import Answers, check_samples, majority

__all__ = [
    "Bin",
    "CalibrationError",
    "RiskCoverage",
    "area_under_risk",
    "auroc",
    "calibration_error",
    "entropy_gap",
    "option_calibration",
    "overconfidence",
    "reliability",
    "risk_coverage",
    "token_calibration",
    "vote_calibration",
]

Floats = NDArray[np.float64]
Items = Sequence[Hashable] | NDArray[np.generic] | None
"""The item of each prediction: equal labels, one item. None: each prediction is an item."""


class Bin(NamedTuple):
    """Predictions with probabilities in one range."""

    low: float
    high: float
    size: int
    probability: float
    """Average probability of the predictions."""
    accuracy: Estimate
    """Share of right predictions, uncertain over items."""


class RiskCoverage(NamedTuple):
    """Error rates among the surest predictions; (n,) each."""

    coverage: Floats
    """1 / n, 2 / n, ..., 1: the share of predictions that are answered, the surest first."""
    risk: Floats
    """Share of errors among them. Equally sure predictions count as answered in random order."""


def reliability(
    probs: ArrayLike,  # (N,)
    hits: ArrayLike,  # (N,)
    *,
    items: Items = None,
    bins: int = 15,
    adaptive: bool = False,
) -> list[Bin]:
    """Return the reliability table: predictions in bins of their probability, without empty bins.

    Args:
        probs: probability of each prediction, in [0, 1].
        hits: 1 where the prediction was right, else 0.
        adaptive: bins with equally many predictions each, instead of equally wide ones. Equal
            probabilities stay in one bin.
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    edges, index = _bins(p, bins, adaptive)
    table = []
    for b in range(len(edges) - 1):
        inside = index == b
        if inside.any():
            counts = np.bincount(units[inside], minlength=n)
            sums = np.bincount(units[inside], hit[inside], minlength=n)
            table.append(
                Bin(
                    float(edges[b]),
                    float(edges[b + 1]),
                    int(inside.sum()),
                    float(p[inside].mean()),
                    ratio(sums, counts),
                )
            )
    return table


class CalibrationError(NamedTuple):
    """Distance of probabilities from accuracies."""

    error: Estimate
    by_chance: float
    """Expected error of a calibrated model whose predictions vary between items as these do. An
    error near it is no evidence of miscalibration."""


def calibration_error(
    probs: ArrayLike,  # (N,)
    hits: ArrayLike,  # (N,)
    *,
    items: Items = None,
    bins: int = 15,
    adaptive: bool = False,
    confidence: float = 0.95,
) -> CalibrationError:
    """Return the expected calibration error: sum over bins of (share of predictions in the bin) x
    |accuracy - average probability|, with bins as in `reliability`.

    Chance alone makes it positive, and more so with fewer items and more bins. With s_b the
    standard error over items of bin b's signed part, a calibrated model has sqrt(2 / pi) sum_b s_b
    on average, and no model has more than that on top of its true error. The interval is that of
    the signed parts by linearisation, its lower end moved down by this much and not below 0: it
    covers the truth at least as often as it says, also where the truth is 0, which a bootstrap of
    the error does not.

    Compare models on the same items and with the same bins only.
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    if not len(p):
        return CalibrationError(Estimate(math.nan, math.nan, math.nan, math.nan, 0), math.nan)
    edges, index = _bins(p, bins, adaptive)
    width = len(edges) - 1
    gaps = np.bincount(units * width + index, p - hit, minlength=n * width).reshape(n, width)
    counts = np.bincount(units, minlength=n).astype(np.float64)
    signed = gaps.sum(axis=0) / len(p)
    value = float(np.abs(signed).sum())
    if n < 2:
        return CalibrationError(Estimate(value, math.nan, math.nan, math.nan, n), math.nan)
    # each item's part in each bin, less the part of an average item of its size
    spread = (gaps - np.outer(counts, signed)) * (math.sqrt(n / (n - 1)) / len(p))
    by_chance = math.sqrt(2 / math.pi) * float(np.sqrt((spread**2).sum(axis=0)).sum())
    error = math.sqrt(float(((spread @ np.sign(signed)) ** 2).sum()))
    interval = t_interval(value, error, n, confidence)
    return CalibrationError(interval._replace(low=max(0.0, interval.low - by_chance)), by_chance)


def overconfidence(probs: ArrayLike, hits: ArrayLike, *, items: Items = None) -> Estimate:
    """Return average probability minus accuracy: positive if the model is surer than it is right.
    Unlike the calibration error it has a sign and no bias, but it misses errors that cancel.
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    counts = np.bincount(units, minlength=n)
    return paired_ratio_difference(
        np.bincount(units, p, minlength=n), np.bincount(units, hit, minlength=n), counts
    )


def auroc(probs: ArrayLike, hits: ArrayLike, *, items: Items = None) -> Estimate:
    """Return the chance that a right prediction is surer than a wrong one, ties counted half; 0.5
    if the probabilities carry no information. NaN if all are right or all wrong.

    The standard error is DeLong's: each prediction's share of the other kind below (above) it,
    summed within items.
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    right = hit == 1
    if not np.isin(hit, (0.0, 1.0)).all():
        raise ValueError("AUROC needs predictions that are right or wrong, 1 or 0.")
    if right.all() or not right.any():
        return Estimate(math.nan, math.nan, math.nan, math.nan, n)
    from scipy.stats import rankdata

    ranks, within = rankdata(p), np.empty(len(p))
    for kind in (right, ~right):
        within[kind] = rankdata(p[kind])
    positives, negatives = int(right.sum()), int((~right).sum())
    share = np.where(right, (ranks - within) / negatives, 1.0 - (ranks - within) / positives)
    value = float(share[right].mean())
    influence = (share - value) / np.where(right, positives, negatives)
    by_item = np.bincount(units, influence, minlength=n)
    error = math.sqrt(n / (n - 1) * float((by_item**2).sum())) if n > 1 else math.nan
    return t_interval(value, error, n)


def risk_coverage(probs: ArrayLike, hits: ArrayLike) -> RiskCoverage:
    """Return the error rate among the surest share of predictions, for every share."""
    p, hit = _predictions(probs, hits)
    order = np.argsort(-p, kind="stable")
    # equally sure predictions have no order: each stands for the average of its group
    _, group, sizes = np.unique(p[order], return_inverse=True, return_counts=True)
    wrong = np.bincount(group, 1.0 - hit[order], minlength=len(sizes)) / np.maximum(sizes, 1)
    answered = np.arange(1, len(p) + 1)
    return RiskCoverage(answered / max(len(p), 1), np.cumsum(wrong[group]) / answered)


def area_under_risk(
    probs: ArrayLike,
    hits: ArrayLike,
    *,
    items: Items = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Return the average of `risk_coverage` over coverage. Lower is better; it equals the error
    rate if the probabilities carry no information. The interval resamples items (percentile
    bootstrap).
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    if not len(p):
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    value = float(risk_coverage(p, hit).risk.mean())
    if n < 2:
        return Estimate(value, math.nan, math.nan, math.nan, n)
    from scipy.stats import bootstrap

    members = np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1])

    def statistic(drawn: NDArray[np.float64]) -> float:
        chosen = np.concatenate([members[int(i)] for i in drawn])
        return float(risk_coverage(p[chosen], hit[chosen]).risk.mean())

    result = bootstrap(
        (np.arange(n),),
        statistic,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(result.standard_error), float(low), float(high), n)


def token_calibration(
    probs: ArrayLike,  # (N,)
    hits: ArrayLike,  # (N,)
    items: Items,
    *,
    bins: int = 15,
) -> dict[str, Estimate]:
    """Measure the calibration of next-token predictions on a text.

    Args:
        probs: the probability of the model's own most probable token, not that of the target. The
            two are the same where the model is right; where it is wrong the target's is smaller,
            and any model would look underconfident.
        hits: 1 where that token is the target, else 0.
        items: the sequence of each token.

    Returns:
        `ece`, `ece_adaptive` and the values that chance alone gives, `ece_by_chance` and
        `ece_adaptive_by_chance`; `brier` (of right or wrong), `accuracy`, `probability` (average)
        and `overconfidence`.
    """
    p, hit = _predictions(probs, hits)
    units, n = _units(items, len(p))
    counts = np.bincount(units, minlength=n)

    def average(x: Floats) -> Estimate:
        return ratio(np.bincount(units, x, minlength=n), counts)

    return {
        **_errors(p, hit, items, bins),
        "brier": average((p - hit) ** 2),
        "accuracy": average(hit),
        "probability": average(p),
        "overconfidence": overconfidence(p, hit, items=items),
    }


def entropy_gap(
    nll: ArrayLike,  # (N,)
    entropy: ArrayLike,  # (N,)
    items: Items,
) -> Estimate:
    """Return the log-loss of the target tokens minus the entropy of the predictions, in nats per
    token: 0 for a calibrated model, positive for an overconfident one.

    It uses the whole distribution of each token; `token_calibration` sees the most probable token
    only.
    """
    x, h = np.asarray(nll, dtype=np.float64), np.asarray(entropy, dtype=np.float64)
    if x.shape != h.shape or x.ndim != 1:
        raise ValueError(f"nll and entropy must be given per token, got {x.shape} and {h.shape}.")
    units, n = _units(items, len(x))
    return paired_ratio_difference(
        np.bincount(units, x, minlength=n),
        np.bincount(units, h, minlength=n),
        np.bincount(units, minlength=n),
    )


def option_calibration(
    logprobs: Sequence[Sequence[float]],
    gold: Sequence[int],
    *,
    clusters: Items = None,
    bins: int = 15,
) -> dict[str, Estimate]:
    """Measure the calibration of a multiple choice, with probabilities from a softmax over the
    options' log-likelihoods.

    Args:
        logprobs: question -> log-likelihood of each option; questions may have different numbers of
            options.
        gold: index of each question's right option.
        clusters: questions that are not independent.

    Returns:
        `accuracy` (of the most probable option), `nll` and `brier` (sum over options of
        (p - [is right])^2, between 0 and 2) of the whole distribution; `ece`,
        `ece_adaptive` (and `..._by_chance`), `auroc`, `overconfidence` and `area_under_risk` of the
        most probable option.

    Raises:
        ValueError: a question has fewer than two options, a log-likelihood is NaN, or the gold is
            not among the options; the message names the first such question.
    """
    if len(logprobs) != len(gold):
        raise ValueError(f"{len(logprobs)} questions and {len(gold)} golds.")
    tops, hits, nlls, briers = [], [], [], []
    for index, (row, right) in enumerate(zip(logprobs, gold, strict=True)):
        z = np.asarray(row, dtype=np.float64)
        if z.ndim != 1 or len(z) < 2 or np.isnan(z).any() or not np.isfinite(z.max()):
            raise ValueError(
                f"question {index} must have two or more log-likelihoods, got {row!r:.80}."
            )
        if not 0 <= right < len(z):
            raise ValueError(f"question {index}: gold {right} is not one of {len(z)} options.")
        logp = z - z.max()
        logp -= math.log(np.exp(logp).sum())
        p = np.exp(logp)
        tops.append(float(p.max()))
        hits.append(float(right == int(np.argmax(z))))
        nlls.append(-float(logp[right]))
        briers.append(float((p**2).sum() - 2.0 * p[right] + 1.0))
    return {
        "accuracy": rate(hits, clusters=clusters),
        "nll": avg_at_k(nlls, clusters=clusters),
        "brier": avg_at_k(briers, clusters=clusters),
        **_of_predictions(tops, hits, clusters, bins),
    }


def vote_calibration(
    answers: Answers,
    correct: Sequence[Sequence[float]],
    *,
    clusters: Items = None,
    bins: int = 15,
) -> dict[str, Estimate]:
    """Measure the calibration of free answers: the share of samples that give the most frequent
    answer is the probability that it is right.

    Of equally frequent answers the one sampled first counts (`diversity.majority`); a question
    without an answer has the share 0 and is wrong.

    Returns:
        `accuracy` (of the most frequent answer), `share` (average), `ece`, `ece_adaptive` (and
        `..._by_chance`), `auroc`, `overconfidence`, `area_under_risk`.

    Raises:
        ValueError: questions have different numbers of samples.
    """
    check_samples(answers, correct)
    votes = [majority(a, c) for a, c in zip(answers, correct, strict=True)]
    shares, hits = [vote.share for vote in votes], [vote.first for vote in votes]
    return {
        "accuracy": rate(hits, clusters=clusters),
        "share": avg_at_k(shares, clusters=clusters),
        **_of_predictions(shares, hits, clusters, bins),
    }


def _of_predictions(
    probs: Sequence[float], hits: Sequence[float], items: Items, bins: int
) -> dict[str, Estimate]:
    return {
        **_errors(probs, hits, items, bins),
        "auroc": auroc(probs, hits, items=items),
        "overconfidence": overconfidence(probs, hits, items=items),
        "area_under_risk": area_under_risk(probs, hits, items=items),
    }


def _errors(probs: ArrayLike, hits: ArrayLike, items: Items, bins: int) -> dict[str, Estimate]:
    errors: dict[str, Estimate] = {}
    for name, adaptive in (("ece", False), ("ece_adaptive", True)):
        error, by_chance = calibration_error(probs, hits, items=items, bins=bins, adaptive=adaptive)
        errors[name] = error
        errors[f"{name}_by_chance"] = Estimate(by_chance, math.nan, math.nan, math.nan, error.n)
    return errors


def _predictions(probs: ArrayLike, hits: ArrayLike) -> tuple[Floats, Floats]:
    p, hit = np.asarray(probs, dtype=np.float64), np.asarray(hits, dtype=np.float64)
    if p.ndim != 1 or p.shape != hit.shape:
        raise ValueError(
            f"probabilities and hits must be two lists of one length, got {p.shape}, {hit.shape}."
        )
    for name, x in (("probability", p), ("hit", hit)):
        wrong = np.flatnonzero(~((x >= 0) & (x <= 1)))  # NaN too
        if wrong.size:
            raise ValueError(
                f"prediction {wrong[0]}: the {name} must be between 0 and 1, got {x[wrong[0]]:g}."
            )
    return p, hit


def _units(items: Items, size: int) -> tuple[NDArray[np.intp], int]:
    """Return (index of each prediction's item, number of items)."""
    if items is None:
        return np.arange(size), size
    if len(items) != size:
        raise ValueError(f"every prediction needs its item, got {size} and {len(items)}.")
    if isinstance(items, np.ndarray):
        names, index = np.unique(items, return_inverse=True)
        return index, len(names)
    codes: dict[Hashable, int] = {}
    index = np.array([codes.setdefault(x, len(codes)) for x in items], dtype=np.intp)
    return index, len(codes)


def _bins(p: Floats, bins: int, adaptive: bool) -> tuple[Floats, NDArray[np.intp]]:
    """Return (edges, index of each prediction's bin). A bin includes its lower edge, the last bin
    both edges.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    edges = np.linspace(0.0, 1.0, bins + 1)
    if adaptive and len(p):
        inner = np.unique(np.quantile(p, edges[1:-1], method="higher"))
        edges = np.concatenate([[0.0], inner[inner > p.min()], [1.0]])
    return edges, np.searchsorted(edges[1:-1], p, side="right")
