"""Our tasks beside those of lm-evaluation-harness: the tables of docs/evaluation.md."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def harness():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("harness")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in ("harness", "harness_rows", "blocks"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def results(harness):
    """Prompts of every task that both have, read anew from the installed lm-eval."""
    return {(pair.ours, pair.theirs): harness.compare_prompts(pair) for pair in harness.PAIRS}


def test_the_table_of_prompts_is_what_the_script_makes(harness, results):
    blocks = sys.modules["blocks"]
    table = harness.prompts_table(list(results.values()))
    assert blocks.block(harness.DOCUMENT, "harness prompts") == blocks.markdown(table)


def test_both_ask_the_same_question_and_have_the_same_answer(results):
    loaded = {names: result for names, result in results.items() if "missing" not in result}
    assert len(loaded) == 16
    for names, result in loaded.items():
        assert result["same question"] and result["same answer"], names


def test_the_prompts_of_mmlu_prox_are_lm_evals(results):
    same = {ours for (ours, _), result in results.items() if result.get("same prompt")}
    assert same == {f"mmlu_prox_{code}" for code in ("mr", "te", "ne", "sw", "wo", "yo", "zu")}


def test_another_question_or_answer_is_seen(harness, monkeypatch):
    (pair,) = (pair for pair in harness.PAIRS if pair.ours == "medqa")

    def other(row):
        return {**pair.row(row), "sent1": "What is 1 + 1?", "label": 2}

    changed = harness.Pair(pair.ours, pair.theirs, pair.folder, other, pair.difference)
    result = harness.compare_prompts(changed)
    assert not result["same question"] and not result["same answer"]


def test_every_pair_with_rows_has_scores(harness):
    record = json.loads(harness.RESULTS.read_text())["scores"]
    blocks = sys.modules["blocks"]
    table = harness.scores_table(record)
    assert blocks.block(harness.DOCUMENT, "harness scores") == blocks.markdown(table)
    assert {task["task"] for task in record["tasks"]} == {"gsm8k", "math500"}
    for task in record["tasks"]:
        assert task["rows"] == task["same questions"] == task["same texts"] == 50
        right = {result["answers"]: sum(result["ours"]) for result in task["results"]}
        assert right["the right answer in a box"] == 50


def test_questions_of_ours_stand_for_the_benchmarks_without_rows(harness):
    record = json.loads(harness.RESULTS.read_text())["own rows"]
    blocks = sys.modules["blocks"]
    table = harness.scores_table(record)
    assert blocks.block(harness.DOCUMENT, "harness own rows") == blocks.markdown(table)
    measured = {(task["task"], task["theirs"]) for task in record["tasks"]}
    assert measured == {
        (pair.ours, pair.theirs)
        for pair in harness.PAIRS
        if pair.folder not in harness._ON_REAL_ROWS
    }
    for task in record["tasks"]:
        assert task["rows"] == task["same questions"] == task["same answers"] == 50
        for result in task["results"]:
            if result["answers"] in ("the right answers", "wrong answers"):
                right = [float(result["answers"] == "the right answers")] * 50
                assert result["ours"] == right
                assert list(result["theirs"].values()) == [right], task["task"]


@pytest.mark.parametrize("name", ["aime24", "gpqa_medical", "openbookqa", "pubmedqa"])
def test_rows_of_ours_are_read_by_both(harness, name):
    """The same question and right answer in both, in every schema; another row is another one."""
    (pair,) = (pair for pair in harness.PAIRS if pair.ours == name)
    task = harness.TASKS[name]
    raw = harness.rows_like(task.example, 6)
    questions = task.read(raw)
    assert len({question.text for question in questions}) == 6
    theirs, _ = harness.load_theirs([pair], [pair.row(row) for row in raw], pair.theirs)
    docs = harness._settled(theirs)
    assert docs == harness.docs_of(theirs)  # shuffled once
    for row, question, doc in zip(raw, questions, docs, strict=True):
        choices = theirs.doc_to_choice(doc) if theirs.OUTPUT_TYPE == "multiple_choice" else []
        assert harness._core(row) in harness.prompt_of(theirs, doc)
        assert harness._same_answer(question, theirs.doc_to_target(doc), doc, choices)


def test_graders_of_both_on_the_same_texts(harness):
    """A solved problem, as either of them wants to have it."""
    (pair,) = (pair for pair in harness.PAIRS if pair.ours == "gsm8k")
    row = {"question": "What is 6 * 7?", "answer": "6 * 7 = 42\n#### 42"}
    (question,) = harness.TASKS["gsm8k"].read([row])
    task, fetched = harness.load_theirs([pair], [row], pair.theirs)
    (prompt,) = (harness.prompt_of(task, doc) for doc in harness.docs_of(task))
    for text, ours, strict, flexible in (
        ("so #### 42", 0, 1, 1),
        ("so \\boxed{42}", 1, 0, 1),
        ("42 of 43", 0, 0, 0),
    ):
        theirs = harness.their_scores(fetched["loaded"], pair.theirs, [prompt], [text])
        assert harness.our_scores("gsm8k", [question], [text]) == [ours]
        assert list(theirs.values()) == [[strict], [flexible]]
