"""Letters found by how clearly they are marked, and by a language's phrase."""

import pytest

from probtune.evaluation.grading.base import Grade, GradingItem
from probtune.evaluation.grading.phrase import PhraseChoice
from probtune.evaluation.grading.reference.explicit import ExplicitChoice

OPTIONS = {letter: f"option {letter}" for letter in "ABCD"}


def answer_of(rule, text):
    (grade,) = ExplicitChoice(rule)([GradingItem(text, "B", OPTIONS)])
    assert grade.score == (grade.answer == "B")
    assert grade.extraction == ("none" if grade.answer is None else "letter")
    return grade.answer


@pytest.mark.parametrize("rule", ["openbookqa", "mmlu_prox"])
@pytest.mark.parametrize(
    "text, letter",
    [
        ("", None),
        ("nothing here", None),
        ("B", "B"),
        ("b", "B"),
        ("B. option B", "B"),
        ("The answer is (C).", "C"),
        ("The answer is (C), not D.", "C"),  # brackets are clearer than a full stop
        ("A. no. D. yes", "D"),  # equally clear: the last
        ("Answer: C", "C"),
        ("vitamin b12", None),  # part of a word
        ("It is a dog", "A"),  # the article counts: a bug, kept
        ("B, then C alone", "B"),
        ('"D" or C.', "D"),
    ],
)
def test_the_clearest_letter(rule, text, letter):
    assert answer_of(rule, text) == letter


def test_where_the_two_rules_differ():
    assert answer_of("openbookqa", "A. B. C. A. D.") == "A"  # marked more often
    assert answer_of("mmlu_prox", "A. B. C. A. D.") == "D"
    assert answer_of("openbookqa", "I choose H. Or A") == "A"  # four letters against ten
    assert answer_of("mmlu_prox", "I choose H. Or A") == "H"
    assert answer_of("openbookqa", "café B") == "B" and answer_of("openbookqa", "éB") is None
    assert answer_of("mmlu_prox", "éB") == "B"


def letters(items, /, *, progress=None):
    """Another grader: the response is the letter."""
    return [Grade(float(i.text == i.gold), i.text or None, "letter") for i in items]


@pytest.mark.parametrize(
    "phrase, text, answer, extraction",
    [
        ("Jibu ni ({})", "Basi Jibu ni (B).", "B", "phrase"),
        ("Jibu ni ({})", "Jibu ni B", "B", "phrase"),
        ("Jibu ni ({})", "Jibu ni (A). Hapana: Jibu ni (B).", "B", "phrase"),
        ("Jibu ni ({})", "Jibu ni Bahari", "Jibu ni Bahari", "letter"),  # no letter alone
        ("Jibu ni ({})", "Jibu ni (J)", "Jibu ni (J)", "letter"),  # no option
        ("Jibu ni ({})", "B", "B", "letter"),
        ("Jibu ni ({})", "", None, "letter"),
        ("उत्तर ({}) हो।", "त्यसैले उत्तर (B) हो।", "B", "phrase"),
        ("उत्तर ({}) हो।", "उत्तर (B)", "उत्तर (B)", "letter"),
        ("సమాధానం ({})", "సమాధానం (B)", "B", "phrase"),
    ],
)
def test_the_phrase_of_a_language(phrase, text, answer, extraction):
    counted = []
    (grade,) = PhraseChoice(phrase, letters)(
        [GradingItem(text, "B", OPTIONS)], progress=counted.append
    )
    assert (grade.answer, grade.extraction) == (answer, extraction)
    assert grade.score == (answer == "B") and counted == [1]


def test_grades_keep_their_order():
    texts = ["Jibu ni (A)", "B", "Jibu ni (B)", "C"]
    grades = PhraseChoice("Jibu ni ({})", letters)([GradingItem(t, "B", OPTIONS) for t in texts])
    assert [g.answer for g in grades] == ["A", "B", "B", "C"]
    assert PhraseChoice("Jibu ni ({})", letters)([]) == []
