"""Rows -> token ids and labels: what is trained on, what is ignored, and what was cut off.

Labels hold the token where it counts and -100 elsewhere; only the response counts: the completion
and its end-of-text token, or the assistant turns of a conversation by the rule of `chat`. Each row
becomes one text with supervised characters (`texts`); texts are tokenized in batches by the fast
tokenizer, which knows the characters of each token (`pieces`), and a token counts if any of its
characters does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import DataError
from .example import BadRow, Example, count_rules
from .pieces import TextTokenizer
from .texts import RowText, RowTexts
from .tokens import Encoded, TokenRows, TokenWriter
from .written import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "Encoding", "encode", "separator_of"]

_BATCH = 512


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
    rows = TokenWriter()
    bad: list[BadRow] = []
    dropped: list[BadRow] = []
    unwritten: Counter[str] = Counter()
    for start in range(0, len(examples), _BATCH):
        part = examples[start : start + _BATCH]
        batch: list[RowText] = []
        for example in part if prepare is None else map(prepare, part):
            try:
                batch.append(texts.of(example))
            except Refusal as refusal:
                if not skip_bad_rows:
                    raise DataError(
                        f"{example.where} {refusal}. Correct it, or pass --skip-bad-rows."
                    ) from None
                bad.append(BadRow(example.where, str(refusal)))
            else:
                if batch[-1].unwritten:
                    unwritten.update(set(batch[-1].unwritten))
        rule = f"has no supervised token within max_length = {max_length}"
        dropped += [BadRow(where, rule) for where in tokens.write(batch, rows)]
        if progress is not None:
            progress(len(part))
    if not len(rows):
        raise DataError(_nothing_left(examples, bad, dropped, max_length))
    return Encoding(rows.finish(), tuple(dropped), tuple(bad), dict(unwritten))


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
