"""Rows -> token ids and labels: what is trained on, what is ignored, and what was cut off.

Labels hold the token where it counts and -100 elsewhere; only the response counts: the completion
and its end-of-text token, or the assistant turns of a conversation as the chat template marks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UsageError
from .rows import BadRow, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Messages = Sequence[Mapping[str, str]]

__all__ = ["Encoded", "Encoding", "encode"]

_IGNORED = -100
_BATCH = 512


@dataclass(frozen=True, eq=False)
class Encoded:
    """One row as tokens: int32 arrays, since lists of numbers would take ten times the memory."""

    where: str
    input_ids: np.ndarray
    labels: np.ndarray
    """Same length; -100 where the token does not count. Not shifted: label i is token i."""
    prompt_ids: np.ndarray
    """What the model is given to write the (last) response itself."""
    response: str
    """The (last) response as text."""
    truncated: bool
    merged: bool
    """Tokens merge across the end of the prompt, so training sees another context than generation.
    """
    end: int | None
    """The special token that ends what is supervised: what the model is taught to stop with."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further columns of the row."""


@dataclass(frozen=True)
class Encoding:
    """The rows of one source as tokens, with what happened on the way."""

    rows: tuple[Encoded, ...]
    dropped: tuple[BadRow, ...]
    """Rows of which nothing supervised was left within `max_length`."""
    bad: tuple[BadRow, ...]
    """Rows the chat template refused (only with `skip_bad_rows`)."""

    @property
    def counts(self) -> dict[str, int]:
        """Numbers for the record and the table."""
        return {
            "rows": len(self.rows),
            "tokens": sum(len(row.input_ids) for row in self.rows),
            "supervised_tokens": sum(_num_supervised(row.labels) for row in self.rows),
            "truncated": sum(row.truncated for row in self.rows),
            "dropped": len(self.dropped),
            "refused": len(self.bad),
            "merged_boundary": sum(row.merged for row in self.rows),
            "without_end": sum(row.end is None and not row.truncated for row in self.rows),
        }


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    separator: str = "",
    chat: bool = False,
    end: int | None = None,
    begins: bool = False,
    skip_bad_rows: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Encoding:
    """Tokenize checked rows.

    Args:
        max_length: tokens per row; what is longer is cut at the end.
        separator: put between prompt and completion where neither brings white space of its own.
        chat: wrap prompt/completion rows into the tokenizer's chat template as user and assistant
            turns.
        end: token that closes a completion (default: the tokenizer's end of text).
        begins: the prompts bring their own beginning-of-text token, so the tokenizer adds none.
        skip_bad_rows: list rows the chat template refuses instead of raising.
        progress: called with the number of rows finished since the last call.

    Raises:
        DataError: the tokenizer has no chat template for conversations, the template cannot mark
            assistant turns or refuses a row, or no supervised token is left in any row.
    """
    if chat:
        examples = [_as_conversation(example) for example in examples]
    rows: list[Encoded] = []
    bad: list[BadRow] = []
    if examples and examples[0].messages:
        encoded = _encode_conversations(examples, tokenizer, bad if skip_bad_rows else None)
    else:
        encoded = _encode_pairs(examples, tokenizer, separator, end, begins)
    dropped: list[BadRow] = []
    finished = 0
    for number, row in enumerate(encoded, 1):
        if len(row.input_ids) > max_length:
            row = _cut(row, max_length)
        if _num_supervised(row.labels):
            rows.append(row)
        else:
            dropped.append(
                BadRow(row.where, f"has no supervised token within max_length = {max_length}")
            )
        if progress is not None and number - finished == _BATCH:
            progress(_BATCH)
            finished = number
    if progress is not None:
        progress(len(examples) - finished)
    if not rows:
        raise DataError(
            f"every label is masked: none of the {len(examples)} rows has a supervised token within"
            f" max_length = {max_length} (first: {dropped[0].where if dropped else bad[0].where})."
            " Raise --max-length, or check that the responses are not empty under the chat"
            " template."
        )
    return Encoding(tuple(rows), tuple(dropped), tuple(bad))


def _num_supervised(labels: np.ndarray) -> int:
    return int((labels[1:] != _IGNORED).sum())  # position 0 is never a target


def _ints(values: Sequence[int]) -> np.ndarray:
    return np.asarray(values, dtype=np.int32)


def _cut(row: Encoded, max_length: int) -> Encoded:
    return Encoded(
        row.where,
        row.input_ids[:max_length],
        row.labels[:max_length],
        row.prompt_ids,
        row.response,
        truncated=True,
        merged=row.merged,
        end=None,
        numbers=row.numbers,
    )


def _as_conversation(example: Example) -> Example:
    if example.messages:
        return example
    turns = (
        {"role": "user", "content": example.prompt or ""},
        {"role": "assistant", "content": example.completion or ""},
    )
    return Example(example.where, messages=turns, first_trained=1, numbers=example.numbers)


