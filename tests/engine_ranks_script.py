"""One optimizer step of the integrations that run here, alone or under torchrun; prints the trained
parameters' sums as JSON. Run by tests/test_integrations.py.

python engine_ranks_script.py OUT OBJECTIVE [nll]     (nll: the engine's loss is replaced, to stop)
"""

import json
import os
import sys

import conftest  # noqa: F401  (environment before torch)
import helpers
import torch
from test_integrations import RATE, ROWS, sure_model

import probtune


def step(kind: str, out: str, text: str, *, other: bool = False) -> list[float]:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from probtune.integrations.transformers_trainer import use_objective
    from probtune.integrations.trl_trainer import ObjectiveMixin

    class Mixed(ObjectiveMixin, SFTTrainer):
        objective = text

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    options = dict(
        per_device_train_batch_size=4 // ranks, gradient_accumulation_steps=2, max_steps=1,
        learning_rate=RATE, optim="sgd", max_grad_norm=1e9, lr_scheduler_type="constant",
        use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    tokenizer, model = helpers.word_tokenizer(), sure_model()
    parts = dict(
        model=model, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )  # fmt: skip
    if kind == "trl":
        own = {"dataset_kwargs": {"skip_prepare_dataset": True}, "activation_checkpointing": False}
        trainer = Mixed(args=SFTConfig(out, bf16=False, **options, **own), **parts)
    else:
        trainer = Trainer(args=TrainingArguments(out, **options), **parts)
        use_objective(trainer, text)
    if other:

        def compute_loss(model, inputs, num_items_in_batch=None, **others):
            labels = inputs.pop("labels")
            logits = model(**inputs).logits
            loss = probtune.loss(logits, labels, "nll", num_items_in_batch=num_items_in_batch)
            return loss * ranks

        trainer.compute_loss = compute_loss
    trainer.train()
    flat = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    return [float(flat.sum()), float(flat.abs().sum()), entry["nll"], entry["mean_p"]]


if __name__ == "__main__":
    out, text, *others = sys.argv[1:]
    sums = {kind: step(kind, out, text, other=bool(others)) for kind in ("transformers", "trl")}
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(sums))
