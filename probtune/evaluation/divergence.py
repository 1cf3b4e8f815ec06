"""Divergence of a fine-tuned model's distributions from its base model's, token by token.

    KL(base || tuned) = sum over v of p_base(v) (log p_base(v) - log p_tuned(v))

and the reverse, at every supervised token, over the whole vocabulary and not only the sampled
token. Logits are computed for a block of tokens at a time, so that no tensor of all tokens by the
vocabulary exists.

Reference: Shenfeld, Pari and Agrawal, "RL's Razor: Why Online Reinforcement Learning Forgets Less",
2025, https://arxiv.org/abs/2509.04259 (the KL on the new task's prompts predicts forgetting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.encoding import Encoded
from ..errors import TrainingError, UsageError
from ..kernels import IGNORE_INDEX
from ..models.generation import generate_ids
from ..models.loading import LMHead, batches, collate, has_plain_head, lm_head
from ..statistics import Estimate, ratio

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Calibrated", "Divergence", "confidences", "divergences", "draw", "kl_of_heads"]

_BLOCK_ELEMENTS = 2**24
"""Tokens of a block times the vocabulary: 64 MiB in float32, of which a handful exist at a time."""

_HEAD_ROWS = 2**14
"""Rows of a half-precision head that are widened at a time."""

Progress = Callable[[int], None]
Logits = Callable[[slice], Tensor]


@dataclass(frozen=True)
class Divergence:
    """Sums over the supervised tokens of each row, in nats; all arrays are (rows,)."""

    tokens: np.ndarray
    forward: np.ndarray
    """KL(base || tuned)."""
    reverse: np.ndarray
    """KL(tuned || base)."""

    def estimates(self) -> dict[str, Estimate]:
        """Return both directions per token, with the row as unit."""
        return {
            "forward": ratio(self.forward, self.tokens),
            "reverse": ratio(self.reverse, self.tokens),
        }


@torch.no_grad()
def divergences(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int = 4096,
    block: int | None = None,
    progress: Progress | None = None,
) -> Divergence:
    """Measure the KL in both directions at every supervised token of `rows`, in evaluation mode.

    Args:
        batch_tokens: tokens per forward pass, padding included.
        block: tokens whose logits exist at a time; default: 2^24 / vocabulary.

    Raises:
        UsageError: the models have vocabularies of different size.
        TrainingError: a divergence is not finite.
    """
    sums = np.zeros((3, len(rows)))

    def measure(where: Tensor, logits: Sequence[Logits], targets: Tensor, indices: Tensor) -> None:
        forward, reverse = _kl_by_blocks(logits, len(where), block)
        for row, values in enumerate((torch.ones_like(forward), forward, reverse)):
            np.add.at(sums[row], indices.numpy(), values.double().cpu().numpy())

    _over(rows, (base, tuned), batch_tokens, measure, progress)
    if not np.isfinite(sums).all():
        raise TrainingError("a divergence is not finite: a model's weights hold NaN or infinity.")
    return Divergence(sums[0].astype(np.int64), sums[1], sums[2])


def kl_of_heads(
    hidden: Tensor,  # (N, D)
    head: LMHead,
    other_hidden: Tensor,  # (N, D')
    other_head: LMHead,
    *,
    block: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (KL(first || second), KL(second || first)) per row, (N,), of the distributions that
    two heads give for two tensors of hidden states.
    """
    logits = _head_logits(hidden, head), _head_logits(other_hidden, other_head)
    return _kl_by_blocks(logits, len(hidden), block)


def _kl_by_blocks(logits: Sequence[Logits], rows: int, block: int | None) -> tuple[Tensor, Tensor]:
    """Return both directions per row, (rows,), from two models' logits, one block at a time."""
    size = block or _block(logits[0])
    parts = [
        _kl(*(one(slice(start, start + size)) for one in logits)) for start in range(0, rows, size)
    ]
    forward, reverse = zip(*parts, strict=True)
    return torch.cat(forward), torch.cat(reverse)


