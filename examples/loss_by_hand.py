"""An objective called with log-probabilities, in a loss function of one's own.

    python examples/loss_by_hand.py [MODEL [train.jsonl]]

`by_hand` equals `probtune.compute_loss_func("power(0.5)")`; start from it where a loss needs one
term more. The ready one keeps more digits near p = 1.
"""

from tiny_model import model_and_data
from transformers_trainer import main

from probtune import power


def by_hand(outputs, labels, num_items_in_batch=None):
    """Return the mean of power(0.5) over the step's target tokens."""
    labels = labels[:, 1:]
    logps = outputs.logits[:, :-1].float().log_softmax(-1)
    logp = logps.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    values = power(0.5)(logp)[labels != -100]
    return values.sum() / (values.numel() if num_items_in_batch is None else num_items_in_batch)


if __name__ == "__main__":
    losses = main(*model_and_data(), loss=by_hand)
    print("power(0.5):", ", ".join(f"{loss:.3f}" for loss in losses))
