"""QLoRA: adapters on a base in 4 bits, through every stage of a run."""

from importlib.util import find_spec

import helpers
import pytest
import torch
from test_pipeline import QUIET, settings

from probtune import pipeline
from probtune.errors import UsageError
from probtune.models.footprint import Shape, footprint, meta_model
from probtune.models.loading import load_model

quantizes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes (probtune[qlora]) is not installed"
)


def test_four_bits_need_an_adapter():
    with pytest.raises(UsageError, match="--lora-rank 16"):
        settings("m", "d", "out", weights="nf4")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_the_package_the_error_names_it(word_model):
    with pytest.raises(UsageError, match=r"pip install -e '\.\[qlora\]'"):
        load_model(str(word_model), dtype="nf4")


@quantizes
def test_the_linear_layers_are_in_4_bits_and_the_head_is_not(word_model):
    model = load_model(str(word_model), dtype="nf4", device="cpu")
    kinds = {name.rpartition(".")[2]: type(m).__name__ for name, m in model.named_modules()}
    assert kinds["q_proj"] == kinds["down_proj"] == "Linear4bit"
    assert model.get_output_embeddings().weight.dtype == torch.float32
    plain = load_model(str(word_model), device="cpu")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        near, exact = (m(input_ids=ids).logits.log_softmax(-1) for m in (model, plain))
    assert 0 < (near - exact).abs().max() < 1.0  # rounded, and the same model


@quantizes
def test_a_base_that_was_measured_can_still_be_trained_through(word_model):
    """A pass without a gradient, as a probe makes it, changes no gradient that comes later."""
    ids = torch.arange(8)[None]
    gradients = []
    for measured in (False, True):
        model = load_model(str(word_model), dtype="nf4", device="cpu").eval()
        if measured:
            with torch.no_grad():
                model(input_ids=ids)
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        model(inputs_embeds=embedded).logits.log_softmax(-1)[0, :, 3].sum().backward()
        gradients.append(embedded.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


@quantizes
def test_a_run_on_a_base_in_4_bits(word_model, tmp_path):
    """Probe, scout, training and measurement; only the adapter is saved."""
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(80))
    chosen = settings(
        *(word_model, rows, tmp_path / "out"),
        objective="auto", compare="p", weights="nf4", lora_rank=4, max_steps=6,
        learning_rate=3e-3,
    )  # fmt: skip
    record = pipeline.tune(chosen, QUIET)
    assert record["scout"]["scout"]["steps"] >= 1
    runs = {run["name"]: run for run in record["runs"]}
    folder = chosen.folder / "nll" / "model"
    assert (folder / "adapter_config.json").is_file()
    assert not (folder / "model.safetensors").exists()
    before, after = (runs[n]["heldout"]["metrics"]["nll"]["value"] for n in ("base", "nll()"))
    assert after < before


def test_the_plan_counts_4_bits(word_model):
    whole = footprint(meta_model(str(word_model)), Shape(rows=1, length=8, lora_rank=4))
    small = footprint(
        meta_model(str(word_model)), Shape(rows=1, length=8, lora_rank=4, four_bits=True)
    )
    linear = sum(
        module.weight.numel()
        for name, module in meta_model(str(word_model)).named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    assert whole.weights - small.weights == pytest.approx((4 - 0.5159) * linear, rel=1e-4)
    assert small.trained == whole.trained and small.optimizer == whole.optimizer
