"""Two optimizer steps of the integrations that run here, alone or under torchrun; prints the sums
of the trained parameters as JSON. Run by tests/test_integrations.py.

python engine_ranks_script.py OUT OBJECTIVE [nll | fsdp2 | cp | means | saved | zero2 | zero3]

nll: the engine's loss is replaced, to stop. fsdp2: the model is scattered. cp: the rows as well.
means: each rank divides by its own tokens; beside it a trainer that does so without a proof. saved:
fsdp2 with a head in PEFT's modules_to_save. zero2, zero3: DeepSpeed.
"""

import json
import os
import sys

import conftest  # noqa: F401  (environment before torch)
import helpers
import torch
from accelerate import ParallelismConfig
from peft import LoraConfig, get_peft_model
from test_integrations import RATE, ROWS, sure_model
from torch.distributed.tensor import DTensor
from train_script import FSDP2, ZERO2, ZERO3, cp_on_a_cpu, fsdp2_on_a_cpu

import probtune


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter that FSDP 2 or ZeRO-3 has scattered."""
    if hasattr(parameter, "ds_id"):
        from deepspeed import zero  # pyright: ignore[reportMissingImports]

        with zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def steps(kind: str, out: str, text: str, way: str | None = None) -> list[float]:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from probtune.integrations.transformers_trainer import use_objective
    from probtune.integrations.trl_trainer import ObjectiveMixin

    class Mixed(ObjectiveMixin, SFTTrainer):
        objective = text

    ranks = 1 if way == "cp" else int(os.environ.get("WORLD_SIZE", "1"))
    options = dict(
        per_device_train_batch_size=4 // ranks, gradient_accumulation_steps=2, max_steps=2,
        learning_rate=RATE, optim="sgd", max_grad_norm=1e9, lr_scheduler_type="constant",
        use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=2,
    )  # fmt: skip
    if way in ("fsdp2", "cp", "saved"):
        options |= {"fsdp": "full_shard auto_wrap", "fsdp_config": FSDP2}
    if way == "cp":
        options["parallelism_config"] = ParallelismConfig(cp_size=2)
    if way in ("zero2", "zero3"):
        config = {"zero2": ZERO2, "zero3": ZERO3}[way]
        options["deepspeed"] = {**config, "gradient_clipping": "auto"}
    if way == "means":
        options["average_tokens_across_devices"] = False
    tokenizer, model = helpers.word_tokenizer(), sure_model()
    if way == "saved":
        torch.manual_seed(0)
        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
        model = get_peft_model(model, config)
    parts = dict(
        model=model, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=4),
    )  # fmt: skip
    if kind == "trl":
        own = {"dataset_kwargs": {"skip_prepare_dataset": True}, "activation_checkpointing": False}
        trainer = Mixed(args=SFTConfig(out, bf16=False, **options, **own), **parts)
    else:
        trainer = Trainer(args=TrainingArguments(out, **options), **parts)
        if kind == "transformers":
            use_objective(trainer, text)
    if kind == "by hand":

        def by_hand(model, inputs, num_items_in_batch=None, **others):
            labels = inputs.pop("labels")
            logits = model(**inputs).logits
            return probtune.loss(logits, labels, text, num_items_in_batch=num_items_in_batch)

        trainer.compute_loss = by_hand
    if way == "nll":

        def compute_loss(model, inputs, num_items_in_batch=None, **others):
            labels = inputs.pop("labels")
            logits = model(**inputs).logits
            loss = probtune.loss(logits, labels, "nll", num_items_in_batch=num_items_in_batch)
            return loss * ranks

        trainer.compute_loss = compute_loss
    trainer.train()
    trained = [whole(p) for p in model.parameters()]
    flat = torch.cat([p.detach().double().flatten() for p in trained])
    sums = [float(flat.sum()), float(flat.abs().sum())]
    if kind == "by hand":
        return sums
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    sums += [entry["nll"], entry["mean_p"]]
    if kind == "trl" and way is None:  # 5 rows do not divide into the ranks' batches
        sums.append(trainer.evaluate(Dataset.from_list(ROWS[:5]))["eval_nll"])
    return sums


if __name__ == "__main__":
    out, text, *ways = sys.argv[1:]
    if {"fsdp2", "cp", "saved"} & set(ways):
        fsdp2_on_a_cpu()
        cp_on_a_cpu()
    kinds = ("transformers", "trl", *(["by hand"] if "means" in ways else []))
    sums = {kind: steps(kind, out, text, *ways) for kind in kinds}
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(sums))
    if torch.distributed.is_initialized():
        # gloo's threads may let go of a tensor while the interpreter ends, which aborts it.
        sys.stdout.flush()
        os._exit(0)
