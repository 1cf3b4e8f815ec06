import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest
import torch

from probtune import pipeline
from probtune.cli import main
from probtune.errors import DataError, ProbtuneError, UsageError
from probtune.models.loading import load_model
from probtune.objectives import objective
from probtune.pipeline import fine_tuning, measuring, probing
from probtune.records import read_record
from probtune.settings import TuneSettings
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)


@pytest.fixture()
def rows(tmp_path):
    return str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))


def settings(model, data, out, **changes):
    return TuneSettings(
        **{
            "model": str(model),
            "data": str(data),
            "out": None if out is None else str(out),
            "objective": "nll",
            "heldout": 10.0,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "batch_size": 8,
            "gradient_accumulation": 1,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(word_model, tmp_path_factory):
    """One run with three objectives, shared by the tests that only look."""
    folder = tmp_path_factory.mktemp("run")
    data = helpers.write_jsonl(folder / "rows.jsonl", helpers.sums(40))
    chosen = settings(
        word_model, data, folder / "out", objective="auto", compare="nll, p, above(0.2, nll)"
    )
    return chosen, pipeline.tune(chosen, QUIET)


def test_record_holds_everything(finished):
    chosen, record = finished
    assert record == read_record(chosen.folder / "record.json", "tune")
    assert record["settings"]["learning_rate"] == 1e-2 and record["settings"]["seed"] == 0
    assert record["environment"]["versions"]["torch"]
    assert record["data"]["train"]["rows"] == 30 and record["data"]["heldout"]["rows"] == 10
    assert len(record["data"]["sha256"]) == 64
    assert record["probe"]["suggestion"]["verdict"] == "model-weak"
    choice, suggested = record["choice"], record["scout"]["probe"]["suggestion"]
    assert choice["asked"] == "auto" and choice["reason"] == suggested["reason"]
    assert choice["objective"] == suggested["objective"] and choice["select"] is None
    assert record["probe"]["features"]["steps"] == 3
    assert [run["name"] for run in record["runs"]] == [
        "base", "nll()", "p()", "above(0.2, nll())"
    ]  # fmt: skip
    for run in record["runs"]:
        assert len(run["heldout"]["items"]["nll"]) == 10
        assert run["heldout"]["metrics"]["exact_match"]["standard_error"] is not None
        if run["train"]:
            assert run["train"]["steps"] == 3 and run["train"]["log"][0]["mean_p"] > 0
    assert len(record["comparisons"]) == 6 * (5 + 4)  # metrics, and how answers end
    assert len(record["data"]["items"]) == 10 and record["data"]["items"][0]["reference"]


def test_models_differ_from_the_base_and_from_each_other(finished, word_model):
    chosen, record = finished
    ends = [
        torch.cat([p.flatten() for p in load_model(str(path)).parameters()])
        for path in (word_model, chosen.folder / "nll" / "model", chosen.folder / "p" / "model")
    ]
    assert (ends[0] - ends[1]).abs().max() > 1e-3 and (ends[1] - ends[2]).abs().max() > 1e-4
    base, nll = record["runs"][0], record["runs"][1]
    assert nll["heldout"]["metrics"]["nll"]["value"] < base["heldout"]["metrics"]["nll"]["value"]
    assert not list(chosen.folder.glob("*/checkpoints"))
    report = (chosen.folder / "report.html").read_text()
    assert "above(0.2, nll())" in report


def test_the_same_command_does_nothing_again(finished, monkeypatch):
    chosen, record = finished

    def forbidden(*args, **kwargs):
        raise AssertionError("a finished stage was done again")

    for stage in (measuring, probing, fine_tuning):
        monkeypatch.setattr(stage, "load_model", forbidden)
    again = pipeline.tune(chosen, QUIET)
    assert again["runs"] == record["runs"] and again["probe"] == record["probe"]


def test_objectives_see_the_same_rows_in_the_same_order(word_model, rows, tmp_path, monkeypatch):
    from probtune.training import ProbTuneTrainer

    seen = []
    original = ProbTuneTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        if self.model.training:
            seen.append((str(self.objective), inputs["input_ids"].tolist()))
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ProbTuneTrainer, "compute_loss", watched)
    pipeline.tune(settings(word_model, rows, tmp_path / "out", compare="p"), QUIET)
    by_objective = {name: [ids for n, ids in seen if n == name] for name in ("nll()", "p()")}
    assert len(by_objective["nll()"]) == 3
    assert by_objective["nll()"] == by_objective["p()"]


def test_an_interrupted_run_goes_on(word_model, rows, tmp_path):
    """SIGTERM during training: a checkpoint, a clear line, status 143; the same command finishes,
    and the end is that of an uninterrupted run."""
    steps = 160
    command = [sys.executable, "-m", "probtune", "tune", str(word_model), rows]
    command += ["--objective", "nll", "--heldout", "10", "--batch-size", "8"]
    command += ["--gradient-accumulation", "1", "--learning-rate", "1e-2"]
    command += ["--max-steps", str(steps), "--out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    first = subprocess.Popen(
        [*command, str(tmp_path / "part")], stderr=subprocess.PIPE, text=True, env=environment
    )
    log = tmp_path / "part" / "nll" / "metrics.jsonl"  # begins with the first steps
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=120)
    if first.returncode == 0:
        pytest.skip("the machine finished training before the signal arrived")
    assert first.returncode == 143, said
    line = said.strip().splitlines()[-1]
    assert "with a checkpoint; give the same command again" in line and "Traceback" not in said
    assert list((tmp_path / "part" / "nll" / "checkpoints").glob("checkpoint-*"))
    for out in ("part", "whole"):
        assert main([*command[3:], str(tmp_path / out)]) == 0
    ends = [
        torch.cat(
            [p.flatten() for p in load_model(str(tmp_path / out / "nll" / "model")).parameters()]
        )
        for out in ("part", "whole")
    ]
    torch.testing.assert_close(*ends)
    record = read_record(tmp_path / "part" / "nll" / "train.json")
    assert record["steps"] == steps
    assert not (tmp_path / "part" / "nll" / "checkpoints").exists()


