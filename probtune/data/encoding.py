"""Rows -> token ids and labels: what is trained on, what is ignored, and what was cut off.

Labels hold the token where it counts and -100 elsewhere; only the response counts: the completion
and its end-of-text token, or the assistant turns of a conversation by the rule of `chat`. Each row
becomes one text with supervised characters; texts are tokenized in batches by the fast tokenizer,
which knows the characters of each token, and a token counts if any of its characters does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from .chat import ChatTemplate, Refusal, added_tokens
from .example import BadRow, Example, count_rules

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "Encoding", "encode", "separator_of"]

_IGNORED = -100
_BATCH = 512
_CHARACTERS_PER_TOKEN = 32
"""Texts are cut at this multiple of the tokens kept, before they are tokenized; a text whose tokens
are longer than that is cut later."""


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
    other_history: bool = False
    """True if the chat template writes the turns before the last response otherwise when it asks
    for that response: generation sees another context."""


@dataclass(frozen=True)
class Encoding:
    """The rows of one source as tokens, with what happened on the way."""

    rows: tuple[Encoded, ...]
    dropped: tuple[BadRow, ...]
    """Rows of which nothing supervised was left within `max_length`."""
    bad: tuple[BadRow, ...]
    """Rows the chat template refused (only with `skip_bad_rows`)."""
    unwritten: Mapping[str, int] = field(default_factory=dict)
    """Fields of the rows that the chat template does not write, with the number of rows."""

    @property
    def other_history(self) -> int:
        """Rows whose earlier turns are written otherwise in generation."""
        return sum(row.other_history for row in self.rows)

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
    texts = _Texts(tokenizer, separator=separator, chat=chat, end=end, begins=begins)
    rows: list[Encoded] = []
    bad: list[BadRow] = []
    dropped: list[BadRow] = []
    unwritten: Counter[str] = Counter()
    for start in range(0, len(examples), _BATCH):
        batch: list[_Text] = []
        for example in examples[start : start + _BATCH]:
            try:
                batch.append(texts.of(example))
            except Refusal as refusal:
                if not skip_bad_rows:
                    raise DataError(
                        f"{example.where} {refusal}. Correct it, or pass --skip-bad-rows."
                    ) from None
                bad.append(BadRow(example.where, str(refusal)))
            else:
                unwritten.update(set(batch[-1].unwritten))
        for row in _tokenize(batch, tokenizer, max_length, texts):
            if _num_supervised(row.labels):
                rows.append(row)
            else:
                dropped.append(
                    BadRow(row.where, f"has no supervised token within max_length = {max_length}")
                )
        if progress is not None:
            progress(min(_BATCH, len(examples) - start))
    if not rows:
        raise DataError(_nothing_left(examples, bad, dropped, max_length))
    return Encoding(tuple(rows), tuple(dropped), tuple(bad), dict(unwritten))


def separator_of(schema: str) -> str:
    """The text between prompt and completion: a newline for pairs of named columns, else nothing.

    >>> separator_of("prompt/completion"), separator_of("question/answer")
    ('', '\\n')
    """
    return "\n" if "/" in schema and schema != "prompt/completion" else ""


def _nothing_left(
    examples: Sequence[Example], bad: list[BadRow], dropped: list[BadRow], max_length: int
) -> str:
    if not dropped:
        return (
            f"the chat template leaves none of the {len(examples)} rows:"
            f" {', '.join(f'{count} rows {rule}' for rule, count in count_rules(bad).items())}"
            f" (first: {bad[0].where}). Correct them, or name another template with"
            " --chat-template."
        )
    return (
        f"every label is masked: none of the {len(examples)} rows has a supervised token within"
        f" max_length = {max_length} (first: {dropped[0].where})."
        " Raise --max-length, or check that the responses are not empty under the chat template."
    )


def _num_supervised(labels: np.ndarray) -> int:
    return int((labels[1:] != _IGNORED).sum())  # position 0 is never a target


class _Text(NamedTuple):
    """A row as one text."""

    example: Example
    text: str
    spans: tuple[tuple[int, int], ...]
    """Supervised characters."""
    prompt: str
    response: str
    same_context: bool = True
    """True if the text begins with the prompt."""
    unwritten: tuple[str, ...] = ()


class _Texts:
    """Rows -> texts: the options of `encode`, with what they need of the tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        separator: str,
        chat: bool,
        end: int | None,
        begins: bool,
    ):
        self.tokenizer, self.separator, self.chat, self.begins = tokenizer, separator, chat, begins
        end_of_text: Any = tokenizer.eos_token_id
        self.end: int | None = end_of_text if end is None else end
        self.added = added_tokens(tokenizer)
        named = {self.end, end_of_text}
        self._ends = tuple(self.added[i] for i in named if i in self.added)
        start: Any = tokenizer.bos_token
        adds_start = start and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        self._start = str(start) if adds_start and not begins else ""
        self._template: ChatTemplate | None = None

    def of(self, example: Example) -> _Text:
        """The row as text.

        Raises:
            Refusal: the chat template refuses it, or it needs one.
        """
        if self.chat:
            example = example.as_conversation()
        return self._conversation(example) if example.messages else self._pair(example)

    def _conversation(self, example: Example) -> _Text:
        if self._template is None:
            if not self.tokenizer.is_fast:
                raise UsageError(
                    "conversations need a fast tokenizer (character offsets); this one is slow."
                )
            self._template = ChatTemplate(self.tokenizer)
        rendered = self._template.render(example)
        return _Text(
            example,
            rendered.text,
            rendered.spans,
            rendered.prompt,
            rendered.response,
            rendered.same_context,
            rendered.unwritten,
        )

    def _pair(self, example: Example) -> _Text:
        """Prompt and completion as one text, so that training sees the tokens that generation sees.

        An end token that the completion brings is left out, since one is added; so is a beginning
        of text that the prompt brings.
        """
        assert example.prompt is not None and example.completion is not None
        if example.history:
            raise Refusal("has earlier turns ('history'), which need a chat template: pass --chat")
        prompt = example.prompt.removeprefix(self._start)
        if example.system:
            prompt = f"{example.system}\n\n{prompt}"
        completion = example.completion
        if self.end is not None:
            stripped = completion.rstrip()
            while stripped.endswith(self._ends):
                end = next(end for end in self._ends if stripped.endswith(end))
                completion = stripped = stripped.removesuffix(end)
        if not completion.strip():
            raise Refusal("has a response that is an end token and nothing else")
        apart = prompt[-1:].isspace() or completion[0].isspace()
        prompt = prompt if apart else prompt + self.separator
        text = prompt + completion
        return _Text(example, text, ((len(prompt), len(text)),), prompt, completion)


