"""An objective of one's own: a plain function of p, trained like a member.

    python examples/own_objective.py [MODEL [train.jsonl]]
    probtune tune MODEL DATA --objective examples/own_objective.py:square

The weight w(p) = -p f'(p) comes from autograd. A subclass of `Objective` states it as a formula.
"""

import tempfile

from datasets import load_dataset

from probtune import ProbTuneConfig, ProbTuneTrainer, from_function

square = from_function(lambda p: (1 - p) ** 2, name="square")


def main(name: str, data: str, *, steps: int = 30) -> list[dict]:
    """Train with `square`; return what the trainer logs."""
    rows = load_dataset("json", data_files=data, split="train")
    options = dict(max_steps=steps, logging_steps=steps // 3, seed=0, learning_rate=3e-3)
    options |= dict(save_strategy="no", report_to="none", disable_tqdm=True)
    with tempfile.TemporaryDirectory() as out:
        config = ProbTuneConfig(out, objective=square, **options)
        trainer = ProbTuneTrainer(name, config, train_dataset=rows)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "nll" in entry]


if __name__ == "__main__":
    from tiny_model import model_and_data

    for entry in main(*model_and_data()):
        print(f"square(): loss {entry['loss']:.4f}, mean p {entry['mean_p']:.4f}")
