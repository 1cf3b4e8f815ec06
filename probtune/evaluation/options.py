"""Log-likelihoods of a multiple choice's letters before the model has written a word, for
calibration.

The model reads the question as its benchmark asks it, and the first words of an answer,
`The answer is \\boxed{`; then each letter's log-probability is summed over the tokens that the
letters do not share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..data.encoding import Encoded
from ..data.prompts import PromptSpec
from ..errors import DataError
from ..kernels import IGNORE_INDEX
from ..models.loading import token_table
from .tasks.base import Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["START", "option_logprobs"]

START = "The answer is \\boxed{"
"""Beginning of the answer, before the letter."""


def option_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    prompt: PromptSpec,
    *,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[list[float]], list[int]]:
    """Return (log-likelihood of each question's letters, index of each right one).

    Args:
        max_length: longest sequence that the model reads.
        progress: called with the number of letters finished since the last call.

    Raises:
        DataError: a question has no options, has a gold that is no letter, is longer than the
            model's context, or has two letters with the same tokens.
    """
    rows: list[Encoded] = []
    golds: list[int] = []
    for question in questions:
        letters = list(question.options or ())
        if len(letters) < 2 or question.gold not in letters:
            raise DataError(
                f"question {question.id!r} is no multiple choice with a letter as its gold."
            )
        golds.append(letters.index(question.gold))
        text = prompt.render(question.text) + START
        whole = [
            np.asarray(
                tokenizer(text + letter, add_special_tokens=not prompt.begins)["input_ids"],
                dtype=np.int32,
            )
            for letter in letters
        ]
        shared = _shared(whole)
        if max_length is not None and max(map(len, whole)) > max_length:
            raise DataError(
                f"question {question.id!r} has {max(map(len, whole))} tokens; the model reads"
                f" {max_length}."
            )
        for letter, ids in zip(letters, whole, strict=True):
            if shared >= len(ids):
                raise DataError(
                    f"the letter {letter} of question {question.id!r} has no token of its own in"
                    " this tokenizer."
                )
            labels = ids.copy()
            labels[:shared] = IGNORE_INDEX
            where = f"question {question.id}, {letter}"
            rows.append(Encoded(where, ids, labels, ids[:shared], letter, False, False, None))
    table = token_table(model, rows, batch_tokens=batch_tokens, progress=progress)
    sums = iter(table.per_example(table.logp).tolist())
    return [[next(sums) for _ in question.options or ()] for question in questions], golds


def _shared(sequences: Sequence[np.ndarray]) -> int:
    """Return the length of the common beginning."""
    least = min(map(len, sequences))
    same = np.all([ids[:least] == sequences[0][:least] for ids in sequences], axis=0)
    return int(same.argmin()) if not same.all() else least