def _encode_pairs(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    separator: str,
    end: Any,
    begins: bool,
) -> Iterator[Encoded]:
    """Prompt and completion as one text, so that training sees the tokens that generation sees."""
    if end is None:
        end = tokenizer.eos_token_id
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        prompts, texts = [], []
        for example in batch:
            assert example.prompt is not None and example.completion is not None
            apart = example.prompt[-1].isspace() or example.completion[0].isspace()
            prompts.append(example.prompt if apart else example.prompt + separator)
            texts.append(prompts[-1] + example.completion)
        prompt_ids, text_ids = (
            tokenizer(part, add_special_tokens=not begins)["input_ids"] for part in (prompts, texts)
        )
        for example, before, ids in zip(batch, prompt_ids, text_ids, strict=True):
            if len(before) > 1 and before[-1] == tokenizer.eos_token_id:  # it ends every text
                before = before[:-1]
            common = _common_prefix(before, ids)
            if end is not None and ids[-1] != end:
                ids = [*ids, end]
            yield Encoded(
                where=example.where,
                input_ids=_ints(ids),
                labels=_ints([_IGNORED] * common + ids[common:]),
                prompt_ids=_ints(before),
                response=example.completion or "",
                truncated=False,
                merged=common < len(before),
                end=end,
                numbers=example.numbers,
            )


def _encode_conversations(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, bad: list[BadRow] | None
) -> Iterator[Encoded]:
    """Conversations under the chat template; refused rows go to `bad`, or raise without it."""
    from jinja2.exceptions import TemplateError

    if tokenizer.chat_template is None:
        raise DataError(
            "the rows are conversations ('messages'), but the tokenizer has no chat template: take"
            " the instruct version of the model, set tokenizer.chat_template, or give prompt and"
            " completion as texts."
        )
    tokenize = _conversation_tokenizer(tokenizer)
    special = set(tokenizer.all_special_ids)
    for example in examples:
        try:
            ids, mask = tokenize(example)
            last = max(i for i, m in enumerate(example.messages) if m["role"] == "assistant")
            prompt_ids = _render_ids(tokenizer, example.messages[:last], add_generation_prompt=True)
            if example.first_trained:
                context = _render_ids(
                    tokenizer, example.messages[: example.first_trained], add_generation_prompt=True
                )
                mask[: _common_prefix(context, ids)] = [0] * _common_prefix(context, ids)
        except (TemplateError, DataError) as error:
            reason = f"is refused by the chat template: {error}"
            if bad is None:
                raise DataError(
                    f"{example.where} {reason}. Correct it, or pass --skip-bad-rows."
                ) from None
            bad.append(BadRow(example.where, reason))
            continue
        labels = [token if counts else _IGNORED for token, counts in zip(ids, mask, strict=True)]
        supervised = [label for label in labels if label != _IGNORED]
        yield Encoded(
            where=example.where,
            input_ids=_ints(ids),
            labels=_ints(labels),
            prompt_ids=_ints(prompt_ids),
            response=example.messages[last]["content"],
            truncated=False,
            merged=_common_prefix(prompt_ids, ids) < len(prompt_ids),
            # The last but one where a template closes a turn with a newline
            end=next((label for label in supervised[:-3:-1] if label in special), None),
            numbers=example.numbers,
        )


def _conversation_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
) -> Callable[[Example], tuple[list[int], list[int]]]:
    """A function from a conversation to its tokens and the mask of assistant tokens.

    The template's own `{% generation %}` marks are used where it has them, then TRL's marked copy
    of a known family's template. For any other template the turns are found by rendering ever
    longer beginnings of the conversation.
    """
    from trl.chat_template_utils import get_training_chat_template

    try:
        marked: Any = get_training_chat_template(tokenizer) or tokenizer.chat_template
    except ValueError:
        return lambda example: _by_prefixes(tokenizer, example)

    def by_marks(example: Example) -> tuple[list[int], list[int]]:
        out: Any = tokenizer.apply_chat_template(
            [dict(m) for m in example.messages],
            chat_template=marked,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        return list(out["input_ids"]), list(out["assistant_masks"])

    return by_marks


def _by_prefixes(
    tokenizer: PreTrainedTokenizerBase, example: Example
) -> tuple[list[int], list[int]]:
    """Assistant spans as the text that each assistant turn adds to what was rendered before it."""
    if not tokenizer.is_fast:
        raise UsageError(
            "conversations need a fast tokenizer (character offsets); this one is slow."
        )
    text = _render(tokenizer, example.messages, add_generation_prompt=False)
    spans = []
    for index, message in enumerate(example.messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, example.messages[:index], add_generation_prompt=True)
        after = _render(tokenizer, example.messages[: index + 1], add_generation_prompt=False)
        if not (after.startswith(before) and text.startswith(after)):
            raise DataError(
                f"turn {index + 1} is rendered differently once the conversation goes on, so the"
                " assistant's text cannot be told apart; use a chat template with {% generation"
                " %} marks"
            )
        spans.append((len(before), len(after.rstrip())))
    out: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    mask = [
        int(any(start >= a and end <= b and end > start for a, b in spans))
        for start, end in out["offset_mapping"]
    ]
    return list(out["input_ids"]), mask


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, add_generation_prompt: bool
) -> str:
    text = tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    assert isinstance(text, str)
    return text


def _render_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, add_generation_prompt: bool
) -> list[int]:
    out: Any = tokenizer.apply_chat_template(
        [dict(m) for m in messages],
        tokenize=True,
        return_dict=True,
        add_generation_prompt=add_generation_prompt,
    )
    return list(out["input_ids"])


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
