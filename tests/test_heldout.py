from functools import cache

import helpers
import numpy as np
import pytest
import torch

from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import UsageError
from probtune.measure.answers import choose_rule, exact_match, read_rule
from probtune.measure.compare import compare
from probtune.measure.ends import loops
from probtune.measure.heldout import RATES, Generation, HeldOut, measure, passes
from probtune.models.generation import continue_prompts


@pytest.mark.parametrize(
    "rule, text, answer",
    [
        ("hash", "2 + 2 = <<2+2=4>>4\n#### 4", "4"),
        ("hash", "#### 1 #### 2\nmore", "2"),
        ("hash", "4", None),
        ("hash", "####", None),
        ("hash", "#### \n", None),
        ("boxed", r"so \boxed{\frac{1}{2}} and \boxed{3}.", "3"),
        ("boxed", r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        ("boxed", r"\boxed{unclosed", None),
        ("boxed", r"\boxed{}", None),
        ("boxed", "3", None),
        ("whole", " Paris ", "Paris"),
        ("whole", "a\nb", None),
        ("whole", "one two three four five six seven eight nine", None),
        ("whole", "", None),
        (r"regex:answer is (\d+)", "the answer is 3, no, the answer is 4", "4"),
        (r"regex:answer is (\d+)", "none", None),
        (r"regex:^[^|]*\|([^|]*)$", "1 2 | 3", "3"),
        (r"regex:^[^|]*\|([^|]*)$", "1 | 2 | 3", None),
    ],
)
def test_rules(rule, text, answer):
    assert read_rule(rule)(text) == answer


def test_rule_is_chosen_from_the_references():
    assert choose_rule(["x #### 1"] * 9 + ["x"]) == "hash"
    assert choose_rule([r"\boxed{1}"] * 10) == "boxed"
    assert choose_rule(["yes", "no"]) == "whole"
    assert choose_rule(["a long story " * 20] * 5) == "none"
    assert choose_rule([]) == "none"


@pytest.mark.parametrize("rule", ["hashes", "regex:(", "regex:x", "auto"])
def test_wrong_rules(rule):
    with pytest.raises(UsageError, match="--answer"):
        read_rule(rule)


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("1,250", "1250", True),
        ("$3.", "3", True),
        (" a  b", "a b", True),
        ("1,25", "125", False),
        ("3.5", "35", False),
        ("A", "a", False),
        (None, None, False),
        (None, "1", False),
    ],
)
def test_exact_match(a, b, same):
    assert exact_match(a, b) is same and exact_match(b, a) is same


def encoded(n):
    rows = rows_from(((f"row {i}", row) for i, row in enumerate(helpers.sums(n))), source="x")
    return encode(rows.examples, helpers.word_tokenizer(), max_length=64).rows


def test_measure_agrees_with_its_items_and_survives_the_record():
    model = helpers.word_causal_model()
    seen = []
    measured = measure(
        model,
        helpers.word_tokenizer(),
        encoded(9),
        generation=Generation(3, "whole", draws=2),
        progress=seen.append,
    )
    assert sum(seen) == 18  # a forward pass and a generation; nothing is drawn
    assert measured.metrics == ("exact_match", "sampled", "token_accuracy", "mean_p", "nll")
    assert measured.tokens == [2] * 9
    assert measured.estimate("nll").value == pytest.approx(sum(measured.nll) / 18)
    assert measured.estimate("exact_match").value == np.mean(measured.exact)
    again = HeldOut.from_dict(measured.to_dict()["items"] and measured.to_dict())
    assert again == measured
    silent = measure(model, helpers.word_tokenizer(), encoded(9), generation=Generation(3, "none"))
    assert silent.metrics == ("token_accuracy", "mean_p", "nll")
    assert HeldOut.from_dict(silent.to_dict()) == HeldOut(**{**silent.__dict__})
    assert np.isnan(silent.estimate("exact_match").value)  # not measured is not 0


