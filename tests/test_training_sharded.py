"""Training on two ranks equals one process: as it is, and where it scatters the model, the head
included, with DeepSpeed's ZeRO and FSDP2 as accelerate prepares it. The second half of the table in
tests/test_training_invariance.py.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
import torch
from safetensors.torch import load_file
from test_training_invariance import KINDS
from train_script import train

pytestmark = [
    pytest.mark.slow,
    # PEFT saves the layer under an adapter on the head, and says so.
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
]


def on_two_ranks(script, *arguments):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(folder / script), *map(str, arguments)]
    env = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def deepspeed():
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DEEPSPEED IS NOT INSTALLED (pip install deepspeed): ZeRO-3 has not been run")


def test_the_engine_equals_one_process(deepspeed):
    """Gradients and weights: head untied and tied, with LoRA on it and the base as reference,
    trained whole beside LoRA; the head is gathered by its own module and let go after it."""
    assert on_two_ranks("zero_script.py") == "passed"


def trains_alike(tmp_path, sharding, cases, rel=1e-4, layout=(), **options):
    """Losses, gradient norms, logged statistics, evaluation and weights after three steps of two
    micro-batches.

    Args:
        sharding: a flag of the script, or None.
        layout: flags of the script for the two ranks alone.
    """
    flags = [f"--{n}" if x is True else f"--{n}={x}" for n, x in options.items()]
    flags += [f"--{name}" for name in (sharding, *layout) if name]
    pairs = [x for text in cases for x in (text, "supervised")]
    report = json.loads(on_two_ranks("train_script.py", tmp_path / "2", 8, *pairs, *flags))
    for number, (text, two) in enumerate(zip(cases, report, strict=True)):
        one = train(str(tmp_path / "1"), 8, text, "supervised", **options)
        assert one is not None and len(one["steps"]) == options.get("steps", 3)
        for a, b in zip(one["steps"], two["steps"], strict=True):
            assert a == pytest.approx(b, rel=rel)
        assert one["eval"]["eval_nll"] == pytest.approx(two["eval"]["eval_nll"], rel=rel)
        assert one["weights"] == pytest.approx(two["weights"], rel=rel)
        assert one["saved"] == pytest.approx(two["saved"], rel=rel)  # whole
        if rel <= 1e-4:
            for path in (tmp_path / "1" / "model").glob("*.safetensors"):
                saved = load_file(tmp_path / "2" / str(number) / "model" / path.name)
                tensors = load_file(path)  # PEFT adds the layer under an adapter on the head
                trained = [name for name in tensors if "lora" not in options or "lora_" in name]
                for name in trained:
                    torch.testing.assert_close(saved[name], tensors[name], rtol=1e-4, atol=1e-6)


MEASURED = [text for kind, text in KINDS.items() if kind != "measured reference"]
"""`tune` measures a reference before its training is scattered."""


@pytest.mark.parametrize("layout", [(), ("padding_free",), ("checkpointing",)])
def test_every_kind_of_objective_on_two_ranks(layout, tmp_path):
    trains_alike(tmp_path, None, list(KINDS.values()), layout=layout, steps=5)


@pytest.mark.parametrize("layout", [(), ("padding_free",), ("checkpointing",)])
def test_every_kind_of_objective_under_fsdp2(layout, tmp_path):
    trains_alike(tmp_path, "fsdp2", MEASURED, layout=layout, steps=5)


@pytest.mark.parametrize("sharding", ["zero2", "zero3"])
@pytest.mark.parametrize("layout", [(), ("padding_free", "checkpointing")])
def test_every_kind_of_objective_under_zero(sharding, layout, deepspeed, tmp_path, word_model):
    trains_alike(tmp_path, sharding, MEASURED, layout=layout, steps=5, model=str(word_model))


@pytest.mark.parametrize("layout", [(), ("padding_free",)])
def test_every_kind_of_objective_with_split_layers(layout, tmp_path):
    folder = tmp_path / "words"
    helpers.word_causal_model(num_key_value_heads=2).save_pretrained(folder)
    helpers.word_tokenizer().save_pretrained(folder)
    trains_alike(tmp_path, "tp", MEASURED, layout=layout, steps=5, model=str(folder))


@pytest.mark.parametrize("layout", [(), ("checkpointing",)])
def test_rows_that_are_split_over_ranks(layout, tmp_path):
    """Context parallelism, in torch's ring attention with a CPU's kernel, and FSDP2 as accelerate
    asks for it there."""
    cases = ["p()", "eaft(1, 3)", "anneal(nll(), p(), 0, 0.5)", "nll_on_special(power(0.5))"]
    cases += ["kl_anchor(0.5, nll())", "q_target(0.5, p())"]  # with a frozen copy, split as well
    trains_alike(tmp_path, "cp", cases, layout=layout, steps=5, pad_to_multiple_of=4)


def test_rows_that_are_split_over_ranks_with_lora_on_the_head(tmp_path):
    cases = ["power(0.5)", "kl_anchor(0.5, nll())"]
    trains_alike(tmp_path, "cp", cases, lora=True, pad_to_multiple_of=4)


COUPLED = "mix(0.5, step_top(0.5, nll()), weighted(p(), 'quality'))"
"""Measures the step, and takes a column of the data."""


def test_zero3_in_the_trainer(deepspeed, tmp_path, word_model):
    """The weights of a model that is scattered while it is loaded."""
    trains_alike(tmp_path, "zero3", ("power(0.5)", COUPLED), model=str(word_model))


def test_zero3_with_lora_on_the_head(deepspeed, tmp_path, word_model):
    """Also of an objective that compares with the base."""
    cases = ("power(0.5)", "kl_anchor(0.05, dft())")
    trains_alike(tmp_path, "zero3", cases, model=str(word_model), lora=True)


def test_fsdp2_in_the_trainer(tmp_path):
    trains_alike(tmp_path, "fsdp2", ("power(0.5)", COUPLED))


def test_fsdp2_with_a_tied_head(tmp_path):
    folder = tmp_path / "tied"
    helpers.word_causal_model(tie_word_embeddings=True).save_pretrained(folder)
    trains_alike(tmp_path, "fsdp2", ("power(0.5)",), model=str(folder))


def test_fsdp2_with_lora_on_the_head(tmp_path):
    trains_alike(tmp_path, "fsdp2", ("power(0.5)", "kl_anchor(0.05, dft())"), lora=True)


def test_fsdp2_in_bfloat16(tmp_path):
    """Its weights are rounded, and its gradients summed so; loss and statistics are not."""
    cases = ("power(0.5)", "kl_anchor(0.5, dft())")
    trains_alike(tmp_path, "fsdp2", cases, rel=1e-2, bf16=True)
