"""Tokens of a text, put together from the tokens of its words.

A byte-level BPE tokenizer cuts a text by a pattern and then looks at each part alone. The patterns
of GPT-2, Llama 3 and Qwen 2 all cut before " word" where a visible character stands before the
space, so a text is cut there without the pattern, and words that were seen before are looked up.
That is several times faster than tokenizing each text, and gives the same tokens and characters:
the first texts are tokenized in both ways and compared, and one of every further batch.
"""

from __future__ import annotations

import json
import logging
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SIZE", "JoinedWords", "WordTokenizer", "as_bytes", "word_tokenizer"]

SIZE = 4
"""Bytes of a token."""

_LOGGER = logging.getLogger(__name__)

_CUT = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
_BETWEEN_CUTS = re.compile(r" [A-Za-z](?:.*[!-~])?", re.DOTALL)
_LONGEST = 40
"""Longer words are tokenized wherever they stand, so that the memory is bounded."""
_MOST = 200_000
_MOST_CHARACTERS = 50_000
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


class JoinedWords:
    """The tokens of a text, with their characters as `tokenizers.Encoding` gives them."""

    __slots__ = ("_before", "_ends", "_of", "_parts", "_token_ends", "_words", "ids")

    def __init__(self, words: list[str], parts: list[bytes], of: WordTokenizer):
        self.ids = b"".join((of.prefix, *parts, of.suffix))
        """As int32, since a number as a Python object takes eight times the memory and time."""
        self._words, self._parts, self._of = words, parts, of
        self._before = len(of.prefix) // SIZE
        self._ends: list[int] | None = None
        self._token_ends: list[int] = []
        """In bytes."""

    def _measure(self) -> list[int]:
        if self._ends is None:
            self._ends = list(accumulate(map(len, self._words)))
            self._token_ends = list(accumulate(map(len, self._parts)))
        return self._ends

    def _first_token(self, word: int) -> int:
        return (self._token_ends[word - 1] // SIZE if word else 0) + self._before

    def char_to_token(self, offset: int) -> int | None:
        """Return the first token with the character at `offset`, or None."""
        ends = self._measure()
        word = bisect_right(ends, offset)
        if word == len(ends):
            return None
        offset -= ends[word] - len(self._words[word])
        for index, (begin, end) in enumerate(self._of.characters(self._words[word])):
            if begin <= offset < end:
                return self._first_token(word) + index
        return None

    def token_to_chars(self, token: int) -> tuple[int, int]:
        """Return the first character of a token, and the one after its last."""
        ends = self._measure()
        word = bisect_right(self._token_ends, (token - self._before) * SIZE)
        start = ends[word] - len(self._words[word])
        characters = self._of.characters(self._words[word])
        begin, end = characters[token - self._first_token(word)]
        return start + begin, start + end


class WordTokenizer:
    """A tokenizer with the tokens of the words that it has seen."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, special: bool):
        self._backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        self._tokenizer, self._special = tokenizer, special
        self._ids: dict[str, bytes] = {}
        self._characters: dict[str, Sequence[tuple[int, int]]] = {}
        self._unchecked = _CHECKED
        self.trusted = True
        """False once a text had other tokens than the tokenizer gives; never seen so far."""
        bare, ids = (self._backend.encode("a", add_special_tokens=s).ids for s in (False, special))
        offset = ids.index(bare[0])
        self.prefix = as_bytes(ids[:offset])
        self.suffix = as_bytes(ids[offset + len(bare) :])

    def __call__(self, texts: Sequence[str]) -> list[JoinedWords]:
        """Tokenize texts. If one of them has other tokens than the tokenizer gives, `trusted` is
        false afterwards, and none of them is to be used.
        """
        if len(self._ids) > _MOST:
            self._ids.clear()
        if len(self._characters) > _MOST_CHARACTERS:
            self._characters.clear()
        words = list(map(_CUT.split, texts))
        ids = self._ids
        unseen = set(chain.from_iterable(words)).difference(ids)
        self._tokenize(sorted(unseen))
        token_ids = ids.__getitem__
        joined = [JoinedWords(parts, list(map(token_ids, parts)), self) for parts in words]
        self._check(texts, joined)
        for word in unseen:
            if len(word) > _LONGEST:
                del ids[word]
        return joined

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

    def characters(self, word: str) -> Sequence[tuple[int, int]]:
        """Return the characters of each token of a word."""
        if word not in self._characters:
            encoding = self._backend.encode(word, add_special_tokens=False)
            self._characters[word] = tuple(encoding.offsets)
        return self._characters[word]

    def _check(self, texts: Sequence[str], joined: Sequence[JoinedWords]) -> None:
        number = min(max(1, self._unchecked), len(texts))
        self._unchecked -= number
        out: Any = self._tokenizer(
            list(texts[:number]), add_special_tokens=self._special, verbose=False
        )
        for index, mine in enumerate(joined[:number]):
            theirs = out.encodings[index]
            first = len(self.prefix) // SIZE
            last = (len(mine.ids) - len(self.suffix)) // SIZE
            if mine.ids != as_bytes(out["input_ids"][index]) or any(
                mine.token_to_chars(token) != theirs.token_to_chars(token)
                for token in range(first, last)
            ):
                self.trusted = False
                _LOGGER.warning(
                    "words put together gave other tokens than the tokenizer for %r; every text"
                    " is tokenized whole.",
                    texts[index][:80],
                )
                return


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
