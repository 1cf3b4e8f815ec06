"""Rows -> token ids and labels: what is trained on, what is ignored, and what was cut off.

Labels hold the token where it counts and -100 elsewhere; only the response counts: the completion
and its end-of-text token, or the assistant turns of a conversation by the rule of `chat`. Each row
becomes one text with supervised characters (`texts`); texts are tokenized in batches by the fast
tokenizer, which knows the characters of each token (`pieces`), and a token counts if any of its
characters does.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DataError
from .example import BadRow, Example, reasons_of
from .examples import Examples, Records
from .pieces import TextTokenizer
from .texts import RowText, RowTexts
from .tokens import Encoded, PackedRows, TokenRows, TokenWriter
from .workers import in_order, number_of_workers
from .written import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "Encoding", "encode", "separator_of"]

_BATCH = 512
_BATCH_BYTES = 8_000_000
_BATCHES_ALONE = 16
"""Batches that are tokenized before it pays to start workers."""


@dataclass(frozen=True)
class Encoding:
    """The rows of one source as tokens, with what happened on the way."""

    rows: TokenRows
    dropped: tuple[BadRow, ...]
    """Rows of which nothing supervised was left within `max_length`."""
    bad: tuple[BadRow, ...]
    """Rows the chat template refused (only with `skip_bad_rows`)."""
    unwritten: Mapping[str, int] = field(default_factory=dict)
    """Fields of the rows that the chat template does not write, with the number of rows."""

    @property
    def counts(self) -> dict[str, int]:
        """Numbers for the record and the table."""
        return {
            "rows": len(self.rows),
            "tokens": int(self.rows.lengths.sum()),
            "supervised_tokens": int(self.rows.supervised.sum()),
            "truncated": self.rows.truncated,
            "dropped": len(self.dropped),
            "refused": len(self.bad),
            "merged_boundary": self.rows.merged,
            "without_end": self.rows.without_end,
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
    prepare: Callable[[Example], Example] | None = None,
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
        prepare: applied to each row first.

    Raises:
        DataError: the tokenizer has no chat template for conversations, the template cannot mark
            assistant turns or refuses a row, or no supervised token is left in any row.
    """
    texts = RowTexts(tokenizer, separator=separator, chat=chat, end=end, begins=begins)
    tokens = TextTokenizer(tokenizer, max_length, texts)
    work = _Work(examples, texts, tokens, max_length, prepare, skip_bad_rows)
    rows = TokenWriter()
    bad: list[BadRow] = []
    dropped: list[BadRow] = []
    unwritten: Counter[str] = Counter()
    for part in work.parts():
        rows.take(part.rows)
        bad += part.bad
        dropped += part.dropped
        unwritten.update(part.unwritten)
        if progress is not None:
            progress(part.number)
    if not len(rows):
        raise DataError(_nothing_left(examples, bad, dropped, max_length))
    return Encoding(rows.finish(), tuple(dropped), tuple(bad), dict(unwritten))


class _Part(NamedTuple):
    """Result of tokenizing some rows."""

    number: int
    rows: PackedRows
    bad: list[BadRow]
    dropped: list[BadRow]
    unwritten: Counter[str]


@dataclass(frozen=True)
class _Work:
    """Rows to be tokenized, with what it takes."""

    examples: Sequence[Example]
    texts: RowTexts
    tokens: TextTokenizer
    max_length: int
    prepare: Callable[[Example], Example] | None = None
    skip_bad_rows: bool = False

    def parts(self) -> Iterator[_Part]:
        """Tokenize all rows: the first here, which shows the templates and words that are frequent,
        and the many others in workers.
        """
        parts = iter(_parts(self.examples))
        yield from map(self, islice(parts, _BATCHES_ALONE))
        yield from in_order(self, parts, workers=number_of_workers())

    def __call__(self, part: slice) -> _Part:
        examples = self.examples[part]
        batch: list[RowText] = []
        bad: list[BadRow] = []
        unwritten: Counter[str] = Counter()
        for example in examples if self.prepare is None else map(self.prepare, examples):
            try:
                batch.append(self.texts.of(example))
            except Refusal as refusal:
                if not self.skip_bad_rows:
                    raise DataError(
                        f"{example.where} {refusal}. Correct it, or pass --skip-bad-rows."
                    ) from None
                bad.append(BadRow(example.where, str(refusal)))
            else:
                if batch[-1].unwritten:
                    unwritten.update(set(batch[-1].unwritten))
        rule = f"has no supervised token within max_length = {self.max_length}"
        rows = TokenWriter(records=Records(in_memory=sys.maxsize))
        dropped = [BadRow(where, rule) for where in self.tokens.write(batch, rows)]
        return _Part(len(examples), rows.packed(), bad, dropped, unwritten)


def _parts(examples: Sequence[Example]) -> Iterator[slice]:
    """Rows that are tokenized together: a bounded number, and bytes as far as rows are large."""
    in_memory = not isinstance(examples, Examples)  # their sizes do not matter
    sizes = [0] * len(examples) if in_memory else examples.sizes.tolist()
    start = size = 0
    for end, bytes_of_row in enumerate(sizes, 1):
        size += bytes_of_row
        if end - start >= _BATCH or size >= _BATCH_BYTES or end == len(sizes):
            yield slice(start, end)
            start, size = end, 0


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
            f"the chat template leaves none of the {len(examples)} rows: {reasons_of(bad)}"
            f" (first: {bad[0].where}). Correct them, or name another template with"
            " --chat-template."
        )
    return (
        f"every label is masked: none of the {len(examples)} rows has a supervised token within"
        f" max_length = {max_length} (first: {dropped[0].where})."
        " Raise --max-length, or check that the responses are not empty under the chat template."
    )
