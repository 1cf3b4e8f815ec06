"""How far a fine-tuned model's distributions are from its base model's, token by token.

    KL(base || tuned) = sum over v of p_base(v) (log p_base(v) - log p_tuned(v))

and the other way round, at every supervised token: over the whole vocabulary, not over the sampled
token only. A block of tokens at a time, so that no tensor of all tokens by the vocabulary exists.

Reference: Shenfeld, Pari and Agrawal, "RL's Razor: Why Online Reinforcement Learning Forgets Less",
2025, https://arxiv.org/abs/2509.04259 (the KL on the new task's prompts predicts forgetting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.encoding import Encoded
from ..errors import TrainingError, UsageError
from ..kernels import IGNORE_INDEX
from ..models.loading import LMHead, lm_head
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
        """Both, per token, with the row as unit."""
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
    """KL in both directions at every supervised token of `rows`, in evaluation mode.

    Args:
        batch_tokens: tokens per forward pass, padding included.
        block: tokens whose distributions exist at a time; default: 2^24 / vocabulary.

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
    """(KL(first || second), KL(second || first)) per row, (N,), of the distributions that two heads
    give for two tensors of hidden states.
    """
    logits = _head_logits(hidden, head), _head_logits(other_hidden, other_head)
    return _kl_by_blocks(logits, len(hidden), block)


def _kl_by_blocks(logits: Sequence[Logits], rows: int, block: int | None) -> tuple[Tensor, Tensor]:
    """Both directions per row, (rows,), of two models' logits that are made a block at a time."""
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
    # Never below 0 but for rounding, which is of the size of 1e-7 of the larger terms.
    return (log_p.exp() * gap).sum(1).clamp_min(0), -(log_q.exp() * gap).sum(1).clamp_max(0)


@dataclass(frozen=True)
class Calibrated:
    """What a model believes at every supervised token; all arrays have the same length."""

    example: np.ndarray
    """Index of the row."""
    logp: np.ndarray
    """Log-probability of the target token."""
    confidence: np.ndarray
    """Probability of the most probable token."""
    correct: np.ndarray
    """Whether the target is as probable (bool)."""
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
    """Confidence, correctness, Brier score and entropy at every supervised token of `rows`.

    `models.token_table` has the log-probabilities alone; a calibration needs the most probable
    token's, too.
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
            found = (logp.double(), top.double().exp(), logp >= top, brier.double(), entropy)
            pieces.append((indices[part].numpy(), *(x.cpu().numpy() for x in found)))

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
    """Run models over batches of rows of similar length, and `measure` each batch's supervised
    tokens: (their positions, a function for the logits of a block of them by each model, targets,
    row of each).
    """
    modes = [model.training for model in models]
    shortest = min(rows, key=lambda row: len(row.input_ids))
    try:
        for model in models:
            model.eval()
        plain = [_has_plain_head(model, shortest) for model in models]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].input_ids))
        while order:
            longest = len(rows[order[0]].input_ids)
            batch = order[: max(1, batch_tokens // longest)]
            del order[: len(batch)]
            ids, mask, targets = _collate([rows[i] for i in batch], models[0].device)
            where = (targets != IGNORE_INDEX).nonzero().squeeze(1)
            if len(where):
                logits = [
                    _logits_of(model, ids, mask, where, head)
                    for model, head in zip(models, plain, strict=True)
                ]
                of_row = torch.tensor(batch)[(where // (longest - 1)).cpu()]
                measure(where, logits, targets[where], of_row)
            if progress is not None:
                progress(len(batch))
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)


def _collate(rows: Sequence[Encoded], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, mask, flat shifted labels), padded on the right."""
    shape = (len(rows), max(len(row.input_ids) for row in rows))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    labels = np.full(shape, IGNORE_INDEX, np.int64)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        ids[index, :length], labels[index, :length], mask[index, :length] = (
            row.input_ids, row.labels, 1,
        )  # fmt: skip
    targets = torch.from_numpy(labels)[:, 1:].flatten()
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device), targets.to(device)


@torch.no_grad()
def _has_plain_head(model: PreTrainedModel, row: Encoded) -> bool:
    """Whether the head as the configuration describes it gives the model's own logits."""
    head = lm_head(model)
    if head is None or model.base_model is model:
        return False
    ids, mask, _ = _collate([row], model.device)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    own = model(**given).logits[0].float()
    ours = _head_logits(model.base_model(**given).last_hidden_state[0], head)(slice(None))
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.5
    return float((own - ours).abs().max()) < tolerance


def _logits_of(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, where: Tensor, plain: bool
) -> Logits:
    """Logits at flat positions, a block at a time. A model without a plain head gives those of the
    whole batch at once.
    """
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if not plain:
        logits = model(**given).logits[:, :-1].flatten(0, 1)
        return lambda part: logits[where[part]].float()
    hidden = model.base_model(**given).last_hidden_state[:, :-1].flatten(0, 1)[where]
    head = lm_head(model)
    assert head is not None
    return _head_logits(hidden, head)


def _head_logits(hidden: Tensor, head: LMHead) -> Logits:
    """Logits of a block in float32 or wider; rounded to half precision they would hide a KL below
    1e-3.
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


@torch.no_grad()
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
    """One response to each prompt, drawn from the model as it is: temperature 1, top_p 1, top_k
    off, stored generation settings set aside. The response and the end token are supervised.
    """
    from transformers import GenerationConfig

    stored, was_training = model.generation_config, model.training
    ends = {*_as_list(tokenizer.eos_token_id)}
    ends.update(_as_list(stored.eos_token_id if stored is not None else None))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=max_new_tokens,
        pad_token_id=pad, eos_token_id=sorted(ends) or None,
    )  # fmt: skip
    model.eval()
    found: dict[int, Encoded] = {}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            while order:
                longest = len(prompts[order[0]])
                batch = order[: max(1, batch_tokens // (longest + max_new_tokens))]
                del order[: len(batch)]
                ids = np.full((len(batch), longest), pad, np.int64)
                mask = np.zeros((len(batch), longest), np.int64)
                for k, i in enumerate(batch):
                    ids[k, longest - len(prompts[i]) :] = prompts[i]
                    mask[k, longest - len(prompts[i]) :] = 1
                out = model.generate(  # type: ignore[operator]
                    input_ids=torch.from_numpy(ids).to(model.device),
                    attention_mask=torch.from_numpy(mask).to(model.device),
                    generation_config=model.generation_config,
                )
                for k, i in enumerate(batch):
                    new = out[k, longest:].tolist()
                    length = next((n + 1 for n, t in enumerate(new) if t in ends), len(new))
                    found[i] = _sampled(i, prompts[i], new[:length], tokenizer)
                if progress is not None:
                    progress(len(batch))
    finally:
        model.generation_config = stored
        model.train(was_training)
    return [found[i] for i in range(len(prompts))]


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


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
