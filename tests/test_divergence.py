"""KL in both directions, confidence, and bits per byte, against closed forms and plain PyTorch."""

import math

import helpers
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from probtune.data.encoding import Encoded
from probtune.errors import DataError, UsageError
from probtune.evaluation.divergence import (
    confidences,
    divergences,
    draw,
    kl_of_heads,
)
from probtune.evaluation.documents import Document, cost_of, read_documents
from probtune.models.loading import LMHead, has_plain_head, token_table


def encoded(n, seed=0):
    return [
        Encoded(f"row {i}", np.array(r["input_ids"], np.int32), np.array(r["labels"], np.int32),
                np.array(r["input_ids"][:2]), "", False, False, None)
        for i, r in enumerate(helpers.encoded_rows(n, seed=seed))
    ]  # fmt: skip


def head(*logits):
    """A head of two tokens whose logits are those given, for hidden states of one 1."""
    return LMHead(torch.tensor(logits, dtype=torch.float64).unsqueeze(1), None, None, 1.0)


def test_kl_of_two_coins():
    """p = 3/4 against q = 1/2: KL(p||q) = 3/4 ln 3/2 + 1/4 ln 1/2, KL(q||p) = 1/2 ln 4/3."""
    ones = torch.ones(5, 1, dtype=torch.float64)
    for block in (1, 2, 5, None):
        forward, reverse = kl_of_heads(
            ones, head(math.log(3.0), 0.0), ones, head(0.0, 0.0), block=block
        )
        assert_close(forward, ones[:, 0] * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
        assert_close(reverse, ones[:, 0] * 0.5 * math.log(4 / 3))


def test_bias_softcap_and_scale_count():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(7, 4), torch.randn(9, 4), torch.randn(9)
    plain = LMHead(torch.randn(9, 4), None, None, 1.0)
    forward, reverse = kl_of_heads(hidden, LMHead(weight, bias, 5.0, 0.5), hidden, plain, block=3)
    z = 5.0 * torch.tanh((hidden @ weight.T + bias) * 0.5 / 5.0)
    p, q = z.log_softmax(1), (hidden @ plain.weight.T).log_softmax(1)
    assert_close(forward, (p.exp() * (p - q)).sum(1), atol=1e-5, rtol=1e-4)
    assert_close(reverse, (q.exp() * (q - p)).sum(1), atol=1e-5, rtol=1e-4)


def test_heads_of_different_vocabularies_are_refused():
    ones = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(UsageError, match="2 and 3 tokens"):
        kl_of_heads(ones, head(0.0, 0.0), ones, head(0.0, 0.0, 0.0))


@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_divergences_equal_those_of_full_logits(batch_tokens):
    base, tuned = helpers.word_causal_model(0), helpers.word_causal_model(1)
    rows = encoded(7)
    measured = divergences(base, tuned, rows, batch_tokens=batch_tokens, block=3)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.input_ids[None].astype(np.int64))
        with torch.no_grad():
            p, q = (m(ids).logits[0, :-1].log_softmax(1) for m in (base, tuned))
        counted = torch.tensor(row.labels[1:] != -100)
        assert measured.tokens[i] == int(counted.sum())
        expected = (
            (p.exp() * (p - q)).sum(1)[counted].sum(),
            (q.exp() * (q - p)).sum(1)[counted].sum(),
        )
        assert measured.forward[i] == pytest.approx(float(expected[0]), rel=1e-4, abs=1e-6)
        assert measured.reverse[i] == pytest.approx(float(expected[1]), rel=1e-4, abs=1e-6)
    same = divergences(base, base, rows)
    assert (same.forward == 0).all() and (same.reverse == 0).all()


