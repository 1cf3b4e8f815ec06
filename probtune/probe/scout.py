"""The scout: a few steps of NLL on an adapter that is thrown away, before the probe that chooses.

A model that has never seen the data finds the *form* of the answers improbable, and a probe cannot
tell that from what the model does not know. After a few steps the form is known; what is still
improbable then is hard or wrong. The scout trains a LoRA adapter on rows that the probe does not
measure, and the adapter is removed afterwards: the base weights stay as they were, bit for bit, and
so does the training that follows.

Rows that were trained on must not be measured: a model memorises wrong answers before it learns
from right ones (Arpit et al., "A Closer Look at Memorization in Deep Networks", 2017,
https://arxiv.org/abs/1706.05394, observe the converse order on clean data). LoRA: Hu et al., "LoRA:
Low-Rank Adaptation of Large Language Models", 2021, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..data.encoding import Encoded
from ..errors import UsageError
from ..kernels import IGNORE_INDEX
from ..models.loading import TokenTable, batches, has_plain_head, token_table
from ..models.looks import Look, look_and_spread
from ..models.spread import Spread, spread_table, target_logprobs
from .echoes import echoes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "MOST_STEPS",
    "ROWS_PER_STEP",
    "STEPS",
    "Behind",
    "Exchanged",
    "Scouted",
    "Sent",
    "behind_others",
    "check_enough",
    "exchanged",
    "looked_at",
    "scout",
    "sent",
    "split",
    "steps_of",
    "trained_on",
]

STEPS = 8
"""Steps before the second look; the first is taken half-way."""
MOST_STEPS = 32
ROWS_PER_STEP = 16
LEARNING_RATE = 1e-3
RANK = 16

_PASS_TOKENS = 4096
_MORE = 4
"""Steps between two later looks."""
_PASSES = 2
"""Passes over the rows at most, where one is shorter than the steps before the second look."""
_LOOK_ROWS = 64
"""Rows of a look at most: it only asks whether p still rises."""
_RISE = 0.03
"""A rise of mean p, or of p of the end tokens, between two looks that is worth more steps."""
_PLAN_SHARE = 0.05
"""The scout's share of the planned steps at most; but never fewer steps than `STEPS`."""


class Exchanged(NamedTuple):
    """Rows behind the prompts of others."""

    rows: list[Encoded]
    donors: np.ndarray
    """Index of the row whose prompt it is, (rows,)."""
    answers: np.ndarray
    """The same integer for rows with the same answer, (rows,)."""
    echoes: np.ndarray
    """True for rows whose answer repeats their own question or itself, (rows,)."""


class Behind(NamedTuple):
    """Exchanged rows as they were measured; the other fields as in `Exchanged`."""

    spread: Spread
    donors: np.ndarray
    answers: np.ndarray
    echoes: np.ndarray


class Scouted(NamedTuple):
    """The model after the scout, measured on rows that the scout has not seen."""

    spread: Spread
    others: Behind | None
    """The same tokens, each row behind the prompt of another one: `exchanged`. None where all rows
    have the same prompt, or none.
    """
    steps: int
    rows: int
    """Rows that the scout was trained on."""
    looks: tuple[tuple[int, float, float], ...]
    """(steps, mean p, mean p of the last token of a row) at each look, over a part of the rows."""
    tokens: list[Look]
    """The target tokens of every row, with ranks and alternatives."""

    @property
    def first_pass(self) -> int:
        """Steps in which the rows were new."""
        return math.ceil(self.rows / ROWS_PER_STEP)


def split(
    rows: Sequence[Any], measured: int, *, seed: int, steps: int = MOST_STEPS
) -> tuple[list[Any], list[Any]]:
    """Draw (rows for the scout, rows to measure), disjoint; half and half where rows are few.

    Args:
        measured: rows to measure at most.
        steps: the scout's steps at most.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    number = min(steps * ROWS_PER_STEP, max(len(rows) - measured, len(rows) // 2))
    chosen = sorted(order[number : number + measured].tolist())
    return [rows[i] for i in order[:number]], [rows[i] for i in chosen]


def check_enough(rows: int) -> None:
    """Refuse so few rows that a scout and the probe after it cannot share them.

    Raises:
        UsageError: there are fewer than two.
    """
    if rows < 2:
        raise UsageError("the scout has no row to train on; give more rows, or --scout-steps 0.")


def looked_at(rows: Any) -> Any:
    """Return the rows that a scout's looks are at, of a sequence or an array: at most 64."""
    return rows[:: max(1, math.ceil(len(rows) / _LOOK_ROWS))]


