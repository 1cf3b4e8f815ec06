"""Generation with a causal language model: greedy texts, and responses drawn by its distribution.

The model's stored generation settings (temperature, top-k, repetition penalty) have no effect here:
they would change the measurement without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .loading import batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["generate", "generate_ids"]

Prompts = Sequence[Sequence[int] | np.ndarray]


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Return greedy continuations of tokenized prompts, as text without special tokens.

    Args:
        stop: ids that end a text, besides the end-of-text tokens of model and tokenizer.
        batch_tokens: tokens of a batch, padding and answers included; default 8192 on a CPU, 65536
            elsewhere.
        progress: called with the number of prompts finished since the last call.
    """
    continuations = generate_ids(
        model,
        tokenizer,
        prompts,
        {"do_sample": False, "num_beams": 1, "max_new_tokens": max_new_tokens},
        stop=stop,
        batch_tokens=batch_tokens or (8192 if model.device.type == "cpu" else 65536),
        progress=progress,
    )
    return tokenizer.batch_decode(continuations, skip_special_tokens=True)


@torch.no_grad()
def generate_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    decoding: dict[str, Any],
    *,
    stop: Collection[int] = (),
    batch_tokens: int,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Return the generated ids of each prompt, in evaluation mode, up to and with its end token.

    Args:
        decoding: fields of transformers' `GenerationConfig`, with `max_new_tokens`.
    """
    from transformers import GenerationConfig

    stored, was_training = model.generation_config, model.training
    ends = {*stop, *_as_list(tokenizer.eos_token_id)}
    ends.update(_as_list(stored.eos_token_id if stored is not None else None))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    settings = GenerationConfig(pad_token_id=pad, eos_token_id=sorted(ends) or None, **decoding)
    continuations: list[list[int]] = [[]] * len(prompts)
    model.generation_config = settings
    model.eval()
    try:
        lengths = [len(prompt) + decoding["max_new_tokens"] for prompt in prompts]
        for batch in batches(lengths, batch_tokens):
            length = max(len(prompts[i]) for i in batch)
            ids, mask = np.full((len(batch), length), pad), np.zeros((len(batch), length), np.int64)
            for k, i in enumerate(batch):
                ids[k, length - len(prompts[i]) :] = prompts[i]
                mask[k, length - len(prompts[i]) :] = 1
            out = model.generate(  # type: ignore[operator]
                input_ids=torch.from_numpy(ids).to(model.device),
                attention_mask=torch.from_numpy(mask).to(model.device),
                generation_config=settings,
            )
            for k, i in enumerate(batch):
                new = out[k, length:].tolist()
                end = next((n + 1 for n, token in enumerate(new) if token in ends), len(new))
                continuations[i] = new[:end]
            if progress is not None:
                progress(len(batch))
    finally:
        model.generation_config = stored
        model.train(was_training)
    return continuations


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