def test_a_head_that_configurations_do_not_describe_takes_the_logits():
    base, tuned = helpers.word_causal_model(0), helpers.word_causal_model(1)
    rows = encoded(3)
    plain = divergences(base, tuned, rows)

    class Odd(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * 1.7

    with torch.no_grad():
        odd = Odd(tuned.lm_head.in_features, tuned.lm_head.out_features, bias=False)
        odd.weight.copy_(tuned.lm_head.weight / 1.7)
    tuned.lm_head = odd
    assert not has_plain_head(tuned, rows[0])
    np.testing.assert_allclose(divergences(base, tuned, rows).forward, plain.forward, rtol=1e-4)


def test_confidences_agree_with_the_table_and_with_full_logits():
    model, rows = helpers.word_causal_model(3), encoded(6)
    confidence, table = confidences(model, rows, block=2), token_table(model, rows)
    np.testing.assert_array_equal(confidence.example, table.example)
    np.testing.assert_allclose(confidence.logp, table.logp, atol=1e-5)
    np.testing.assert_array_equal(confidence.correct, table.is_top1)
    np.testing.assert_allclose(confidence.entropy, table.entropy, atol=1e-5)
    ids = torch.tensor(rows[0].input_ids[None].astype(np.int64))
    with torch.no_grad():
        p = model(ids).logits[0, 1:-1].softmax(1)
    first = confidence.example == 0
    np.testing.assert_allclose(confidence.confidence[first], p.amax(1), atol=1e-6)
    expected = torch.nn.functional.one_hot(ids[0, 2:], p.shape[1])
    np.testing.assert_allclose(confidence.brier[first], ((p - expected) ** 2).sum(1), atol=1e-6)


def test_samples_come_from_the_whole_distribution():
    """From a uniform model every word is drawn equally often, which top_k = 50 would not change
    here; a response ends with its end token, and the same seed draws the same."""
    model, tokenizer = helpers.word_causal_model(0), helpers.word_tokenizer()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    prompts = [np.array([0, 1]), np.array([2])] * 100
    rows = draw(model, tokenizer, prompts, max_new_tokens=8, seed=1, batch_tokens=300)
    again = draw(model, tokenizer, prompts, max_new_tokens=8, seed=1, batch_tokens=300)
    end = tokenizer.eos_token_id
    new = np.concatenate([row.labels[row.labels != -100] for row in rows])
    assert [r.input_ids.tolist() for r in rows] == [r.input_ids.tolist() for r in again]
    for row, prompt in zip(rows, prompts, strict=True):
        assert row.input_ids[: len(prompt)].tolist() == prompt.tolist()
        body = row.input_ids[len(prompt) :].tolist()
        assert end not in body[:-1] and (body[-1] == end or len(body) == 8)
    counts = np.bincount(new, minlength=len(helpers.WORDS))
    expected = len(new) / len(helpers.WORDS)
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-squared, 17 degrees, p = 0.0003


def test_bits_per_byte_of_a_uniform_model():
    """Every token costs log2 V bits, whatever the windows."""
    model, tokenizer = helpers.word_causal_model(0), helpers.word_tokenizer()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    documents = [Document("a", "ask 1 + 2 = 3"), Document("b", "say 9"), Document("c", "7 " * 40)]
    for max_length in (4, 64):
        cost = cost_of(model, tokenizer, documents, max_length=max_length)
        np.testing.assert_array_equal(cost.tokens, [6, 2, 40])
        np.testing.assert_allclose(cost.bits, cost.tokens * math.log2(18), rtol=1e-6)
        assert cost.bits_per_byte.value == pytest.approx(48 * math.log2(18) / (13 + 5 + 80))
    assert cost.minus(cost).value == 0.0 and cost.bits_per_byte.n == 3


def test_bytes_are_of_utf8_and_windows_see_what_came_before():
    model, tokenizer = helpers.word_causal_model(2), helpers.word_tokenizer()
    whole = cost_of(model, tokenizer, [Document("a", "1 2 3 4")], max_length=64)
    ids = np.array([tokenizer.eos_token_id, 1, 2, 3, 4], np.int32)
    labels = ids.copy()
    labels[0] = -100
    table = token_table(
        model, [Encoded("x", ids, labels, ids[:1], "", False, False, None)], batch_tokens=64
    )
    assert whole.bits[0] == pytest.approx(-table.logp.sum() / math.log(2))
    umlaut = cost_of(model, tokenizer, [Document("a", "ü")], max_length=64)
    assert umlaut.bytes.tolist() == [2]


def test_documents_are_read_from_text_and_from_rows(tmp_path):
    text = tmp_path / "held.txt"
    text.write_text("one\ntwo\n\n\n\nthree\n")
    assert [d.text for d in read_documents(str(text))] == ["one\ntwo", "three"]
    rows = helpers.write_jsonl(tmp_path / "held.jsonl", [{"text": "a"}, {"body": "b"}])
    with pytest.raises(DataError, match=r"held.jsonl:2 has no text in the column 'text'"):
        read_documents(str(rows))
    empty = tmp_path / "none.txt"
    empty.write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        read_documents(str(empty))
    with pytest.raises(UsageError, match="no such file"):
        read_documents(str(tmp_path / "missing.txt"))
