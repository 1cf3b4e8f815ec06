"""The commands beside the target score, from models and folders to table, record and report."""

import json
import math
import shutil
import string
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import helpers
import numpy as np
import pytest
import torch
import toy_task
from safetensors.torch import load_file, save_file
from test_judge import Server

from probtune.cli import main
from probtune.data.prompts import PromptSpec
from probtune.errors import DataError
from probtune.evaluation.grading.judge import JudgeGrader
from probtune.evaluation.options import START, option_logprobs
from probtune.evaluation.reports.panels import KINDS
from probtune.evaluation.reports.parts import MAKERS
from probtune.evaluation.tasks.base import Decoding, Protocol, Question
from probtune.records import read_record
from probtune.reports.report import render

pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def models(word_model, tmp_path_factory):
    """(base, tuned): the tuned one is uniform, its head being 0."""
    tuned = tmp_path_factory.mktemp("beyond") / "tuned"
    shutil.copytree(word_model, tuned)
    tensors = load_file(tuned / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros_like(tensors["lm_head.weight"])
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    return word_model, tuned


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(20)))


def saved(name="record.json"):
    record = read_record(Path(name))
    assert record["kind"] in KINDS and record["environment"]["versions"]
    assert "<table>" in render([record], MAKERS)
    return record


def told(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_forgetting_on_rows_samples_and_text(models, rows, tmp_path, capsys):
    base, tuned = map(str, models)
    text = tmp_path / "held.txt"
    text.write_text("ask 1 + 2\n\nsay 3 = 3 and\n\n9 9 9\n")
    arguments = ["forgetting", base, tuned, "--data", rows, "--text", str(text), "--rows", "8"]
    arguments += ["--max-new-tokens", "4", "--device", "cpu", "--out", "record.json"]
    assert main(arguments) == 0
    record = saved()
    for part in ("data", "samples"):
        measured = record["divergence"][part]
        assert measured["rows"] == 8 and measured["forward"]["value"] > 0
        assert measured["forward"]["low"] is not None
    # Against a uniform model KL(base || tuned) is log V less the entropy.
    assert record["divergence"]["data"]["forward"]["value"] < math.log(18)
    words = 4 + 5 + 3
    size = sum(len(t) for t in ("ask 1 + 2", "say 3 = 3 and", "9 9 9"))
    assert record["text"]["documents"] == 3 and record["text"]["bytes"] == size
    assert record["text"]["tuned"]["value"] == pytest.approx(words * math.log2(18) / size, rel=1e-5)
    change = record["text"]["tuned"]["value"] - record["text"]["base"]["value"]
    assert record["text"]["difference"]["value"] == pytest.approx(change)
    said = told(capsys)
    assert "KL(base || tuned), new rows" in said and "bits per byte" in said
    assert main(arguments) == 2 and "record.json exists" in capsys.readouterr().err


def test_what_is_missing_is_said(models, rows, capsys):
    base, tuned = map(str, models)
    for arguments, message in (
        (["forgetting", base, tuned], "name what to measure on"),
        (["forgetting", base, tuned, "--eval", "a=x", "b=y"], "base=DIR tuned=DIR"),
        (["calibration", base], "name what to measure on"),
        (["calibration", "--tasks", "medqa"], "MODEL is missing"),
        (["drift", base, "./missing"], "no such folder"),
        (["judge", "x", "--url", "localhost", "--model", "m"], "must begin with http"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_other_tokenizers_are_refused(models, rows, tmp_path, capsys):
    base, tuned = models
    other = tmp_path / "other"
    shutil.copytree(tuned, other)
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"ask"', '"asked"'))
    assert main(["forgetting", str(base), str(other), "--data", rows]) == 1
    assert "different tokenizers" in capsys.readouterr().err


def test_calibration_of_tokens(models, rows, capsys):
    """A uniform model is right once in 18 where all tokens are as probable, and says so."""
    arguments = ["calibration", str(models[1]), rows, "--device", "cpu", "--out", "record.json"]
    assert main(arguments) == 0
    tokens = saved()["tokens"]
    assert tokens["probability"]["value"] == pytest.approx(1 / 18, rel=1e-5)
    assert tokens["nll"]["value"] == pytest.approx(math.log(18), rel=1e-5)
    assert tokens["entropy_gap"]["value"] == pytest.approx(0.0, abs=1e-5)
    assert tokens["brier"]["value"] == pytest.approx(1 - 1 / 18, rel=1e-5)
    assert tokens["rows"] == 20 and tokens["number"] == 40
    assert "Calibration of" in told(capsys)


def test_adapters_are_measured_with_their_base(models, rows, tmp_path, capsys):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = str(models[0])
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=1, target_modules=["q_proj"])
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.3)
    model.save_pretrained(tmp_path / "adapters")
    (tmp_path / "adapters" / "tokenizer_config.json").unlink(missing_ok=True)
    adapters = str(tmp_path / "adapters")
    more = ["--max-new-tokens", "0", "--device", "cpu", "--out", "record.json"]
    assert main(["forgetting", base, adapters, "--data", rows, *more]) == 0
    record = saved()["divergence"]
    assert record["data"]["forward"]["value"] > 0 and "samples" not in record
    assert main(["calibration", adapters, rows, "--device", "cpu"]) == 0
    assert main(["drift", base, adapters]) == 0
    assert "1.0 of 16" in told(capsys)


def character_tokenizer():
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = {character: i for i, character in enumerate(string.printable)}
    tokens_of = Tokenizer(models.WordLevel(characters, unk_token="~"))
    tokens_of.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokens_of, eos_token="~", pad_token="~")


