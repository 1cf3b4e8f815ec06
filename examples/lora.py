"""LoRA on rows of messages: `ProbTuneTrainer` takes what TRL's `SFTTrainer` takes.

    python examples/lora.py [MODEL [train.jsonl]]

Every turn is trained on. `assistant_only_loss=True` trains on the assistant's turns alone, if the
model's chat template marks them.
"""

import tempfile

from datasets import load_dataset
from peft import LoraConfig
from tiny_model import model_and_data

from probtune import ProbTuneConfig, ProbTuneTrainer


def main(name: str, data: str, *, steps: int = 30) -> list[dict]:
    """Train an adapter on conversations; return what the trainer logs."""
    rows = load_dataset("json", data_files=data, split="train")
    options = dict(max_steps=steps, logging_steps=steps // 3, seed=0)
    options |= dict(save_strategy="no", report_to="none", disable_tqdm=True, learning_rate=1e-2)
    with tempfile.TemporaryDirectory() as out:
        config = ProbTuneConfig(out, objective="power(0.5)", **options)
        lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = ProbTuneTrainer(name, config, train_dataset=rows, peft_config=lora)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "nll" in entry]


if __name__ == "__main__":
    for entry in main(*model_and_data(turns=True)):
        print(f"power(0.5): loss {entry['loss']:.3f}, NLL {entry['nll']:.3f}")
