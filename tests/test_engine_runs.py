"""An engine's own training, from its configuration to the model that it saves, makes our step.

Each in an environment with the engine's own pins: `make integrations`, which names the engine in
`PROBTUNE_ENGINE_RUNS`. Nothing of the engine is replaced but devices (engine_devices.py); its step
is listened to, for the batches that it has made of the data.
"""

import json
import os
import sys

import helpers
import pytest
import torch
import yaml
from test_integrations import RATE, after_a_step, padded, same, shifted, sure_model

import probtune
from probtune.objectives import objective as read_objective

RUNS = set(filter(None, os.environ.get("PROBTUNE_ENGINE_RUNS", "").split(",")))
OBJECTIVES = ("power(10)", "above(0.2, nll())")
WITH_SIGNALS = (*OBJECTIVES, "anneal(p(), nll_on_special(power(10)), 0.0, 0.0)")
"""For engines that know their steps and their special tokens."""
PAIRS = [("1 + 2 =", "3"), ("ask 4", "say 4 4"), ("9", "say"), ("2 + 5 =", "7"), ("7", "8 9")]
PAIRS += [("ask 6", "6 6 6"), ("8 + 1 =", "say 9"), ("0", "0")]


SPECIAL = torch.tensor([helpers.WORDS.index(word) for word in ("<eos>", "<pad>")])