def test_letters_have_the_models_own_log_probabilities():
    tokenizer = character_tokenizer()
    model = helpers.word_causal_model(1, vocab_size=len(tokenizer))
    prompt = PromptSpec("plain", instruction=" Say: ")
    questions = [
        Question("a", "ask", "B", {"A": "x", "B": "y", "C": "z"}),
        Question("b", "tell", "3", {"3": "x", "42": "y"}),
    ]
    logprobs, golds = option_logprobs(model, tokenizer, questions, prompt)
    assert golds == [1, 0]
    ids = tokenizer(prompt.render("ask") + START)["input_ids"]
    more = tokenizer(prompt.render("tell") + START + "42")["input_ids"]
    with torch.no_grad():
        after = model(torch.tensor([ids])).logits[0, -1].log_softmax(0)
        two = model(torch.tensor([more])).logits[0].log_softmax(1)
    letters = tokenizer.convert_tokens_to_ids(["A", "B", "C"])
    assert logprobs[0] == pytest.approx(after[letters].tolist(), abs=1e-5)
    assert logprobs[1][1] == pytest.approx(float(two[-3, more[-2]] + two[-2, more[-1]]), abs=1e-5)
    for question, message in (
        (Question("c", "x", "E", {"A": "x", "B": "y"}), "no multiple choice"),
        (Question("c", "x", "A", {"A": "x", "AB": "y"}), "the letter A .* no token of its own"),
    ):
        with pytest.raises(DataError, match=message):
            option_logprobs(model, tokenizer, [question], prompt)
    with pytest.raises(DataError, match="the model reads 8"):
        option_logprobs(model, tokenizer, questions, prompt, max_length=8)


def test_calibration_of_letters_by_the_command(tmp_path, monkeypatch, capsys):
    """The medical benchmarks' own loading code, on a row in their schema."""
    from probtune.evaluation.tasks.table import TASKS

    monkeypatch.chdir(tmp_path)
    task = TASKS["medqa"]
    helpers.word_causal_model(1, vocab_size=100, max_position_embeddings=1024).save_pretrained("m")
    character_tokenizer().save_pretrained("m")
    assert task.local is not None
    (tmp_path / task.local).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / task.local).write_text(json.dumps({"MedQA_USLME_test": [task.example] * 1}))
    arguments = ["calibration", "m", "--tasks", "medqa", "--benchmark-data", str(tmp_path)]
    assert main([*arguments, "--device", "cpu", "--out", "record.json"]) == 0
    (record,) = saved()["options"]
    assert record["number"] == 1 and record["nll"]["value"] > 0
    assert "letters" in told(capsys)


