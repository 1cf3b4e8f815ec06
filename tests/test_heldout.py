import helpers
import numpy as np
import pytest
import torch

from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import UsageError
from probtune.measure.answers import choose_rule, exact_match, read_rule
from probtune.measure.compare import compare
from probtune.measure.heldout import HeldOut, measure


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
        answer_rule="whole",
        max_new_tokens=3,
        progress=seen.append,
    )
    assert sum(seen) == 18  # a forward pass and a generation
    assert measured.metrics == ("exact_match", "token_accuracy", "mean_p", "nll")
    assert measured.tokens == [2] * 9
    assert measured.estimate("nll").value == pytest.approx(sum(measured.nll) / 18)
    assert measured.estimate("exact_match").value == np.mean(measured.exact)
    again = HeldOut.from_dict(measured.to_dict()["items"] and measured.to_dict())
    assert again == measured
    silent = measure(
        model, helpers.word_tokenizer(), encoded(9), answer_rule="none", max_new_tokens=3
    )
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
    measured = measure(model, tokenizer, rows, answer_rule="whole", max_new_tokens=3)
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
