"""`transformers.Trainer` with an objective: one argument, `compute_loss_func`.

    python examples/transformers_trainer.py

The model is a tiny one with random weights, so nothing is downloaded. `ProbTuneTrainer` does the
same without storing the logits, and serves every objective.
"""

import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from probtune import compute_loss_func


def main(folder: str, objective: str = "power(0.5)", steps: int = 30) -> list[float]:
    """Teach the model a sequence; return the losses that the trainer logs."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    rows = [{"input_ids": (start + torch.arange(33) * 7) % 512} for start in range(64)]
    for row in rows:
        row["labels"] = row["input_ids"].clone()
        row["labels"][:5] = -100  # the prompt
    trainer = Trainer(
        LlamaForCausalLM(config),
        TrainingArguments(
            folder,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            learning_rate=3e-3,
            max_steps=steps,
            logging_steps=steps // 3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=rows,
        compute_loss_func=compute_loss_func(objective),
    )
    trainer.train()
    return [step["loss"] for step in trainer.state.log_history if "loss" in step]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        losses = main(folder)
    print("power(0.5):", ", ".join(f"{loss:.3f}" for loss in losses))