def graded(name, data, answers, capsys, **options):
    """An evaluation's folder of the toy benchmark with these answers, one row per question."""
    k = len(answers[0])
    arguments = ["eval", options["model"], "--tasks", "toy", "--data", str(data), "--out", name]
    assert main([*arguments, "-k", str(k), "--phase", "generate"]) == 0
    (path,) = Path(name).glob("toy/*/samples.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["text"] = answers[int(line["question"][1:])][line["sample"]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["eval", "--out", name, "--phase", "grade"]) == 0
    capsys.readouterr()


@pytest.fixture
def folders(models, tmp_path, monkeypatch, capsys):
    """Two evaluations of the questions 0 + 0, 0 + 1, ..., 0 + 5: base is right 4 times of 4, 2, 1
    and 0; tuned always says 0."""
    toy_task.install(monkeypatch, toy_task.toy())
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    helpers.write_jsonl(data / "toy.jsonl", helpers.sums(6))
    base = [["0"] * 4, ["1", "1", "2", "3"], ["2", "3", "4", "?"], ["?"] * 4, ["4"] * 4, ["5"] * 4]
    graded("base", data, base, capsys, model=str(models[0]))
    graded("tuned", data, [["0"] * 4] * 6, capsys, model=str(models[1]))
    return base


def test_forgetting_on_benchmarks(folders, models, capsys):
    base, tuned = map(str, models)
    arguments = ["forgetting", base, tuned, "--eval", "base=base", "tuned=tuned"]
    assert main([*arguments, "--out", "record.json"]) == 0
    tasks = saved()["tasks"]
    (row,) = tasks["tasks"]
    per_question = np.array([1, 0.5, 0.25, 0, 1, 1]) - np.array([1, 0, 0, 0, 0, 0])
    assert row["base"]["value"] == pytest.approx(3.75 / 6)
    assert row["drop"]["value"] == pytest.approx(per_question.mean())
    error = per_question.std(ddof=1) / math.sqrt(6)
    assert row["drop"]["standard_error"] == pytest.approx(error)
    assert tasks["forgetting"]["difference"]["value"] == pytest.approx(per_question.mean())
    assert tasks["gain"] is None
    assert "-45.8 [" in told(capsys)
    assert main([*arguments, "--target", "toy", "--out", "target.json"]) == 0
    tasks = saved("target.json")["tasks"]
    assert tasks["forgetting"] is None
    assert tasks["gain"]["difference"]["value"] == pytest.approx(-per_question.mean())
    assert main([*arguments, "--target", "math500"]) == 2
    assert "math500, which the folders do not both hold" in capsys.readouterr().err


def test_diversity_of_folders(folders, capsys):
    assert main(["diversity", "base", "p=tuned", "--out", "record.json"]) == 0
    base, tuned = saved()["tasks"]
    assert (base["label"], tuned["label"], base["samples"]) == ("base", "p", 4)
    measures = base["measures"]
    assert measures["pass@1"]["value"] == pytest.approx(3.75 / 6)
    assert measures["pass@4"]["value"] == pytest.approx(5 / 6)
    assert measures["distinct_answers"]["value"] == pytest.approx((1 + 3 + 3 + 0 + 1 + 1) / 6)
    assert tuned["measures"]["distinct_texts"]["value"] == 1.0
    assert "Diversity of the samples" in told(capsys)


def test_calibration_of_votes(folders, capsys):
    assert main(["calibration", "--eval", "base", "--out", "record.json"]) == 0
    (record,) = saved()["votes"]
    # shares 1, 1/2, 1/4, 0, 1, 1; right 1, 1, (first of three leaders) 1, 0, 1, 1
    assert record["share"]["value"] == pytest.approx(3.75 / 6)
    assert record["accuracy"]["value"] == pytest.approx(5 / 6)
    assert record["risks"][1] == {"coverage": 0.5, "risk": 0.0}
    assert record["risks"][3]["risk"] == pytest.approx(1 / 6)
    assert "majority of 4" in told(capsys)


def test_the_report_of_an_evaluation_shows_the_panels(folders, models, capsys):
    base, tuned = map(str, models)
    assert main(["drift", base, tuned, "--out", "base/beyond/drift.json"]) == 0
    assert main(["diversity", "base", "--out", "base/beyond/diversity.json"]) == 0
    assert main(["eval", "--out", "base", "--phase", "analyse"]) == 0
    page = Path("base/report.html").read_text()
    assert "Drift of the weights" in page and "Diversity of the samples" in page
    drift = saved("base/beyond/drift.json")
    assert drift["kinds"]["lm_head"]["relative"] == pytest.approx(1.0)
    assert drift["kinds"]["q_proj"]["norm"] == 0.0
    assert main(["report", "base/beyond/drift.json", "--out", "drift.html"]) == 0


def test_sampled_folders_are_read_without_torch():
    code = "import sys, probtune.evaluation.commands.beyond, probtune.evaluation.sampled as s;"
    code += "import probtune.evaluation.diversity; print(s.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_judging_afterwards(models, tmp_path, monkeypatch, server, capsys):
    def read(rows):
        return [
            Question(str(i), row["prompt"], {"instruction": row["prompt"], "output": "fine!"})
            for i, row in enumerate(rows)
        ]

    protocol = Protocol(Decoding(3), JudgeGrader(), "all of it")
    task = toy_task.toy(
        "toy", read=read, protocols=MappingProxyType({"strict": protocol, "reference": protocol})
    )
    toy_task.install(monkeypatch, task)
    monkeypatch.chdir(tmp_path)
    helpers.write_jsonl(tmp_path / "toy.jsonl", helpers.sums(6))
    for name, model in zip(("one", "two"), models, strict=True):
        arguments = ["eval", str(model), "--tasks", "toy", "--data", str(tmp_path), "--out", name]
        assert main([*arguments, "--phase", "generate"]) == 0
        (path,) = (tmp_path / name).glob("toy/*/samples.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for i, line in enumerate(lines):
            line["text"] = "!" * (i if name == "one" else 3)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [
        "judge",
        "one",
        "--url",
        server.url,
        "--model",
        "m",
        "--benchmark-data",
        str(tmp_path),
    ]
    command += ["--concurrent", "1"]
    # Stopped after two verdicts; the same command goes on.
    choice, served = server.choice, []

    def refuse(body):
        served.append(body)
        if len(served) > 4:
            raise RuntimeError
        return choice(body)

    monkeypatch.setattr(server, "choice", refuse)
    monkeypatch.setattr(server.http, "handle_error", lambda *arguments: None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert main(command) == 1
    assert "does not answer" in capsys.readouterr().err
    (verdicts,) = (tmp_path / "one").glob("toy/*/judged.*.jsonl")
    assert len(verdicts.read_text().splitlines()) == 2
    monkeypatch.setattr(server, "choice", choice)
    server.asked.clear()
    assert main([*command, "--out", "record.json"]) == 0
    assert len(server.asked) == 2 * 4
    record = saved()
    assert record["win_rate"]["value"] == pytest.approx((0 + 0.5 + 1 + 1 + 1 + 1) / 6)
    assert (record["judge"]["model"], record["instructions"]) == ("m", 6)
    assert "Compare two answers" in record["judge"]["prompt"]
    assert isinstance(record["length_controlled"], str)
    assert main([*command, "--against", "two", "--out", "pair.json"]) == 0
    assert saved("pair.json")["win_rate"]["value"] == pytest.approx(2.5 / 6)
    assert "Judged: one against two" in told(capsys)
