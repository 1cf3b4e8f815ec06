"""`transformers.Trainer` with an objective: one argument, `compute_loss_func`.

    python examples/transformers_trainer.py [MODEL [train.jsonl]]

`use_objective` (docs/engines.md) also proves on the first step that the objective is trained, and
knows the steps and the special tokens. `ProbTuneTrainer` does the same without storing the logits,
and serves every objective.
"""

import tempfile

import torch
from datasets import Dataset
from tiny_model import load, model_and_data
from transformers import Trainer, TrainingArguments

from probtune import compute_loss_func


def main(name: str, data: str, *, loss=None, steps: int = 30) -> list[float]:
    """Teach the model a few rows; return the losses that the trainer logs."""
    model, batch = load(name, data)
    rows = Dataset.from_dict({column: x.tolist() for column, x in batch.items()})
    options = dict(learning_rate=3e-3, max_steps=steps, logging_steps=steps // 3, seed=0)
    loss = loss or compute_loss_func("power(0.5)")
    options |= dict(save_strategy="no", report_to="none", disable_tqdm=True)
    with tempfile.TemporaryDirectory() as out:
        on_cpu = not torch.accelerator.is_available()
        arguments = TrainingArguments(out, use_cpu=on_cpu, **options)
        trainer = Trainer(model, arguments, train_dataset=rows, compute_loss_func=loss)
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    losses = main(*model_and_data())
    print("power(0.5):", ", ".join(f"{loss:.3f}" for loss in losses))
