"""A training loop of one's own with the fused head: the logits of a batch are never stored.

    python examples/own_loop.py [MODEL [train.jsonl]]

The loss of an optimizer step is divided by the tokens of the whole step, so it does not depend on
how the step is split into micro-batches.
"""

import torch
from tiny_model import load, model_and_data

from probtune import linear_objective_loss


def main(name: str, data: str, *, steps: int = 30, micro_batches: int = 2) -> list[float]:
    """Teach the model a few rows; return the loss of every step."""
    model, batch = load(name, data)
    head = model.lm_head.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    count = (batch["labels"][:, 1:] != -100).sum()
    losses = torch.zeros(steps)
    for step in range(steps):
        for ids, mask, y in zip(*(x.chunk(micro_batches) for x in batch.values()), strict=True):
            hidden = model.model(ids, attention_mask=mask).last_hidden_state
            loss = linear_objective_loss(
                hidden, head, y, "power(0.5)", shift=True, num_items_in_batch=count
            )
            loss.backward()
            losses[step] += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
    return losses.tolist()


if __name__ == "__main__":
    losses = main(*model_and_data())
    print(f"power(0.5): {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last")
