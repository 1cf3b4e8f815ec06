"""`probtune train`, and the prompts that training shares with evaluation."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import helpers
import pytest
import torch
from safetensors.torch import load_file
from test_pipeline import QUIET, settings

from probtune import pipeline, training
from probtune.cli import main
from probtune.data.prompts import FORMATS, PromptSpec, format_of
from probtune.errors import UsageError
from probtune.models.loading import load_tokenizer
from probtune.objectives import objective
from probtune.paper.corpora import locate
from probtune.pipeline.preparation import prepare
from probtune.probe import capability, choosing
from probtune.records import read_record
from probtune.terminal import Terminal


@pytest.fixture()
def rows(tmp_path):
    return str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_train_then_tune_is_tune(word_model, rows, tmp_path):
    whole = settings(word_model, rows, tmp_path / "a", compare="p, top(0.5, nll)")
    apart = settings(word_model, rows, tmp_path / "b", compare="p, top(0.5, nll)")
    record = pipeline.tune(whole, QUIET)
    models = pipeline.train(apart, QUIET)
    assert list(models) == ["nll()", "p()", "top(0.5, nll())"]
    assert not (tmp_path / "b" / "record.json").exists()
    before = {
        name: (folder / "model.safetensors").stat().st_mtime_ns for name, folder in models.items()
    }
    later = pipeline.tune(apart, QUIET)
    for name, folder in models.items():
        assert (folder / "model.safetensors").stat().st_mtime_ns == before[name]
        same = weights(tmp_path / "a" / pipeline.slug(objective(name)) / "model")
        torch.testing.assert_close(weights(folder), same, rtol=0, atol=0)
    assert [run["heldout"]["metrics"] for run in later["runs"]] == [
        run["heldout"]["metrics"] for run in record["runs"]
    ]


@pytest.mark.slow
@pytest.mark.distributed
def test_train_on_two_processes_equals_one(word_model, rows, tmp_path):
    def command(out, rows_per_batch):
        options = [word_model, rows, "--objective", "p", "--heldout", 8, "--out", out]
        options += ["--batch-size", rows_per_batch, "--gradient-accumulation", 1]
        options += ["--max-steps", 3, "--learning-rate", 0.1, "--training", "optim=sgd"]
        return ["-m", "probtune", "train", *map(str, options)]

    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for start, out, batch in ((ranks, "two", 4), ([], "one", 8)):
        done = subprocess.run(
            [sys.executable, *start, *command(tmp_path / out, batch)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert read_record(tmp_path / "two" / "p" / "train.json")["processes"] == 2
    one, two = (weights(tmp_path / out / "p" / "model") for out in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def test_an_undecided_probe_takes_the_safe_one_and_names_the_way_out(
    word_model, rows, tmp_path, monkeypatch, capsys
):
    """Nothing is raced: a short comparison chose worse than none."""

    def never_sure(features, *, metric):
        return choosing.Choice(
            "nll()", "who knows", "p()", None, undecided=True, race=("nll()", "p()")
        )

    monkeypatch.setattr(capability, "auto", never_sure)
    chosen = settings(word_model, rows, tmp_path / "out", objective="auto", scout_steps=0)
    assert list(pipeline.train(chosen, Terminal())) == ["nll()"]
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot tell nll() from p()" in said and "--objective 'select:nll(),p()'" in said


def test_bfloat16_on_a_cpu_is_an_option(word_model, rows, tmp_path):
    """Mixed precision is off on a CPU; with --bf16 the weights stay float32 and the curve is near,
    but not the same."""
    curves = {}
    for bf16 in (None, True):
        chosen = settings(word_model, rows, tmp_path / str(bf16), bf16=bf16, max_steps=4)
        chosen = replace(chosen, training={"logging_steps": 1})
        (model,) = pipeline.train(chosen, QUIET).values()
        assert {x.dtype for x in weights(model).values()} == {torch.float32}
        log = read_record(model.parent / "train.json")["log"]
        curves[bf16] = [entry["nll"] for entry in log]
    assert len(curves[True]) == 4 and curves[True] != curves[None]
    assert curves[True] == pytest.approx(curves[None], rel=0.01)


def test_a_selection_is_left_to_tune(word_model, rows, tmp_path):
    chosen = settings(word_model, rows, tmp_path / "out", objective="select:nll,p")
    with pytest.raises(UsageError, match="use probtune tune"):
        pipeline.train(chosen, QUIET)


def test_training_reads_the_prompt_that_evaluation_asks(word_model, rows, tmp_path):
    chosen = settings(
        word_model, rows, None, prompt_format="plain", system="say", instruction=" = user "
    )
    prepared = prepare(chosen, QUIET)
    tokenizer = load_tokenizer(str(word_model))
    spec = PromptSpec("plain", "say", " = user ")
    prompts = {
        tuple(tokenizer(spec.render(row["prompt"]))["input_ids"]) for row in helpers.sums(40)
    }
    for row in prepared.train.rows:
        assert tuple(row.prompt_ids) in prompts
        assert (row.labels[: len(row.prompt_ids)] == -100).all()
        assert row.labels[-1] == tokenizer.eos_token_id


def test_turns_are_closed_and_never_begin_twice(tmp_path):
    """A tokenizer of the LLaMA 3 kind: it adds its beginning of text, and the prompt has one."""
    from tokenizers import processors

    words = helpers.word_tokenizer()
    words.add_special_tokens(
        {"bos_token": "<|begin_of_text|>", "additional_special_tokens": ["<|start_header_id|>",
         "<|end_header_id|>", "<|eot_id|>"]}
    )  # fmt: skip
    begin = words.bos_token_id
    words._tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    assert format_of(words) == "llama3"
    assert words("ask 1")["input_ids"][0] == begin
    folder = tmp_path / "llama"
    helpers.word_causal_model(vocab_size=len(words)).save_pretrained(folder)
    words.save_pretrained(folder)
    data = str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))
    for end, closes in (("turn", "<|eot_id|>"), ("text", "<eos>")):
        chosen = settings(folder, data, None, prompt_format="auto", response_end=end)
        prepared = prepare(chosen, QUIET)
        row = prepared.train.rows[0]
        assert list(row.input_ids).count(begin) == 1
        assert row.labels[-1] == words.convert_tokens_to_ids(closes) == row.end
    twice = settings(
        folder, data, None, prompt_format="llama3-reference",
        inner_prompt={"format": "llama3-double-reference"},
    )  # fmt: skip
    assert list(prepare(twice, QUIET).train.rows[0].input_ids).count(begin) == 3


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(system="x"), "need --prompt-format"),
        (dict(prompt_format="chatml", chat=True), "choose one"),
        (dict(weights="bfloat16", bf16=True), "only one"),
        (dict(packing=True, padding_free=False), "leaves no padding"),
    ],
)
def test_settings_that_contradict(word_model, rows, changes, said):
    with pytest.raises(UsageError, match=said):
        settings(word_model, rows, None, **changes)


def test_unknown_formats_and_conversations(word_model, rows, tmp_path):
    with pytest.raises(UsageError, match="must be one of plain, chatml"):
        prepare(settings(word_model, rows, None, prompt_format="alpaca"), QUIET)
    with pytest.raises(UsageError, match="format, system and instruction, got style"):
        prepare(
            settings(word_model, rows, None, prompt_format="plain", inner_prompt={"style": 1}),
            QUIET,
        )
    turns = [{"role": "user", "content": "ask 1"}, {"role": "assistant", "content": "1"}]
    talk = helpers.write_jsonl(tmp_path / "talk.jsonl", [{"messages": turns}] * 3)
    with pytest.raises(UsageError, match="is a conversation"):
        prepare(settings(word_model, talk, None, heldout_data=rows, prompt_format="plain"), QUIET)


def test_every_form_renders_question_and_system():
    for name, form in FORMATS.items():
        text = PromptSpec(name, "SYSTEM", " INSTRUCTION").render("{user} QUESTION {system}")
        assert "{user} QUESTION {system} INSTRUCTION" in text
        assert ("SYSTEM" in text) == ("{system}" in form.system)
        assert "\n\nSYSTEM" not in PromptSpec(name).render("QUESTION")


def test_weights_of_bfloat16(word_model, rows, tmp_path):
    chosen = settings(word_model, rows, tmp_path / "out", weights="bfloat16")
    folder = pipeline.train(chosen, QUIET)["nll()"]
    assert {x.dtype for x in weights(folder).values()} == {torch.bfloat16}


def test_rows_are_joined_where_attention_is_flash(word_model, tmp_path, monkeypatch, capsys):
    """By default or when asked for, and the training stays the same."""
    data = str(helpers.write_jsonl(tmp_path / "rows.jsonl", [*helpers.sums(20), *LONGER]))
    folders = {}
    for name, flash, changes in (
        ("padded", False, {}),
        ("asked for", False, {"padding_free": True, "attention": "eager"}),
        ("by itself", True, {}),
        ("not wanted", True, {"padding_free": False}),
    ):
        monkeypatch.setattr(training, "reads_boundaries", lambda model, flash=flash: flash)
        chosen = settings(word_model, data, tmp_path / name, max_steps=4, **changes)
        folders[name] = pipeline.train(chosen, Terminal())["nll()"]
        said = "joined without padding" in " ".join(capsys.readouterr().err.split())
        assert said is (name == "by itself")
    for folder in folders.values():
        torch.testing.assert_close(weights(folder), weights(folders["padded"]))


LONGER = [{"prompt": "ask 1 + 1 + 1 + 1 = ", "completion": "4 say 4 say 4"}] * 4


def test_an_attention_that_cannot_be_had_is_refused(word_model, rows, tmp_path):
    for attention, said in (
        ("flash_attention_2", "--attention flash_attention_2: "),
        ("flash", "is not supported"),
    ):
        with pytest.raises(UsageError, match=said):
            pipeline.train(settings(word_model, rows, tmp_path / "out", attention=attention), QUIET)
        assert not (tmp_path / "out").exists()


def test_the_command(word_model, rows, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["train", str(word_model), rows, "--objective", "p", "--max-steps", "1"]
    arguments += ["--heldout", "4", "--out", str(out), "--accumulation", "sum"]
    arguments += ["--prompt-format", "plain", "--inner-prompt", "format=plain"]
    assert main(arguments) == 0
    assert str(out / "p" / "model") in capsys.readouterr().out


def test_a_training_set_of_the_paper_is_data(word_model, rows):
    """`corpus:NAME` is prepared, the same for every run, and read like any file."""
    requests = []

    def locate_rows(text, *, terminal):
        requests.append(text)
        return Path(rows) if text.startswith("corpus:") else None

    chosen = settings(word_model, "corpus:numina-67k", None)
    assert len(prepare(chosen, QUIET, locate=locate_rows).rows) == 40
    assert requests == ["corpus:numina-67k"]
    assert chosen.folder.name == "words-numina-67k"


def test_an_unknown_training_set(word_model):
    with pytest.raises(UsageError, match="numina-67k"):
        prepare(settings(word_model, "corpus:numina-67", None), QUIET, locate=locate)
