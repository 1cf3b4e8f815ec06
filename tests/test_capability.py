import math

import helpers
import numpy as np
import pytest
import torch

from probtune import probe
from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import DataError, UsageError
from probtune.probe.capability import describe, sample, suggest, verdict
from probtune.probe.choosing import auto
from probtune.probe.features import features
from probtune.statistics import Estimate

V = len(helpers.WORDS)


def bigram_model(log_probs):
    """A real Llama whose head reads the token's embedding and nothing else."""
    model = helpers.word_causal_model(hidden_size=V + 1, num_attention_heads=1, head_dim=18)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.model.norm.weight.data.fill_(1.0)
    # RMSNorm divides by the root mean square, which is 1 for sqrt(V + 1) at one place
    model.model.embed_tokens.weight.data[:, :V] = torch.eye(V) * math.sqrt(V + 1)
    model.lm_head.weight.data[:, :V] = log_probs.T / math.sqrt(V + 1)
    return model


def encoded(rows):
    checked = rows_from(((f"row {i}", row) for i, row in enumerate(rows)), source="x")
    return encode(checked.examples, helpers.word_tokenizer(), max_length=64).rows


def known_model():
    """After '=' the digit 3 has p = 0.9; after a digit the end has p = 0.5; else uniform."""
    p = torch.full((V, V), 1.0 / V)
    word = {w: i for i, w in enumerate(helpers.WORDS)}
    p[word["="]] = 0.1 / (V - 1)
    p[word["="], word["3"]] = 0.9
    for digit in range(10):
        p[digit] = 0.5 / (V - 1)
        p[digit, word["<eos>"]] = 0.5
    return bigram_model(p.log())


def test_every_number_against_known_probabilities():
    rows = encoded([{"prompt": "ask 1 + 2 = ", "completion": "3"}] * 3)
    rows += encoded([{"prompt": "ask 1 + 3 = ", "completion": "4"}])
    measured = describe(known_model(), helpers.word_tokenizer(), rows, of_examples=9)
    other = 0.1 / (V - 1)
    assert (measured.examples, measured.of_examples, measured.tokens) == (4, 9, 8)
    assert measured.mean_p.value == pytest.approx((3 * 0.9 + other + 4 * 0.5) / 8, rel=1e-5)
    assert measured.nll.value == pytest.approx(
        -(3 * math.log(0.9) + math.log(other) + 4 * math.log(0.5)) / 8, rel=1e-4
    )
    assert measured.above_0_55.value == 3 / 8
    assert measured.below_0_1.value == 1 / 8 and measured.below_0_001.value == 0.0
    assert measured.token_accuracy.value == 7 / 8
    # p = 0.006 where the entropy, 0.1 * log(16 / 0.1) + 0.1 + ..., is below ln 2
    assert measured.confident_conflict.value == 1 / 8
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(other))
    half = -(0.5 * math.log(0.5) + 0.5 * math.log(0.5 / (V - 1)))
    assert measured.entropy.value == pytest.approx((entropy + half) / 2, rel=1e-4)
    classes = {group.name: group for group in measured.classes}
    assert classes["digits"].tokens == classes["special"].tokens == 4
    assert classes["special"].mean_p.value == pytest.approx(0.5, rel=1e-5)
    assert measured.end_token is not None and measured.end_token.tokens == 4
    assert [group.name for group in measured.positions] == ["1", "2-3"]
    assert sum(measured.histogram) == 8 and measured.histogram[0] == 1
    assert measured.quantiles["0.5"] == pytest.approx(0.5, rel=1e-4)
    assert measured.mean_p.low < measured.mean_p.value < measured.mean_p.high
    assert measured.mean_p.n == 4  # sequences, not tokens


def test_the_interval_resamples_sequences():
    """Tokens of one sequence that agree do not make the interval narrower."""
    short = [{"prompt": "= ", "completion": "3"}, {"prompt": "= ", "completion": "4"}] * 10
    long = [
        {"prompt": "= ", "completion": "3 = " * 20 + "3"},
        {"prompt": "= ", "completion": "4 = " * 20 + "4"},
    ] * 10
    model, tokenizer = known_model(), helpers.word_tokenizer()
    widths = []
    for rows in (short, [dict(row, completion=row["completion"][:60]) for row in long]):
        measured = describe(model, tokenizer, encoded(rows), of_examples=20)
        widths.append(measured.below_0_1.high - measured.below_0_1.low)
    assert widths[1] > 0.5 * widths[0]


