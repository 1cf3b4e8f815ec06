"""Contamination: n-grams of words that a training row shares with a benchmark's question.

A question overlaps if at least one of its n-grams of words occurs in a training row's question or
response; a question of fewer than n words, if all of it does. Words are compared without case,
punctuation and Unicode variants. n = 13 is the usual length; 8 finds more overlaps, also by chance.
An n-gram of more than `common` questions of one benchmark belongs to its template, not to its
content, and is left out.

Both directions are reported: the share of questions that some row overlaps, and the share of rows
that overlap some question. The time is linear in the words of both sides. The training side is
streamed in blocks through rolling hashes (numpy), and only the benchmark's n-grams are stored, so
memory does not grow with the training set. An equal hash is confirmed word by word.

Overlap is a hint, not a proof: a copy in other words or other numbers does not show, and a shared
sentence may be a commonplace.

Source: Brown et al., Language Models are Few-Shot Learners, 2020, section 4 and appendix C
(https://arxiv.org/abs/2005.14165): 13-grams, shorter examples as a whole, frequent n-grams left
out.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import UsageError

__all__ = ["COMMON", "SHORTEST", "SIZES", "overlap", "words_of"]

SIZES = (13, 8)
COMMON = 10
SHORTEST = 5
"""Fewest words of a question that is compared; a shorter one may occur anywhere by chance."""

_BLOCK = 400_000  # words of training rows at a time
_EXAMPLES = 10
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: powers of it never vanish
_WORD = re.compile(r"[a-z0-9]+")

Question = tuple[str, str]  # id, text
Row = tuple[str, str, str]  # id, question, response


def words_of(text: str) -> list[str]:
    """Split a text into words without case and punctuation; letters keep their vowel signs, digits
    stay together.

    >>> words_of("Let $x_1 = 3.5$; FIND x.")
    ['let', 'x', '1', '3', '5', 'find', 'x']
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(_SPACES).split()


class _Spaces(dict[int, int]):
    """Character -> itself, or a space if it is no part of a word; looked up once for each."""

    def __missing__(self, code: int) -> int:
        # Letters, marks (vowel signs) and numbers make words; all else separates them.
        mapped = code if unicodedata.category(chr(code))[0] in "LMN" else 32
        return self.setdefault(code, mapped)


_SPACES = _Spaces()


@dataclass
class _Grams:
    """N-grams of one length of all benchmarks."""

    length: int
    owners: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    """Word ids -> the questions that contain them."""
    by_hash: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass
class _Seen:
    """Overlap of one question."""

    best: float = 0.0
    row: str = ""
    part: str = ""
    shared: tuple[int, ...] = ()
    parts: set[str] = field(default_factory=set)


def overlap(
    rows: Iterable[Row],
    benchmarks: Mapping[str, Sequence[Question]],
    *,
    sizes: Sequence[int] = SIZES,
    common: int = COMMON,
) -> dict[str, Any]:
    """Compare a training set with the questions of benchmarks.

    Args:
        rows: (id, question, response) of each training row; read once.
        benchmarks: name -> (id, text) of each question.
        sizes: numbers of words in an n-gram.
        common: an n-gram of more questions of one benchmark than this is its template.

    Returns:
        `rows`, `words`, `sizes`, `common` and `found`: for each size and benchmark the numbers of
        `questions`, of those `too_short` to compare, of `questions_hit`, of `rows_hit`, how many of
        the questions were hit `in_prompts` and `in_completions`, the `templates` left out, and the
        worst `examples` (`question`, `row`, `place`, `share` of the question's n-grams that the row
        has, `shared` words).

    Raises:
        UsageError: a size is below 2, or no benchmark is given.
    """
    if not benchmarks or not sizes or min(sizes) < 2:
        raise UsageError(
            f"contamination needs a benchmark and n-grams of at least 2 words, got {list(sizes)}."
        )
    index = _Index(benchmarks, sizes, common)
    count = total = 0
    for block in _blocks(rows, index.vocabulary):
        count += block.rows
        total += block.words
        index.scan(block)
    return {
        "rows": count,
        "words": total,
        "sizes": list(sizes),
        "common": common,
        "found": [index.report(size, name) for size in sizes for name in benchmarks],
    }


