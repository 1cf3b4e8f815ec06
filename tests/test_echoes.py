"""Answers that are their question once more, or say themselves twice, told by their tokens."""

import numpy as np
import pytest

from probtune.probe.echoes import echoes

HEAD, TAIL, END = [101, 102], [103], 0
ASK = [7, 8]
"""Words of an instruction that all prompts of one template have."""


def rows(number, answer, *, asks=(), length=5, seed=0):
    """(prompts, answers, questions): each answer is made of its question."""
    rng = np.random.default_rng(seed)
    questions = rng.integers(10, 60, (number, length))
    prompts = [np.array([*HEAD, *asks, *question, *TAIL]) for question in questions]
    answers = [np.array([*answer(i, list(question)), END]) for i, question in enumerate(questions)]
    return prompts, answers, questions


def unlike(i, question):
    return [61 + word % 30 for word in question]


@pytest.mark.parametrize("asks", [(), ASK])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_every_echo_is_found_and_nothing_else(asks, share):
    wrong = np.random.default_rng(1).random(200) < share

    def answer(i, question):
        return [*asks, *question] if wrong[i] else unlike(i, question)

    prompts, answers, _ = rows(200, answer, asks=asks)
    assert wrong.any() and (echoes(prompts, answers) == wrong).all()


def test_the_first_token_may_be_joined_to_what_stands_before_it():
    prompts, answers, _ = rows(20, lambda i, q: [99, *q[1:]] if i == 3 else unlike(i, q))
    assert np.flatnonzero(echoes(prompts, answers)).tolist() == [3]


def test_a_list_that_is_sorted_already_is_its_own_answer():
    """Other answers are made of their questions as well; only the instruction was no part of it."""

    def answer(i, question):
        return [*ASK, *question] if i == 5 else sorted(question)

    prompts, answers, questions = rows(50, answer, asks=ASK)
    questions[7].sort()
    prompts[7] = np.array([*HEAD, *ASK, *questions[7], *TAIL])
    answers[7] = np.array([*questions[7], END])
    assert np.flatnonzero(echoes(prompts, answers)).tolist() == [5]
    answers[5] = np.array([*sorted(questions[5]), END])
    assert not echoes(prompts, answers).any()


def test_what_half_of_the_rows_do_is_the_task():
    prompts, answers, _ = rows(20, lambda i, q: q if i < 10 else unlike(i, q))
    assert not echoes(prompts, answers).any()
    prompts, answers, _ = rows(20, lambda i, q: q if i < 9 else unlike(i, q))
    assert echoes(prompts, answers).sum() == 9


def test_a_part_of_the_question_is_an_answer():
    """As in a search for a place in a text, or with an answer of one word."""
    prompts, answers, _ = rows(20, lambda i, q: q[:6] if i < 5 else unlike(i, q), length=12)
    assert not echoes(prompts, answers).any()
    prompts, answers, _ = rows(20, lambda i, q: q if i < 5 else unlike(i, q), length=2)
    assert not echoes(prompts, answers).any()


@pytest.mark.parametrize("between", [[], [50], [50, 51]])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_every_answer_that_says_itself_twice(between, share):
    """The second half's first token is another one, as behind a space."""
    wrong = np.random.default_rng(1).random(200) < share

    def answer(i, question):
        said = unlike(i, question)
        return [*said, *between, 99, *said[1:]] if wrong[i] else said

    prompts, answers, _ = rows(200, answer)
    assert wrong.any() and (echoes(prompts, answers) == wrong).all()


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2, 3, 1, 2, 3],  # two short halves, as a number may have
        [7] * 10,  # one digit over and over
        [9, 1, 2, 3, 4, 1, 2, 3, 4],  # more before the halves than they have between them
        [1, 2, 3, 4, 50, 51, 52, 1, 2, 3, 4],  # too much between them
        [1, 2, 3, 4, 1, 2, 3, 5],
    ],
)
def test_an_answer_that_does_not_say_itself_twice(answer):
    prompts, answers, _ = rows(20, lambda i, q: answer if i == 3 else unlike(i, q))
    assert not echoes(prompts, answers).any()


def test_to_say_everything_twice_may_be_the_task():
    prompts, answers, _ = rows(20, lambda i, q: 2 * unlike(i, q) if i < 10 else unlike(i, q))
    assert not echoes(prompts, answers).any()