def steps_of(rows: int, steps: int = STEPS) -> int:
    """Return the steps before the second look: `steps`, or two passes over so many rows.

    >>> steps_of(500), steps_of(100), steps_of(48)
    (8, 8, 6)
    """
    return min(steps, _PASSES * math.ceil(rows / ROWS_PER_STEP))


def trained_on(rows: int, steps: int) -> int:
    """Return the rows of so many steps, those of a second pass counted twice.

    >>> trained_on(500, 8), trained_on(100, 8)
    (128, 116)
    """
    passes, rest = divmod(steps, max(1, math.ceil(rows / ROWS_PER_STEP)))
    return passes * rows + min(rows, rest * ROWS_PER_STEP)


class Sent(NamedTuple):
    """A scout that was sent."""

    steps: int
    rows: int
    """Rows that it was trained on."""
    looks: tuple[tuple[int, float, float], ...]
    """As in `Scouted`."""


def scout(
    model: PreTrainedModel,
    train: Sequence[Encoded],
    measure: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Scouted:
    """Train an adapter for a few steps, measure `measure` under it, each row behind its own prompt
    and behind that of another row, and remove it. Arguments and errors as `sent`.

    Args:
        measure: rows to measure, none of them in `train`.
        options: the other options of `sent`.
    """
    unseen = looked_at(measure)
    options |= {"batch_tokens": batch_tokens, "progress": progress}
    with sent(model, train, unseen, **options) as done:
        tokens, spread = look_and_spread(
            model, measure, batch_tokens=batch_tokens, progress=progress
        )
        others = behind_others(model, measure, batch_tokens=batch_tokens)
    return Scouted(spread, others, done.steps, done.rows, done.looks, tokens)


@contextmanager
def sent(
    model: PreTrainedModel,
    train: Sequence[Encoded],
    unseen: Sequence[Encoded],
    *,
    seed: int = 0,
    planned_steps: int | None = None,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Sent]:
    """Train an adapter for a few steps; within the context the model is as the scout left it, and
    after it as it was.

    A look at the unseen rows is taken after half of `steps` and after all of them; as long
    as their mean p or that of their last token rises by 0.03 from one look to the next, four more
    steps follow, up to 32, a twentieth of the planned steps, or the last row of `train`. Few rows
    are gone over twice for the first `steps`.

    Args:
        model: left as it was, in its mode, with its weights untouched.
        train: rows for the scout, in their order, 16 a step.
        unseen: rows to look at, none of them in `train`.
        planned_steps: optimizer steps of the training that is planned.
        batch_tokens: tokens of a forward and backward pass, padding included: a step of more is
            summed from several passes.
        progress: called with the number of rows finished since the last call, of training and
            measuring alike.

    Raises:
        UsageError: the model has no layer that takes an adapter, or there is no row to train on.
    """
    check_enough(len(train) + 1)
    most = min(MOST_STEPS, max(steps, math.ceil(_PLAN_SHARE * (planned_steps or 10**9))))
    passed = math.ceil(len(train) / ROWS_PER_STEP)
    steps = min(most, steps_of(len(train), steps))
    most = min(most, max(passed, steps))
    was_training = model.training
    plain_head = has_plain_head(model, min(train, key=lambda row: len(row.input_ids)))
    needs_gradient = {name: p.requires_grad for name, p in model.named_parameters()}
    with torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(seed)
        adapted = _with_adapter(model)
        try:
            adapted.eval()  # no dropout: eight steps are too few to need it
            weights = [p for p in adapted.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
            looks: list[tuple[int, float, float]] = []
            done, until = 0, max(1, steps // 2)
            while True:
                for step in range(done, until):
                    begin = step % passed * ROWS_PER_STEP
                    rows = train[begin : begin + ROWS_PER_STEP]
                    _step(model, rows, weights, optimizer, batch_tokens, plain_head)
                    if progress is not None:
                        progress(len(rows))
                done = until
                if most > 1:
                    table = token_table(model, unseen, batch_tokens=batch_tokens)
                    looks.append((done, *_look(table)))
                if done >= most or (done >= steps and not _rises(looks)):
                    break
                until = steps if done < steps else min(most, done + _MORE)
            yield Sent(done, min(len(train), done * ROWS_PER_STEP), tuple(looks))
        finally:
            adapted.unload()
            for name, p in model.named_parameters():
                p.requires_grad_(needs_gradient[name])
                p.grad = None
            model.train(was_training)


def behind_others(
    model: PreTrainedModel, rows: Sequence[Encoded], *, batch_tokens: int | None = None
) -> Behind | None:
    """Measure the rows' targets behind other prompts, of `exchanged` rows."""
    swapped = exchanged(rows)
    if swapped is None:
        return None
    spread = spread_table(model, swapped.rows, batch_tokens=batch_tokens)
    return Behind(spread, *swapped[1:])


def exchanged(rows: Sequence[Encoded]) -> Exchanged | None:
    """Return the rows, each with the prompt of a similar row; None if all prompts are the same, or
    a row has none.

    The prompt is what stands before the first supervised token; all that follows stays, so that
    the supervised tokens are the same ones in the same order. A prompt is cut at its beginning
    where the row would become longer than the longest of the rows.

    Similar means: of the prompts with other answers, ordered by the share of tokens in common
    (Jaccard), the one a sixteenth down the list. It asks the same kind of question, else an answer
    would be supported for being of the right kind; and it is not the nearest, which may have the
    same right answer. Behind a prompt that has the same answer, as half of them have where answers
    are yes and no, no answer could be told from the others; a row takes one only if there is no
    other.
    """
    begins = [int(np.argmax(row.labels != IGNORE_INDEX)) for row in rows]
    prompts = [row.input_ids[:begin] for row, begin in zip(rows, begins, strict=True)]
    if min(begins) == 0 or len({prompt.tobytes() for prompt in prompts}) == 1:
        return None
    longest = max(len(row.input_ids) for row in rows)
    texts = [row.input_ids[row.labels != IGNORE_INDEX] for row in rows]
    answers = _numbered(texts)
    donors = _similar(prompts, answers)
    result = []
    for row, begin, donor in zip(rows, begins, donors, strict=True):
        rest = row.input_ids[begin:]
        prompt = prompts[donor][max(0, len(prompts[donor]) + len(rest) - longest) :]
        ignored = np.full(len(prompt), IGNORE_INDEX, row.labels.dtype)
        labels = np.concatenate([ignored, row.labels[begin:]])
        result.append(replace(row, input_ids=np.concatenate([prompt, rest]), labels=labels))
    return Exchanged(result, donors, answers, echoes(prompts, texts))


def _numbered(texts: Iterable[np.ndarray]) -> np.ndarray:
    """Return an integer for each text of tokens, the same for the same text, (texts,)."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(text.tobytes(), len(numbers)) for text in texts])


def _similar(prompts: Sequence[np.ndarray], answers: np.ndarray) -> np.ndarray:
    """Index of a similar but other prompt for each, with another answer if one has."""
    _, flat = np.unique(np.concatenate(prompts), return_inverse=True)
    has = np.zeros((len(prompts), flat.max() + 1), np.float32)
    has[np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts]), flat] = 1.0
    common = has @ has.T
    sizes = has.sum(1)
    similarity = common / (sizes[:, None] + sizes - common)
    texts = _numbered(prompts)
    donors = []
    for text, answer, similar in zip(texts, answers, similarity, strict=True):
        order = np.argsort(-similar, kind="stable")
        others = order[texts[order] != text]
        different = others[answers[others] != answer]
        others = different if len(different) else others
        donors.append(others[len(others) // 16])
    return np.array(donors)


def _with_adapter(model: PreTrainedModel) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            # PEFT sets this itself where a layer stores its weights transposed, as GPT-2's do.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
            return get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(
            f"the scout cannot put an adapter on this model: {error} Probe without it:"
            " --scout-steps 0."
        ) from error


def _step(
    model: Any,
    rows: Sequence[Encoded],
    weights: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch_tokens: int | None,
    plain_head: bool,
) -> None:
    """One step of NLL: the mean over the step's supervised tokens."""
    tokens = sum(int((row.labels[1:] != IGNORE_INDEX).sum()) for row in rows)
    for indices in batches([len(row.input_ids) for row in rows], batch_tokens or _PASS_TOKENS):
        logprobs = target_logprobs(model, [rows[i] for i in indices], plain_head=plain_head)
        (-logprobs.sum() / max(1, tokens)).backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _look(table: TokenTable) -> tuple[float, float]:
    """(mean p, mean p of the last token of a row)."""
    p = np.exp(table.logp)
    last = table.position == table.counts[table.example] - 1
    return float(p.mean()), float(p[last].mean())


def _rises(looks: Sequence[tuple[int, float, float]]) -> bool:
    """True if the last look is better than the one before by `_RISE`; without one before, if the
    end of the rows is still improbable.
    """
    if len(looks) == 1:
        return looks[0][2] < 0.5
    (_, before, end_before), (_, now, end_now) = looks[-2:]
    return now - before > _RISE or end_now - end_before > _RISE


def _devices(model: PreTrainedModel) -> list[torch.device]:
    return [model.device] if model.device.type not in ("cpu", "meta") else []
