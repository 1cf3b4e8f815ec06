"""`probtune tune`, every stage, under `accelerate launch` with weights that are spread over the
processes: the record and the models of one process.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import helpers
import pytest
import torch
from safetensors.torch import load_file
from test_pipeline_ranks import compared
from train_script import ZERO3

from probtune import cli
from probtune.records import read_record

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent

FSDP2 = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_reshard_after_forward": True,
}
HYBRID = {"parallelism_config_dp_replicate_size": 2, "parallelism_config_dp_shard_size": 2}
WHOLE = ["--objective", "select:auto,p", "--compare", "top(0.5, nll), on_reference(p())"]
"""All stages, with a select between two trainings, and a reference that is measured before."""
LORA = [
    "--objective",
    "kl_anchor(0.05, dft())",
    "--lora-rank",
    "2",
    "--training",
    "max_grad_norm=0",
]
"""The model before training, which the adapter is switched off for, is spread too."""
COPIED = ["--objective", "kl_anchor(0.05, dft())", "--training", "max_grad_norm=0"]
"""The frozen copy of the model before training is spread with it."""
QLORA = ["--objective", "auto", "--compare", "p", "--lora-rank", "4", "--weights", "nf4"]


def launched(processes=2, **sharding):
    """An accelerate configuration."""
    return {"num_processes": processes, "num_machines": 1, **sharding}


def fsdp2(processes=2, parallelism=None, **options):
    sharding = {"distributed_type": "FSDP", "mixed_precision": "no"}
    if parallelism is not None:
        sharding["parallelism_config"] = parallelism
    return launched(processes, **sharding, fsdp_config={**FSDP2, **options})


def tune(arguments, configuration=None):
    """Run `probtune tune`, under `accelerate launch` with a configuration if there is one."""
    if configuration is None:
        assert cli.main(["tune", *map(str, arguments)]) == 0
        return ""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", configuration]
    command += [FOLDER / "sharded_script.py", "tune", *arguments]
    env = {**os.environ, "PYTHONPATH": str(FOLDER.parent), "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def alone(word_model, tmp_path_factory):
    """Returns the folder of what one process makes of some options, and the arguments for it."""
    folder = tmp_path_factory.mktemp("alone")
    rows = helpers.write_jsonl(folder / "rows.jsonl", helpers.sums(40))

    def arguments(options, out, processes, model=word_model):
        shared = ["--heldout", 9, "--max-steps", 3, "--learning-rate", 0.1]
        shared += ["--training", "optim=sgd", "--gradient-accumulation", 1, *options]
        return [model, rows, *shared, "--batch-size", 8 // processes, "--out", out]

    def one(options, model=word_model):
        out = folder / f"{model.name}-{crc32(repr(options).encode())}"
        if not out.exists():
            tune(arguments(options, out, 1, model))
        return out

    return one, arguments


def alike(alone, tmp_path, options, configuration, atol=1e-6, split=None):
    """The same record and models as one process; returns what was said.

    Args:
        split: a model whose layers the processes share, which then have the same rows.
    """
    one, arguments = alone
    file = tmp_path / "accelerate.yaml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    processes, out = configuration["num_processes"], tmp_path / "out"
    model = () if split is None else (split,)
    said = tune(arguments(options, out, processes if split is None else 1, *model), file)
    single = one(options, *model)
    expected, record = (read_record(x / "record.json", "tune") for x in (single, out))
    trained = [run["train"] for run in record["runs"] if run["train"]]
    assert {train["processes"] for train in trained} == {processes}
    compared(expected, record)
    files = list(single.glob("*/model/*.safetensors"))
    assert len(files) == len(trained)
    for path in files:
        saved = load_file(out / path.relative_to(single))
        torch.testing.assert_close(saved, load_file(path), rtol=1e-5, atol=atol)
    return said


@pytest.mark.distributed
def test_under_fsdp2(alone, tmp_path):
    said = alike(alone, tmp_path, WHOLE, fsdp2())
    assert said.count("spread: 2 as (Shard(dim=0),)\n") == 4


def test_under_fsdp2_with_adapters_and_their_base_as_reference(alone, tmp_path):
    said = alike(alone, tmp_path, LORA, fsdp2())
    assert "spread: 2 as (Shard(dim=0),)" in said


@pytest.mark.parametrize("offloaded", [False, True])
def test_under_fsdp2_with_a_frozen_copy(offloaded, alone, tmp_path):
    said = alike(alone, tmp_path, COPIED, fsdp2(fsdp_offload_params=offloaded))
    assert "spread: 2 as (Shard(dim=0),)" in said


@pytest.mark.parametrize("stage", [2, 3])
def test_under_zero_with_a_frozen_copy(zero, stage, alone, tmp_path):
    alike(alone, tmp_path, COPIED, zero(stage))


def test_under_fsdp2_with_weights_offloaded(alone, tmp_path):
    alike(alone, tmp_path, WHOLE, fsdp2(fsdp_offload_params=True))


def test_under_hybrid_sharding(alone, tmp_path):
    """Shards over two processes, which two others repeat."""
    said = alike(alone, tmp_path, WHOLE, fsdp2(4, HYBRID))
    assert said.count("spread: 4 as (Replicate(), Shard(dim=0))\n") == 4


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("sharded", [False, True])
def test_adapters_on_four_bits(sharded, alone, tmp_path):
    """TRL has the adapters of a base in 4 bits in bfloat16."""
    configuration = fsdp2() if sharded else launched(distributed_type="MULTI_GPU")
    alike(alone, tmp_path, QLORA, configuration, atol=2e-4)


@pytest.mark.parametrize("arguments", [WHOLE, COPIED])
def test_with_split_layers(arguments, alone, tmp_path):
    """Tensor parallelism."""
    folder = tmp_path / "two-heads"
    helpers.word_causal_model(num_key_value_heads=2).save_pretrained(folder)
    helpers.word_tokenizer().save_pretrained(folder)
    sizes = {"parallelism_config_tp_size": 2}
    configuration = launched(distributed_type="MULTI_GPU", parallelism_config=sizes)
    said = alike(alone, tmp_path, arguments, configuration, split=folder)
    trainings = 4 if arguments is WHOLE else 1
    assert said.count("spread: 2 as (Shard(dim=0),), 2 as (Shard(dim=1),)\n") == trainings


def test_with_split_rows(word_model, alone, tmp_path):
    """Context parallelism."""
    stages = ["--objective", "select:auto,p", "--compare", "eaft(1, 3)"]
    sizes = {"parallelism_config_dp_shard_size": 1, "parallelism_config_cp_size": 2}
    options = [*stages, "--training", "pad_to_multiple_of=4"]
    said = alike(alone, tmp_path, options, fsdp2(parallelism=sizes), split=word_model)
    assert said.count("spread: 2 as (Shard(dim=0),)\n") == 3


@pytest.fixture
def zero(tmp_path):
    """Returns the configuration of a ZeRO stage."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DEEPSPEED IS NOT INSTALLED (pip install deepspeed): ZeRO has not been run")

    def of_stage(stage):
        sharded = ZERO3["zero_optimization"] if stage == 3 else {}
        config = {**ZERO3, "zero_optimization": {**sharded, "stage": stage}}
        (tmp_path / "zero.json").write_text(json.dumps(config))
        file = {"deepspeed_config_file": str(tmp_path / "zero.json"), "zero3_init_flag": stage == 3}
        return launched(distributed_type="DEEPSPEED", deepspeed_config=file)

    return of_stage


@pytest.mark.parametrize("stage", [2, 3])
def test_under_zero(zero, stage, alone, tmp_path):
    """Every model is read whole again after a training that scattered its own."""
    said = alike(alone, tmp_path, WHOLE, zero(stage))
    assert said.count(f"spread: ZeRO-{stage}\n") == 4


def test_under_zero3_with_adapters_and_their_base_as_reference(zero, alone, tmp_path):
    alike(alone, tmp_path, LORA, zero(3))