def of(name):
    return pytest.mark.skipif(name not in RUNS, reason=f"{name} is not here; make integrations")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a model, its tokenizer and rows, in which the engine runs."""
    monkeypatch.chdir(tmp_path)
    sure_model().save_pretrained("model")
    helpers.word_tokenizer(helpers.CHAT_TEMPLATE).save_pretrained("model")
    chats = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in PAIRS
    ]
    helpers.write_jsonl(tmp_path / "rows.jsonl", chats)
    return tmp_path


def parts(inputs, labels):
    """A copy of what the model takes of a batch, and of the labels at the tokens before them."""
    names = ("input_ids", "attention_mask", "position_ids")
    batch = {name: inputs[name].clone() for name in names if inputs.get(name) is not None}
    return {**batch, "labels": labels.clone()}


@pytest.fixture
def batches(monkeypatch):
    """The batches of the first step, as the engine's trainer sees them."""
    from transformers import Trainer

    seen = []
    step = Trainer.training_step

    def training_step(self, model, inputs, *arguments, **options):
        seen.append(parts(inputs, shifted(inputs["labels"])))
        return step(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(Trainer, "training_step", training_step)
    return seen


def check(batches, folder, text):
    """The saved model is ours after one step over the same batches, and that of NLL is not."""
    from transformers import AutoModelForCausalLM

    assert len(batches) == 4
    tokens = sum(int((b["labels"] != -100).sum()) for b in batches)
    assert tokens >= len(PAIRS)

    def stepped(objective):
        def of_batch(model, batch):
            inputs = {name: x for name, x in batch.items() if name != "labels"}
            logits, labels = model(**inputs).logits, batch["labels"]
            values = {"special": torch.isin(labels, SPECIAL), "progress": 0.0}
            signals = {name: values[name] for name in read_objective(objective).needs}
            return probtune.loss(
                logits, labels, objective, num_items_in_batch=tokens, shift=False, signals=signals
            )

        return after_a_step(sure_model(), of_batch, batches)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    actual = {name: x.detach() for name, x in model.named_parameters()}
    same(actual, stepped(text))
    with pytest.raises(AssertionError):
        same(actual, stepped("nll()"))


@of("llamafactory")
@pytest.mark.parametrize("text", WITH_SIGNALS)
def test_llamafactory_trains_the_objective(text, workplace, batches):
    from probtune.integrations import llamafactory

    rows = [{"instruction": q, "input": "", "output": a} for q, a in PAIRS]
    (workplace / "rows.json").write_text(json.dumps(rows))
    (workplace / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    settings = {
        "stage": "sft", "model_name_or_path": "model", "do_train": True, "finetuning_type": "full",
        "dataset": "rows", "dataset_dir": ".", "template": "default", "cutoff_len": 64,
        "output_dir": "out", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4,
        "max_steps": 1, "learning_rate": RATE, "lr_scheduler_type": "constant", "optim": "sgd",
        "max_grad_norm": 1e9, "report_to": "none", "use_cpu": True, "logging_steps": 1,
    }  # fmt: skip
    (workplace / "train.yaml").write_text(yaml.safe_dump(settings))
    from llamafactory.train.sft import trainer

    original = trainer.CustomSeq2SeqTrainer.__init__
    try:
        llamafactory.main([text, "train.yaml"])
    finally:
        trainer.CustomSeq2SeqTrainer.__init__ = original
    check(batches, "out", text)
    log = json.loads((workplace / "out" / "trainer_state.json").read_text())["log_history"]
    assert {"nll", "mean_p", "low_weight_share"} <= log[0].keys()


@of("swift")
@pytest.mark.parametrize("text", WITH_SIGNALS)
def test_swift_trains_the_objective(text, workplace, batches):
    from swift.pipelines import sft_main

    (workplace / "probtune_loss.py").write_text(
        f'from probtune.integrations.swift import register\n\nregister("{text}")\n'
    )
    sft_main(
        ["--external_plugins", "probtune_loss.py", "--loss_type", "probtune", "--model", "model",
         "--model_type", "llama", "--template", "dummy", "--dataset", "rows.jsonl",
         "--tuner_type", "full", "--torch_dtype", "float32", "--max_steps", "1",
         "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4",
         "--learning_rate", str(RATE), "--lr_scheduler_type", "constant", "--optim", "sgd",
         "--weight_decay", "0", "--max_grad_norm", "1e9", "--output_dir", "out",
         "--add_version", "false", "--report_to", "none", "--save_strategy", "steps",
         "--save_steps", "1", "--logging_steps", "1", "--dataset_num_proc", "1"]
    )  # fmt: skip
    check(batches, "out/checkpoint-1", text)


@of("axolotl")
@pytest.mark.parametrize("text", WITH_SIGNALS)
def test_axolotl_trains_the_objective(text, workplace, batches):
    from axolotl.cli.train import do_cli

    settings = {
        "base_model": "model", "plugins": ["probtune.integrations.axolotl.Plugin"],
        "probtune_objective": text, "dataset_prepared_path": "prepared", "output_dir": "out",
        "datasets": [{"path": "rows.jsonl", "ds_type": "json", "type": "chat_template"}],
        "sequence_len": 64, "sample_packing": False, "micro_batch_size": 2,
        "gradient_accumulation_steps": 4, "max_steps": 1, "learning_rate": RATE,
        "optimizer": "sgd", "lr_scheduler": "constant", "weight_decay": 0.0,
        "max_grad_norm": 1e9, "logging_steps": 1, "save_strategy": "no", "bf16": False,
        "tf32": False,
    }  # fmt: skip
    (workplace / "run.yaml").write_text(yaml.safe_dump(settings))
    do_cli("run.yaml")
    check(batches, "out", text)


def alone(monkeypatch):
    """The environment that torchrun gives to one process."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)


@of("verl")
@pytest.mark.parametrize("text", WITH_SIGNALS)
def test_verl_trains_the_objective(text, workplace, monkeypatch):
    from datasets import load_dataset
    from engine_devices import verl_on_cpu

    verl_on_cpu()
    from verl.trainer.sft_trainer import SFTTrainer
    from verl.workers.engine.fsdp import FSDPEngineWithLMHead as Engine

    from probtune.integrations import verl

    load_dataset("json", data_files="rows.jsonl", split="train").to_parquet("rows.parquet")
    seen, trained = [], Engine.train_batch
    monkeypatch.setattr(SFTTrainer, "_build_engine", SFTTrainer._build_engine)  # main replaces it

    def train_batch(self, data, loss_function):
        seen.append(data)
        return trained(self, data, loss_function)

    monkeypatch.setattr(Engine, "train_batch", train_batch)
    alone(monkeypatch)
    verl.main(
        [text, "data.train_files=rows.parquet", "data.train_batch_size=8", "data.num_workers=0",
         "data.micro_batch_size_per_gpu=2", "data.use_dynamic_bsz=False", "model.path=model",
         "model.use_remove_padding=False", "+model.override_config.attn_implementation=sdpa",
         "engine.strategy=fsdp2", "engine.use_torch_compile=False",
         "+engine.mixed_precision={param_dtype:fp32}", "optim.optimizer=SGD", f"optim.lr={RATE}",
         "optim.weight_decay=0", "optim.clip_grad=1e9", "checkpoint.save_contents=[hf_model]",
         "trainer.device=cpu", "trainer.logger=[console]", "trainer.total_training_steps=1",
         "trainer.default_local_dir=out"]
    )  # fmt: skip
    (data,) = seen
    check(micro_batches(data), "out/global_step_1/huggingface", text)


def micro_batches(data):
    """Padded batches of two of the rows that verl holds as nested tensors."""
    rows = zip(data["input_ids"].unbind(), data["loss_mask"].unbind(), strict=True)
    encoded = [
        {"input_ids": ids.tolist(), "labels": torch.where(mask.bool(), ids, -100).tolist()}
        for ids, mask in rows
    ]
    batches = [padded(encoded[i : i + 2]) for i in range(0, len(encoded), 2)]
    return [parts(batch, shifted(batch["labels"])) for batch in batches]


@of("automodel")
@pytest.mark.parametrize("text", WITH_SIGNALS)
def test_automodel_trains_the_objective(text, workplace, monkeypatch):
    from engine_devices import automodel_on_cpu

    automodel_on_cpu()
    from nemo_automodel.recipes.llm import train_ft

    from probtune.integrations import automodel

    recipe = train_ft.TrainFinetuneRecipeForNextTokenPrediction
    monkeypatch.setattr(recipe, "setup", recipe.setup)  # main replaces it
    seen, step = [], recipe._run_train_optim_step

    def run_step(self, batches, *arguments, **options):
        seen.extend(parts(batch, batch["labels"]) for batch in batches)
        return step(self, batches, *arguments, **options)

    monkeypatch.setattr(recipe, "_run_train_optim_step", run_step)
    auto = "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained"
    settings = {
        "recipe": recipe.__name__,
        "step_scheduler": {
            "global_batch_size": 8, "local_batch_size": 2, "max_steps": 1, "num_epochs": 1,
            "ckpt_every_steps": 1,
        },
        "dist_env": {"backend": "gloo"}, "distributed": {"strategy": "ddp"},
        "model": {
            "_target_": auto, "pretrained_model_name_or_path": "model", "torch_dtype": "float32",
            "attn_implementation": "sdpa", "use_liger_kernel": False,
        },
        "checkpoint": {
            "enabled": True, "checkpoint_dir": "out", "model_save_format": "safetensors",
            "save_consolidated": True,
        },
        "loss_fn": {
            "_target_": "probtune.integrations.automodel.ObjectiveLoss", "objective": text,
        },
        "dataset": {
            "_target_": "nemo_automodel.components.datasets.llm.ChatDataset",
            "path_or_dataset_id": "rows.jsonl",
        },
        "dataloader": {
            "_target_": "torchdata.stateful_dataloader.StatefulDataLoader", "num_workers": 0,
            "collate_fn": "nemo_automodel.components.datasets.utils.default_collater",
        },
        "optimizer": {"_target_": "torch.optim.SGD", "lr": RATE},
        "clip_grad_norm": {"max_norm": 1e9},
    }  # fmt: skip
    (workplace / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(sys, "argv", ["automodel", "--config", "run.yaml"])
    automodel.main()
    torch.distributed.destroy_process_group()
    check(seen, "out/epoch_0_step_0/model/consolidated", text)


@of("torchtitan")
@pytest.mark.parametrize(
    "text",
    [
        *("power(0.5)", "above(0.0005, nll())"),  # p is about 1 / 2048
        "anneal(p(), nll_on_special(power(0.5)), 0.0, 0.0)",
    ],
)
def test_torchtitan_trains_the_objective(text, workplace, monkeypatch):
    """Its debug model; the gradients that its trainer leaves are ours of the whole logits."""
    from datasets import load_dataset
    from engine_devices import torchtitan_on_cpu

    torchtitan_on_cpu()
    from torchtitan.components.loss import ChunkedLossWrapper
    from torchtitan.hf_datasets import DatasetConfig
    from torchtitan.hf_datasets.text_datasets import DATASETS
    from torchtitan.models.common.attention import ScaledDotProductAttention
    from torchtitan.models.llama3 import config_registry

    from probtune.integrations.torchtitan import ObjectiveLoss, prove

    alone(monkeypatch)
    rows = DatasetConfig(
        path="rows.jsonl",
        loader=lambda path: load_dataset("json", data_files=path, split="train"),
        sample_processor=lambda row: " ".join(m["content"] for m in row["messages"]),
    )
    monkeypatch.setitem(DATASETS, "rows", rows)
    config = config_registry.llama3_debugmodel()
    config.loss = ChunkedLossWrapper.Config(
        num_chunks=2, loss_fn=ObjectiveLoss.Config(objective=text)
    )
    config.dataloader.dataset, config.hf_assets_path = "rows", "model"
    config.checkpoint.enable = config.validator.enable = False
    config.training.steps, config.training.disable_cuda_graphs = 1, True
    config.training.seq_len, config.training.max_norm = 8, 1e9
    config.training.local_batch_size, config.training.global_batch_size = 2, 4
    for layer in config.model_spec.model.layers:  # flex attention has no gradients on a CPU
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    config.training.mixed_precision_param = "float32"
    trainer = config.build()
    prove(trainer)
    sharded = trainer.model_parts[0]
    model = config.model_spec.model.build()
    model.init_weights(buffer_device=None)
    with torch.no_grad():
        for name, x in model.named_parameters():
            sharded.get_parameter(name).to_local().copy_(x)  # of one rank
    seen, step = [], trainer.forward_backward_step

    def forward_backward_step(*, input_dict, labels, global_valid_tokens):
        seen.append((dict(input_dict), labels))
        return step(input_dict=input_dict, labels=labels, global_valid_tokens=global_valid_tokens)

    trainer.forward_backward_step = forward_backward_step
    trainer.train()
    trainer.close()
    names = [name for name, _ in model.named_parameters()]
    actual = {name: sharded.get_parameter(name).grad.full_tensor() for name in names}
    torch.distributed.destroy_process_group()
    assert len(seen) == 2 and trainer.loss_fn.loss_fn.ledger.proof.proven
    tokens = sum(int((labels != -100).sum()) for _, labels in seen)
    for inputs, labels in seen:
        logits = model(inputs.pop("input"), **inputs)
        values = {"special": torch.isin(labels, SPECIAL), "progress": 0.0}
        signals = {name: values[name] for name in read_objective(text).needs}
        probtune.loss(
            logits, labels, text, num_items_in_batch=tokens, shift=False, signals=signals
        ).backward()
    expected = {name: x.grad for name, x in model.named_parameters()}
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    assert max(float(x.abs().max()) for x in expected.values()) > 1e-3