def test_a_run_of_before_a_setting_existed_goes_on(finished):
    chosen, record = finished
    path = Path(chosen.folder) / "run.json"
    before = path.read_text()
    run = json.loads(before)
    del run["settings"]["lora_targets"]
    path.write_text(json.dumps(run))
    try:
        assert pipeline.tune(chosen, QUIET)["runs"] == record["runs"]
    finally:
        path.write_text(before)


def test_a_folder_that_holds_something_else_is_left_alone(finished, word_model, rows, tmp_path):
    chosen, _ = finished
    with pytest.raises(
        UsageError, match=r"another run: it differs in .*learning_rate \(0.01 there"
    ):
        pipeline.tune(settings(word_model, chosen.data, chosen.folder, learning_rate=1.0), QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="is not a run of probtune"):
        pipeline.tune(settings(word_model, rows, tmp_path / "mine"), QUIET)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="is not a run of probtune"):
        pipeline.tune(settings(word_model, rows, rows), QUIET)  # a file


def test_data_that_changed_is_noticed(word_model, rows, tmp_path):
    chosen = settings(word_model, rows, tmp_path / "out")
    pipeline.tune(chosen, QUIET)
    helpers.write_jsonl(Path(rows), helpers.sums(41))
    with pytest.raises(UsageError, match="the data has changed"):
        pipeline.tune(chosen, QUIET)


def test_held_out_data_of_its_own_and_overlap(word_model, rows, tmp_path, capsys):
    file = helpers.write_jsonl(tmp_path / "held.jsonl", helpers.sums(8, start=38))
    chosen = settings(
        word_model, rows, tmp_path / "out", heldout_data=str(file), heldout=6.0, answer="none"
    )
    record = pipeline.tune(chosen, Terminal())
    assert record["data"]["train"]["rows"] == 40 and record["data"]["heldout"]["rows"] == 6
    assert "2 of 8 held-out prompts also stand in the training rows" in capsys.readouterr().err
    assert "exact_match" not in record["runs"][0]["heldout"]["metrics"]


