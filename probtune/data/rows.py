"""Rows of training data, read and checked before anything expensive happens.

Three schemas, each row of a source in the same one:

    messages            {"messages": [{"role": "user", "content": "…"},
                                      {"role": "assistant", "content": "…"}]}
    prompt/completion   {"prompt": "…", "completion": "…"}      (texts, or lists of messages)
    named columns       any two text columns, named by the caller

from a JSONL, JSON, Parquet or CSV file, a dataset saved by `datasets`, or a dataset id of the
Hugging Face hub. A row that cannot be trained on is named by file and line with the rule it breaks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import DataError, UsageError
from ..records import digest
from .readers import kind_of, read_source

__all__ = ["BadRow", "Example", "Rows", "hold_out", "read_rows", "rows_from"]

Message = Mapping[str, str]

_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Example:
    """One row, checked. Either two texts, or a conversation whose assistant turns from
    `first_trained` on count.
    """

    where: str
    """File and line, for messages to the user."""
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] = ()
    first_trained: int = 0
    """Index of the first message that may be trained on; earlier assistant turns are context."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further columns that were asked for."""

    @property
    def content(self) -> dict[str, Any]:
        """What the row says, without where it stands: the part that counts for the data hash and
        for duplicates.
        """
        if self.messages:
            found = {"messages": [dict(m) for m in self.messages], "from": self.first_trained}
        else:
            found = {"prompt": self.prompt, "completion": self.completion}
        return {**found, "numbers": dict(self.numbers)} if self.numbers else found

    @property
    def question(self) -> str:
        """What the model is given, as one text: equal questions must not fall on both sides of a
        split.
        """
        if self.messages:
            last = max(i for i, m in enumerate(self.messages) if m["role"] == "assistant")
            return json.dumps(
                [dict(m) for m in self.messages[:last]], ensure_ascii=False, sort_keys=True
            )
        return self.prompt or ""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be trained on, with the rule it breaks."""

    where: str
    rule: str


@dataclass(frozen=True)
class Rows:
    """The rows of one source."""

    source: str
    schema: str
    """`messages`, `prompt/completion`, or `prompt_column/response_column` as named."""
    examples: tuple[Example, ...]
    bad: tuple[BadRow, ...] = ()
    sha256: str = field(default="", compare=False)
    """Over the content of the examples, in order."""

    def __len__(self) -> int:
        return len(self.examples)


def read_rows(
    source: str,
    *,
    prompt_column: str | None = None,
    response_column: str | None = None,
    split: str = "train",
    subset: str | None = None,
    skip_bad_rows: bool = False,
    numbers: Sequence[str] = (),
) -> Rows:
    """Read and check all rows of a file, a saved dataset or a hub dataset.

    Args:
        source: path of a .jsonl, .json, .parquet, .csv or .tsv file, of a folder written by
            `datasets.save_to_disk`, or a dataset id of the hub.
        prompt_column, response_column: the columns to use as prompt and response; both or neither.
        split: split of a saved or hub dataset.
        subset: configuration name of a hub dataset.
        skip_bad_rows: list unusable rows in `Rows.bad` instead of raising.
        numbers: columns with a number per row, at least 0, to read as well.

    Raises:
        UsageError: the source does not exist, or its format is unknown.
        DataError: the source is unreadable or empty, its rows have no known schema or different
            ones, or a row is unusable and `skip_bad_rows` is off. The message names file and line.
    """
    return rows_from(
        read_source(source, split, subset),
        source=source,
        prompt_column=prompt_column,
        response_column=response_column,
        skip_bad_rows=skip_bad_rows,
        numbers=numbers,
    )


def rows_from(
    rows: Iterable[tuple[str, Any]],
    *,
    source: str,
    prompt_column: str | None = None,
    response_column: str | None = None,
    skip_bad_rows: bool = False,
    numbers: Sequence[str] = (),
) -> Rows:
    """Check rows that are already in memory, given as (where, row). Arguments and errors as in
    `read_rows`.
    """
    if (prompt_column is None) != (response_column is None):
        raise UsageError(
            "name both columns or neither: --prompt-column and --response-column belong together."
        )
    examples: list[Example] = []
    bad: list[BadRow] = []
    schema = ""
    first = ""
    for where, row in rows:
        try:
            row_schema = _schema(row, prompt_column, response_column)
            if schema and row_schema != schema:
                raise _Broken(
                    f"has the schema {row_schema}, but {first} has {schema}; one file, one schema"
                )
            example = _example(row, row_schema, where, prompt_column, response_column)
            if numbers:
                example = replace(example, numbers={name: _number(row, name) for name in numbers})
        except _Broken as broken:
            bad.append(BadRow(where, str(broken)))
            continue
        if not schema:
            schema, first = row_schema, where
        examples.append(example)
    if bad and (not skip_bad_rows or not examples):
        raise DataError(_complaint(bad, len(examples)))
    if not examples:
        raise DataError(f"{source} holds no rows; there is nothing to train on.")
    sha256 = digest(example.content for example in examples)
    return Rows(source, schema, tuple(examples), tuple(bad), sha256)


def hold_out(
    rows: Rows, size: int, *, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split off about `size` rows at random; rows with the same question stay on the same side.

    Returns:
        (training rows, held-out rows), each in the source's order.

    Raises:
        DataError: nothing would be left to train on.
    """
    import numpy as np

    groups: dict[str, list[int]] = {}
    for index, example in enumerate(rows.examples):
        groups.setdefault(example.question, []).append(index)
    order = np.random.default_rng(seed).permutation(len(groups))
    questions = list(groups)
    held: set[int] = set()
    for position in order:
        members = groups[questions[position]]
        if len(held) + len(members) <= size:
            held.update(members)
        if len(held) >= size:
            break
    if len(held) >= len(rows.examples) or not held:
        raise DataError(
            f"cannot hold out {size} of {len(rows.examples)} rows with {len(groups)} different"
            f" prompts in {rows.source}; give a separate file with --heldout-data, or a smaller"
            " --heldout."
        )
    train = tuple(e for i, e in enumerate(rows.examples) if i not in held)
    return train, tuple(rows.examples[i] for i in sorted(held))


