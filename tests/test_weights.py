"""Weights are read whole, or the tensors that do not fit are named and nothing is computed."""

import json
import pickle
import shutil

import helpers
import pytest
import torch
from safetensors.torch import load_file, save_file

from probtune.cli import main
from probtune.errors import UsageError
from probtune.models.loading import load_model, load_tokenizer


@pytest.fixture()
def model(word_model, tmp_path):
    return shutil.copytree(word_model, tmp_path / "model")


def rewrite(folder, change):
    """Rewrite a model's weights by a function of its tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors), path, metadata={"format": "pt"})


def without(part):
    return lambda tensors: {k: v for k, v in tensors.items() if part not in k}


CASES = {
    "a prefix": (
        lambda t: {f"_orig_mod.{k}": v for k, v in t.items()},
        r"missing.*_orig_mod.*in the file and not in the model",
    ),
    "a dropped tensor": (without("down_proj"), r"1 tensor \(model.layers.0.mlp.down_proj.weight\)"),
    "a dropped head": (without("lm_head"), r"1 tensor \(lm_head.weight\) missing"),
    "a dropped embedding": (without("embed_tokens"), r"embed_tokens.weight\) missing"),
    "nothing of it": (lambda t: {"x": torch.zeros(1)}, r"missing.*\(x\) in the file"),
    "one tensor more": (lambda t: {**t, "model.extra": torch.zeros(2)}, r"\(model.extra\) in the"),
    "another shape": (
        lambda t: {**t, "model.norm.weight": torch.zeros(7)},
        r"model.norm.weight of another shape \(\(7,\) in the file, \(16,\) needed\)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_tensors_that_do_not_fit_are_named(case, model):
    change, said = CASES[case]
    rewrite(model, change)
    with pytest.raises(UsageError, match=said):
        load_model(str(model))


def test_the_command_refuses_before_it_computes(model, tmp_path, capsys):
    data = str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))
    rewrite(model, without("down_proj"))
    for command in ("probe", "tune"):
        out = tmp_path / command
        assert main([command, str(model), data, "--out", str(out)]) == 2
        assert "down_proj" in capsys.readouterr().err
        assert not (out / "probe.json").exists() and not out.is_file()


def test_the_trainer_reads_a_named_model_whole(model, tmp_path):
    from datasets import Dataset

    from probtune.training import ProbTuneConfig, ProbTuneTrainer

    rows = Dataset.from_dict({"input_ids": [[1, 2, 3]], "labels": [[-100, 2, 3]]})
    arguments = ProbTuneConfig(
        str(tmp_path / "out"), report_to="none", dataset_kwargs={"skip_prepare_dataset": True}
    )
    trainer = ProbTuneTrainer(str(model), arguments, train_dataset=rows)
    torch.testing.assert_close(trainer.model.state_dict(), load_model(str(model)).state_dict())
    rewrite(model, without("down_proj"))
    with pytest.raises(UsageError, match="down_proj"):
        ProbTuneTrainer(str(model), arguments, train_dataset=rows)


def test_tied_weights_need_not_be_stored(tmp_path):
    tied = helpers.word_causal_model(tie_word_embeddings=True)
    tied.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again = load_model(str(tmp_path))
    torch.testing.assert_close(again.state_dict(), tied.state_dict(), rtol=0, atol=0)
    rewrite(tmp_path, without("embed_tokens"))
    with pytest.raises(UsageError, match="embed_tokens"):
        load_model(str(tmp_path))


@pytest.fixture()
def shards(model):
    """The same model in several files with an index."""
    whole = load_model(str(model))
    (model / "model.safetensors").unlink()
    whole.save_pretrained(model, max_shard_size="5KB")
    assert len(list(model.glob("model-*.safetensors"))) > 2
    return model


def test_shards_are_whole(shards, word_model):
    torch.testing.assert_close(
        load_model(str(shards)).state_dict(), load_model(str(word_model)).state_dict()
    )
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    key, file = next(iter(index["weight_map"].items()))
    tensors = load_file(shards / file)
    del tensors[key]
    save_file(tensors, shards / file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=key):
        load_model(str(shards))
    (shards / file).unlink()
    with pytest.raises(UsageError, match=file):
        load_model(str(shards))


def test_an_index_that_forgets_a_file_or_is_none(shards):
    path = shards / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    lost = index["weight_map"].popitem()[1]
    dropped = {k: v for k, v in index["weight_map"].items() if v != lost}
    path.write_text(json.dumps({**index, "weight_map": dropped}))
    with pytest.raises(UsageError, match="missing"):
        load_model(str(shards))
    for text in ("", "[]", "{}", '{"weight_map": 3}'):
        path.write_text(text)
        with pytest.raises(UsageError, match="cannot load the model"):
            load_model(str(shards))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_weights_that_are_cut_off(part, model):
    path = model / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UsageError, match="damaged or cut off"):
        load_model(str(model))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_pickles_run_nothing_and_the_way_out_is_safe(model, capsys):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}, protocol=2))
    with pytest.raises(UsageError) as caught:
        load_model(str(model))
    assert "weights_only" not in str(caught.value) and "code ran" not in capsys.readouterr().out
    torch.save({"x": Evil()}, model / "pytorch_model.bin")
    with pytest.raises(UsageError, match="take the model in the safetensors format") as caught:
        load_model(str(model))
    assert "weights_only" not in str(caught.value) and "code ran" not in capsys.readouterr().out
    (model / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot load the model"):
        load_model(str(model))


def test_another_models_configuration(model):
    path = model / "config.json"
    config = json.loads(path.read_text())
    for changes, said in (
        ({"vocab_size": 999}, "of another shape"),
        ({"num_hidden_layers": 2}, "layers.1.* missing"),
        ({"model_type": "gpt2"}, "missing"),
        ({"model_type": "no-such"}, "cannot load"),
        ({"hidden_size": "many"}, "cannot load"),
        ({"num_attention_heads": 0}, "cannot load"),
    ):
        path.write_text(json.dumps({**config, **changes}))
        with pytest.raises(UsageError, match=said):
            load_model(str(model))
    path.write_text("[1, 2]")
    with pytest.raises(UsageError, match="cannot load"):
        load_model(str(model))


def test_an_adapter_is_whole(word_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        load_model(str(word_model)), LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    )
    adapted.peft_config["default"].base_model_name_or_path = str(word_model)
    adapted.save_pretrained(tmp_path)
    ways = ("beside", "merged", 2)
    for way in ways:
        load_model(str(tmp_path), adapter=way)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    first = min(tensors)
    for changed, said in (
        ({k: v for k, v in tensors.items() if k != first}, "missing"),
        ({**tensors, "base_model.model.other.lora_A.weight": torch.zeros(2, 2)}, "other"),
        ({**tensors, first: torch.zeros(2, 3)}, "shape"),
        ({}, "missing"),
    ):
        save_file(changed, path, metadata={"format": "pt"})
        for way in ways:
            with pytest.raises(UsageError, match=said):
                load_model(str(tmp_path), adapter=way)
    path.write_bytes(path.read_bytes()[:20])
    for way in ways:
        with pytest.raises(UsageError, match="damaged or cut off"):
            load_model(str(tmp_path), adapter=way)


@pytest.mark.parametrize(
    "file, entry",
    [
        ("config.json", {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.T", None]}),
    ],
)
def test_code_of_a_model_never_runs_and_is_never_asked_for(
    file, entry, model, tmp_path, monkeypatch
):
    mark = tmp_path / "mark"
    (model / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    content = json.loads((model / file).read_text())
    content["auto_map"] = entry
    if file == "config.json":
        content["model_type"] = "evil"
    else:
        content["tokenizer_class"] = "Evil"
    (model / file).write_text(json.dumps(content))

    def refuse(*args):
        raise AssertionError("the user was asked")

    monkeypatch.setattr("builtins.input", refuse)
    for load in (load_model, load_tokenizer):
        try:
            load(str(model))
        except UsageError as error:
            assert "cannot load" in str(error)
    assert not mark.exists()