def test_a_quantile_is_fixed_by_the_base_models_probabilities(word_model, rows, tmp_path):
    record = pipeline.tune(
        settings(word_model, rows, tmp_path / "a", objective="top(0.25, nll())", all=True), QUIET
    )
    (run,) = [run for run in record["runs"] if run["name"] != "base"]
    assert run["name"] == record["choice"]["objective"] == "top(0.25, nll())"
    trained = objective(run["train"]["objective"])
    assert trained.q == pytest.approx(record["probe"]["percentiles"][75])
    assert trained == objective(f"above({trained.q!r}, nll())")
    share = 1 - run["train"]["log"][0]["low_weight_share"]
    assert 0.1 < share < 0.45  # of the first batch, before the first step


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,lm_head"])
def test_lora_and_packing(targets, word_model, rows, tmp_path):
    chosen = settings(
        word_model, rows, tmp_path / "out", lora_rank=2, packing=True, max_length=32,
        lora_targets=targets, training={"head_two_pass": True},
    )  # fmt: skip
    record = pipeline.tune(chosen, QUIET)
    names = {p.name for p in (tmp_path / "out" / "nll" / "model").iterdir()}
    assert "adapter_model.safetensors" in names and "model.safetensors" not in names
    base, tuned = (run["heldout"]["metrics"]["nll"]["value"] for run in record["runs"])
    assert tuned != base


def test_adapters_on_unknown_layers_are_refused(word_model, rows, tmp_path):
    chosen = settings(word_model, rows, tmp_path / "out", lora_rank=2, lora_targets="q_proj,lmhead")
    with pytest.raises(UsageError, match=r"no linear layer 'lmhead'; it has down_proj, .*lm_head"):
        pipeline.tune(chosen, QUIET)
    assert not (tmp_path / "out").exists()


def test_the_trained_end_is_a_stop_token(tmp_path):
    """The end of a turn is not the tokenizer's end of text; generation must stop there."""
    template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }} = {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    model = tmp_path / "model"
    helpers.word_causal_model().save_pretrained(model)
    tokenizer = helpers.word_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["="]})
    tokenizer.save_pretrained(model)
    chat = [
        {
            "messages": [
                {"role": "user", "content": f"ask {a} + {b}"},
                {"role": "assistant", "content": f"{(a + b) % 10}"},
            ]
        }
        for a in range(5)
        for b in range(5)
    ]
    data = helpers.write_jsonl(tmp_path / "chat.jsonl", chat)
    record = pipeline.tune(settings(model, data, tmp_path / "out", heldout=5.0), QUIET)
    assert record["data"]["train"]["without_end"] == 0
    config = json.loads((tmp_path / "out/nll/model/generation_config.json").read_text())
    assert config["eos_token_id"] == [helpers.WORDS.index("<eos>"), helpers.WORDS.index("=")]


# --- bad input, before any expensive work --------------------------------------------------------


