"""Rows of training data, read and checked before anything expensive happens.

Each row of a source has the same shape, one of those in `shapes`. A row that cannot be trained on
is named by file and line with the rule it breaks, or listed where such rows are skipped; columns
that no part of a row comes from are counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..records import Digest
from .example import BadRow, Example, count_rules, reasons_of
from .examples import Examples, ExampleWriter
from .readers import JsonLine, Unreadable, check_split, source_rows
from .shapes import Broken, Columns, example_of, number_of, schema_of, unused_columns
from .workers import in_order, number_of_workers

__all__ = ["BadRow", "Example", "Rows", "hold_out", "read_rows", "rows_from"]

_ROWS_OF_A_PART = 2048
_CHARACTERS_OF_A_PART = 4_000_000
_PARTS_ALONE = 4
"""Parts that are checked before it pays to start workers."""
_GROUP_CHARACTERS = 60
"""Characters of a group's name that are kept."""


@dataclass(frozen=True)
class Rows:
    """The rows of one source."""

    source: str
    schema: str
    """The column with the turns, or `prompt/completion` by the names of the two columns."""
    examples: Examples
    bad: tuple[BadRow, ...] = ()
    sha256: str = field(default="", compare=False)
    """Over the content of the examples, in order."""
    unused: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Columns with content that the examples do not use, with the number of rows that have it."""
    groups: Mapping[str, str] = field(default_factory=dict, compare=False)
    """File and line of a row -> its value in the column `group_by`; empty without one."""
    echoes: tuple[str, ...] = field(default=(), compare=False)
    """File and line of the rows whose response is their question once more."""

    def __len__(self) -> int:
        return len(self.examples)


def read_rows(
    source: str,
    *,
    prompt_column: str | None = None,
    response_column: str | None = None,
    messages_column: str | None = None,
    split: str = "train",
    subset: str | None = None,
    skip_bad_rows: bool = False,
    numbers: Sequence[str] = (),
    group_by: str | None = None,
) -> Rows:
    """Read and check all rows of a file, a saved dataset or a hub dataset.

    Args:
        source: path of a .jsonl, .json, .parquet, .arrow, .csv or .tsv file, also compressed; of
            several, separated by commas or as a pattern; of a folder of them, or one written by
            `datasets.save_to_disk`; an address (`https://`, `hf://`); a dataset id of the hub; or
            `-`, JSON lines from standard input.
        prompt_column, response_column: the columns to use as prompt and response; both or neither.
        messages_column: the column with the turns of a conversation.
        split: split of a saved or hub dataset.
        subset: configuration name of a hub dataset.
        skip_bad_rows: list unusable rows in `Rows.bad` instead of raising.
        numbers: columns with a number per row, at least 0, to read as well.
        group_by: column with the source or kind of a row; a row without it is in the group `-`.

    Raises:
        UsageError: the source does not exist, or its format is unknown.
        DataError: the source is unreadable or empty, its rows have no known schema or different
            ones, or a row is unusable and `skip_bad_rows` is off. The message names file and line.
    """
    check_split(source, split, subset)
    return rows_from(
        source_rows(source, split, subset),
        source=source,
        prompt_column=prompt_column,
        response_column=response_column,
        messages_column=messages_column,
        skip_bad_rows=skip_bad_rows,
        numbers=numbers,
        group_by=group_by,
    )


def rows_from(
    rows: Iterable[tuple[str, Any]],
    *,
    source: str,
    prompt_column: str | None = None,
    response_column: str | None = None,
    messages_column: str | None = None,
    skip_bad_rows: bool = False,
    numbers: Sequence[str] = (),
    group_by: str | None = None,
) -> Rows:
    """Check rows that are already in memory, given as (where, row). Arguments and errors as in
    `read_rows`.
    """
    if (prompt_column is None) != (response_column is None):
        raise UsageError(
            "name both columns or neither: --prompt-column and --response-column belong together."
        )
    if prompt_column is not None and messages_column is not None:
        raise UsageError(
            "--messages-column names turns, --prompt-column and --response-column two texts: choose"
            " one."
        )
    columns = Columns(prompt_column, response_column, messages_column)
    checks = _Checks(columns, tuple(numbers), group_by)
    examples = ExampleWriter()
    content = Digest()
    bad: list[BadRow] = []
    unused: Counter[str] = Counter()
    groups: dict[str, str] = {}
    echoes: list[str] = []
    schema = ""
    for part in _checked(_parts(rows), checks):
        schema = schema or part.schema
        examples.take(part.examples)
        content.take(part.content)
        bad += part.bad
        unused.update(part.unused)
        groups.update(part.groups)
        echoes += part.echoes
    if bad and (not skip_bad_rows or not len(examples)):
        raise DataError(_complaint(bad, len(examples)))
    if not len(examples):
        raise DataError(f"{source} holds no rows; there is nothing to train on.")
    if group_by is not None and set(groups.values()) == {"-"}:
        raise DataError(f"no row of {source} has the column {group_by!r} of --group-by.")
    return Rows(
        *(source, schema, examples.finish(), tuple(bad), content.hexdigest(), dict(unused)),
        *(groups, tuple(echoes)),
    )


class _Part(NamedTuple):
    """Result of the checks of some rows."""

    schema: str
    first: str
    """The place of the first row that is of use."""
    examples: Any
    content: bytes
    bad: list[BadRow]
    unused: Counter[str]
    groups: dict[str, str]
    """The place of each row -> its group."""
    echoes: list[str]
    """The places of rows whose response is their question."""


@dataclass(frozen=True)
class _Checks:
    """The checks of rows, one after another."""

    columns: Columns
    numbers: tuple[str, ...]
    group_by: str | None = None
    schema: str = ""
    """The schema of the rows before, which the others must have."""
    first: str = ""

    def __call__(self, rows: Sequence[tuple[str, Any]]) -> _Part:
        schema, first, columns = self.schema, self.first, self.columns
        examples, content = ExampleWriter(in_memory=sys.maxsize), Digest()
        written: list[bytes] = []
        bad: list[BadRow] = []
        unused: Counter[str] = Counter()
        groups: dict[str, str] = {}
        echoes: list[str] = []
        columns_read = {*self.numbers, self.group_by}
        for where, row in rows:
            try:
                if isinstance(row, JsonLine):
                    row = row.row()
                if isinstance(row, Unreadable):
                    raise Broken(row.rule)
                row_schema = schema_of(row, columns)
                if schema and row_schema != schema:
                    raise Broken(
                        f"has the schema {row_schema}, but {first} has {schema}; one file, one"
                        " schema"
                    )
                example = example_of(row, row_schema, where, columns)
                if self.numbers:
                    read = {name: number_of(row, name) for name in self.numbers}
                    example = replace(example, numbers=read)
            except Broken as broken:
                bad.append(BadRow(where, str(broken)))
                continue
            if not schema:
                schema, first = row_schema, where
            unused.update(
                name
                for name in unused_columns(row, schema, columns, example)
                if name not in columns_read
            )
            if self.group_by is not None:
                value = row.get(self.group_by)
                groups[where] = "-" if value is None else str(value)[:_GROUP_CHARACTERS]
            if example.repeats_question:
                echoes.append(where)
            examples.append(example)
            written.append(content.written(example.content))
        packed = examples.packed()
        return _Part(schema, first, packed, b"".join(written), bad, unused, groups, echoes)


def _checked(parts: Iterator[list[tuple[str, Any]]], checks: _Checks) -> Iterator[_Part]:
    """Check the first rows here, which show the schema, and the many others in workers."""
    for number, rows in enumerate(parts, 1):
        part = checks(rows)
        checks = replace(checks, schema=part.schema, first=part.first)
        yield part
        if number >= _PARTS_ALONE and checks.schema:
            yield from in_order(checks, parts, workers=number_of_workers())


def _parts(rows: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """The rows in lists of bounded length."""
    part: list[tuple[str, Any]] = []
    size = 0
    for where, row in rows:
        part.append((where, row))
        size += len(row.text) if isinstance(row, JsonLine) else _length(row)
        if len(part) >= _ROWS_OF_A_PART or size >= _CHARACTERS_OF_A_PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _length(value: Any) -> int:
    """Characters of a row's texts."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list | tuple) else 1


