"""DeepSpeed ZeRO-3, which scatters the head too, on two ranks equals one process without it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from train_script import train

pytestmark = pytest.mark.slow


def on_two_ranks(script, *arguments):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DEEPSPEED IS NOT INSTALLED (pip install deepspeed): ZeRO-3 has not been run")
    here = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(here / script), *map(str, arguments)]
    env = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_engine_equals_one_process():
    """Gradients and weights: head untied and tied, with LoRA on it and the base as reference,
    trained whole beside LoRA; the head is gathered by its own module and let go after it."""
    assert on_two_ranks("zero_script.py") == "passed"


@pytest.mark.parametrize("how", ["whole", "lora"])
def test_the_trainer_equals_one_process(how, tmp_path, word_model):
    """Losses, gradient norms, logged statistics, evaluation and weights after three steps of two
    micro-batches, of a model that DeepSpeed scatters while it is loaded; also of an objective that
    measures the step, and with LoRA on the head of one that compares with the base.
    """
    coupled = "mix(0.5, step_top(0.5, nll()), weighted(p(), 'quality'))"
    second = coupled if how == "whole" else "kl_anchor(0.05, dft())"
    cases = ("power(0.5)", "supervised", second, "supervised")
    options = ["--zero3", "--model", word_model, *(["--lora"] if how == "lora" else [])]
    found = json.loads(on_two_ranks("train_script.py", tmp_path / "2", 8, *cases, *options))
    for case, two in zip((cases[:2], cases[2:]), found, strict=True):
        given = {"model": str(word_model), "lora": how == "lora"}
        one = train(str(tmp_path / "1"), 8, *case, **given)
        assert one is not None and len(one["steps"]) == 3
        for a, b in zip(one["steps"], two["steps"], strict=True):
            assert a == pytest.approx(b, rel=1e-4)
        assert one["eval"]["eval_nll"] == pytest.approx(two["eval"]["eval_nll"], rel=1e-5)
        assert one["weights"] == pytest.approx(two["weights"], rel=1e-5)
