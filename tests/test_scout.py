"""The scout learns the form and leaves nothing behind; the noise estimate after it."""

import helpers
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.data.tokens import Encoded
from probtune.errors import UsageError
from probtune.models.loading import load_model, load_tokenizer, token_table
from probtune.models.looks import look, look_and_spread
from probtune.models.spread import spread_table, target_logprobs
from probtune.probe.scout import ROWS_PER_STEP, exchanged, scout, split


@pytest.fixture(scope="module")
def material(word_model):
    tokenizer = load_tokenizer(str(word_model))
    rows = rows_from(((f"row {i}", row) for i, row in enumerate(helpers.sums(200))), source="sums")
    encoding = encode(rows.examples, tokenizer, max_length=64)
    return load_model(str(word_model), device="cpu"), list(encoding.rows)


def test_spread_equals_the_token_table(material):
    model, rows = material
    table, spread = token_table(model, rows[:20]), spread_table(model, rows[:20], batch_tokens=64)
    for name in ("example", "position", "token", "is_top1"):
        np.testing.assert_array_equal(getattr(spread.table, name), getattr(table, name))
    np.testing.assert_allclose(spread.table.logp, table.logp, atol=1e-5)
    np.testing.assert_allclose(spread.table.entropy, table.entropy, atol=1e-5)
    ids = torch.from_numpy(rows[0].input_ids).long()[None]
    with torch.no_grad():
        logs = model(ids).logits[0, :-1].double().log_softmax(-1)
    logs = logs[torch.from_numpy(rows[0].labels[1:]) != -100]
    first = spread.table.example == 0
    np.testing.assert_allclose(spread.top_logp[first], logs.amax(-1), atol=1e-5)
    p = logs.exp()
    variance = (p * logs**2).sum(-1) - (p * logs).sum(-1) ** 2
    np.testing.assert_allclose(spread.variance[first], variance, atol=1e-4)


def test_one_pass_measures_as_two(material):
    model, rows = material
    looks, spread = look_and_spread(model, rows[:20])
    for one, alone in zip(looks, look(model, rows[:20]), strict=True):
        for column, same in zip(one, alone, strict=True):
            np.testing.assert_array_equal(column, same)
    alone = spread_table(model, rows[:20])
    for name, column in vars(alone.table).items():
        np.testing.assert_array_equal(getattr(spread.table, name), column)
    np.testing.assert_array_equal(spread.top_logp, alone.top_logp)
    np.testing.assert_array_equal(spread.variance, alone.variance)


def test_target_logprobs_have_the_gradient_of_full_logits(material):
    model, rows = material
    gradients = []
    for plain_head in (True, False):
        model.zero_grad()
        logprobs = target_logprobs(model, rows[:3], plain_head=plain_head)
        (logprobs * torch.linspace(0.5, 1.5, len(logprobs))).sum().backward()
        gradients.append(model.get_input_embeddings().weight.grad.clone())
    model.zero_grad()
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_the_scout_learns_and_leaves_nothing_behind(material):
    model, rows = material
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train, measure = split(rows, 60, seed=0)
    report = scout(model, train, measure, planned_steps=100, learning_rate=0.03)
    assert_close(torch.rand(3), expected, rtol=0, atol=0)  # the generator is where it was
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.grad is None for p in model.parameters())
    # It did learn, on rows that it has not seen.
    assert report.spread.table.logp.mean() > token_table(model, measure).logp.mean() + 0.1
    assert report.spread.table.num_examples == len(measure)
    again = scout(model, train, measure, planned_steps=100, learning_rate=0.03)
    np.testing.assert_array_equal(again.spread.table.logp, report.spread.table.logp)
    assert again.looks == report.looks


def test_each_row_is_measured_behind_another_prompt(material):
    model, rows = material
    rows = rows[:12]
    swapped = exchanged(rows)
    longest = max(len(row.input_ids) for row in rows)
    for row, other, donor in zip(rows, swapped.rows, swapped.donors, strict=True):
        begin, other_begin = (int(np.argmax(r.labels != -100)) for r in (row, other))
        np.testing.assert_array_equal(other.input_ids[other_begin:], row.input_ids[begin:])
        np.testing.assert_array_equal(other.labels[other_begin:], row.labels[begin:])
        assert not np.array_equal(other.input_ids[:other_begin], row.input_ids[:begin])
        prompt = rows[donor].input_ids[:other_begin]
        np.testing.assert_array_equal(other.input_ids[:other_begin], prompt)
        assert len(other.input_ids) <= longest and (other.labels[:other_begin] == -100).all()
    report = scout(model, rows, rows, steps=1)
    assert report.others is not None
    behind = report.others.spread.table
    np.testing.assert_array_equal(behind.token, report.spread.table.token)
    assert exchanged([rows[0], rows[0]]) is None  # one prompt
    assert scout(model, rows, [rows[0]] * 2, steps=1).others is None


def test_the_other_prompt_has_another_answer_where_there_is_one():
    def row(prompt, answer):
        ids = np.array([1, 2, *prompt, answer, 9])
        labels = np.array([-100] * (2 + len(prompt)) + [answer, 9])
        return Encoded("row", ids, labels, ids, "", truncated=False, merged=False, end=None)

    rng = np.random.default_rng(0)
    yes, no = 5, 6
    rows = [row(rng.integers(10, 50, 6), yes if i % 8 else no) for i in range(40)]
    for i, donor in enumerate(exchanged(rows).donors):
        assert rows[i].input_ids[-2] != rows[donor].input_ids[-2]
    alike = exchanged([row([i], yes) for i in range(10, 14)])  # no other answer
    assert all(donor != i for i, donor in enumerate(alike.donors))


def test_passes_of_few_tokens_are_one_step(material):
    model, rows = material
    whole = scout(model, rows[:16], rows[16:40], steps=1)
    parts = scout(model, rows[:16], rows[16:40], steps=1, batch_tokens=40)
    np.testing.assert_allclose(parts.spread.table.logp, whole.spread.table.logp, atol=2e-4)


def test_its_length_ends_by_itself(material):
    model, rows = material
    short = scout(model, rows[:40], rows[40:60])
    assert short.rows == 40 and short.steps == 6 and short.first_pass == 3  # twice, and no more
    bounded = scout(model, rows[:160], rows[160:], planned_steps=40)
    assert bounded.steps == 8  # a twentieth of the plan, but never fewer than the first look
    with pytest.raises(UsageError, match="--scout-steps 0"):
        scout(model, [], rows[:3])


def test_rows_are_split_without_overlap():
    train, measure = split(list(range(100)), 256, seed=3)
    assert len(train) == len(measure) == 50 and not set(train) & set(measure)
    train, measure = split(list(range(5000)), 256, seed=3)
    assert len(train) == 32 * ROWS_PER_STEP and len(measure) == 256
    assert measure == sorted(measure) and not set(train) & set(measure)