def hold_out(rows: Rows, size: int, *, seed: int) -> tuple[Examples, Examples]:
    """Split off about `size` rows at random; rows with the same question stay on the same side.

    Returns:
        (training rows, held-out rows), each in the source's order.

    Raises:
        DataError: nothing would be left to train on.
    """
    _, first, group = np.unique(rows.examples.questions, return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[group]  # groups numbered as they appear
    sizes = np.bincount(by_appearance)
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = np.zeros(len(sizes), dtype=bool)
    number = 0
    for question in order.tolist():
        if number + sizes[question] <= size:
            chosen[question] = True
            number += int(sizes[question])
        if number >= size:
            break
    if number >= len(rows.examples) or not number:
        raise DataError(
            f"cannot hold out {size} of {len(rows.examples)} rows with {len(sizes)} different"
            f" prompts in {rows.source}; give a separate file with --heldout-data, or a smaller"
            " --heldout."
        )
    aside = chosen[by_appearance]
    return rows.examples.select((~aside).nonzero()[0]), rows.examples.select(aside.nonzero()[0])


def _complaint(bad: list[BadRow], good: int) -> str:
    others = ", ".join(row.where.rsplit(":", 1)[-1].strip() for row in bad[1:6])
    more = (
        f" {len(bad)} of {len(bad) + good} rows are unusable (also"
        f" {others}{', …' if len(bad) > 6 else ''})."
    )
    if len(count_rules(bad)) > 1:
        more += f" {reasons_of(bad)}."
    way_out = " Correct it, or leave such rows out with --skip-bad-rows." if good else ""
    return f"{bad[0].where} {bad[0].rule}.{more if len(bad) > 1 else ''}{way_out}"