class _Index:
    """The benchmarks' side: their words, their n-grams, and the overlaps so far."""

    def __init__(
        self, benchmarks: Mapping[str, Sequence[Question]], sizes: Sequence[int], common: int
    ):
        self.vocabulary: dict[str, int] = {}
        self.ids: list[str] = []
        self.benchmark: list[str] = []
        self.texts: list[np.ndarray] = []
        for name, questions in benchmarks.items():
            for question, text in questions:
                self.ids.append(question)
                self.benchmark.append(name)
                self.texts.append(self._learn(text))
        self.names = {number: word for word, number in self.vocabulary.items()}
        self.keys = np.array([0, *map(_key, self.vocabulary)], np.uint64)
        self.templates: Counter[tuple[int, str]] = Counter()
        self.total: Counter[tuple[int, int]] = Counter()
        """(size, question) -> its different n-grams, templates left out."""
        self.seen: dict[int, dict[int, _Seen]] = {size: {} for size in sizes}
        self.rows_hit: Counter[tuple[int, str]] = Counter()
        self.grams = {size: self._grams(size, common) for size in sizes}

    def _learn(self, text: str) -> np.ndarray:
        vocabulary = self.vocabulary
        return np.array(
            [vocabulary.setdefault(word, len(vocabulary) + 1) for word in words_of(text)], np.int64
        )

    def _grams(self, size: int, common: int) -> list[_Grams]:
        """Return the n-grams of a size, by length: a shorter question is one n-gram."""
        by_length: dict[int, _Grams] = {}
        for question, text in enumerate(self.texts):
            length = min(size, len(text))
            if length < min(size, SHORTEST):
                continue
            grams = by_length.setdefault(length, _Grams(length))
            for gram in set(_windows(text, length)):
                grams.owners.setdefault(gram, []).append(question)
        for grams in by_length.values():
            for gram, owners in list(grams.owners.items()):
                counts = Counter(self.benchmark[question] for question in owners)
                templates = {name for name, number in counts.items() if number > common}
                if templates:
                    self.templates.update((size, name) for name in templates)
                    others = [q for q in owners if self.benchmark[q] not in templates]
                    grams.owners[gram] = others
                    if not others:
                        del grams.owners[gram]
            self.total.update((size, question) for qs in grams.owners.values() for question in qs)
            self._hash(grams)
        return list(by_length.values())

    def _hash(self, grams: _Grams) -> None:
        if not grams.owners:
            return
        arrays = np.array(list(grams.owners), np.int64)  # (n-grams, length)
        hashes = np.zeros(len(arrays), np.uint64)
        for column in range(grams.length):
            hashes = hashes * _BASE + self.keys[arrays[:, column]]
        for number, gram in zip(hashes.tolist(), grams.owners, strict=True):
            grams.by_hash.setdefault(number, []).append(gram)
        grams.hashes = np.unique(hashes)

    def scan(self, block: _Block) -> None:
        """Look for the n-grams of every size in a block of training rows."""
        powers = _Rolling(self.keys[block.ids])
        unknown = np.concatenate(([0], np.cumsum(block.ids == 0)))
        for size, groups in self.grams.items():
            hits: dict[tuple[int, int, str], dict[tuple[int, ...], None]] = {}
            for grams in groups:
                for start, gram in self._matches(block, powers, unknown, grams):
                    row, part = block.owner(start)
                    for question in grams.owners[gram]:
                        hits.setdefault((row, question, part), {})[gram] = None
            self._note(size, block, hits)

    def _matches(
        self, block: _Block, rolling: _Rolling, unknown: np.ndarray, grams: _Grams
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        length = grams.length
        if not len(grams.hashes) or len(block.ids) < length:
            return
        # Only windows of words that the benchmarks know.
        whole = np.flatnonzero(unknown[length:] == unknown[:-length])
        if not len(whole):
            return
        hashes = rolling.windows(length)[whole]
        places = np.searchsorted(grams.hashes, hashes)
        places[places == len(grams.hashes)] = 0
        for start in whole[grams.hashes[places] == hashes].tolist():
            window = tuple(block.ids[start : start + length].tolist())
            if window in grams.owners:
                yield start, window

    def _note(
        self,
        size: int,
        block: _Block,
        hits: Mapping[tuple[int, int, str], Mapping[tuple[int, ...], None]],
    ) -> None:
        affected: set[tuple[int, str]] = set()
        for (row, question, part), grams in hits.items():
            affected.add((row, self.benchmark[question]))
            seen = self.seen[size].setdefault(question, _Seen())
            seen.parts.add(part)
            share = len(grams) / self.total[size, question]
            if share > seen.best:
                seen.best, seen.row, seen.part = share, block.names[row], part
                seen.shared = next(iter(grams))
        self.rows_hit.update((size, name) for _, name in affected)

    def report(self, size: int, name: str) -> dict[str, Any]:
        mine = [q for q, owner in enumerate(self.benchmark) if owner == name]
        seen = {q: self.seen[size][q] for q in mine if q in self.seen[size]}
        worst = sorted(seen.items(), key=lambda item: (-item[1].best, item[0]))[:_EXAMPLES]
        short = sum(len(self.texts[q]) < min(size, SHORTEST) for q in mine)
        return {
            "n": size,
            "benchmark": name,
            "questions": len(mine),
            "too_short": short,
            "questions_hit": len(seen),
            "rows_hit": self.rows_hit[size, name],
            "in_prompts": sum("prompt" in s.parts for s in seen.values()),
            "in_completions": sum("completion" in s.parts for s in seen.values()),
            "templates": self.templates[size, name],
            "examples": [
                {
                    "question": self.ids[question],
                    "row": hit.row,
                    "place": hit.part,
                    "share": round(hit.best, 4),
                    "shared": " ".join(self.names[word] for word in hit.shared),
                }
                for question, hit in worst
            ],
        }


@dataclass
class _Block:
    """Training rows as one array of word ids; 0 is a word that no benchmark has, or a border."""

    ids: np.ndarray  # (words,) int64
    starts: np.ndarray  # (texts,) int64, where each text begins
    owners: list[tuple[int, str]]  # row and part (prompt or completion) of each text
    names: list[str]
    rows: int
    words: int

    def owner(self, position: int) -> tuple[int, str]:
        return self.owners[int(np.searchsorted(self.starts, position, side="right")) - 1]


def _blocks(rows: Iterable[Row], vocabulary: Mapping[str, int]) -> Iterator[_Block]:
    ids: list[int] = []
    starts: list[int] = []
    owners: list[tuple[int, str]] = []
    names: list[str] = []
    words = 0
    number = vocabulary.get

    def block() -> _Block:
        return _Block(
            np.array(ids, np.int64), np.array(starts, np.int64), owners, names, len(names), words
        )

    for name, prompt, completion in rows:
        for part, text in (("prompt", prompt), ("completion", completion)):
            starts.append(len(ids))
            owners.append((len(names), part))
            numbers = [number(word, 0) for word in words_of(text)]
            words += len(numbers)
            ids.extend(numbers)
            ids.append(0)
        names.append(name)
        if len(ids) >= _BLOCK:
            yield block()
            ids, starts, owners, names, words = [], [], [], [], 0
    if names:
        yield block()


class _Rolling:
    """Polynomial hashes of all windows of one array, modulo 2^64.

    The hash of a window of a + b words is the first part's times BASE^b, plus the second part's: a
    window of n words takes about log2(n) passes over the array instead of n.
    """

    def __init__(self, values: np.ndarray):
        self._doubled = {1: values}

    def windows(self, length: int) -> np.ndarray:
        """Return the hashes of all windows of a length."""
        size, result = 1, None
        done = 0
        while size <= length:
            if size not in self._doubled:
                step = size // 2
                half = self._doubled[step]
                self._doubled[size] = half[: len(half) - step] * _power(step) + half[step:]
            if length & size:
                part = self._doubled[size]
                if result is None:
                    result = part
                else:
                    later = part[done:]
                    result = result[: len(later)] * _power(size) + later
                done += size
            size *= 2
        assert result is not None
        return result


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_BASE), exponent, 2**64))


def _key(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _windows(text: np.ndarray, length: int) -> Iterator[tuple[int, ...]]:
    if length < 1:
        return iter(())
    numbers = text.tolist()
    return (tuple(numbers[i : i + length]) for i in range(len(numbers) - length + 1))
