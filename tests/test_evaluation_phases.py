"""The three phases, in folders, by the command line: each alone, stopped, and with bad input."""

import json

import helpers
import pytest
import toy_task

from probtune.cli import main
from probtune.errors import DataError, EvaluationError, UsageError
from probtune.evaluation import analyse as analysis
from probtune.evaluation.evaluate import evaluate
from probtune.evaluation.generate import plan_generations
from probtune.evaluation.graded import read_graded
from probtune.evaluation.samples import read_samples
from probtune.evaluation.settings import EvalSettings
from probtune.reports.content import Texts, evaluated_items
from probtune.settings import settings_from
from probtune.terminal import Terminal

pytest.importorskip("lm_eval")


@pytest.fixture()
def data(tmp_path, monkeypatch):
    """A folder with rows, and the toy benchmark in the table."""
    toy_task.install(monkeypatch, toy_task.toy())
    folder = tmp_path / "data"
    folder.mkdir()
    helpers.write_jsonl(folder / "toy.jsonl", helpers.sums(6))
    monkeypatch.chdir(tmp_path)
    return folder


def settings(model, data, **changes):
    return EvalSettings(
        **{"model": str(model), "tasks": "toy", "data": str(data), "out": "out", "batch_size": 4}
        | changes
    )


def run(*arguments, **options):
    return evaluate(settings(*arguments, **options), Terminal(quiet=True))


def only(pattern, root="out"):
    from pathlib import Path

    (file,) = Path(root).glob(pattern)
    return file


def edit(path, change):
    """Rewrite a JSON-lines file by a function of its lines."""
    lines = change(path.read_text().splitlines())
    path.write_text("".join(line + "\n" for line in lines))


# --- the whole way -------------------------------------------------------------------------------


