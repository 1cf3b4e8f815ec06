"""`probtune success` and `probtune replay`: rows from answers that a model draws to training rows.
Both write rows that `probtune tune` reads, and keep the answers beside them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError, UsageError
from ...options import arguments_of
from ...settings import TuneSettings
from ...terminal import Terminal
from .options import ROWS, Replay, Success

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...data.encoding import Encoded
    from ...data.rows import Rows
    from ...pipeline.preparation import Locate
    from ..rollouts import Rollout

__all__ = ["replay", "success"]

_RATE = "success_rate"


def success(options: Success, *, locate: Locate | None = None) -> None:
    out = _new(options.out)
    columns = (_RATE, options.weight_column)
    if not options.weight_column.strip() or options.weight_column == _RATE:
        raise UsageError(f"--weight-column must be a name other than {_RATE}.")
    if options.grader is None and options.answer_column is not None:
        raise UsageError("--answer-column is read for a --grader; name one.")
    if options.grader is not None and options.answer != "auto":
        raise UsageError("--grader and --answer are two ways to grade; choose one.")
    from ..success import grade_by_grader, grade_by_rule, grader_named, rule_for

    if options.grader is not None:
        grader_named(options.grader)
    terminal = Terminal()
    source = _read(options, options.rows, terminal, locate)
    for where, content in source.contents.items():
        for column in columns:
            if column in content:
                raise DataError(
                    f"{where} has a column {column!r} already; remove it, or name another with"
                    " --weight-column."
                )
    rule = None
    if options.grader is None:
        rule = rule_for(options.answer, [row.response for row in source.encoded])
        terminal.say(f"An answer is right by the rule {rule!r}.")
    answers = _draw(options, source, out, terminal)
    if options.grader is not None:
        grades = grade_by_grader(
            options.grader,
            source.encoded,
            source.contents,
            answers,
            answer_column=options.answer_column,
            terminal=terminal,
        )
    else:
        assert rule is not None
        grades = grade_by_rule(rule, source.encoded, answers)
    rates = [sum(of_row) / len(of_row) for of_row in grades]
    new = (
        {**source.contents[row.where], _RATE: rate, options.weight_column: 1.0 - rate}
        for row, rate in zip(source.encoded, rates, strict=True)
    )
    _write(out, new)
    _show_success(grades, answers, source, options, terminal)
    terminal.show(f"rows    {out}", wrap=False)
    objective = f"weighted(nll(), {json.dumps(options.weight_column)})"
    _show_next(options, str(out), ["--objective", objective], terminal)


def _show_success(
    grades: Sequence[Sequence[float]],
    answers: Sequence[Sequence[Rollout]],
    source: _Source,
    options: Success,
    terminal: Terminal,
) -> None:
    from ...statistics import share

    rates = [sum(of_row) / len(of_row) for of_row in grades]
    mean = share(rates, [1] * len(rates))
    none, all_right = (sum(value == end for value in rates) for end in (0.0, 1.0))
    cut = sum(not one.ended for of_row in answers for one in of_row)
    terminal.table(
        f"Success of {options.model} on {len(rates):,} rows,"
        f" {options.samples} answers each at temperature 1",
        ["", "value"],
        [
            ["mean success rate", f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"],
            ["rows never solved (weight 1)", f"{none:,}"],
            ["rows solved every time (weight 0)", f"{all_right:,}"],
            ["mean weight", f"{1.0 - sum(rates) / len(rates):.3f}"],
            ["answers cut at the limit", f"{cut:,} of {len(rates) * options.samples:,}"],
        ],
        notes=[
            "Rates are of this model, before training: OSW-FT measures them anew for every batch."
            " The same command on a checkpoint gives new weights."
        ],
    )
    if len(source.encoded) < source.number:
        terminal.show(f"{source.number - len(source.encoded)} rows were left out (see above).")


def replay(options: Replay, *, locate: Locate | None = None) -> None:
    out = _new(options.out)
    terminal = Terminal()
    source = _read(options, options.rows, terminal, locate)
    answers = _draw(options, source, out, terminal)
    rows = [
        _answered(source.contents[row.where], source.rows, row, answer, index)
        for index, (row, of_row) in enumerate(zip(source.encoded, answers, strict=True))
        for answer in of_row
        if answer.ended and answer.text.strip()
    ]
    drawn = sum(map(len, answers))
    if not rows:
        raise DataError(
            f"none of {drawn} answers ended within the limit of tokens; give a larger"
            " --max-new-tokens."
        )
    _write(out, rows)
    terminal.show(
        f"{len(rows):,} of {drawn:,} answers are rows; {drawn - len(rows):,} did not end within the"
        " limit, or are empty."
    )
    terminal.show(f"rows    {out}", wrap=False)
    if not options.rows.endswith(".txt"):
        _show_next(options, f"{options.rows},{out}", ["--heldout-data", "HELDOUT"], terminal)


def _answered(
    content: Mapping[str, Any], rows: Rows, row: Encoded, answer: Rollout, index: int
) -> dict[str, Any]:
    """Return a row with the model's answer in place of its (last) response."""
    if "/" in rows.schema:
        response = rows.schema.split("/", 1)[1]
        turn: Any = answer.text
        if isinstance(content.get(response), list):
            turn = [{"role": "assistant", "content": answer.text}]
        return {**content, response: turn}
    example = next(one for one in rows.examples.select([index]) if one.where == row.where)
    messages = [dict(message) for message in example.messages[: example.trained[-1]]]
    return {**content, rows.schema: [*messages, {"role": "assistant", "content": answer.text}]}


