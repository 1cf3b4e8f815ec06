"""The data of a run, before any model is loaded: read, checked, split, tokenized and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoding, encode, separator_of
from ..data.example import count_rules
from ..data.examples import Examples
from ..data.prompts import PromptSpec, format_of
from ..data.rows import Example, Rows, hold_out, read_rows
from ..errors import DataError, UsageError
from ..measure.answers import choose_rule, read_rule
from ..models.loading import context_length, load_tokenizer
from ..probe.capability import sample
from ..records import digest
from ..settings import TuneSettings
from ..terminal import Terminal
from ..texts import counted, slug

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Locate",
    "Prepared",
    "check_prompt",
    "check_vocabulary",
    "encode_rows",
    "inner_prompt_of",
    "max_length_of",
    "prepare",
    "prompt_of",
    "read",
    "say_losses",
    "slug",
]

Locate = Callable[..., Path | None]
"""`locate(source, terminal=...)` -> the file that a source such as `corpus:NAME` stands for, or
None if the source is a file or an id itself.
"""

_MAX_HELDOUT = 500
_SHOWN_ECHOES = 200
_SHOWN_CHARACTERS = 1000


@dataclass(frozen=True)
class Prepared:
    """The data of a run, read, checked, split and tokenized; no model has been loaded yet."""

    rows: Rows
    heldout_rows: Rows
    tokenizer: PreTrainedTokenizerBase
    train: Encoding
    heldout: Encoding
    answer_rule: str
    max_length: int

    @property
    def hashes(self) -> dict[str, str]:
        """Hashes that are equal where two runs have the same data."""
        return {
            "train": self.rows.sha256,
            "heldout": digest(row.input_ids.tolist() for row in self.heldout.rows),
        }

    def to_dict(self) -> dict[str, Any]:
        """Counts and sources, for the record."""
        groups = self.heldout_rows.groups
        return {
            "source": self.rows.source,
            "schema": self.rows.schema,
            "sha256": self.rows.sha256,
            "skipped": [
                {"where": row.where, "rule": row.rule} for row in (*self.rows.bad, *self.train.bad)
            ],
            "dropped": [{"where": row.where, "rule": row.rule} for row in self.train.dropped],
            "train": self.train.counts,
            "heldout": self.heldout.counts,
            "heldout_source": self.heldout_rows.source,
            "max_length": self.max_length,
            "answer_rule": self.answer_rule,
            "unused_columns": dict(self.rows.unused),
            "echoes": {"rows": len(self.rows.echoes), "where": self.rows.echoes[:_SHOWN_ECHOES]},
            "unwritten_fields": dict(self.train.unwritten),
            "items": [
                {
                    "where": row.where,
                    "prompt": self.tokenizer.decode(row.prompt_ids)[-_SHOWN_CHARACTERS:],
                    "reference": row.response[:_SHOWN_CHARACTERS],
                    **({"group": groups[row.where]} if row.where in groups else {}),
                }
                for row in self.heldout.rows
            ],
        }


def prepare(
    settings: TuneSettings,
    terminal: Terminal,
    *,
    numbers: Sequence[str] = (),
    locate: Locate | None = None,
) -> Prepared:
    """Read, check, split and tokenize the data.

    Args:
        numbers: columns of the training rows that objectives need besides the texts.
        locate: finds sources that have a name, see `Locate`.
    """
    rows = read(settings, settings.data, terminal, numbers, locate=locate)
    if settings.heldout_data is None:
        size = (
            settings.heldout
            if settings.heldout is not None
            else min(max(1, len(rows) // 10), _MAX_HELDOUT)
        )
        if size < 1 and size * len(rows) < 0.5:
            raise UsageError(
                f"--heldout {size:g} of {len(rows)} rows is less than one row; give a larger share,"
                " or a number of rows."
            )
        size = round(size * len(rows)) if size < 1 else int(size)
        train, heldout_examples = hold_out(rows, max(size, 1), seed=settings.seed)
        heldout_rows = rows
    else:
        heldout_rows = read(settings, settings.heldout_data, terminal, locate=locate)
        train, heldout_examples = rows.examples, heldout_rows.examples
        _warn_of_overlap(train, heldout_examples, terminal)
        if settings.heldout is not None and settings.heldout >= 1:
            heldout_examples = sample(heldout_examples, int(settings.heldout), seed=settings.seed)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    max_length = max_length_of(settings, terminal)
    encoding = encode_rows(train, tokenizer, settings, rows.schema, max_length, terminal)
    heldout = encode_rows(
        heldout_examples, tokenizer, settings, heldout_rows.schema, max_length, terminal
    )
    for part in (encoding, heldout):
        check_vocabulary(settings.model, part)
    answer_rule = settings.answer
    if answer_rule == "auto":
        answer_rule = choose_rule([row.response for row in heldout.rows])
    elif answer_rule != "none":
        read_rule(answer_rule)
    prepared = Prepared(rows, heldout_rows, tokenizer, encoding, heldout, answer_rule, max_length)
    _say_counts(prepared, terminal)
    return prepared


def read(
    settings: TuneSettings,
    source: str,
    terminal: Terminal,
    numbers: Sequence[str] = (),
    *,
    locate: Locate | None = None,
) -> Rows:
    """Read the rows of a source, which `locate` finds if it has a name such as `corpus:NAME`."""
    file = None if locate is None else locate(source, terminal=terminal)
    rows = read_rows(
        source if file is None else str(file),
        prompt_column=settings.prompt_column,
        response_column=settings.response_column,
        messages_column=settings.messages_column,
        split=settings.split,
        subset=settings.subset,
        skip_bad_rows=settings.skip_bad_rows,
        numbers=numbers,
        group_by=settings.group_by,
    )
    if rows.echoes:
        terminal.say(
            f"Warning: {counted(len(rows.echoes), 'answer')} of {len(rows)} repeat the question,"
            f" word for word (the first: {rows.echoes[0]}). To a model they look right; leave them"
            " out, unless to repeat is the task."
        )
    return rows


def max_length_of(settings: TuneSettings, terminal: Terminal) -> int:
    context, _ = context_length(settings.model)
    if context is not None and context < settings.max_length:
        terminal.say(f"max_length is {context}, the longest sequence of {settings.model}.")
        return context
    return settings.max_length


def encode_rows(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    settings: TuneSettings,
    schema: str,
    max_length: int,
    terminal: Terminal,
) -> Encoding:
    separator = settings.separator
    if separator is None:
        separator = separator_of(schema)
    end, begins = None, False
    prompt = prompt_of(settings, tokenizer)
    prepare = None if prompt is None else partial(_asked, prompt=prompt, settings=settings)
    if prompt is not None:
        begins = prompt.begins
        if prompt.format != "plain" and settings.separator is None:
            separator = prompt.form.gap
        if prompt.form.end is not None and settings.response_end == "turn":
            end = tokenizer.get_vocab().get(prompt.form.end)
    with terminal.track("tokenizing", len(examples)) as advance:
        return encode(
            examples,
            tokenizer,
            max_length=max_length,
            separator=separator,
            chat=settings.chat,
            end=end,
            begins=begins,
            skip_bad_rows=settings.skip_bad_rows,
            progress=advance,
            prepare=prepare,
        )


def prompt_of(settings: TuneSettings, tokenizer: PreTrainedTokenizerBase) -> PromptSpec | None:
    """Return how prompts are written, or None: as the data has them."""
    name = settings.prompt_format
    if name is None:
        return None
    return PromptSpec(
        format_of(tokenizer) if name == "auto" else name, settings.system, settings.instruction
    )


def check_prompt(settings: TuneSettings) -> None:
    """Refuse turns that are not known, before rows are read.

    Raises:
        UsageError: with the known ones.
    """
    if settings.prompt_format not in (None, "auto"):
        PromptSpec(settings.prompt_format)
    inner_prompt_of(settings)


def inner_prompt_of(settings: TuneSettings) -> PromptSpec | None:
    """Return the turns that are written inside the others, or None."""
    if not settings.inner_prompt:
        return None
    unknown = sorted(set(settings.inner_prompt) - {"format", "system", "instruction"})
    if unknown:
        raise UsageError(
            f"--inner-prompt takes format, system and instruction, got {', '.join(unknown)}."
        )
    return PromptSpec(**settings.inner_prompt)


def _asked(example: Example, prompt: PromptSpec, settings: TuneSettings) -> Example:
    """Return the example with its prompt written out."""
    if example.prompt is None:
        raise UsageError(
            f"{example.where} is a conversation, which the tokenizer's chat template writes;"
            " --prompt-format is for rows with a prompt and a completion as texts."
        )
    inner = inner_prompt_of(settings)
    text = example.prompt if inner is None else inner.render(example.prompt)
    return replace(example, prompt=prompt.render(text))


def check_vocabulary(model: str, encoding: Encoding) -> None:
    """Refuse tokens that the model does not have.

    Raises:
        DataError: with the first row that has one.
    """
    _, vocabulary = context_length(model)
    row = None if vocabulary is None else encoding.rows.first_above(vocabulary)
    if row is not None:
        raise DataError(
            f"{row.where} has token {row.input_ids.max()}, outside the model's vocabulary of"
            f" {vocabulary}: the tokenizer does not belong to the model, or tokens were added"
            " without resizing its embeddings."
        )


def _warn_of_overlap(train: Examples, heldout: Examples, terminal: Terminal) -> None:
    shared = int(np.isin(heldout.questions, train.questions).sum())
    if shared:
        terminal.say(
            f"{shared} of {len(heldout)} held-out prompts also stand in the training rows."
        )


def _say_counts(prepared: Prepared, terminal: Terminal) -> None:
    counts, heldout = prepared.train.counts, prepared.heldout.counts
    terminal.say(
        f"{counts['rows']} training rows ({counts['supervised_tokens']} supervised of"
        f" {counts['tokens']} tokens), {heldout['rows']} held out; short answers:"
        f" {prepared.answer_rule}."
    )
    say_losses(prepared.rows, prepared.train, terminal, prepared.max_length)


def say_losses(rows: Rows, encoding: Encoding, terminal: Terminal, max_length: int) -> None:
    """Say what of the data is not trained on, or not as it stands."""
    counts = encoding.counts
    for what, number in (
        (f"cut at {max_length} tokens", counts["truncated"]),
        ("dropped, nothing supervised was left", counts["dropped"]),
        (
            "with tokens merged across the end of the prompt (generation sees another context)",
            counts["merged_boundary"] - encoding.rows.other_history,
        ),
        (
            "whose text before the response the chat template writes otherwise when it asks for"
            " that response (generation sees another context)",
            encoding.rows.other_history,
        ),
        ("without a supervised end token (the model is not taught to stop)", counts["without_end"]),
    ):
        if number:
            terminal.say(f"  {counted(number, 'row')} {what}.")
    for rule, number in count_rules((*rows.bad, *encoding.bad)).items():
        terminal.say(f"  {counted(number, 'row')} left out: {rule}.")
    for name, number in rows.unused.items():
        terminal.say(f"  column {name!r} is not used ({counted(number, 'row')} with it).")
    for name, number in encoding.unwritten.items():
        terminal.say(
            f"  the chat template does not write {name!r} ({counted(number, 'row')} with it)."
        )