def _tokenize(
    texts: Sequence[_Text], tokenizer: PreTrainedTokenizerBase, max_length: int, options: _Texts
) -> Iterator[Encoded]:
    """Texts -> rows of at most `max_length` tokens."""
    if not texts:
        return
    # A chat template writes its special tokens itself, and all rows of a source are of one kind.
    special = not (options.begins or texts[0].example.messages)
    pieces = [_Piece(text, tokenizer, special) for text in texts]
    limit = _CHARACTERS_PER_TOKEN * (max_length + _MARGIN)
    while unfinished := [piece for piece in pieces if not piece.suffices(max_length)]:
        out: Any = tokenizer(
            [piece.of.text[:limit] for piece in unfinished],
            add_special_tokens=special,
            verbose=False,
        )
        for index, piece in enumerate(unfinished):
            characters = out.encodings[index] if tokenizer.is_fast else None
            piece.set(out["input_ids"][index], characters, min(limit, len(piece.of.text)))
        limit *= 4
    yield from (piece.encoded(max_length, options) for piece in pieces)


class _Piece:
    """A text with the tokens of its beginning."""

    def __init__(self, text: _Text, tokenizer: PreTrainedTokenizerBase, special: bool):
        self.of, self._tokenizer, self._special = text, tokenizer, special
        self._ids: list[int] = []
        self._characters: Any = None
        self._read = -1

    def set(self, ids: list[int], characters: Any, read: int) -> None:
        """Take the tokens of the first `read` characters."""
        self._ids, self._characters, self._read = ids, characters, read

    def suffices(self, max_length: int) -> bool:
        """True if no token that is kept could change with more of the text."""
        return self._read == len(self.of.text) or (
            self._read > 0 and len(self._ids) > max_length + _MARGIN
        )

    def encoded(self, max_length: int, options: _Texts) -> Encoded:
        """The row, cut at `max_length` tokens."""
        text, ids = self.of, self._ids
        whole = self._read == len(text.text)
        first, merged = self._first(text.spans[-1][0])
        mask = np.zeros(len(ids), dtype=bool)
        for begin, end in text.spans:
            mask[self._first(begin)[0] : self._last(end)] = True
        conversation = bool(text.example.messages)
        closing: int | None = None
        if whole and not conversation:
            mask[first:] = True  # also an end token that the tokenizer adds
            closing = options.end
            if closing is not None and ids[-1] != closing:
                ids, mask = [*ids, closing], np.append(mask, True)
        elif whole:
            last = int(mask.nonzero()[0][-1]) if mask.any() else 0
            if ids[last] in options.added and not _ends_with(text, options.added[ids[last]]):
                closing = ids[last]
        input_ids = np.asarray(ids[:max_length], dtype=np.int32)
        truncated = len(ids) > max_length
        aligned = text.same_context and not merged and first <= max_length
        # Nothing of the response is left, and a prompt of megabytes need not be tokenized whole.
        beyond = text.spans[-1][0] >= self._read
        return Encoded(
            where=text.example.where,
            input_ids=input_ids,
            labels=np.where(mask[:max_length], input_ids, np.int32(_IGNORED)),
            prompt_ids=input_ids[:first] if aligned or beyond else self._prompt_ids(),
            response=text.response,
            truncated=truncated,
            merged=merged or not text.same_context,
            end=None if truncated else closing,
            numbers=text.example.numbers,
            other_history=not text.same_context,
        )

    def _first(self, begin: int) -> tuple[int, bool]:
        """(first token with a character from `begin` on, True if tokens merge across `begin`)."""
        if self._characters is None:
            prompt = self._ids_of(self.of.prompt)
            first = _common_prefix(prompt, self._ids)
            return first, first < len(prompt)
        token = self._token_from(begin)
        merged = token < len(self._ids) and self._characters.token_to_chars(token)[0] < begin
        before = self.of.text[max(0, begin - 2) : begin]
        # Only white space can be cut otherwise without a token that stands on both sides.
        if begin <= self._read and (
            before.endswith(" ") or (len(before) == 2 and before.isspace())
        ):
            prompt = self._ids_of(self.of.text[:begin])
            common = _common_prefix(prompt, self._ids)
            if common < len(prompt):
                return min(common, token), True
        return token, merged

    def _last(self, end: int) -> int:
        """The token after the last one with a character before `end`."""
        if self._characters is None or end >= self._read:
            return len(self._ids)
        token = self._token_from(end)
        if token == len(self._ids):
            return token
        return token + (self._characters.token_to_chars(token)[0] < end)

    def _token_from(self, character: int) -> int:
        """The first token with a character from this place on."""
        for place in range(character, self._read):
            token = self._characters.char_to_token(place)
            if token is not None:
                return token
        return len(self._ids)

    def _prompt_ids(self) -> np.ndarray:
        return np.asarray(self._ids_of(self.of.prompt), dtype=np.int32)

    def _ids_of(self, prompt: str) -> list[int]:
        out: Any = self._tokenizer(prompt, add_special_tokens=self._special, verbose=False)
        ids = out["input_ids"]
        if self._special and len(ids) > 1 and ids[-1] == self._tokenizer.eos_token_id:
            return ids[:-1]  # it ends every text
        return ids


_MARGIN = 64
"""Tokens at the end of a cut text that may differ from those of the whole text."""


def _ends_with(text: _Text, token: str) -> bool:
    """True if the response itself ends with the token's text."""
    return text.response.rstrip().endswith(token)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