def test_generated_answers_are_graded():
    """A model that was taught the sums by heart gets them right."""
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    rows = encoded(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        for row in rows:
            ids = torch.tensor(row.input_ids)[None].long()
            labels = torch.tensor(row.labels)[None].long()
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    measured = measure(model, tokenizer, rows, generation=Generation(3, "whole"))
    assert measured.exact == [True] * 6
    assert measured.predictions is not None and measured.predictions[3].strip() == rows[3].response


def heldout(exact, nll):
    n = len(nll)
    return HeldOut([2] * n, list(nll), [0.5] * n, [1] * n, exact, None, "whole", 0.0)


def test_comparison_is_paired_by_item():
    a = heldout([True] * 8 + [False] * 2, [1.0, 2.0] * 5)
    b = heldout([True] * 2 + [False] * 8, [1.2, 2.2] * 5)
    rows = {row["metric"]: row for row in compare({"a": a, "b": b})}
    assert rows["nll"]["difference"].value == pytest.approx(-0.1)
    assert rows["nll"]["difference"].standard_error == pytest.approx(0.0, abs=1e-12)
    assert rows["exact_match"]["difference"].value == pytest.approx(0.6)
    assert rows["exact_match"]["p_value"] == pytest.approx(2 * 0.5**6)
    assert rows["mean_p"]["difference"].value == 0.0
    assert "p_value" not in rows["nll"]
    assert len(compare({"a": a, "b": b, "c": b})) == 12


def test_different_items_are_not_compared():
    with pytest.raises(ValueError, match="not measured on the same items"):
        compare({"a": heldout([True], [1.0]), "b": heldout([True, True], [1.0, 1.0])})


# --- how answers end, and the two ways to draw them ----------------------------------------------


@cache
def taught(*, end=True):
    """(rows, a model that knows them by heart); without `end`, not where they end."""
    model, rows = helpers.word_causal_model(), encoded(6)
    batch = {"input_ids": torch.tensor(np.stack([row.input_ids for row in rows])).long()}
    batch["labels"] = torch.tensor(np.stack([row.labels for row in rows])).long()
    if not end:
        batch["labels"][batch["labels"] == rows[0].end] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return rows, model


def test_a_model_that_was_not_taught_the_end_is_shown_not_to_stop():
    tokenizer = helpers.word_tokenizer()
    assert {row.end for row in taught()[0]} == {tokenizer.eos_token_id}
    stopping, endless = (
        measure(model, tokenizer, rows, generation=Generation(12, "whole"))
        for rows, model in (taught(), taught(end=False))
    )
    assert set(stopping.rates) == set(RATES)
    assert stopping.ended == [True] * 6 and stopping.loops == [False] * 6
    assert stopping.estimate("stops").value == 1.0 and stopping.estimate("cut_off").value == 0.0
    assert stopping.estimate("end_p").value > 0.9 > endless.estimate("end_p").value
    cut = endless.estimate("cut_off").value
    assert cut > 0.5 and cut == pytest.approx(1 - endless.estimate("stops").value)
    assert all(
        not (loop and ended) for loop, ended in zip(endless.loops, endless.ended, strict=True)
    )
    row = next(r for r in compare({"a": endless, "b": stopping}) if r["metric"] == "stops")
    assert row["difference"].value == pytest.approx(-cut)


@pytest.mark.parametrize(
    "ids, is_loop",
    [
        ([9, *[1, 2, 3] * 4], True),
        ([9, *[1, 2, 3] * 4, 1], True),  # the last block is cut off
        ([9, *[1, 2, 3] * 3, 1], False),  # three times, but ten tokens
        ([9, *range(20), *range(20), *range(20)], True),
        ([9, *range(20), *range(20)], False),  # twice is a habit
        ([9, *[5] * 11], False),
        ([9, *[5] * 12], True),
        ([5] * 3, True),  # all of a short answer
        ([5, 5], False),
    ],
)
def test_loops(ids, is_loop):
    assert loops(ids) is is_loop


def test_a_format_that_cannot_be_read_is_counted():
    rows, model = taught()
    never = measure(model, helpers.word_tokenizer(), rows, generation=Generation(3, "hash"))
    assert never.estimate("readable").value == 0.0 and never.estimate("readable").low == 0.0
    assert never.sampled is None  # nothing was drawn


def test_without_short_answers_some_rows_show_how_answers_end():
    (rows, model), tokenizer = taught(), helpers.word_tokenizer()
    generation = Generation(3, "none", rows_without_rule=4)
    seen = []
    measured = measure(model, tokenizer, rows, generation=generation, progress=seen.append)
    assert sum(seen) == passes(6, generation) == 10
    assert measured.ended is not None and measured.ended[4:] == [None] * 2
    assert measured.estimate("stops").n == 4
    assert "readable" not in measured.rates and "exact_match" not in measured.metrics
    assert HeldOut.from_dict(measured.to_dict()) == measured
    silent = measure(model, tokenizer, rows, generation=Generation(3, "none"))
    assert silent.rates == ("end_p",) and silent.max_new_tokens is None


def test_sampled_is_how_often_a_drawn_answer_is_right():
    """The probability of the whole response equals the frequency among drawn answers."""
    model, tokenizer, rows = helpers.word_causal_model(), helpers.word_tokenizer(), encoded(4)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    exact = measure(model, tokenizer, rows, generation=Generation(2, "whole"))
    prompts = [rows[0].prompt_ids] * 4000
    drawn = continue_prompts(model, tokenizer, prompts, max_new_tokens=2, seed=0)
    response = [*rows[0].input_ids[len(rows[0].prompt_ids) :].tolist()]
    frequency = np.mean([answer.ids == response for answer in drawn])
    assert exact.sampled is not None
    assert frequency == pytest.approx(exact.sampled[0], abs=4 * (0.25 / 4000) ** 0.5)
    assert exact.sampled == pytest.approx(np.exp(-np.array(exact.nll)).tolist())


def test_answers_after_a_working_are_drawn():
    rows, tokenizer = encoded(6), helpers.word_tokenizer()
    generation = Generation(3, r"regex:(\d+)", draws=4, seed=1)
    first, second = (
        measure(helpers.word_causal_model(), tokenizer, rows, generation=generation)
        for _ in range(2)
    )
    assert first.sampled == second.sampled and passes(6, generation) == 6 * 6
    assert {4 * value for value in first.sampled} <= {0.0, 1.0, 2.0, 3.0, 4.0}
    model = helpers.word_causal_model()
    state = torch.get_rng_state()
    measure(model, tokenizer, rows, generation=generation)
    assert torch.equal(torch.get_rng_state(), state)  # drawing leaves the training's numbers alone


def test_records_of_before_have_no_rates():
    old = heldout([True] * 4, [1.0] * 4).to_dict()
    for name in ("rates", "max_new_tokens"):
        del old[name]
    assert HeldOut.from_dict(old).rates == () and HeldOut.from_dict(old).exact == [True] * 4


def test_intervals_of_shares_lie_within_bounds():
    n = 6
    top = HeldOut([2] * n, [0.01] * n, [1.99] * n, [2] * n, [True] * n, None, "whole", 0.0)
    low = HeldOut([2] * n, [9.0] * n, [0.01] * 5 + [0.3], [0] * n, [False] * n, None, "whole", 0.0)
    for one in (top, low):
        for metric in ("exact_match", "token_accuracy", "mean_p"):
            estimate = one.estimate(metric)
            assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    assert top.estimate("exact_match").low < 0.7  # six right answers prove little
    spread = HeldOut([1] * 2, [0.0] * 2, [1.0, 0.2], [1, 0], [True, False], None, "whole", 0.0)
    other = HeldOut([1] * 2, [0.0] * 2, [0.0] * 2, [0, 0], [False] * 2, None, "whole", 0.0)
    for row in compare({"a": spread, "b": other}):
        if row["metric"] != "nll":
            assert -1.0 <= row["difference"].low <= row["difference"].high <= 1.0
