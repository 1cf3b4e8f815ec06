"""Folders with a LoRA adapter as models: measured, trained on, merged, from any folder."""

import json

import helpers
import pytest
import torch

from probtune import pipeline
from probtune.errors import UsageError
from probtune.models.adapters import base_of
from probtune.models.loading import context_length, layer_names, load_model, load_tokenizer
from probtune.pipeline import fine_tuning
from probtune.settings import TuneSettings
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)
IDS = torch.tensor([[1, 10, 2, 11]])


def train(model, folder, **changes):
    data = helpers.write_jsonl(folder.parent / f"{folder.name}.jsonl", helpers.sums(24))
    settings = TuneSettings(
        str(model),
        str(data),
        objective="nll",
        out=str(folder),
        max_steps=2,
        learning_rate=0.05,
        **changes,
    )
    return next(iter(pipeline.train(settings, QUIET).values()))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that was trained from a path relative to the folder of work."""
    folder = tmp_path_factory.mktemp("adapters")
    helpers.save_word_model(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("./model", folder / "first", lora_rank=2)
    return folder / "first" / "nll" / "model"


def test_the_base_is_named_by_an_absolute_path(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(adapter.parents[2] / "model") == base_of(str(adapter))
    assert context_length(str(adapter)) == (64, len(helpers.WORDS))
    assert "q_proj" in layer_names(str(adapter))
    assert load_tokenizer(str(adapter)).eos_token == "<eos>"


def test_beside_and_merged_give_the_same_logits(adapter):
    beside, merged, base = (
        load_model(str(path), adapter=how).eval()
        for path, how in (
            (adapter, "beside"),
            (adapter, "merged"),
            (base_of(str(adapter)), "beside"),
        )
    )
    with torch.no_grad():
        logits = [model(IDS).logits for model in (beside, merged, base)]
    torch.testing.assert_close(logits[0], logits[1])
    assert float((logits[1] - logits[2]).abs().max()) > 1e-3


def test_training_goes_on_from_the_adapter(adapter, tmp_path):
    second = train(adapter, tmp_path / "second", lora_rank=2)
    assert base_of(str(second)) == base_of(str(adapter))
    with torch.no_grad():
        first, then = (load_model(str(path)).eval()(IDS).logits for path in (adapter, second))
    assert float((first - then).abs().max()) > 1e-4
    whole = train(adapter, tmp_path / "whole")
    assert base_of(str(whole)) is None and (whole / "model.safetensors").is_file()
    with pytest.raises(UsageError, match="of rank 2, got --lora-rank 4"):
        train(adapter, tmp_path / "other", lora_rank=4)


def test_a_base_that_is_not_there_is_named(adapter, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "./nowhere"}')
    with pytest.raises(UsageError, match="adapter of ./nowhere, and there is no such folder"):
        context_length(str(tmp_path))


def test_merge_writes_a_model(adapter, tmp_path, capsys):
    from probtune.cli import main

    out = tmp_path / "merged"
    assert main(["merge", str(adapter), str(out)]) == 0
    assert base_of(str(out)) is None and load_tokenizer(str(out)).eos_token == "<eos>"
    with torch.no_grad():
        merged, beside = (load_model(str(path)).eval()(IDS).logits for path in (out, adapter))
    torch.testing.assert_close(merged, beside)
    assert main(["merge", str(adapter), str(out)]) == 2 and "exists" in capsys.readouterr().err
    assert main(["merge", str(out), str(tmp_path / "again")]) == 2
    assert "no adapter" in capsys.readouterr().err


def test_an_adapter_on_a_head_that_is_the_embedding_is_told():
    class Told(Terminal):
        def say(self, text):
            lines.append(text)

    model = helpers.word_causal_model(tie_word_embeddings=True)
    for targets, number in (("q_proj,lm_head", 1), ("q_proj", 0), ("all-linear", 0)):
        lines = []
        settings = TuneSettings("m", "d", lora_rank=2, lora_targets=targets)
        fine_tuning._say_tied(settings, model, Told(quiet=True))
        assert len(lines) == number and all("merged it would change both" in t for t in lines)