# Rows, prompts and answers


@dataclass(frozen=True)
class _Source:
    """The rows that are answered."""

    rows: Rows
    """With the examples of `encoded`, in their order."""
    encoded: Sequence[Encoded]
    contents: Mapping[str, Mapping[str, Any]]
    """Place of a row -> its columns."""
    number: int
    """Rows before any was left out."""
    tokenizer: PreTrainedTokenizerBase


def _read(
    options: Success | Replay, source: str, terminal: Terminal, locate: Locate | None
) -> _Source:
    """Read rows, and write their prompts as training does."""
    from dataclasses import replace

    from ...terminal import quiet_libraries

    quiet_libraries()
    import numpy as np

    from ...models.loading import load_tokenizer
    from ...pipeline.preparation import (
        check_vocabulary,
        encode_rows,
        max_length_of,
        read,
        say_losses,
    )

    settings = TuneSettings(model=options.model, data=source, **options.row_settings)
    if source == "-":
        raise UsageError("rows are read twice here, which standard input cannot be; name a file.")
    raw = _prompts(source) if source.endswith(".txt") else None
    if raw is None:
        rows = read(settings, source, terminal, locate=locate)
        contents = _contents(settings, source, terminal, locate)
    else:
        from ...data.rows import rows_from

        rows = rows_from(raw, source=source)
        contents = dict(raw)
    number = len(rows)
    if options.limit is not None and options.limit < number:
        seed = options.row_settings.get("seed", 0)
        chosen = np.random.default_rng(seed).choice(number, size=options.limit, replace=False)
        rows = replace(rows, examples=rows.examples.select(np.sort(chosen)))
        number = options.limit
    tokenizer = load_tokenizer(options.model, settings.chat_template)
    length = max_length_of(settings, terminal)
    encoding = encode_rows(rows.examples, tokenizer, settings, rows.schema, length, terminal)
    check_vocabulary(options.model, encoding)
    say_losses(rows, encoding, terminal, length)
    usable = {row.where for row in encoding.rows}
    indices = [i for i, example in enumerate(rows.examples) if example.where in usable]
    rows = replace(rows, examples=rows.examples.select(indices))
    return _Source(rows, encoding.rows, contents, number, tokenizer)


_ANY = "."
"""Response of a prompt that has none, which is not trained on."""


def _prompts(path: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the lines of a file as rows."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise UsageError(f"cannot read {path}: {reason}.") from None
    rows = [
        (f"{path}:{number}", {"prompt": line, "completion": _ANY})
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise DataError(f"{path} has no line with a prompt.")
    return rows


def _contents(
    settings: TuneSettings, source: str, terminal: Terminal, locate: Locate | None
) -> dict[str, Mapping[str, Any]]:
    """Return the columns of every row by its place."""
    from ...data.readers import read_source

    file = None if locate is None else locate(source, terminal=terminal)
    path = source if file is None else str(file)
    return {
        where: row
        for where, row in read_source(path, settings.split, settings.subset)
        if isinstance(row, Mapping)
    }


def _draw(
    options: Success | Replay, source: _Source, out: Path, terminal: Terminal
) -> list[list[Rollout]]:
    from ...models.identity import model_identity, tokenizer_identity
    from ...models.loading import context_length, load_model
    from ...records import digest
    from ..rollouts import answers_path, draw_rollouts

    limit = options.max_new_tokens
    if limit is None:
        limit = max(int((row.labels != -100).sum()) for row in source.encoded)
    context, _ = context_length(options.model)
    longest = max(len(row.prompt_ids) for row in source.encoded)
    if context is not None and longest + limit > context:
        raise UsageError(
            f"the longest prompt has {longest} tokens and an answer up to {limit}, but"
            f" {options.model} has a context of {context}; give a smaller --max-new-tokens, or"
            " leave long rows out with --max-length."
        )
    identity = {
        "model": digest([model_identity(options.model)]),
        "tokenizer": digest([tokenizer_identity(source.tokenizer)]),
    }

    def load() -> Any:
        terminal.say(f"Loading {options.model}")
        return load_model(options.model, dtype=options.dtype, device=options.device)

    return draw_rollouts(
        source.encoded,
        answers_path(out),
        model=load,
        tokenizer=source.tokenizer,
        identity=identity,
        samples=options.samples,
        max_new_tokens=limit,
        seed=options.row_settings.get("seed", 0),
        terminal=terminal,
    )


def _show_next(
    options: Success | Replay, rows: str, more: Sequence[str], terminal: Terminal
) -> None:
    """Show the command that trains on the rows, which are written as they were here."""
    settings = TuneSettings(model=options.model, data=rows, **options.row_settings)
    command = ["probtune", "tune", options.model, rows, *arguments_of(settings, ROWS), *more]
    terminal.show(f"next    {shlex.join(command)}", wrap=False)


def _new(name: str) -> Path:
    out = Path(name)
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out.")
    if out.suffix != ".jsonl":
        raise UsageError(f"--out {out}: rows are written as JSON lines; end the name in .jsonl.")
    return out


def _write(out: Path, rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> None:
    from ...files import write_pieces

    write_pieces(out, (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))