def estimate(value, half):
    return Estimate(value, half / 2, value - half, value + half, 99)


@pytest.mark.parametrize(
    "mean_p, low_share, expected",
    [
        (estimate(0.01, 0.01), estimate(0.9, 0.02), "model-weak"),  # the paper's figlet puzzles
        (estimate(0.5, 0.01), estimate(0.4, 0.02), "model-weak"),
        (estimate(0.3, 0.01), estimate(0.2, 0.02), "model-weak"),
        (estimate(0.8, 0.01), estimate(0.1, 0.02), "model-strong"),  # the paper's mathematics
        (estimate(0.8, 0.1), estimate(0.1, 0.02), "model-intermediate"),  # too few rows to tell
        (estimate(0.8, 0.01), estimate(0.2, 0.02), "model-intermediate"),
        (estimate(0.55, 0.01), estimate(0.2, 0.02), "model-intermediate"),  # the paper's medicine
        (estimate(0.8, math.nan), estimate(0.1, math.nan), "model-intermediate"),  # one row
    ],
)
def test_verdicts_need_the_whole_interval(mean_p, low_share, expected):
    assert verdict(mean_p, low_share) == expected


def known_features(**changes):
    """Features of a model that knows its data, without a sign of noise."""
    rng = np.random.default_rng(0)
    logp = np.log(rng.uniform(0.85, 0.99, 1000))
    columns = {
        "logp": logp,
        "entropy": np.full(1000, 0.3),
        "is_top1": np.ones(1000),
        "token": np.zeros(1000),
        "example": np.repeat(np.arange(100), 10),
        "position": np.tile(np.arange(10), 100),
        **changes,
    }
    return features(**columns, steps=100, epochs=2, learning_rate=1e-4)


def test_the_suggestion_is_that_of_the_choosers_with_its_numbers():
    reference = known_features()
    suggestion = suggest(reference, estimate(0.92, 0.01), estimate(0.0, 0.0))
    choice = auto(reference)
    assert (suggestion.objective, suggestion.undecided) == (choice.objective, choice.undecided)
    assert suggestion.verdict == "model-strong" and choice.reason in suggestion.reason
    assert f"Runner-up: {choice.runner_up}" in suggestion.reason
    with pytest.raises(UsageError, match="metric must be one of"):
        suggest(reference, estimate(0.92, 0.01), estimate(0.0, 0.0), "beam")


def test_a_model_that_never_ends_is_cautioned():
    ends = np.where(np.tile(np.arange(10), 100) == 9, -7.0, -0.1)
    suggestion = suggest(known_features(logp=ends), estimate(0.8, 0.01), estimate(0.1, 0.01))
    assert any("never learn to stop" in caution for caution in suggestion.cautions)


def test_python_door(word_model):
    rows = helpers.sums(12)
    by_path = probe(str(word_model), rows, examples=5)
    assert by_path.examples == 5 and by_path.of_examples == 12
    assert "over" in str(by_path) and "model-weak" in str(by_path)
    assert repr(by_path).startswith("Probe(mean p ") and len(repr(by_path)) < 120
    loaded = helpers.word_causal_model()
    again = probe(loaded, rows, tokenizer=helpers.word_tokenizer(), examples=5)
    assert again.mean_p == by_path.mean_p
    assert probe(str(word_model), rows, examples=None).examples == 12
    renamed = [{"q": r["prompt"], "a": r["completion"]} for r in rows]
    named = probe(str(word_model), renamed, prompt_column="q", response_column="a")
    assert named.tokens == 24


def test_python_door_refuses():
    with pytest.raises(DataError, match="tokenizer"):
        probe(helpers.word_causal_model(), helpers.sums(2))
    with pytest.raises(UsageError, match="no such folder"):
        probe("./none", helpers.sums(2))
    with pytest.raises(DataError, match="row 2 'completion' is empty"):
        probe("./none", [*helpers.sums(1), {"prompt": "a", "completion": ""}])


def test_sample_is_seeded_and_in_order():
    data = list(range(100))
    assert sample(data, 10, seed=1) == sorted(sample(data, 10, seed=1))
    assert sample(data, 10, seed=1) != sample(data, 10, seed=2)
    assert sample(data, None, seed=1) is data and sample(data, 200, seed=1) is data
    assert len(np.unique(sample(data, 50, seed=0))) == 50
