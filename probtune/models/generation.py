"""Generation with a causal language model: greedy texts, and responses drawn by its distribution.

The model's stored generation settings (temperature, top-k, repetition penalty) have no effect here:
they would change the measurement without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .loading import batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Continuation", "continue_prompts", "generate", "generate_ids"]

Prompts = Sequence[Sequence[int] | np.ndarray]


class Continuation(NamedTuple):
    """A generated text."""

    text: str
    """Without special tokens."""
    ids: list[int]
    """Up to and with its end token."""
    ended: bool
    """True if an end token ended it; False if it reached the limit."""


def continue_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    seed: int | None = None,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Continuation]:
    """Return a continuation of each tokenized prompt, greedy or drawn.

    Args:
        stop: ids that end a text, besides the end-of-text tokens of model and tokenizer.
        seed: draw from the model's own distribution (temperature 1), and let this seed decide; None
            takes the most probable token.
        batch_tokens: tokens of a batch, padding and answers included; default 8192 on a CPU, 65536
            elsewhere.
        progress: called with the number of prompts finished since the last call.
    """
    decoding: dict[str, Any] = {"do_sample": False, "num_beams": 1}
    if seed is not None:
        decoding = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    devices = [] if model.device.type == "cpu" else [model.device]
    with torch.random.fork_rng(devices, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        continuations = generate_ids(
            model,
            tokenizer,
            prompts,
            {**decoding, "max_new_tokens": max_new_tokens},
            stop=stop,
            batch_tokens=batch_tokens or (8192 if model.device.type == "cpu" else 65536),
            progress=progress,
        )
    ends = _end_ids(model, tokenizer, stop)
    texts = tokenizer.batch_decode(continuations, skip_special_tokens=True)
    return [
        Continuation(text, ids, bool(ids) and ids[-1] in ends)
        for text, ids in zip(texts, continuations, strict=True)
    ]


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
    """Return the texts of greedy continuations; arguments as in `continue_prompts`."""
    continuations = continue_prompts(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        stop=stop,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return [continuation.text for continuation in continuations]


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
    ends = _end_ids(model, tokenizer, stop)
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


def _end_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: Collection[int]
) -> set[int]:
    """Return the ids that end a text: those of model and tokenizer, and `stop`."""
    stored = model.generation_config
    of_model = _as_list(stored.eos_token_id if stored is not None else None)
    return {*stop, *_as_list(tokenizer.eos_token_id), *of_model}


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