def test_the_command_from_model_to_report(word_model, data, capsys):
    arguments = ["eval", str(word_model), "--tasks", "toy", "--data", str(data), "--out", "out"]
    arguments += ["-k", "2", "--batch-size", "5", "--paper-backbone", "tiny-1"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for said in ("Toy", "strict", "reference", "score [95 %]", "no answer", "loops", "paper: nll()",
                 "20.00", "disagree on", "report  out/report.html"):  # fmt: skip
        assert said in out, said
    record = json.loads(only("record.json").read_text())
    (task,) = record["tasks"]
    strict = task["protocols"]["strict"]
    assert (record["kind"], strict["samples"], strict["questions"]) == ("eval", 2, 6)
    score = strict["score"]
    assert -1e-9 <= score["low"] <= score["value"] + 1e-9 <= score["high"] + 2e-9 <= 1 + 3e-9
    assert task["disagreement"]["rate"]["n"] == 6 and task["paper"]["nll()"] == 20.0
    assert set(strict["pass_at_k"]) == {"1", "2"} and sum(strict["extraction"].values()) == 1
    assert record["paper_backbone"] == "Tiny-1" and record["domains"] == []
    page = only("report.html").read_text()
    assert '<meta name="generator" content="probtune">' in page and "Toy" in page
    (benchmark,) = record["items"]
    rows = [json.loads(line) for line in (data / "toy.jsonl").read_text().splitlines()]
    assert benchmark["questions"] == [row["prompt"] for row in rows]
    assert benchmark["references"] == [row["completion"] for row in rows]
    (shown,) = evaluated_items(record, texts := Texts())
    assert [texts.all()[item["q"]] for item in shown["items"]] == benchmark["questions"]
    # both protocols ask in the same way: one generation serves them
    assert only("toy/*").is_dir() and len(read_samples(only("toy/*/samples.jsonl"))) == 12
    before = {p: p.stat().st_mtime_ns for p in only("toy/*").iterdir()}
    assert main(arguments) == 0  # nothing is drawn or graded again
    assert {p: p.stat().st_mtime_ns for p in only("toy/*").iterdir()} == before


def test_phases_alone(word_model, data, capsys):
    base = ["eval", "--out", "out"]
    assert main([*base, "--phase", "grade"]) == 2
    assert "holds no evaluation, so there is nothing to grade" in capsys.readouterr().err
    arguments = [str(word_model), "--tasks", "toy", "--data", str(data), "--phase", "generate"]
    assert main([*base, *arguments]) == 0
    assert "answers and grades  out" in capsys.readouterr().out
    assert main([*base, "--phase", "analyse"]) == 1
    assert "is not graded under the strict protocol; grade it: `probtune eval --phase grade" in (
        capsys.readouterr().err
    )
    assert main([*base, "--phase", "grade"]) == 0  # neither model nor tasks are named
    assert main([*base, "--phase", "analyse"]) == 0
    assert "Toy" in capsys.readouterr().out


def test_a_stopped_generation_goes_on(word_model, data, monkeypatch):
    from probtune.evaluation import generate

    run(word_model, data, out="whole")
    original, calls = generate.append_samples, []

    def stopping(path, samples):
        calls.append(samples)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(path, samples)

    monkeypatch.setattr(generate, "append_samples", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(word_model, data)
    path = only("toy/*/samples.jsonl")
    with path.open("a") as file:
        file.write('{"task": "toy", "question": "q5", "sam')  # a line that was cut off
    monkeypatch.setattr(generate, "append_samples", original)
    run(word_model, data)
    assert path.read_text() == only("toy/*/samples.jsonl", "whole").read_text()


def test_a_folder_grows_by_samples_protocols_and_tasks(word_model, data, monkeypatch):
    toy_task.install(monkeypatch, toy_task.toy("sums"))
    helpers.write_jsonl(data / "sums.jsonl", helpers.sums(3))
    run(word_model, data, samples=2, protocol="strict")
    first = only("toy/*/samples.jsonl").read_text()
    record = run(word_model, data, samples=4)
    assert only("toy/*/samples.jsonl").read_text().startswith(first)
    assert record["tasks"][0]["protocols"]["reference"]["samples"] == 4
    record = run(word_model, data, samples=1, tasks="sums", batch_size=2)
    samples = {task["task"]: task["protocols"]["strict"]["samples"] for task in record["tasks"]}
    assert samples == {"toy": 4, "sums": 1}
    assert json.loads(only("toy/*/generation.json").read_text())["batch_sizes"] == [4]
    assert run(word_model, data, samples=2)["tasks"][0]["protocols"]["strict"]["samples"] == 4


def test_a_model_in_this_process(data):
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    model.train()
    chosen = settings("mine", data)
    record = evaluate(chosen, Terminal(quiet=True), model=model, tokenizer=tokenizer)
    assert record["model"] == "mine" and model.training
    with pytest.raises(UsageError, match="needs its tokenizer"):
        evaluate(chosen, Terminal(quiet=True), model=model)


def test_protocols_that_ask_otherwise_are_generated_apart(word_model, data):
    rows = helpers.sums(4)
    rows[1] |= {"reference": "say 7 = "}
    rows[2] |= {"protocols": ["reference"], "cluster": "c"}
    rows[3] |= {"cluster": "c"}
    helpers.write_jsonl(data / "toy.jsonl", rows)
    record = run(word_model, data)
    from pathlib import Path

    assert len(list(Path("out/toy").iterdir())) == 2
    protocols = record["tasks"][0]["protocols"]
    assert (protocols["strict"]["questions"], protocols["strict"]["clusters"]) == (3, 3)
    assert (protocols["reference"]["questions"], protocols["reference"]["clusters"]) == (4, 3)
    assert record["tasks"][0]["disagreement"] is None


def test_overrides_change_prompt_and_decoding(word_model, data):
    task = toy_task.toy()
    questions = task.read(helpers.sums(2))
    changed = settings(
        word_model, data, prompt_format="chatml", system="", instruction="!", temperature=0.0,
        samples=9, max_new_tokens=3,
    )  # fmt: skip
    (plan,) = plan_generations([(task, questions)], changed, "plain")
    assert plan.prompt.to_dict() == {"format": "chatml", "system": None, "instruction": "!"}
    assert (plan.decoding.samples, plan.decoding.max_new_tokens) == (1, 3)
    assert plan.protocols == ("strict", "reference")
    (plain,) = plan_generations([(task, questions)], settings(word_model, data), "plain")
    assert plain.key != plan.key and plain.decoding.samples == 3


def test_asking_otherwise_than_in_training_is_said(data, tmp_path, capsys):
    from probtune.records import write_record

    helpers.save_word_model(tmp_path / "run" / "nll" / "model")
    trained = {"prompt_format": "auto", "system": None, "instruction": " ="}
    write_record(tmp_path / "run" / "run.json", "run", {"settings": trained, "hashes": {}})
    chosen = settings(tmp_path / "run" / "nll" / "model", data)
    evaluate(chosen, Terminal())
    said = " ".join(capsys.readouterr().err.split())
    assert "in another form than the model was trained in: instruction '', not ' ='." in said
    evaluate(settings(chosen.model, data, instruction=" =", out="same"), Terminal())
    assert "another form" not in capsys.readouterr().err


# --- licences ------------------------------------------------------------------------------------


def test_questions_that_may_not_be_passed_on_are_nowhere_in_the_folder(
    word_model, data, monkeypatch
):
    toy_task.install(monkeypatch, toy_task.toy(redistributable=False))
    rows = helpers.sums(6)
    for number, row in enumerate(rows):
        row["prompt"] = "ask user say " + " ".join(["ask"] * (2 + number)) + " + = "
        row["completion"] = f"secret gold {number}"
    helpers.write_jsonl(data / "toy.jsonl", rows)
    run(word_model, data)
    main(["eval", "--out", "out", "--phase", "analyse"])
    from pathlib import Path

    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "run.json", "generation.json", "samples.jsonl", "graded.strict.jsonl",
        "graded.reference.jsonl", "record.json", "report.html",
    }  # fmt: skip
    for path in files:
        text = path.read_text()
        assert "secret gold" not in text and "ask user say ask" not in text, path
    (shown,) = evaluated_items(json.loads(only("record.json").read_text()), Texts())
    assert [(item["w"], item["q"], item["r"]) for item in shown["items"]] == [
        (f"q{number}", None, None) for number in range(6)
    ]


def test_a_page_without_the_texts_shows_ids_and_a_damaged_file_is_named(word_model, data):
    run(word_model, data)
    path = only("toy/*/questions.jsonl")
    path.write_text("{}\n")
    with pytest.raises(DataError, match=r"questions.jsonl:1 is no question; remove the file"):
        again("analyse")
    path.unlink()
    again("analyse")
    (benchmark,) = json.loads(only("record.json").read_text())["items"]
    assert benchmark["questions"] == [None] * 6


# --- bad input -----------------------------------------------------------------------------------


@pytest.fixture()
def done(word_model, data):
    run(word_model, data)
    return data


def again(*phase):
    return evaluate(EvalSettings(out="out", phase=phase[0]), Terminal(quiet=True))


def test_a_missing_sample_is_named(done):
    edit(only("toy/*/samples.jsonl"), lambda lines: lines[:-1])
    with pytest.raises(DataError, match=r"lacks 1 of 18 samples \(first: question 'q\d', sample 2"):
        again("grade")
    with pytest.raises(DataError, match="lacks 1 of 18 samples"):
        again("analyse")


def test_duplicate_samples_are_named(done):
    edit(only("toy/*/samples.jsonl"), lambda lines: [*lines, lines[0]])
    with pytest.raises(DataError, match=r"samples.jsonl:19 holds question 'q\d', sample 0 again"):
        again("grade")


def test_a_missing_or_duplicate_grade_is_named(done):
    path = only("toy/*/graded.strict.jsonl")
    text = path.read_text()
    edit(path, lambda lines: lines[:-1])
    with pytest.raises(DataError, match="lacks question 'q5', sample 2; grade it: .*--phase grade"):
        again("analyse")
    path.write_text(text)
    edit(path, lambda lines: [*lines, lines[1]])
    with pytest.raises(DataError, match=r"graded.strict.jsonl:20 holds question 'q0', sample 0"):
        again("analyse")
    path.write_text(text)
    edit(path, lambda lines: [*lines[:-1], "{"])
    with pytest.raises(DataError, match="graded.strict.jsonl:19 is not a grade"):
        again("analyse")
    path.write_text("")
    with pytest.raises(DataError, match="is not a graded file; make it again with --phase grade"):
        again("analyse")
    again("grade")
    assert path.read_text() != "" and again("analyse")["kind"] == "eval"


def test_grades_of_another_version_are_named_and_made_again(done):
    path = only("toy/*/graded.strict.jsonl")

    def older(lines):
        head = json.loads(lines[0])
        head["grader"] = head["versions"]["grading"] = "0"
        return [json.dumps(head), *lines[1:]]

    edit(path, older)
    with pytest.raises(DataError, match="graded by version 0 .* `probtune eval --phase grade"):
        again("analyse")
    again("grade")
    assert read_graded(path).header["grader"] != "0"
    assert again("analyse")["kind"] == "eval"


def test_grades_of_other_samples_are_named(done):
    def reworded(lines):
        first = json.loads(lines[0])
        first["text"] = "7"
        return [json.dumps(first), *lines[1:]]

    edit(only("toy/*/samples.jsonl"), reworded)
    with pytest.raises(DataError, match="is of other samples than .*; grade it"):
        again("analyse")
    again("grade")
    again("analyse")


def test_other_rows_are_named(word_model, done):
    helpers.write_jsonl(done / "toy.jsonl", helpers.sums(6, start=1))
    with pytest.raises(DataError, match=r"generated for other rows of toy \(questions are worded"):
        run(word_model, done, samples=4)
    helpers.write_jsonl(done / "toy.jsonl", helpers.sums(7))
    with pytest.raises(DataError, match=r"other rows of toy \(question 'q6' is new"):
        run(word_model, done)
    helpers.write_jsonl(done / "toy.jsonl", helpers.sums(5))
    with pytest.raises(DataError, match=r"other rows of toy \(question 'q5' is gone"):
        run(word_model, done)
    only("toy/*/graded.strict.jsonl").unlink()
    with pytest.raises(DataError, match="a question 'q5', which are not those read now"):
        again("grade")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"seed": 1}, "with seed 0, not 1"),
        ({"temperature": 0.5}, "with temperature None, not 0.5"),
        ({"limit": 2}, "with limit None, not 2"),
        ({"instruction": "x"}, "with instruction None, not 'x'"),
        ({"max_new_tokens": 3}, "with max_new_tokens None, not 3"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(changes, said, word_model, done):
    with pytest.raises(UsageError, match=said):
        run(word_model, done, **changes)


def test_another_model_in_the_same_folder_is_refused(data, tmp_path):
    helpers.save_word_model(tmp_path / "model", seed=0)
    run(tmp_path / "model", data)
    helpers.save_word_model(tmp_path / "model", seed=1)
    with pytest.raises(UsageError, match="with other weights than it has now"):
        run(tmp_path / "model", data)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="thesis is not an evaluation of probtune"):
        run(tmp_path / "model", data, out="thesis")