@pytest.fixture()
def no_model(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the model was loaded")

    for stage in (measuring, probing):
        monkeypatch.setattr(stage, "load_model", forbidden)


@pytest.mark.parametrize(
    "changes, error, said",
    [
        (dict(objective="nil"), UsageError, "did you mean 'nll'"),
        (dict(compare="p, quux"), UsageError, "unknown objective 'quux'"),
        (dict(answer="hashes"), UsageError, "--answer must be auto"),
        (dict(scheduler="zigzag"), UsageError, "zigzag"),
        (dict(training={"learning_rat": 1}), UsageError, "learning_rat"),
        (dict(training={"learning_rate": 1}), UsageError, "use the option of probtune tune"),
        (dict(heldout=39.0, data="same"), DataError, "cannot hold out 39 of 40 rows"),
        (dict(max_length=3), DataError, "every label is masked"),
        (dict(chat=True), DataError, "no chat template"),
        (dict(prompt_column="q", response_column="a"), DataError, "has no column 'q'"),
        (dict(model="./none"), UsageError, "no such folder"),
    ],
)
def test_refused_before_the_model_is_loaded(
    changes, error, said, word_model, rows, tmp_path, no_model
):
    if changes.get("data") == "same":
        same = [{"prompt": "ask ", "completion": "1"}] * 40
        changes = {**changes, "data": str(helpers.write_jsonl(tmp_path / "same.jsonl", same))}
    fields = {"model": word_model, "data": rows, "out": tmp_path / "out", **changes}
    chosen = settings(**fields)
    with pytest.raises(error, match=said):
        pipeline.tune(chosen, QUIET)
    assert not (tmp_path / "out").exists()


def test_bad_rows_stop_the_run_or_are_listed(word_model, tmp_path, monkeypatch):
    bad = [*helpers.sums(20), {"prompt": "ask"}, *helpers.sums(20, start=20)]
    data = helpers.write_jsonl(tmp_path / "bad.jsonl", bad)
    chosen = settings(word_model, data, tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(DataError, match="bad.jsonl:21 "):
        patch.setattr(measuring, "load_model", None)
        pipeline.tune(chosen, QUIET)
    chosen = settings(word_model, data, tmp_path / "out", skip_bad_rows=True)
    record = pipeline.tune(chosen, QUIET)
    assert record["data"]["skipped"] == [
        {"where": f"{data}:21", "rule": "'completion' must be a text, got nothing"}
    ]


def test_labels_outside_the_vocabulary(rows, tmp_path, no_model):
    model = tmp_path / "small"
    helpers.word_causal_model(vocab_size=14, eos_token_id=1, pad_token_id=1).save_pretrained(model)
    helpers.word_tokenizer().save_pretrained(model)
    with pytest.raises(
        DataError, match=r"rows.jsonl:\d+ has token 16, outside .* vocabulary of 14"
    ):
        pipeline.tune(settings(model, rows, tmp_path / "out"), QUIET)


def test_too_little_room_is_said_before_training(word_model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(
        fine_tuning.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(ProbtuneError, match="GB free, and training needs"):
        pipeline.tune(settings(word_model, rows, tmp_path / "out"), QUIET)
    assert (tmp_path / "out" / "probe.json").exists()  # what was finished is kept


@pytest.mark.parametrize("text", ["nll", "power(0.5)", "power(-0.5)", "above(0.2, nll())"])
def test_folder_names_tell_objectives_apart(text):
    assert pipeline.slug(objective(text)).isprintable() and " " not in pipeline.slug(
        objective(text)
    )
    assert pipeline.slug(objective("power(0.5)")) != pipeline.slug(objective("power(-0.5)"))


def test_probe_only(word_model, rows, tmp_path):
    out = tmp_path / "probe.json"
    record = pipeline.probe_only(settings(word_model, rows, out, probe_examples=7), QUIET)
    assert record["examples"] == 7 and record["of_examples"] == 40
    assert read_record(out, "probe") == record
    everything = pipeline.probe_only(settings(word_model, rows, None, all=True), QUIET)
    assert everything["examples"] == 40


@pytest.mark.slow
def test_gsm8k_end_to_end(shared_data, tmp_path):
    script = Path(__file__).parents[1] / "examples" / "tiny_model.py"
    data = shared_data / "gsm8k" / "train.jsonl"
    model = tmp_path / "tiny"
    subprocess.run(
        [sys.executable, str(script), str(data), str(model), "--hidden", "64", "--layers", "2"],
        check=True,
    )
    chosen = settings(
        model,
        data,
        tmp_path / "out",
        objective="auto",
        prompt_column="question",
        response_column="answer",
        heldout=40.0,
        max_steps=5,
    )
    record = pipeline.tune(chosen, QUIET)
    assert record["data"]["answer_rule"] == "hash"
    assert record["data"]["train"]["rows"] == 7433
