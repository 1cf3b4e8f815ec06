"""Tiny Hugging Face models, pre-trained from scratch so that they end at a weak, an intermediate
and a strong level of capability on the demo's task.

One run gives all three. It first learns the familiar notation (that model is weak on the other
one), then half of each batch is the unfamiliar notation, and the model is saved when its mean
target probability there passes 0.80 and 0.93. Levels are set by the probe and not by the step,
because learning is a sudden transition whose time differs by seed; for the same reason the first
phase ends only when held-out problems in the familiar notation are solved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ProbtuneError
from ..kernels import linear_objective_loss, linear_target_logprobs
from ..objectives import nll
from ..records import read_record, write_record
from .task import CONTEXT, PAD, PROMPT_TOKENS, VOCABULARY, Problems

__all__ = ["LEVELS", "learn_familiar", "make_model", "make_optimizer", "make_tokenizer", "pretrain"]

LEVELS = {"weak": 0.0, "intermediate": 0.80, "strong": 0.93}
"""Level -> mean target probability on clean rows of the unfamiliar notation at which the model is
saved.
"""

_BATCH = 64
_RATE = 3e-3
_LEARNED = 0.99
_CHECK_EVERY, _AT_LEAST, _AT_MOST = 50, 400, 2000
_PROBE_EVERY, _PHASE_2_AT_MOST = 4, 1200


def pretrain(folder: Path, seed: int) -> dict[str, Any]:
    """Save one model per level under `folder`, with the tokenizer; returns the record of how it
    went.

    Raises:
        ProbtuneError: the model did not learn the task within the step limit (rare; another seed
            will do).
    """
    done = folder / "pretraining.json"
    if done.is_file():
        return read_record(done, "pretraining")
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    model, tokenizer = make_model(), make_tokenizer()
    unfamiliar = Problems.draw(200, np.random.default_rng([seed, 3]), shuffled=True)

    optimizer = make_optimizer(model, _RATE)
    steps = learn_familiar(model, optimizer, rng, seed)
    decay = max(100, steps // 3)
    for step in range(decay):
        rate = _RATE * (1.0 - 0.9 * (step + 1) / decay)
        _step(model, optimizer, Problems.draw(_BATCH, rng, shuffled=False), rate)

    reached = {"weak": _mean_p(model, unfamiliar)}
    _save(model, tokenizer, folder / "weak")
    optimizer = make_optimizer(model, 1e-3)
    for step in range(1, _PHASE_2_AT_MOST + 1):
        mixed = rng.random(_BATCH) < 0.5
        _step(
            model, optimizer, Problems.draw(_BATCH, rng, shuffled=mixed), 1e-3 * min(1.0, step / 20)
        )
        if step % _PROBE_EVERY == 0:
            now = _mean_p(model, unfamiliar)
            for level, least in LEVELS.items():
                if level not in reached and now >= least:
                    reached[level] = now
                    _save(model, tokenizer, folder / level)
            if len(reached) == len(LEVELS):
                break
    else:
        raise ProbtuneError(
            f"seed {seed}: the strong level was not reached in {_PHASE_2_AT_MOST} steps; take"
            " another."
        )
    return write_record(
        done,
        "pretraining",
        {"seed": seed, "steps": steps + decay, "steps_unfamiliar": step, "mean_p": reached},
    )


def learn_familiar(
    model: Any, optimizer: torch.optim.Optimizer, rng: np.random.Generator, seed: int
) -> int:
    """Train on the familiar notation until held-out problems are solved; returns the steps."""
    familiar = Problems.draw(200, np.random.default_rng([seed, 2]), shuffled=False)
    steps = 0
    while steps < _AT_LEAST or _mean_p(model, familiar) < _LEARNED:
        if steps >= _AT_MOST:
            raise ProbtuneError(
                f"seed {seed}: addition was not learnt in {_AT_MOST} steps; take another seed."
            )
        for _ in range(_CHECK_EVERY):
            steps += 1
            rate = _RATE * min(1.0, steps / 50)
            _step(model, optimizer, Problems.draw(_BATCH, rng, shuffled=False), rate)
    return steps


def make_model(initializer_range: float = 0.05) -> Any:
    """Make a decoder of 0.1 million parameters; 0.02, the usual range, makes learning late and
    erratic (docs/log.md).
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    end = VOCABULARY.index("<eos>")
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(VOCABULARY),
            n_positions=CONTEXT,
            n_embd=64,
            n_layer=2,
            n_head=4,
            activation_function="gelu_pytorch_tanh",  # one fused operation instead of eight
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=initializer_range,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=PAD,
        )
    )


def make_tokenizer() -> Any:
    """Make a tokenizer with one token per word of the task's vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<pad>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", model_max_length=CONTEXT
    )


def make_optimizer(model: Any, rate: float, beta2: float = 0.95) -> torch.optim.Optimizer:
    """AdamW without weight decay."""
    return torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, beta2), weight_decay=0.0, fused=True
    )


def _hidden_and_targets(model: Any, problems: Problems) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.from_numpy(problems.ids)
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[
        :, PROMPT_TOKENS - 1 :
    ]
    return hidden.flatten(0, 1), ids[:, PROMPT_TOKENS:].flatten()


def _step(model: Any, optimizer: torch.optim.Optimizer, problems: Problems, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    hidden, targets = _hidden_and_targets(model, problems)
    linear_objective_loss(hidden, model.lm_head.weight, targets, nll()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def _mean_p(model: Any, problems: Problems) -> float:
    hidden, targets = _hidden_and_targets(model, problems)
    return float(linear_target_logprobs(hidden, model.lm_head.weight, targets).exp().mean())


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    from ..training import telling_write_errors

    with telling_write_errors(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