def test_code_is_run_only_when_allowed(word_model, data, monkeypatch):
    from probtune.evaluation.grading.code import CodeGrader
    from probtune.evaluation.tasks.base import Decoding, Protocol

    protocol = Protocol(Decoding(4), CodeGrader(), "programs")
    coding = toy_task.toy(protocols={"strict": protocol, "reference": protocol})
    toy_task.install(monkeypatch, coding)
    with pytest.raises(UsageError, match="grading toy runs the programs .* --allow-code"):
        run(word_model, data)
    from pathlib import Path

    assert not Path("out").exists()  # said before anything was drawn
    run(word_model, data, phase="generate")
    with pytest.raises(UsageError, match="--allow-code"):
        again("grade")


def test_the_table_says_that_programs_can_name_their_own_verdict(
    word_model, data, monkeypatch, capsys
):
    arguments = ["eval", str(word_model), "--tasks", "toy", "--data", str(data), "--out", "out"]
    assert main(arguments) == 0 and "own verdict" not in capsys.readouterr().out
    toy_task.install(monkeypatch, toy_task.toy(domain="code"))
    assert main([*arguments[:-1], "programs"]) == 0
    assert "can name its own verdict" in " ".join(capsys.readouterr().out.split())
    assert "can name its own verdict" in only("report.html", "programs").read_text()


