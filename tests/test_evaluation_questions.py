"""`probtune eval` on one's own questions, on several models, and on several devices."""

import json

import pytest

from probtune.cli import main
from probtune.errors import DataError, UsageError
from probtune.evaluation.backends.opening import open_model
from probtune.evaluation.commands.evaluation import one_folder_each
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.settings import EvalSettings
from probtune.evaluation.tasks.questions import (
    GRADERS,
    choose_grader,
    own_task,
    read_questions,
)
from probtune.evaluation.tasks.table import TASKS, find_tasks
from probtune.records import read_record


@pytest.mark.parametrize("grader", GRADERS)
def test_every_grader_takes_its_example(grader):
    task = own_task(grader)
    (question,) = task.read([task.example])
    assert task is TASKS[task.name] and find_tasks(task.name) == [task]
    for name, protocol in task.protocols.items():
        items = [
            GradingItem(text, question.gold, question.options)
            for text in (task.example_response, "I cannot say.")
        ]
        right, wrong = (grade.score for grade in protocol.grader(items))
        assert right == 1.0
        # the paper's medicine takes the most similar option where a response names none
        assert wrong == 0.0 or (grader, name) == ("choice", "reference")


@pytest.mark.parametrize(
    ("rows", "grader"),
    [
        ([{"question": "1+1?", "answer": "<<1+1=2>>2\n#### 2"}], "math"),
        ([{"problem": "1+1?", "solution": "It is $\\boxed{2}$."}], "math"),
        ([{"prompt": "1+1?", "gold": 2}], "math"),
        ([{"prompt": "Who?", "completion": "Ada"}], "whole"),
        ([{"prompt": "1+1?", "answer": "2"}, {"prompt": "Who?", "answer": "Ada"}], "whole"),
        ([{"question": "Which?", "choices": ["x", "y"], "answer": 1}], "choice"),
    ],
)
def test_the_grader_follows_the_answers(rows, grader):
    assert choose_grader(rows) == grader
    question = read_questions(rows, grader=grader)[0]
    assert question.gold == {"math": "2", "whole": question.gold, "choice": "B"}[grader]


@pytest.mark.parametrize(
    "options",
    [["x", "y"], {"A": "x", "B": "y"}, {"label": ["A", "B"], "text": ["x", "y"]}],
)
@pytest.mark.parametrize("answer", ["B", 1, "y"])
def test_options_and_their_answer_come_in_several_forms(options, answer):
    row = {"question": "Which?", "options": options, "answer": answer}
    (question,) = read_questions([row], grader="choice")
    assert (question.gold, question.options) == ("B", {"A": "x", "B": "y"})
    assert question.text == "Which?\nA. x\nB. y"


@pytest.mark.parametrize(
    ("row", "grader", "said"),
    [
        ({"text": "?", "answer": "1"}, "whole", "no column with a prompt.*--prompt-column"),
        ({"prompt": "?", "reply": "1"}, "whole", "no column with an answer.*--answer-column"),
        ({"prompt": "?", "answer": ["1"]}, "whole", "row 1: 'answer' must be a text or a number"),
        ({"prompt": "?", "answer": "A"}, "choice", "row 1 has no options"),
        ({"prompt": "?", "answer": "C", "options": ["x", "y"]}, "choice", "'C', which is no"),
    ],
)
def test_rows_that_do_not_fit_are_named(row, grader, said):
    with pytest.raises(DataError, match=said):
        read_questions([row], grader=grader)


def test_an_unknown_grader_lists_the_known():
    with pytest.raises(UsageError, match="whole, contains.*got 'maths'"):
        own_task("maths")


def test_own_questions_on_two_models(word_model, tmp_path, capsys):
    """Two names for the same weights: the same answers, and a difference of zero."""
    import shutil

    other = tmp_path / "other"
    shutil.copytree(word_model, other)
    rows = [{"ask": f"w{n}", "right": "w1"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["eval", word_model, "--and", other, "--data", tmp_path / "rows.jsonl"]
    command += ["--prompt-column", "ask", "--answer-column", "right", "--grader", "contains"]
    command += ["--max-new-tokens", "3", "--prompt-format", "plain", "--out", tmp_path / "out"]
    assert main([*map(str, command)]) == 0
    assert "own questions (contains)" in capsys.readouterr().out
    records = [
        read_record(tmp_path / "out" / name / "record.json") for name in (word_model.name, "other")
    ]
    scores = [record["tasks"][0]["protocols"]["strict"]["score"] for record in records]
    assert scores[0] == scores[1] and records[0]["tasks"][0]["task"] == "questions-contains"
    assert list(records[0]["tasks"][0]["protocols"]) == ["strict"]
    compared = read_record(tmp_path / "out" / "comparison" / "record.json")
    (difference,) = compared["protocols"]["strict"]["differences"]
    assert difference["difference"]["value"] == 0
    # the folder knows its questions when it is graded again
    folder = tmp_path / "out" / "other"
    assert main(["eval", "--phase", "grade", "--out", str(folder)]) == 0


def test_models_are_named_by_what_tells_them_apart():
    settings = EvalSettings(out="e")
    models = ["runs/x/nll/model", "runs/x/p/model", "hub/base"]
    assert [one.out for one in one_folder_each(settings, models)] == ["e/nll", "e/p", "e/base"]
    models = ["runs/x/nll/checkpoint-10", "runs/x/p/checkpoint-10"]
    names = [one.out for one in one_folder_each(settings, models)]
    assert names == ["e/nll-checkpoint-10", "e/p-checkpoint-10"]
    with pytest.raises(UsageError, match="named twice"):
        one_folder_each(settings, ["a", "a"])


def test_devices_are_handed_to_vllm(word_model, monkeypatch):
    import sys
    import types

    from probtune.evaluation.backends import opening

    monkeypatch.setattr(opening, "find_spec", lambda name: object())
    handed = {}
    fake = types.ModuleType("probtune.evaluation.backends.vllm")
    vars(fake)["VLLMModel"] = lambda name, **options: handed.update(options)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    opened = open_model(str(word_model), backend="vllm", tensor_parallel=2, data_parallel=3)
    opened.load(8)
    assert (handed["tensor_parallel_size"], handed["data_parallel_size"]) == (2, 3)


def test_devices_of_another_backend_are_refused(word_model, monkeypatch):
    with pytest.raises(UsageError, match="--backend vllm"):
        EvalSettings(data_parallel=2)
    from probtune.evaluation.backends import opening

    monkeypatch.setattr(opening, "find_spec", lambda name: name == "vllm" or None)
    with pytest.raises(UsageError, match="pip install ray"):
        open_model(str(word_model), backend="vllm", data_parallel=2)
