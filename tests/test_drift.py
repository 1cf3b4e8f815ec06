"""Drift of weights: known perturbations, adapters against the merged model, and what is refused."""

import json
import math
import shutil

import helpers
import pytest
import torch
from safetensors.torch import load_file, save_file

from probtune.errors import DataError, UsageError
from probtune.evaluation import drift as module
from probtune.evaluation.drift import drift, effective_rank, summary

Q = "model.layers.0.self_attn.q_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift") / "base"
    helpers.word_causal_model(0, num_hidden_layers=2).save_pretrained(folder)
    return folder


@pytest.fixture
def tuned(base, tmp_path):
    """A copy whose tensors a test may change."""
    folder = tmp_path / "tuned"
    shutil.copytree(base, folder)

    def change(**changes):
        tensors = load_file(folder / "model.safetensors")
        for name, delta in changes.items():
            tensors[name] = tensors[name] + delta
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    return change


def test_nothing_moved(base):
    moved = drift(str(base), str(base))
    assert {m.squares for m in moved} == {0.0} and {m.rank for m in moved} == {None}
    assert summary(moved)["all"]["relative"] == 0.0


def test_a_known_perturbation(base, tuned):
    """W + a u v' with unit vectors moves by a, in one direction; W + c I by c sqrt(n), in n."""
    origin = load_file(base / "model.safetensors")
    u, v = torch.zeros(16), torch.zeros(32)
    u[3], v[5] = 1.0, 1.0
    folder = tuned(**{DOWN: 0.5 * torch.outer(u, v), Q: 0.25 * torch.eye(16)})
    moved = {m.name: m for m in drift(str(base), folder)}
    assert moved[DOWN].squares == pytest.approx(0.25, rel=1e-5)
    assert moved[DOWN].rank == pytest.approx(1.0, abs=1e-2)
    assert moved[DOWN].top_share == pytest.approx(1.0, abs=1e-4)
    assert moved[DOWN].relative == pytest.approx(0.5 / float(origin[DOWN].norm()), rel=1e-5)
    assert moved[Q].squares == pytest.approx(1.0, rel=1e-5)
    assert moved[Q].rank == pytest.approx(16.0, rel=1e-5)
    assert (moved[Q].layer, moved[Q].kind, moved[DOWN].layer) == (0, "q_proj", 1)
    assert moved["model.norm.weight"].layer is None
    overview = summary(list(moved.values()))
    assert overview["all"]["norm"] == pytest.approx(math.sqrt(1.25), rel=1e-5)
    assert overview["layers"]["0"]["norm"] == pytest.approx(1.0, rel=1e-5)
    assert overview["kinds"]["down_proj"]["tensors"] == 2
    whole = math.sqrt(sum(float(x.double().square().sum()) for x in origin.values()))
    assert overview["all"]["base_norm"] == pytest.approx(whole, rel=1e-6)


def test_blocks_give_what_the_whole_gives(base, tuned, monkeypatch):
    torch.manual_seed(3)
    folder = tuned(**{DOWN: torch.randn(16, 32), "lm_head.weight": torch.randn(18, 16)})
    whole = drift(str(base), folder)
    monkeypatch.setattr(module, "_BLOCK", 50)
    for one, other in zip(drift(str(base), folder), whole, strict=True):
        assert one.squares == pytest.approx(other.squares, rel=1e-6)
        assert one.base_squares == pytest.approx(other.base_squares, rel=1e-6)
        assert (one.rank is None) == (other.rank is None)
        assert one.rank is None or one.rank == pytest.approx(other.rank, rel=1e-6)


def test_ranks_equal_those_of_the_svd(base, tuned):
    torch.manual_seed(0)
    delta = torch.randn(16, 32)
    (tensor,) = (m for m in drift(str(base), tuned(**{DOWN: delta})) if m.name == DOWN)
    assert tensor.rank == pytest.approx(effective_rank(torch.linalg.svdvals(delta)), rel=1e-4)
    (without,) = (m for m in drift(str(base), tuned(), ranks=False) if m.name == DOWN)
    assert without.rank is None and without.squares == pytest.approx(tensor.squares)


@pytest.mark.parametrize("rslora", [False, True])
def test_adapters_move_as_the_merged_model_does(base, tmp_path, rslora):
    from peft import LoraConfig, get_peft_model

    model = helpers.word_causal_model(0, num_hidden_layers=2)
    config = LoraConfig(
        r=2, lora_alpha=6, target_modules=["q_proj", "down_proj"],
        alpha_pattern={"down_proj": 3}, modules_to_save=["lm_head"],
        use_rslora=rslora,
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(tmp_path / "adapters")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    by_adapters = drift(str(base), str(tmp_path / "adapters"))
    by_merging = drift(str(base), str(tmp_path / "merged"))
    assert [m.name for m in by_adapters] == [m.name for m in by_merging]
    for one, other in zip(by_adapters, by_merging, strict=True):
        assert one.squares == pytest.approx(other.squares, rel=1e-4, abs=1e-9), one.name
        assert one.base_squares == other.base_squares
        if other.rank is not None:
            assert one.rank == pytest.approx(other.rank, rel=2e-2), one.name
    assert {m.rank is None for m in by_adapters if m.name == Q} == {False}
    assert max(m.rank for m in by_adapters if m.name in (Q, DOWN)) <= 2.0 + 1e-6


def test_other_adapters_are_refused(base, tmp_path):
    folder = tmp_path / "adapters"
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "use_dora": True, "lora_alpha": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="LORA with use_dora; merge"):
        drift(str(base), str(folder))
    config = {"peft_type": "LORA", "lora_alpha": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {"base_model.model.other.lora_A.weight": torch.zeros(1, 1)},
        folder / "adapter_model.safetensors",
    )
    with pytest.raises(DataError, match="the adapter of another model"):
        drift(str(base), str(folder))


def test_other_architectures_are_refused(base, tmp_path):
    helpers.word_causal_model(0, num_hidden_layers=1).save_pretrained(tmp_path / "short")
    with pytest.raises(DataError, match=r"has a tensor model.layers.1.*that .*short does not"):
        drift(str(base), str(tmp_path / "short"))
    wide = helpers.word_causal_model(0, num_hidden_layers=2, intermediate_size=48)
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(DataError, match=r"is \(16, 32\) in .*base and \(16, 48\) in"):
        drift(str(base), str(tmp_path / "wide"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no .safetensors file"):
        drift(str(base), str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no such folder"):
        drift(str(base), str(tmp_path / "missing"))


def test_a_tied_head_may_be_stored_or_not(tmp_path):
    model = helpers.word_causal_model(0, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "tied")
    shutil.copytree(tmp_path / "tied", tmp_path / "stored")
    tensors = load_file(tmp_path / "tied" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "stored" / "model.safetensors", metadata={"format": "pt"})
    assert summary(drift(str(tmp_path / "tied"), str(tmp_path / "stored")))["all"]["norm"] == 0.0