def test_the_context_is_compared_before_the_weights_are_loaded(word_model, data, monkeypatch):
    monkeypatch.setattr("probtune.models.loading.load_model", None)
    with pytest.raises(UsageError, match="--max-new-tokens 59 or less, or --fit-context"):
        run(word_model, data, max_new_tokens=60)


def test_a_graders_death_keeps_the_answers(word_model, data, monkeypatch):
    def dies(items, /, *, progress=None):
        raise EvaluationError("the pool died")

    task = toy_task.toy()
    from dataclasses import replace

    toy_task.install(
        monkeypatch,
        replace(task, protocols={k: replace(p, grader=dies) for k, p in task.protocols.items()}),
    )
    with pytest.raises(EvaluationError, match="the pool died"):
        run(word_model, data)
    before = only("toy/*/samples.jsonl").read_text()
    toy_task.install(monkeypatch, task)
    again("grade")
    again("analyse")
    assert only("toy/*/samples.jsonl").read_text() == before


def test_answers_to_instructions_wait_for_a_judge(word_model, data, monkeypatch, capsys):
    from probtune.evaluation.grading.judge import JudgeGrader
    from probtune.evaluation.tasks.base import Decoding, Protocol

    protocol = Protocol(Decoding(4), JudgeGrader(), "judged")
    judged = toy_task.toy("judged", protocols={"strict": protocol, "reference": protocol})
    toy_task.install(monkeypatch, judged)
    helpers.write_jsonl(data / "judged.jsonl", helpers.sums(3))
    chosen = settings(word_model, data, tasks="toy,judged")
    record = evaluate(chosen, Terminal())
    assert "Judged: the answers to instructions are kept, and not judged" in " ".join(
        capsys.readouterr().err.split()
    )
    assert [task["task"] for task in record["tasks"]] == ["toy"]
    with pytest.raises(DataError, match="wait for a judge"):
        run(word_model, data, tasks="judged", out="alone")
    with pytest.raises(UsageError, match="--judge .* and --judge-model belong together"):
        settings(word_model, data, judge="http://localhost/v1")
    requests = []

    def post(self, body):
        requests.append(body["messages"][0]["content"])
        return {"choices": [{"message": {"content": "A"}}]}

    monkeypatch.setattr("probtune.evaluation.grading.judge.Judge._post", post)
    gold = {"instruction": "i", "output": "o"}
    rows = [{**row, "completion": gold} for row in helpers.sums(3)]
    helpers.write_jsonl(data / "judged.jsonl", rows)
    again = EvalSettings(out="alone", phase="grade", judge="http://localhost/v1", judge_model="j")
    evaluate(again, Terminal(quiet=True))
    evaluated = evaluate(EvalSettings(out="alone", phase="analyse"), Terminal(quiet=True))
    score = evaluated["tasks"][0]["protocols"]["strict"]["score"]
    assert score["value"] == 0.5 and len(requests) == 2 * 2 * 3  # the first place, in both orders
    head = read_graded(only("judged/*/graded.strict.jsonl", "alone")).header
    assert head["judge"]["model"] == "j"


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "MODEL is missing"),
        (["MODEL"], "--tasks is missing; name benchmarks or domains (math"),
        (["MODEL", "--tasks", "to"], "did you mean toy"),
        (["MODEL", "--tasks", "toy", "--protocol", "lax"], "--protocol must be strict, reference"),
        (["MODEL", "--tasks", "toy", "-k", "0"], "-k must be at least 1, got 0"),
        (["MODEL", "--tasks", "toy", "--server", "localhost"], "--server must be an address"),
        (["MODEL", "--tasks", "toy", "--backend", "server"], "needs its address: --server"),
        (["MODEL", "--tasks", "toy", "--data", "none"], "none: no such file or folder"),
        (["./none", "--tasks", "toy", "--data", "DATA"], "./none: no such folder"),
        (["MODEL", "--tasks", "toy", "--data", "DATA", "--prompt-format", "x"], "must be one of"),
        (["MODEL", "--tasks", "toy", "--data", "DATA", "--prompt-format", "chatml"], "no token of"),
    ],
)
def test_one_clear_line(arguments, said, word_model, data, capsys):
    names = {"MODEL": str(word_model), "DATA": str(data)}
    assert main(["eval", *(names.get(a, a) for a in arguments), "--out", "out"]) in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("probtune: ") and said in last


