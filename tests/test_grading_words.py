"""Multiple choice, figlet words, and loops at the end of a response."""

import random

import pytest
from grading_cases import CHOICE, OPTIONS

from probtune.errors import DataError
from probtune.evaluation.grading import choice, figlet
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.grading.reference import figlet as figlet_reference
from probtune.evaluation.grading.reference import medicine
from probtune.evaluation.grading.reference.similarity import jaro_winkler_reference
from probtune.evaluation.grading.repetition import CHARACTERS, repeats


@pytest.mark.parametrize("case", CHOICE, ids=lambda case: case[0][:30] or "empty")
def test_choice_cases(case):
    text, _, strict, reference = case
    assert choice.find_strict(text, OPTIONS)[0] == strict
    assert medicine.find(text, OPTIONS)[0] == reference


def test_strict_never_names_an_option_that_was_not_meant():
    assert len(CHOICE) >= 40
    assert not [case for case in CHOICE if case[2] is not None and case[2] != case[1]]
    assert all(case[3] is not None for case in CHOICE), "the paper's rule never abstains"
    assert sum(case[3] != case[1] for case in CHOICE) >= 9


def test_options_of_other_numbers_and_texts():
    ten = {letter: f"about {n}" for n, letter in enumerate("ABCDEFGHIJ")}
    assert choice.find_strict("The answer is I", ten) == ("I", "phrase")
    assert choice.find_strict("The answer is I think B", ten) == (None, "none")
    assert choice.find_strict(r"\boxed{J}", ten) == ("J", "boxed")
    letters = {"A": "B", "B": "A"}
    assert choice.find_strict("A", letters) == ("A", "text")
    brackets = {"A": r"$\frac{1}{2}$", "B": "(0, 1]"}
    assert choice.find_strict(r"\boxed{\frac12}", brackets) == ("A", "boxed")
    assert medicine.find("(0, 1] of it", brackets) == ("B", "text")
    assert medicine.find("", {"A": "", "B": ""})[0] in ("A", "B")


def test_choice_needs_options_and_a_letter_of_them():
    for item in (
        GradingItem("A", "A"),
        GradingItem("A", "E", OPTIONS),
        GradingItem("A", 0, OPTIONS),
    ):
        for grade in (choice.grade_strict, medicine.grade):
            with pytest.raises(DataError, match="item 1"):
                grade([GradingItem("A", "A", OPTIONS), item])


def test_choice_grades_carry_how():
    grades = choice.grade_strict(
        [GradingItem(text, "C", OPTIONS) for text in (r"\boxed{C}", "A", "Acute pancreatitis", "?")]
    )
    assert [(g.score, g.answer, g.extraction) for g in grades] == [
        (1.0, "C", "boxed"), (0.0, "A", "letter"), (0.0, "D", "text"), (0.0, None, "none"),
    ]  # fmt: skip


def test_figlet_exact_match():
    texts = ["MAD", " MAD\n", "mad", "", "MAN"]
    items = [GradingItem(text, "MAD") for text in texts]
    strict, reference = figlet.grade_strict(items), figlet_reference.grade(items)
    assert [g.score for g in strict] == [1, 1, 0, 0, 0]
    assert [g.score for g in reference] == [1, 0, 0, 0, 0]
    assert [g.metrics["normalized"] for g in strict] == [1, 1, 1, 0, 0]
    assert [g.answer for g in strict] == ["MAD", "MAD", "mad", None, "MAN"]
    assert strict[1].metrics["jaro_winkler"] == 1 and 0 < strict[4].metrics["jaro_winkler"] < 1


def test_the_two_similarities_differ_only_in_prefix_and_half_transpositions():
    from rapidfuzz.distance import Jaro

    draw = random.Random(0)
    words = ["".join(draw.choices("abcdef", k=draw.randint(0, 8))) for _ in range(4000)]
    differ = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        ours, theirs = jaro_winkler_reference(one, other), figlet.jaro_winkler(one, other)
        prefix = next((i for i in range(4) if one[: i + 1] != other[: i + 1]), 4)
        prefix = min(prefix, len(one), len(other))
        jaro = Jaro.similarity(one, other)
        # undo what the variant adds: the boost, whatever the similarity
        plain = (ours - 0.1 * prefix) / (1 - 0.1 * prefix) if ours < 1 else ours
        assert plain <= jaro + 1e-9  # a half transposition costs, floored it does not
        assert jaro - plain < 1 / 6 + 1e-9
        differ += abs(ours - theirs) > 1e-9
        if jaro > 0.7 and abs(jaro - plain) < 1e-9:
            assert ours == pytest.approx(theirs)
    assert 0.02 < differ / 2000 < 0.6
    table = {("MARTHA", "MARHTA"): 0.9611, ("DIXON", "DICKSONX"): 0.8133, ("DWAYNE", "DUANE"): 0.84}
    for pair, value in table.items():  # Winkler's own examples
        assert jaro_winkler_reference(*pair) == pytest.approx(value, abs=5e-5)
        assert figlet.jaro_winkler(*pair) == pytest.approx(value, abs=5e-5)


def test_wrong_word_baseline():
    draw = random.Random(1)
    words = ["".join(draw.choices("ABCDEFGHIKLMNOPRSTUVW", k=5)) for _ in range(400)]
    baseline = figlet.wrong_word_baseline(words)
    assert baseline == figlet.wrong_word_baseline(words)
    assert set(baseline) == {"jaro_winkler", "jaro_winkler_reference"}
    assert 0.1 < baseline["jaro_winkler"] <= baseline["jaro_winkler_reference"] + 0.02 < 0.5
    with pytest.raises(ValueError, match="two different words"):
        figlet.wrong_word_baseline(["MAD", "MAD"])


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("We are done. " * 20, True),
        ("Proof. " + "We are done. " * 20 + "We are", True),
        ("a" * CHARACTERS, True),
        ("x" + "\n" * 500, True),
        ("ab " * 30, False),
        ("long piece " * 30 + "and then the end, which is something else", False),
        ("".join(f"Step {k}: add {k * k}. " for k in range(100)), False),
        ("w " + "".join(f"word{k} " for k in range(90)) * 4, True),
        ("".join(f"word{k} " for k in range(90)) * 3, False),
        ("", False),
        ("The answer is 5.", False),
    ],
)
def test_loops_at_the_end(text, loop):
    assert repeats(text) is loop


def test_loops_agree_with_the_definition():
    draw = random.Random(0)

    def slow(text):
        return any(
            all(text[-i] == text[-i - p] for i in range(1, max(4 * p, CHARACTERS) - p + 1))
            for p in range(1, 120)
            if max(4 * p, CHARACTERS) <= len(text)
        )

    for _ in range(300):
        piece = "".join(draw.choices("ab", k=draw.randint(1, 70)))
        text = "".join(draw.choices("ab", k=100)) + piece * draw.randint(2, 9)
        text += "".join(draw.choices("ab", k=draw.choice([0, 0, 0, 1])))
        assert repeats(text) == slow(text), text
