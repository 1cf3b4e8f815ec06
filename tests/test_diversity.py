"""Votes and distinct answers, counted by hand and by enumeration."""

from itertools import permutations

import numpy as np
import pytest

from probtune.evaluation.diversity import Vote, diversity, majority
from probtune.statistics import pass_at_k, wilson

ANSWERS = [["3", "3", "4", None], ["1", "2", "1", "2"], [None] * 4, ["7"] * 4]
CORRECT = [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
TEXTS = [["a", "b", "c", "d"], ["a", "b", "a", "b"], ["", "", "", "x"], ["y"] * 4]


def test_diversity_by_hand():
    measures = diversity(TEXTS, ANSWERS, CORRECT)
    assert list(measures) == [
        *("pass@1", "pass@2", "pass@4", "maj@4", "distinct_answers", "distinct_texts", "answered")
    ]
    assert measures["maj@4"].value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert measures["distinct_answers"].value == (2 + 2 + 0 + 1) / 4
    assert measures["distinct_texts"].value == (4 + 2 + 2 + 1) / 4
    assert measures["answered"].value == (3 + 4 + 0 + 4) / 16
    assert measures["pass@2"] == pass_at_k(CORRECT)[2]
    assert all(estimate.n == 4 for estimate in measures.values())


def test_copies_are_one_question():
    measures = diversity(TEXTS * 5, ANSWERS * 5, CORRECT * 5, clusters=[0, 1, 2, 3] * 5)
    for name, estimate in diversity(TEXTS, ANSWERS, CORRECT).items():
        assert measures[name] == pytest.approx(estimate)


def test_a_tie_is_worth_the_average_over_orders_of_its_samples():
    """In all orders the answer sampled first among the leaders is right as often as `correct`."""
    answers, correct = ["a", "b", "b", "a", "c", None], [1, 0, 0, 1, 1, 0]
    pairs = list(zip(answers, correct, strict=True))
    firsts = [majority(*zip(*order, strict=True)).first for order in permutations(pairs)]
    vote = majority(answers, correct)
    assert np.mean(firsts) == pytest.approx(vote.correct) == 0.5
    assert vote == Vote(2 / 6, 0.5, 1.0)
    assert majority(["a", "b", "c"], [1, 0, 0]).correct == pytest.approx(1 / 3)


def test_one_leader_decides():
    assert majority(["a", "b", "b"], [1, 0, 0]) == Vote(2 / 3, 0.0, 0.0)
    assert majority([None, None, "b"], [0, 0, 1]) == Vote(1 / 3, 1.0, 1.0)
    assert majority([None], [0]) == Vote(0.0, 0.0, 0.0)


def test_one_sample_per_question_is_its_accuracy():
    measures = diversity([["x"], ["y"]], [["1"], ["2"]], [[1], [0]])
    assert measures["maj@1"] == measures["pass@1"] == wilson([1, 0])
    assert diversity([], [], []) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([["a"]], [["1"], ["2"]], [[1], [0]]), "1 questions with samples, 2 with grades"),
        (([["a"], ["b"]], [["1"], ["2", "3"]], [[1], [0]]), "question 1 has 2 samples and 1"),
        (([["a"], ["b", "c"]], [["1"], ["2", "3"]], [[1], [0, 1]]), "question 1 has 2 .* have 1"),
        (([[]], [[]], [[]]), "question 0 has 0 samples"),
        (([["a"]], [["1"]], [[0.5]]), "question 0: correctness must be 0 or 1"),
    ],
)
def test_samples_that_do_not_belong_together_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        diversity(*arguments)