def test_a_missing_extra_is_named(word_model, data, monkeypatch):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "lm_eval" else original(name, *a),
    )
    with pytest.raises(UsageError, match=r"pip install -e '.\[eval\]'"):
        run(word_model, data)


# --- analysis ------------------------------------------------------------------------------------


def test_numbers_of_hand_made_grades(done):
    """Two of three right on half of the questions: closed forms."""
    path = only("toy/*/graded.strict.jsonl")

    def regraded(lines):
        written = [lines[0]]
        for line in map(json.loads, lines[1:]):
            right = int(line["question"][1:]) < 3 and line["sample"] < 2
            line |= {"score": float(right), "answer": "1" if right else None}
            line |= {"truncated": line["sample"] == 2, "repeats": False}
            written.append(json.dumps(line))
        return written

    edit(path, regraded)
    strict = analysis.analyse(path.parents[2])["tasks"][0]["protocols"]["strict"]
    assert strict["score"].value == pytest.approx(1 / 3)
    assert strict["score"].standard_error == pytest.approx((6 / 5 * 1 / 9 / 6) ** 0.5)
    assert strict["no_answer"].value == pytest.approx(2 / 3)
    assert strict["truncated"].value == pytest.approx(1 / 3) and strict["repeats"].value == 0
    assert strict["pass_at_k"]["1"].value == pytest.approx(1 / 3)
    assert strict["pass_at_k"]["2"].value == pytest.approx(1 / 2)
    # 2 Var of a question's score, and the noncentral t: 6 questions find 0.66 points and more
    assert 0.6 < strict["detectable"] < 0.75


