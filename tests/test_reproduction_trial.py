"""Trials: a cell's protocol on another model and fewer rows."""

import json
from dataclasses import replace

import pytest

from probtune.cli import main
from probtune.evaluation.tasks.table import TASKS
from probtune.paper.reproduction.backbones import backbone
from probtune.paper.reproduction.miniature import save_tiny_model
from probtune.paper.reproduction.plan import plan_cell
from probtune.paper.reproduction.recipe import find_recipes
from probtune.paper.reproduction.tables import _cell, _label
from probtune.paper.reproduction.trial import Trial, plan_trial
from probtune.records import read_record

CELL = "knowledge/qwen2.5-7b"


def recipe(name):
    return find_recipes(name)[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    save_tiny_model(backbone("qwen2.5-7b"), folder, ["The answer is B.", "A tree has leaves."])
    return folder


@pytest.mark.parametrize("mode", ["fair", "faithful"])
@pytest.mark.parametrize("name", [CELL, "math/qwen2.5-math-1.5b", "ablations/quantiles"])
def test_limits_change_nothing_else_of_a_cell(name, mode, monkeypatch):
    monkeypatch.setattr("probtune.paper.reproduction.trial._has_accelerator", lambda: True)
    whole = plan_cell(recipe(name), mode)
    limited = plan_trial(recipe(name), mode, Trial(limit_eval=7))
    rates = recipe(name).learning_rates
    changed = {} if len(rates) > 1 else {"heldout": 1.0}
    for run, other in zip(whole.runs, limited.runs, strict=True):
        changes = {"limit": 7, "fit_context": True, "paper_backbone": None}
        assert other.evaluation == replace(run.evaluation, **changes)
        expected = run.training if mode == "faithful" else replace(run.training, **changed)
        assert (other.name, other.training) == (run.name, expected)
    assert whole.trial is None and limited.deviations == whole.deviations
    # nothing of the paper's stands beside it
    assert _label(whole) and not _label(limited) and not _cell(limited)


def test_a_model_of_another_family_has_its_own_turns(tmp_path):
    save_tiny_model(backbone("llama-3.2-3b"), tmp_path / "small", ["Some text."])
    plan = plan_trial(recipe(CELL), "fair", Trial(model=str(tmp_path / "small")))
    assert {run.training.prompt_format for run in plan.runs} == {"llama3"}
    assert {run.training.model for run in plan.runs} == {str(tmp_path / "small")}
    # what the code did to Qwen's prompts alone does not apply to LLaMA's
    plan = plan_trial(
        recipe("math/qwen2.5-math-1.5b"), "faithful", Trial(model=str(tmp_path / "small"))
    )
    assert "bare-question" not in plan.deviations
    assert any(note.startswith("double-prompt") or "bare-question" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("trial", "rows"),
    [
        (Trial(limit_eval=5), 256),
        (Trial(limit_train=10_000), 256),
        (Trial(limit_train=640), 20),
        (Trial(limit_train=20), 8),
        (Trial(limit_train=640, step_rows=128), 128),
    ],
)
def test_few_rows_make_many_steps(trial, rows):
    plan = plan_trial(recipe("medical/qwen2.5-1.5b"), "fair", trial)
    training = plan.runs[1].training
    assert training.batch_size * training.gradient_accumulation == rows
    assert training.batch_size <= 16
    assert any("rows a step" in note for note in plan.notes) == (rows != 256)


def test_held_out_rows_are_a_quarter_and_one_where_there_is_no_rate_to_choose():
    for trial, rows in [
        (Trial(limit_train=100), 25),
        (Trial(limit_train=100_000), 500),
        (Trial(limit_train=100, learning_rates=(1e-4,)), 1),
    ]:
        plan = plan_trial(recipe("medical/qwen2.5-1.5b"), "fair", trial)
        assert {run.training.heldout for run in plan.runs} == {rows}


def test_a_trial_ends_in_a_table_that_says_so(model, tmp_path, capsys):
    rows = [{"prompt": f"{n} + 1 is?\nA. {n}\nB. {n + 1}", "completion": "B"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = TASKS["openbookqa"]
    questions = tmp_path / "questions" / task.local
    questions.parent.mkdir(parents=True)
    rows = [{**task.example, "id": f"q{n}"} for n in range(4)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    command = ["reproduce", CELL, "--model", str(model), "--train-data", tmp_path / "rows.jsonl"]
    command += ["--eval-data", tmp_path / "questions", "--limit-train", "10", "--rates", "1e-3"]
    command += ["--seeds", "0", "--yes", "--out", tmp_path / "out"]
    assert main([*map(str, command), "--limit-eval", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Not a cell of the paper: the protocol of {CELL} on small" in said
    assert "the first 10 rows of" in said and "the first 2 questions of" in said
    assert "verdict" not in said and "agrees" not in said

    (table,) = read_record(tmp_path / "out" / "reproduction.json")["cells"]
    assert table["trial"]["model"] == "small" and table["shows"] == []
    assert {row["paper"] for row in (*table["rows"], *table["objectives"])} == {None}
    page = (tmp_path / "out" / "reproduction.html").read_text()
    assert "Trial of" in page and "numbers of the paper" not in page
    folder = tmp_path / "out" / "trials" / "small" / CELL / "fair"
    trained = read_record(folder / "nll" / "seed-0" / "training" / "nll" / "train.json")
    assert trained["kind"] == "train"
    evaluated = read_record(folder / "base" / "evaluation" / "record.json")
    assert evaluated["tasks"][0]["protocols"]["strict"]["questions"] == 2

    # the same command does nothing again, other limits are refused
    assert main([*map(str, command), "--limit-eval", "2"]) == 0
    assert main([*map(str, command), "--limit-eval", "3"]) == 2
    assert "holds another reproduction: its --limit-eval is 2, not 3" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rates", "fast"], "--rates takes numbers"),
        (["--limit-train", "1"], "--limit-train must be at least 2"),
        (["--slurm", "partition=gpu"], "one process"),
        (["--miniature"], "does without it"),
        (["--model", "no/such/model-at-all"], "no/such/model-at-all"),
    ],
)
def test_a_wrong_trial_is_refused(options, said, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    limit = [] if "--limit-train" in options else ["--limit-train", "10"]
    assert main(["reproduce", CELL, "--dry-run", *limit, *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
