"""Tokens of a text, put together from the tokens of its words.

A byte-level BPE tokenizer cuts a text by a pattern and then looks at each part alone. The patterns
of GPT-2, Llama 3 and Qwen 2 all cut before " word" where a visible character stands before the
space, so a text is cut there without the pattern, and words that were seen before are looked up.
Arrow cuts the texts of a batch and tells their words apart, all at once. That is several times
faster than tokenizing each text, and gives the same tokens: the first texts are tokenized in both
ways and compared, and one of every further batch.
"""

from __future__ import annotations

import json
import logging
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SIZE", "Mark", "Tokens", "WordTokenizer", "as_bytes", "marks_of", "word_tokenizer"]

SIZE = 4
"""Bytes of a token."""

_LOGGER = logging.getLogger(__name__)

_CUT = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
_CUT_WITHOUT_LOOK_BEHIND = r"([!-~])( [A-Za-z])"
"""It misses every second one-letter word, which makes a longer word and no other tokens."""
_BORDER = "\0"
_BETWEEN_CUTS = re.compile(r" [A-Za-z](?:.*[!-~])?", re.DOTALL)
_LONGEST = 40
"""Longer words are tokenized wherever they stand, so that the memory is bounded."""
_MOST = 200_000
_MOST_ENCODINGS = 50_000
_TOGETHER = 2000
"""Unseen words that are tokenized as one text."""
_CHECKED = 256
"""Texts that are tokenized in both ways before the words are trusted."""