def test_analysis_needs_no_torch(done):
    import subprocess
    import sys

    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import toy_task, pytest\n"
        "patch = pytest.MonkeyPatch(); toy_task.install(patch, toy_task.toy())\n"
        "from probtune.cli import main\n"
        "status = main(['eval', '--out', 'out', '--phase', 'analyse'])\n"
        "print(status, [m for m in ('torch', 'lm_eval', 'transformers') if m in sys.modules])"
    )
    tests = str(__import__("pathlib").Path(__file__).parent)
    finished = subprocess.run([sys.executable, "-c", script, tests], capture_output=True, text=True)
    assert finished.stdout.strip().splitlines()[-1] == "0 []", finished.stderr


def test_settings_from_yaml(tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text("model: m\ntasks: [math500, gsm8k]\nsamples: 4\ntemperature: 0\n")
    settings_read = settings_from({"samples": 8}, str(path), EvalSettings)
    assert settings_read == EvalSettings(
        model="m", tasks="math500, gsm8k", samples=8, temperature=0.0
    )
    assert str(EvalSettings("org/m-1B").folder) == "runs/eval-m-1B"
    assert str(EvalSettings("runs/x/nll/model").folder) == "runs/eval-x-nll"
    path.write_text("epochs: 2\n")
    with pytest.raises(UsageError, match="unknown setting 'epochs'"):
        settings_from({}, str(path), EvalSettings)
