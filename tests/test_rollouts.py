"""`probtune success` and `probtune replay`: answers that a model draws to training rows."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import helpers
import pytest

from probtune.cli import main
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.tasks.questions import GRADERS
from probtune.measure.answers import exact_match
from probtune.models import generation
from probtune.models.generation import Continuation


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    return "rows.jsonl"


class Answering:
    """A model that answers prompt after prompt, and stops the command at a call if asked to."""

    def __init__(self, answer, *, stop_at=None):
        self.answer, self.stop_at, self.calls = answer, stop_at, 0

    def __call__(self, model, tokenizer, prompts, **options):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        texts = [self.answer(tokenizer.decode(ids), options["seed"]) for ids in prompts]
        return [Continuation(text, [], text != "cut") for text in texts]


def total(prompt):
    _, a, _, b, *_ = prompt.split()
    return int(a) + int(b)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_rows_get_the_rate_of_right_answers_and_its_complement(
    rows, word_model, monkeypatch, capsys
):
    """Even sums are always right, odd ones every other time."""
    calls = []

    def answer(prompt, seed):
        calls.append(prompt)
        right = total(prompt) % 2 == 0 or calls.count(prompt) % 2 == 0
        return str(total(prompt)) if right else "9 9"

    monkeypatch.setattr(generation, "continue_prompts", Answering(answer))
    assert run("success", word_model, rows, "--samples", 4, "--out", "new.jsonl") == 0
    before, after = lines(rows), lines("new.jsonl")
    assert [{k: row[k] for k in ("prompt", "completion")} for row in after] == before
    for row in after:
        rate = 1.0 if int(row["completion"]) % 2 == 0 else 0.5
        assert (row["success_rate"], row["weight"]) == (rate, 1 - rate)
    told = " ".join(capsys.readouterr().out.split())
    assert "--objective 'weighted(nll(), \"weight\")'" in told
    solved = sum(row["weight"] == 0 for row in after)
    assert f"rows solved every time (weight 0) {solved}" in told


def test_rates_are_those_of_the_answers_beside_them(rows, word_model):
    """With the model itself, by the rule that fits the responses."""
    arguments = ("success", word_model, rows, "--samples", 3, "--rows", 12, "--out", "new.jsonl")
    assert run(*arguments) == 0
    header, *answers = lines("new.answers.jsonl")
    assert header["rows"] == 12 and len(answers) == 36
    for index, row in enumerate(lines("new.jsonl")):
        own = [a["text"] for a in answers if a["row"] == index]
        rate = sum(exact_match(text.strip() or None, row["completion"]) for text in own) / 3
        assert row["success_rate"] == pytest.approx(rate)


def test_an_interrupted_command_goes_on_with_the_same_answers(rows, word_model, monkeypatch):
    whole = ("success", word_model, rows, "--samples", 2)
    assert run(*whole, "--out", "whole.jsonl") == 0
    real = generation.continue_prompts
    calls = []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(generation, "continue_prompts", stops)
    assert run(*whole, "--out", "other.jsonl") == 130
    assert not Path("other.jsonl").exists()
    partly = Path("other.answers.jsonl")
    partly.write_text(partly.read_text()[:-20])  # a line that the machine's end cut off
    assert run(*whole, "--out", "other.jsonl") == 0
    assert len(calls) == 3 + 3  # the block of the cut line is drawn again, the first is not
    assert lines("other.jsonl") == lines("whole.jsonl")
    key = lambda line: (line["sample"], line["row"])  # noqa: E731
    assert sorted(lines("other.answers.jsonl")[1:], key=key) == lines("whole.answers.jsonl")[1:]


def test_more_samples_extend_the_answers(rows, word_model, monkeypatch):
    assert run("success", word_model, rows, "--samples", 1, "--out", "new.jsonl") == 0
    first = lines("new.answers.jsonl")
    Path("new.jsonl").unlink()
    assert run("success", word_model, rows, "--samples", 2, "--out", "new.jsonl") == 0
    assert lines("new.answers.jsonl")[: len(first)] == first
    Path("new.jsonl").unlink()
    monkeypatch.setattr(generation, "continue_prompts", None)  # grading again draws nothing
    arguments = ("--samples", 2, "--grader", "contains", "--out", "new.jsonl")
    assert run("success", word_model, rows, *arguments) == 0


def test_answers_of_other_settings_are_refused(rows, word_model, tmp_path, capsys):
    assert run("success", word_model, rows, "--samples", 1, "--out", "new.jsonl") == 0
    assert run("success", word_model, rows, "--samples", 1, "--out", "new.jsonl") == 2
    assert "new.jsonl exists" in capsys.readouterr().err
    Path("new.jsonl").unlink()
    assert run("success", word_model, rows, "--seed", 1, "--out", "new.jsonl") == 2
    assert "answers with another --seed; remove it" in capsys.readouterr().err
    other = tmp_path / "other"
    helpers.save_word_model(other, seed=1)
    assert run("success", other, rows, "--out", "new.jsonl") == 2
    assert "answers with another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "more", "answers", "rate"),
    [
        (
            {"prompt": "ask 1 + 1", "completion": "say \\boxed{2}"},
            ("--grader", "math"),
            ["so \\boxed{2.0}", "so \\boxed{3}"],
            0.5,
        ),
        (
            {"prompt": "ask", "completion": "B", "options": ["1", "2", "3"]},
            ("--grader", "choice"),
            ["The answer is B.", "\\boxed{B}"],
            1.0,
        ),
        (
            {"prompt": "ask", "completion": "say", "gold": 7},
            ("--grader", "contains", "--answer-column", "gold"),
            ["it is 7", "it is 77"],
            0.5,
        ),
        (
            {"prompt": "ask", "completion": "say = 4"},
            ("--answer", "regex:= (\\d)"),
            ["1 = 4", "4"],
            0.5,
        ),
    ],
)
def test_graders_by_name_and_rules(row, more, answers, rate, word_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    helpers.write_jsonl(tmp_path / "rows.jsonl", [row, row])
    turns = iter([answers[0], answers[0], answers[1], answers[1]])
    monkeypatch.setattr(generation, "continue_prompts", Answering(lambda *_: next(turns)))
    assert run("success", word_model, "rows.jsonl", *more, "--out", "new.jsonl") == 0
    assert [line["success_rate"] for line in lines("new.jsonl")] == [rate, rate]
    if "--grader" in more and "--answer-column" not in more and "options" not in row:
        items = [GradingItem(text, "2") for text in answers]
        assert sum(grade.score for grade in GRADERS[more[1]][1](items)) / 2 == rate


def test_conversations_are_asked_up_to_their_last_response(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    helpers.save_word_model(tmp_path / "chat", chat_template=helpers.CHAT_TEMPLATE)
    turn = [
        {"role": "user", "content": "ask 1 + 2"},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "ask 2 + 2"},
        {"role": "assistant", "content": "4"},
    ]
    helpers.write_jsonl(tmp_path / "rows.jsonl", [{"messages": turn, "kind": "sum"}] * 2)
    prompts = []

    def answer(prompt, seed):
        prompts.append(prompt)
        return "4"

    monkeypatch.setattr(generation, "continue_prompts", Answering(answer))
    assert run("success", "chat", "rows.jsonl", "--max-length", 60, "--out", "new.jsonl") == 0
    assert "chat new.jsonl --max-length 60 --objective 'weighted" in capsys.readouterr().out
    assert prompts[0].split() == (
        "user ask 1 + 2 <eos> assistant 3 <eos> user ask 2 + 2 <eos> assistant".split()
    )
    assert [line["weight"] for line in lines("new.jsonl")] == [0.0, 0.0]
    monkeypatch.setattr(generation, "continue_prompts", Answering(lambda *_: "say 4"))
    assert run("replay", "chat", "rows.jsonl", "--out", "replay.jsonl") == 0
    (row, _) = lines("replay.jsonl")
    assert row == {
        "messages": [*turn[:3], {"role": "assistant", "content": "say 4"}],
        "kind": "sum",
    }


def test_weights_and_replayed_rows_train(rows, word_model, monkeypatch):
    answers = Answering(lambda prompt, seed: "cut" if total(prompt) == 3 else "7")
    with monkeypatch.context() as patch:
        patch.setattr(generation, "continue_prompts", answers)
        assert run("replay", word_model, rows, "--out", "replay.jsonl") == 0
    before, replayed = lines(rows), lines("replay.jsonl")
    assert len(replayed) == sum(row["completion"] != "3" for row in before)
    assert {row["completion"] for row in replayed} == {"7"}
    assert run("success", word_model, f"{rows},replay.jsonl", "--out", "weighted.jsonl") == 0
    arguments = ("--objective", 'weighted(nll(), "weight")', "--max-steps", 2, "--out", "run")
    assert run("train", word_model, "weighted.jsonl", *arguments) == 0
    shutil.rmtree("run")


def test_prompts_alone_are_replayed(word_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("ask 1 + 1 =\n\nask 2 + 2 =\n")
    monkeypatch.setattr(generation, "continue_prompts", Answering(lambda p, s: str(total(p))))
    assert run("replay", word_model, "prompts.txt", "--max-new-tokens", 4, "--out", "r.jsonl") == 0
    assert lines("r.jsonl") == [
        {"prompt": "ask 1 + 1 =", "completion": "2"},
        {"prompt": "ask 2 + 2 =", "completion": "4"},
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["success", "{rows}", "--out", "new.json"], "end the name in .jsonl"),
        (["success", "{rows}", "--out", "n.jsonl", "--grader", "sums"], "--grader must be one of"),
        (
            ["success", "{rows}", "--out", "n.jsonl", "--grader", "math", "--answer", "hash"],
            "choose one",
        ),
        (["success", "{rows}", "--out", "n.jsonl", "--answer-column", "x"], "for a --grader"),
        (["success", "{rows}", "--out", "n.jsonl", "--weight-column", "prompt"], "has a column"),
        (["success", "{rows}", "--out", "n.jsonl", "--max-new-tokens", "99"], "has a context of"),
        (["success", "-", "--out", "n.jsonl"], "standard input cannot be"),
        (["replay", "missing.txt", "--out", "n.jsonl"], "cannot read missing.txt"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_drawn(
    arguments, said, rows, word_model, monkeypatch, capsys
):
    monkeypatch.setattr(generation, "continue_prompts", None)
    command, *others = [a.format(rows=rows) for a in arguments]
    assert run(command, word_model, *others) == 2 or "has a column" in said
    assert said in " ".join(capsys.readouterr().err.split())


def test_long_responses_need_a_grader(word_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "ask 1 + 1 =", "completion": "say " * 12}
    helpers.write_jsonl(tmp_path / "rows.jsonl", [row, row])
    assert run("success", word_model, "rows.jsonl", "--out", "new.jsonl") == 2
    assert "have no short answer" in capsys.readouterr().err


def test_answers_that_never_end_are_no_rows(rows, word_model, monkeypatch, capsys):
    monkeypatch.setattr(generation, "continue_prompts", Answering(lambda *_: "cut"))
    assert run("replay", word_model, rows, "--out", "r.jsonl") == 1
    assert "give a larger --max-new-tokens" in capsys.readouterr().err


def test_the_table_of_retention_is_of_the_committed_run(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    retention, blocks = (importlib.import_module(name) for name in ("retention", "blocks"))
    record = json.loads(retention.RESULTS.read_text())
    table = blocks.markdown(retention.table(record))
    assert blocks.block(retention.DOCUMENT, "retention") == table
    assert f"{record['replayed rows']} replayed ones" in retention.DOCUMENT.read_text()
    for name in ("retention", "blocks"):
        sys.modules.pop(name)
