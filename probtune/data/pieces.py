"""Texts -> tokens and labels, in batches of the fast tokenizer.

A text of megabytes is cut before it is tokenized: only its first tokens are kept, and the tokens
near the cut, which more text could change, are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .texts import RowText, RowTexts
from .tokens import IGNORED, TokenWriter
from .words import SIZE, Mark, WordTokenizer, as_bytes, marks_of, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextTokenizer"]

_CHARACTERS_PER_TOKEN = 32
"""Texts are cut at this multiple of the tokens kept, before they are tokenized; a text whose tokens
are longer than that is cut later."""
_NONE = as_bytes([IGNORED])
_MARGIN = 64
"""Tokens at the end of a cut text that may differ from those of the whole text."""


class TextTokenizer:
    """Rows of at most `max_length` tokens from texts."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, options: RowTexts
    ) -> None:
        self._tokenizer, self._max_length, self._options = tokenizer, max_length, options
        self._words: dict[bool, WordTokenizer | None] = {}

    def write(self, texts: Sequence[RowText], rows: TokenWriter) -> list[str]:
        """Append the texts to `rows`; return the places of those without a supervised token, which
        are not appended.
        """
        if not texts:
            return []
        # A chat template writes its special tokens itself, and all rows of a source are of one
        # kind.
        special = not (self._options.begins or texts[0].example.messages)
        pieces = [_Piece(text, self._tokenizer, special) for text in texts]
        limit = _CHARACTERS_PER_TOKEN * (self._max_length + _MARGIN)
        while unfinished := [piece for piece in pieces if not piece.suffices(self._max_length)]:
            self._tokenize(unfinished, limit, special)
            limit *= 4
        return [
            piece.of.example.where
            for piece in pieces
            if not piece.write(self._max_length, self._options, rows)
        ]

    def _tokenize(self, pieces: Sequence[_Piece], limit: int, special: bool) -> None:
        texts = [piece.of.text[:limit] for piece in pieces]
        if special not in self._words:
            self._words[special] = word_tokenizer(self._tokenizer, special=special)
        words = self._words[special]
        offsets = [
            [min(offset, len(text)) for span in piece.of.spans for offset in span]
            for piece, text in zip(pieces, texts, strict=True)
        ]
        if words is not None:
            joined = words(texts, offsets)
            if words.trusted:
                for piece, text, tokens in zip(pieces, texts, joined, strict=True):
                    piece.set(tokens.ids, tokens.marks, len(text))
                return
            self._words[special] = None
        out: Any = self._tokenizer(texts, add_special_tokens=special, verbose=False)
        for index, (piece, text) in enumerate(zip(pieces, texts, strict=True)):
            ids, marks = out["input_ids"][index], None
            if self._tokenizer.is_fast:
                marks = marks_of(out.encodings[index], len(text), offsets[index], len(ids))
            piece.set(as_bytes(ids), marks, len(text))


class _Piece:
    """A text with the tokens of its beginning."""

    __slots__ = ("_ids", "_marks", "_read", "_special", "_tokenizer", "of")

    def __init__(self, text: RowText, tokenizer: PreTrainedTokenizerBase, special: bool):
        self.of, self._tokenizer, self._special = text, tokenizer, special
        self._ids = b""
        self._marks: Sequence[Mark] | None = None
        """For each span its first character and the one after its last; None: not known."""
        self._read = -1

    def set(self, ids: bytes, marks: Sequence[Mark] | None, read: int) -> None:
        """Take the tokens of the first `read` characters."""
        self._ids, self._marks, self._read = ids, marks, read

    @property
    def _number(self) -> int:
        """The number of tokens."""
        return len(self._ids) // SIZE

    def suffices(self, max_length: int) -> bool:
        """True if no token that is kept could change with more of the text."""
        return self._read == len(self.of.text) or (
            self._read > 0 and self._number > max_length + _MARGIN
        )

    def write(self, max_length: int, options: RowTexts, rows: TokenWriter) -> bool:
        """Append the row, cut at `max_length` tokens; False if nothing of it is supervised."""
        text, ids, number = self.of, self._ids, self._number
        whole = self._read == len(text.text)
        stretches: list[tuple[int, int]] = []
        first = stop = 0
        merged = False
        for index, (begin, end) in enumerate(text.spans):
            first, merged = self._first(index, begin)
            if (last := self._last(index, end)) > first:
                stretches.append((max(first, stop), last))
                stop = last
        closing: int | None = None
        if whole and not text.example.messages:
            closing = options.end
            if closing is not None and ids[-SIZE:] != (end_token := as_bytes([closing])):
                ids, number = ids + end_token, number + 1
            stretches = [(first, number)]  # also an end token that the tokenizer adds
        elif whole:
            final = stretches[-1][1] - 1 if stretches else 0
            token = int(np.frombuffer(ids, np.int32, 1, final * SIZE)[0])
            if token in options.added and not _ends_with(text, options.added[token]):
                closing = token
        truncated = number > max_length
        if truncated:
            ids, number = ids[: max_length * SIZE], max_length
        labels = bytearray(_NONE * number)
        supervised = 0
        for begin, end in stretches:
            end = min(end, number)
            if begin < end:
                labels[begin * SIZE : end * SIZE] = ids[begin * SIZE : end * SIZE]
                supervised += end - max(begin, 1)  # position 0 is never a target
        if supervised <= 0:
            return False
        aligned = text.same_context and not merged and first <= max_length
        # Nothing of the response is left, and a prompt of megabytes need not be tokenized whole.
        beyond = text.spans[-1][0] >= self._read
        rows.append(
            text.example.where,
            ids,
            labels,
            supervised,
            prompt=min(first, number) if aligned or beyond else self._ids_of(text.prompt),
            response=text.response,
            truncated=truncated,
            merged=merged or not text.same_context,
            end=None if truncated else closing,
            numbers=text.example.numbers,
            other_history=not text.same_context,
        )
        return True

    def _first(self, span: int, begin: int) -> tuple[int, bool]:
        """(first token with a character from `begin` on, True if tokens merge across `begin`)."""
        if self._marks is None:
            prompt = self._ids_of(self.of.prompt)
            first = _common_prefix(prompt, self._list())
            return first, first < len(prompt)
        token, merged = self._marks[2 * span]
        before = self.of.text[max(0, begin - 2) : begin]
        # Only white space can be cut otherwise without a token that stands on both sides.
        if begin <= self._read and (
            before.endswith(" ") or (len(before) == 2 and before.isspace())
        ):
            prompt = self._ids_of(self.of.text[:begin])
            common = _common_prefix(prompt, self._list())
            if common < len(prompt):
                return min(common, token), True
        return token, merged

    def _last(self, span: int, end: int) -> int:
        """The token after the last one with a character before `end`."""
        if self._marks is None or end >= self._read:
            return self._number
        token, inside = self._marks[2 * span + 1]
        return token + inside

    def _list(self) -> list[int]:
        return np.frombuffer(self._ids, np.int32).tolist()

    def _ids_of(self, prompt: str) -> list[int]:
        out: Any = self._tokenizer(prompt, add_special_tokens=self._special, verbose=False)
        ids = out["input_ids"]
        if self._special and len(ids) > 1 and ids[-1] == self._tokenizer.eos_token_id:
            return ids[:-1]  # it ends every text
        return ids


def _ends_with(text: RowText, token: str) -> bool:
    """True if the response itself ends with the token's text."""
    return text.response.rstrip().endswith(token)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