_PATTERNS = (
    # Llama 3's, https://huggingface.co/meta-llama/Meta-Llama-3-8B/blob/main/tokenizer.json
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    # Qwen 2's, https://huggingface.co/Qwen/Qwen2-7B/blob/main/tokenizer.json
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Patterns that are known to cut before a word; GPT-2's is part of `ByteLevel` itself."""


class Mark(NamedTuple):
    """A character of a text, among its tokens."""

    token: int
    """The first token with a character from there on; the number of tokens if there is none."""
    inside: bool
    """True if that token begins before the character."""


class Tokens(NamedTuple):
    """The tokens of a text."""

    ids: bytes
    """As int32, since a number as a Python object takes eight times the memory and time."""
    marks: tuple[Mark, ...]
    """One for each character that was asked for."""


def marks_of(encoding: Any, length: int, offsets: Sequence[int], number: int) -> tuple[Mark, ...]:
    """Return the marks of characters in a text of `length` characters and `number` tokens."""
    return tuple(_mark_of(encoding, length, offset, number) for offset in offsets)


def _mark_of(encoding: Any, length: int, offset: int, number: int) -> Mark:
    for character in range(offset, length):
        token = encoding.char_to_token(character)
        if token is not None:
            return Mark(token, encoding.token_to_chars(token)[0] < offset)
    return Mark(number, False)


class WordTokenizer:
    """A tokenizer with the tokens of the words that it has seen."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, special: bool):
        self._backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        self._tokenizer, self._special = tokenizer, special
        self._ids: dict[str, bytes] = {"": b""}
        self._encodings: dict[str, Any] = {}
        self._added = tuple(str(token) for token in tokenizer.added_tokens_decoder.values())
        self._apart: dict[str, bool] = {}
        self._borders: tuple[str, ...] = ()
        """Added tokens that texts hold, on both sides of which every text is cut."""
        self._unchecked = _CHECKED
        self.trusted = True
        """False once a text had other tokens than the tokenizer gives; never seen so far."""
        bare, ids = (self._backend.encode("a", add_special_tokens=s).ids for s in (False, special))
        offset = ids.index(bare[0])
        self.prefix = as_bytes(ids[:offset])
        self.suffix = as_bytes(ids[offset + len(bare) :])

    def __call__(self, texts: Sequence[str], offsets: Sequence[Sequence[int]]) -> list[Tokens]:
        """Tokenize texts. If one of them has other tokens than the tokenizer gives, `trusted` is
        false afterwards, and none of them is to be used.

        Args:
            offsets: for each text, the characters to mark, in ascending order.
        """
        if len(self._ids) > _MOST:
            self._ids = {"": b""}
        if len(self._encodings) > _MOST_ENCODINGS:
            self._encodings.clear()
        self._find_borders(texts[0])
        bounds = [self._bounds(text, some) for text, some in zip(texts, offsets, strict=True)]
        parts = [
            text[begin:end]
            for text, some in zip(texts, bounds, strict=True)
            for begin, end in pairwise(some)
        ]
        ids, ends = self._tokens_of(parts)
        tokens = []
        part = first = 0
        for text, some, characters in zip(texts, bounds, offsets, strict=True):
            number = len(some) - 1
            starts = [first, *ends[part : part + number]]
            joined = b"".join((self.prefix, ids[first * SIZE : starts[-1] * SIZE], self.suffix))
            marks = tuple(
                self._mark(character, text, some, starts, len(joined)) for character in characters
            )
            tokens.append(Tokens(joined, marks))
            part += number
            first = starts[-1]
        self._check(texts, offsets, tokens)
        return tokens

    def _mark(
        self, offset: int, text: str, bounds: Sequence[int], starts: Sequence[int], size: int
    ) -> Mark:
        """Mark a character of a text whose parts have these bounds and first tokens."""
        part = bisect_right(bounds, offset) - 1
        if part == len(bounds) - 1:
            return Mark(size // SIZE, False)  # the end of the text
        token = starts[part] - starts[0] + len(self.prefix) // SIZE
        begin, end = bounds[part], bounds[part + 1]
        if offset == begin:
            return Mark(token, False)
        stretch = text[begin:end]
        if stretch not in self._encodings:
            self._encodings[stretch] = self._backend.encode(stretch, add_special_tokens=False)
        encoding = self._encodings[stretch]
        inner = _mark_of(encoding, end - begin, offset - begin, len(encoding.ids))
        return Mark(token + inner.token, inner.inside)

    def _find_borders(self, text: str) -> None:
        """Look for added tokens in a text; a batch has the same ones, if a template writes them."""
        for token in self._added:
            if token not in self._apart and token in text:
                others = (other for other in self._added if other != token)
                self._apart[token] = not any(_may_overlap(token, other) for other in others)
        self._borders = tuple(token for token, apart in self._apart.items() if apart)

    def _bounds(self, text: str, offsets: Sequence[int]) -> list[int]:
        """The bounds of a text's parts: each character that is marked begins one, or stands in one
        that is not cut further.
        """
        if _BORDER in text:
            return [0, len(text)]
        bounds = [0]
        for offset in offsets:
            if bounds[-1] < offset < len(text):
                for bound in self._around(text, offset):
                    if bound > bounds[-1]:
                        bounds.append(bound)
        if bounds[-1] < len(text) or len(bounds) == 1:
            bounds.append(len(text))
        return bounds

    def _around(self, text: str, offset: int) -> tuple[int, int]:
        """The cuts before and after a character; twice the character, if the text is cut there."""
        begin = end = offset
        if (
            _is_cut(text, offset)
            or _begins_a_line(text, offset)
            or (self._borders and text.startswith(self._borders, offset))
            or (self._borders and text.endswith(self._borders, 0, offset))
        ):
            return begin, end
        while (begin := text.rfind(" ", 0, begin)) > 0 and not _is_cut(text, begin):
            pass
        while (end := text.find(" ", end + 1)) >= 0 and not _is_cut(text, end):
            pass
        return max(begin, 0), len(text) if end < 0 else end

    def _tokens_of(self, parts: Sequence[str]) -> tuple[bytes, list[int]]:
        """(tokens of all parts, number of tokens up to the end of each)."""
        import pyarrow
        import pyarrow.compute as compute

        strings = pyarrow.array(parts, pyarrow.large_string())
        for token in self._borders:
            strings = compute.replace_substring(strings, token, f"{_BORDER}{token}{_BORDER}")  # type: ignore[attr-defined]
        strings = compute.replace_substring_regex(  # type: ignore[attr-defined]
            strings, _CUT_WITHOUT_LOOK_BEHIND, rf"\1{_BORDER}\2"
        )
        words = compute.split_pattern(strings, _BORDER)  # type: ignore[attr-defined]
        encoded = words.values.dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        unseen = [word for word in distinct if word not in self._ids]
        self._tokenize(sorted(unseen))
        pieces = [self._ids[word] for word in distinct]
        for word in unseen:
            if len(word) > _LONGEST:
                del self._ids[word]
        sizes = np.array([len(piece) // SIZE for piece in pieces], dtype=np.int64)
        begins = np.cumsum(sizes) - sizes
        word_at = encoded.indices.to_numpy()
        counts = sizes[word_at]
        ends = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        tokens = np.frombuffer(b"".join(pieces), np.int32)
        ids = tokens[np.repeat(begins[word_at], counts) + within]
        return ids.tobytes(), ends[words.offsets.to_numpy()[1:]].tolist()

    def _tokenize(self, words: Sequence[str]) -> None:
        """Learn the tokens of words: one after another as one text, where it would be cut again
        between them, since a call for each word takes longer.
        """
        inner = [word for word in words if _BETWEEN_CUTS.fullmatch(word)]
        for start in range(0, len(inner), _TOGETHER):
            some = inner[start : start + _TOGETHER]
            encoding = self._backend.encode("".join(some), add_special_tokens=False)
            token_ids = as_bytes(encoding.ids)
            token_ends = np.asarray(encoding.offsets)[:, 1]
            word_ends = np.cumsum([len(word) for word in some])
            stops = np.searchsorted(token_ends, word_ends, side="right") * SIZE
            begin = 0
            for word, end in zip(some, stops.tolist(), strict=True):
                self._ids[word] = token_ids[begin:end]
                begin = end
        others = [word for word in words if not _BETWEEN_CUTS.fullmatch(word)]
        encodings = self._backend.encode_batch(others, add_special_tokens=False)
        for word, encoding in zip(others, encodings, strict=True):
            self._ids[word] = as_bytes(encoding.ids)

    def _check(
        self, texts: Sequence[str], offsets: Sequence[Sequence[int]], tokens: Sequence[Tokens]
    ) -> None:
        number = min(max(1, self._unchecked), len(texts))
        self._unchecked -= number
        out: Any = self._tokenizer(
            list(texts[:number]), add_special_tokens=self._special, verbose=False
        )
        for index, mine in enumerate(tokens[:number]):
            text, ids = texts[index], out["input_ids"][index]
            marks = marks_of(out.encodings[index], len(text), offsets[index], len(ids))
            if mine != (as_bytes(ids), marks):
                self.trusted = False
                _LOGGER.warning(
                    "words put together gave other tokens than the tokenizer for %r; every text"
                    " is tokenized whole.",
                    text[:80],
                )
                return


def _is_cut(text: str, offset: int) -> bool:
    """True if the text is cut before a space between two visible characters."""
    return (
        text[offset] == " "
        and "!" <= text[offset - 1 : offset] <= "~"
        and "!" <= text[offset + 1 : offset + 2] <= "~"
    )


def _begins_a_line(text: str, offset: int) -> bool:
    """True if a line begins there after one that is not empty; the text is cut there as well."""
    after = text[offset]
    return (
        text[offset - 1 : offset] == "\n"
        and "!" <= text[offset - 2 : offset - 1] <= "~"
        and after.isprintable()
        and not after.isspace()
    )


def _may_overlap(token: str, other: str) -> bool:
    """True if a text may hold the token as part of another added token, or across its end."""
    return token in other or any(other.endswith(token[:n]) for n in range(1, len(token)))


def as_bytes(ids: Sequence[int]) -> bytes:
    """Return tokens as the bytes of int32.

    >>> len(as_bytes([1, 2]))
    8
    """
    return np.asarray(ids, dtype=np.int32).tobytes()


def word_tokenizer(tokenizer: PreTrainedTokenizerBase, *, special: bool) -> WordTokenizer | None:
    """Return the tokenizer with a memory for words, or None if it does not cut before words."""
    if not tokenizer.is_fast:
        return None
    backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    model = backend.model
    alone = type(model).__name__ == "BPE" and not model.dropout
    if not alone or backend.normalizer is not None or backend.pre_tokenizer is None:
        return None
    if not _cuts_before_words(json.loads(backend.pre_tokenizer.__getstate__())):
        return None
    if backend.post_processor is not None and b'"trim_offsets":true' in bytes(
        backend.post_processor.__getstate__()
    ):
        return None  # the first token of a text is trimmed otherwise
    for token in tokenizer.added_tokens_decoder.values():
        # Such a token may take in what stands beside it.
        if token.lstrip or token.rstrip or token.single_word or _CUT.search(str(token)):
            return None
        if token.normalized and str(token)[:1] == " ":
            return None
    return WordTokenizer(tokenizer, special=special)


def _cuts_before_words(step: dict[str, Any]) -> bool:
    """True if a pre-tokenizer cuts before " word" after any visible character, and sees nothing
    beyond.
    """
    if step["type"] == "Sequence":
        steps = step["pretokenizers"]
        return any(map(_cuts_before_words, steps)) and all(map(_sees_parts, steps))
    if step["type"] == "ByteLevel":
        return step["use_regex"] and not step["add_prefix_space"]
    return step["type"] == "Split" and _is_known(step)


def _sees_parts(step: dict[str, Any]) -> bool:
    """True if a pre-tokenizer does the same to a part of a text as to the whole."""
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or (step["type"] == "Split" and _is_known(step))


def _is_known(step: dict[str, Any]) -> bool:
    return (
        step["pattern"].get("Regex") in _PATTERNS
        and step["behavior"] == "Isolated"
        and not step["invert"]
    )
