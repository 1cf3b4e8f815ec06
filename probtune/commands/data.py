"""The commands `data`, which shows what would be trained on, and `merge`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..settings import TuneSettings
from .options import Data, Merge

if TYPE_CHECKING:
    from ..data.encoding import Encoded
    from ..terminal import Terminal

__all__ = ["data", "merge"]

_SHOWN_ROWS = 3
_SHOWN_CHARACTERS = 1200


def data(options: Data) -> None:
    """Show what would be trained on: counts, lengths, three rows with the supervised part marked,
    and what is not used. Reads a tokenizer, no weights.
    """
    from ..terminal import Terminal, quiet_libraries

    settings = TuneSettings(options.model, options.data, **options.row_settings)
    quiet_libraries()
    from ..models.loading import load_tokenizer
    from ..paper.corpora import locate
    from ..pipeline.preparation import encode_rows, max_length_of, read, say_losses

    terminal = Terminal()
    rows = read(settings, settings.data, terminal, locate=locate)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    max_length = max_length_of(settings, terminal)
    encoding = encode_rows(rows.examples, tokenizer, settings, rows.schema, max_length, terminal)
    counts = encoding.counts
    terminal.show(
        f"{counts['rows']:,} rows, {counts['supervised_tokens']:,} supervised of"
        f" {counts['tokens']:,} tokens (shape: {rows.schema})"
    )
    terminal.table(
        "Lengths in tokens",
        ["", "shortest", "median", "95 %", "longest"],
        [
            [name, *_quantiles(values)]
            for name, values in (
                ("row", encoding.rows.lengths),
                ("supervised", encoding.rows.supervised),
            )
        ],
    )
    say_losses(rows, encoding, terminal, max_length)
    names = [str(tokenizer.decode([end])) for end in encoding.rows.ends]
    terminal.show(f"end tokens  {'  '.join(names) or 'none'}")
    for row in _spread(encoding.rows):
        terminal.show(f"\n{row.where}", wrap=False)
        _show_row(row, tokenizer, terminal)


def _quantiles(values: Any) -> list[str]:
    import numpy as np

    return [f"{int(np.quantile(values, q)):,}" for q in (0.0, 0.5, 0.95, 1.0)]


def _spread(rows: Sequence[Encoded]) -> list[Encoded]:
    """The first row, one in the middle and the last."""
    places = sorted({0, len(rows) // 2, len(rows) - 1})
    return [rows[index] for index in places[:_SHOWN_ROWS]]


def _show_row(row: Encoded, tokenizer: Any, terminal: Terminal) -> None:
    """The row's text; what is supervised stands between ⟦ and ⟧, in colour on a terminal."""
    pieces = []
    for supervised, ids in _stretches(row):
        text = tokenizer.decode(ids)
        if len(text) > _SHOWN_CHARACTERS:
            half = _SHOWN_CHARACTERS // 2
            text = f"{text[:half]} […] {text[-half:]}"
        pieces.append((text, supervised))
    terminal.marked(pieces)


def _stretches(row: Encoded) -> list[tuple[bool, list[int]]]:
    """Tokens in a row that are all supervised, or all not."""
    stretches: list[tuple[bool, list[int]]] = []
    for token, label in zip(row.input_ids.tolist(), row.labels.tolist(), strict=True):
        supervised = label != -100
        if not stretches or stretches[-1][0] != supervised:
            stretches.append((supervised, []))
        stretches[-1][1].append(token)
    return stretches


def merge(options: Merge) -> None:
    """Write an adapter and its base as one model."""
    from ..terminal import Terminal, quiet_libraries

    out = Path(options.out)
    if out.exists():
        raise UsageError(f"{out} exists; choose another folder.")
    quiet_libraries()
    from ..models.adapters import base_of
    from ..models.loading import load_model, load_tokenizer

    if base_of(options.adapter) is None:
        raise UsageError(f"{options.adapter} is no adapter: it has no adapter_config.json.")
    model = load_model(options.adapter, dtype="auto", device="cpu", adapter="merged")
    model.save_pretrained(out)
    load_tokenizer(options.adapter).save_pretrained(out)
    Terminal().show(f"model   {out}", wrap=False)