def _kl(logits: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if logits.shape != other.shape:
        raise UsageError(
            f"the models have vocabularies of {logits.shape[1]} and {other.shape[1]} tokens; a"
            " divergence needs the same tokens."
        )
    log_p, log_q = logits.log_softmax(1), other.log_softmax(1)
    gap = log_p - log_q
    # A KL is never negative; rounding can make it so, by about 1e-7 of the larger terms.
    return (log_p.exp() * gap).sum(1).clamp_min(0), -(log_q.exp() * gap).sum(1).clamp_max(0)


@dataclass(frozen=True)
class Calibrated:
    """Confidence of a model at every supervised token; all arrays have the same length."""

    example: np.ndarray
    """Index of the row."""
    logp: np.ndarray
    """Log-probability of the target token."""
    confidence: np.ndarray
    """Probability of the most probable token."""
    correct: np.ndarray
    """True where the target is as probable as that (bool)."""
    brier: np.ndarray
    """sum over v of (p(v) - [v is the target])^2 = 1 - 2 p(target) + sum of p(v)^2, 0 to 2."""
    entropy: np.ndarray
    """In nats."""
    rows: int


@torch.no_grad()
def confidences(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int = 4096,
    block: int | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Measure confidence, correctness, Brier score and entropy at every supervised token of `rows`.

    `models.token_table` measures the target only; calibration needs the most probable token, too.
    """
    pieces: list[tuple[np.ndarray, ...]] = []

    def measure(where: Tensor, logits: Sequence[Logits], targets: Tensor, indices: Tensor) -> None:
        size = block or _block(logits[0])
        for start in range(0, len(where), size):
            part = slice(start, start + size)
            log_probs = logits[0](part).log_softmax(1)
            logp = log_probs.gather(1, targets[part].unsqueeze(1)).squeeze(1)
            top = log_probs.amax(1)
            brier = 1.0 - 2.0 * logp.exp() + (2.0 * log_probs).exp().sum(1)
            entropy = -(log_probs.exp() * log_probs).sum(1)
            values = (logp.double(), top.double().exp(), logp >= top, brier.double(), entropy)
            pieces.append((indices[part].numpy(), *(x.cpu().numpy() for x in values)))

    _over(rows, (model,), batch_tokens, measure, progress)
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Calibrated(*(column[order] for column in columns), rows=len(rows))


_Measure = Callable[[Tensor, Sequence[Logits], Tensor, Tensor], None]


def _over(
    rows: Sequence[Encoded],
    models: Sequence[PreTrainedModel],
    batch_tokens: int,
    measure: _Measure,
    progress: Progress | None,
) -> None:
    """Run models over batches of rows of similar length and `measure` the supervised tokens of each
    batch: (flat positions, for each model a function that returns the logits of a block of them,
    targets, row of each).
    """
    modes = [model.training for model in models]
    shortest = min(rows, key=lambda row: len(row.input_ids))
    try:
        for model in models:
            model.eval()
        plain = [has_plain_head(model, shortest) for model in models]
        for indices in batches([len(row.input_ids) for row in rows], batch_tokens):
            inputs, targets = collate([rows[i] for i in indices], models[0].device)
            where = (targets != IGNORE_INDEX).nonzero().squeeze(1)
            if len(where):
                logits = [
                    _logits_of(model, inputs, where, has_head)
                    for model, has_head in zip(models, plain, strict=True)
                ]
                of_row = torch.tensor(indices)[(where // (inputs["input_ids"].shape[1] - 1)).cpu()]
                measure(where, logits, targets[where], of_row)
            if progress is not None:
                progress(len(indices))
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)


def _logits_of(
    model: PreTrainedModel, inputs: dict[str, Tensor], where: Tensor, has_head: bool
) -> Logits:
    """Return a function for the logits of a block of flat positions. Without a plain head the model
    computes the logits of the whole batch at once.
    """
    if not has_head:
        logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
        return lambda part: logits[where[part]].float()
    outputs = model.base_model(**inputs, use_cache=False)
    hidden = outputs.last_hidden_state[:, :-1].flatten(0, 1)[where]
    head = lm_head(model)
    assert head is not None
    return _head_logits(hidden, head)


def _head_logits(hidden: Tensor, head: LMHead) -> Logits:
    """Return a function for the logits of a block in float32 or wider; rounded to half precision
    they would hide a KL below 1e-3.
    """
    dtype = torch.promote_types(head.weight.dtype, torch.float32)

    def logits(part: slice) -> Tensor:
        rows = hidden[part].to(dtype)
        step = len(head.weight) if head.weight.dtype == dtype else _HEAD_ROWS
        pieces = [F.linear(rows, piece.to(dtype)) for piece in head.weight.split(step)]
        z = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        if head.bias is not None:
            z = z + head.bias
        if head.logit_scale != 1.0:
            z = z * head.logit_scale
        return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)

    return logits


def _block(logits: Logits) -> int:
    return max(1, _BLOCK_ELEMENTS // logits(slice(0, 1)).shape[1])


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int,
    seed: int,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> list[Encoded]:
    """Draw one response to each prompt from the model's own distribution: temperature 1, top_p 1,
    top_k off, without the stored generation settings. Response and end token are supervised.
    """
    sampling = {
        "do_sample": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "max_new_tokens": max_new_tokens,
    }
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        responses = generate_ids(
            model, tokenizer, prompts, sampling, batch_tokens=batch_tokens, progress=progress
        )
    return [
        _sampled(index, prompt, new, tokenizer)
        for index, (prompt, new) in enumerate(zip(prompts, responses, strict=True))
    ]


def _sampled(
    index: int, prompt: np.ndarray, new: list[int], tokenizer: PreTrainedTokenizerBase
) -> Encoded:
    ids = np.concatenate([prompt, np.asarray(new)]).astype(np.int32)
    labels = ids.copy()
    labels[: len(prompt)] = IGNORE_INDEX
    text = tokenizer.decode(new, skip_special_tokens=True)
    return Encoded(
        f"sample {index + 1}", ids, labels, np.asarray(prompt), str(text), False, False, None
    )
