"""A training loop of one's own with the fused head: the logits of a batch are never stored.

    python examples/own_loop.py

The model is a tiny one with random weights, so nothing is downloaded. The loss of the optimizer
step is divided by its supervised tokens, so it does not depend on how the step is split.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from probtune import linear_objective_loss

IGNORED = -100


def main(steps: int = 30, micro_batches: int = 2) -> list[float]:
    """Teach the model a sequence; return the loss of every step."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.randint(0, 512, (8, 1)) + torch.arange(33) * 7
    ids %= 512
    labels = ids.clone()
    labels[:, :5] = IGNORED  # the prompt
    losses = []
    for _ in range(steps):
        count = (labels[:, 1:] != IGNORED).sum()
        total = 0.0
        for x, y in zip(ids.chunk(micro_batches), labels.chunk(micro_batches), strict=True):
            hidden = model.model(x).last_hidden_state
            loss = linear_objective_loss(
                hidden, model.lm_head.weight, y, "power(0.5)", shift=True, num_items_in_batch=count
            )
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


if __name__ == "__main__":
    losses = main()
    print(f"power(0.5): {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last")