class _Broken(Exception):
    """A rule that a row breaks; the text completes 'file:line …'."""


def _complaint(bad: list[BadRow], good: int) -> str:
    others = ", ".join(row.where.rsplit(":", 1)[-1] for row in bad[1:6])
    more = (
        f" {len(bad)} of {len(bad) + good} rows are unusable (also"
        f" {others}{', …' if len(bad) > 6 else ''})."
    )
    way_out = " Correct it, or leave such rows out with --skip-bad-rows." if good else ""
    return f"{bad[0].where} {bad[0].rule}.{more if len(bad) > 1 else ''}{way_out}"


def _schema(row: Any, prompt_column: str | None, response_column: str | None) -> str:
    if not isinstance(row, Mapping):
        raise _Broken(f"is not an object with named fields but {kind_of(row)}")
    if prompt_column is not None and response_column is not None:
        for column in (prompt_column, response_column):
            if column not in row:
                raise _Broken(
                    f"has no column {column!r}; its columns are {', '.join(map(repr, row))}"
                )
        return f"{prompt_column}/{response_column}"
    has_messages = row.get("messages") is not None
    has_pair = row.get("prompt") is not None or row.get("completion") is not None
    if has_messages and has_pair:
        raise _Broken(
            "has both 'messages' and 'prompt'/'completion'; choose with --prompt-column and"
            " --response-column"
        )
    if has_messages:
        return "messages"
    if has_pair:
        return "prompt/completion"
    raise _Broken(
        "has neither 'messages' nor 'prompt' and 'completion'; its columns are"
        f" {', '.join(map(repr, row)) or 'none'}: name two of them with --prompt-column and"
        " --response-column"
    )


def _example(
    row: Mapping[str, Any],
    schema: str,
    where: str,
    prompt_column: str | None,
    response_column: str | None,
) -> Example:
    if schema == "messages":
        messages = _messages(row["messages"], "messages")
        if not any(m["role"] == "assistant" for m in messages):
            raise _Broken("has no assistant message; there is nothing to train on")
        return Example(where, messages=messages)
    prompt_column, response_column = prompt_column or "prompt", response_column or "completion"
    prompt, completion = row.get(prompt_column), row.get(response_column)
    if isinstance(prompt, list) or isinstance(completion, list):
        before, after = _messages(prompt, prompt_column), _messages(completion, response_column)
        if not any(m["role"] == "assistant" for m in after):
            raise _Broken(
                f"has no assistant message in {response_column!r}; there is nothing to train on"
            )
        return Example(where, messages=before + after, first_trained=len(before))
    for column, text in ((prompt_column, prompt), (response_column, completion)):
        if not isinstance(text, str):
            raise _Broken(f"{column!r} must be a text, got {kind_of(text)}")
        if not text.strip():
            raise _Broken(f"{column!r} is empty")
    return Example(where, prompt=prompt, completion=completion)


def _number(row: Mapping[str, Any], name: str) -> float:
    if name not in row:
        raise _Broken(f"has no column {name!r}; its columns are {', '.join(map(repr, row))}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Broken(f"{name!r} must be a finite number, got {kind_of(value)}")
    if value < 0:
        raise _Broken(f"{name!r} must not be negative, got {value:g}: it weights a loss")
    return float(value)


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _Broken(f"{name!r} must be a list of messages, got {kind_of(value)}")
    messages = []
    for index, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _Broken(
                f"{name}[{index}] must be an object with 'role' and 'content', got"
                f" {kind_of(message)}"
            )
        if message["role"] not in _ROLES:
            raise _Broken(
                f"{name}[{index}] has the role {message['role']!r}; known are {', '.join(_ROLES)}"
            )
        if not isinstance(message.get("content"), str):
            raise _Broken(
                f"{name}[{index}] must have a text as 'content', got"
                f" {kind_of(message.get('content'))}"
            )
        if message["role"] == "assistant" and not message["content"].strip():
            raise _Broken(f"{name}[{index}] is an assistant message without text")
        messages.append({"role": message["role"], "content": message["content"]})
    return tuple(messages)
