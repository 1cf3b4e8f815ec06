"""Models measured by name: loaded, run over the rows with a progress bar, and let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..data.encoding import Encoded
from ..measure.heldout import Generation, HeldOut, measure, passes
from ..models.loading import TokenTable, context_length, load_model
from ..models.ranks import ALONE, Ranks, shared_table
from ..models.store import LogprobStore, fingerprint, store_logprobs
from ..settings import TuneSettings
from ..terminal import Terminal
from .preparation import Prepared
from .viewing import look_at_heldout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["measure_heldout", "measure_tokens"]


def measure_tokens(
    model_name: str,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    label: str,
    store: Path | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
    ranks: Ranks = ALONE,
    dtype: str = "auto",
    then: Callable[[PreTrainedModel, TokenTable], None] | None = None,
) -> TokenTable:
    """Return a model's statistics of the rows' target tokens.

    Args:
        label: what the progress bar says.
        store: a file to write the log-probabilities to.
        files: files of log-probabilities that must be this model's (`reference`) or another's
            (`better`).
        ranks: the processes that share the work; all of them return the whole, the first writes.
        dtype: as in `load_model`.
        then: called with the model and its statistics, before the model is let go.
    """
    model = load_model(model_name, dtype=dtype)
    for name, path in files.items():
        if Path(path).is_file():
            same = name == "reference"
            LogprobStore(path).check_model(model_name, fingerprint(model), same=same)
    with terminal.track(label, len(rows)) as advance:
        table = shared_table(model, rows, ranks, progress=advance)
    if then is not None and ranks.is_first:
        then(model, table)
    if store is not None and ranks.is_first:
        store_logprobs(store, rows, table, model=model_name, fingerprint=fingerprint(model))
    return table


def measure_heldout(
    model_name: str,
    prepared: Prepared,
    settings: TuneSettings,
    terminal: Terminal,
    *,
    label: str,
    ranks: Ranks = ALONE,
    tokens: Path | None = None,
    base_tokens: Path | None = None,
) -> HeldOut:
    """Measure a model on the held-out rows; a generated answer may be as long as the longest
    response, unless the settings say otherwise.

    Args:
        tokens: file for what the model makes of the tokens of some rows, for the page.
        base_tokens: the base model's file, which names the rows.
    """
    model = load_model(model_name, dtype=settings.measured_as)
    rows = prepared.heldout.rows
    longest = max(len(row.input_ids) - len(row.prompt_ids) for row in rows) + 1
    limit = settings.max_new_tokens or longest
    context, _ = context_length(settings.model)
    if context is not None:
        limit = min(limit, context)  # a model knows no position after its last
    generation = Generation(
        max_new_tokens=limit,
        answer_rule=prepared.answer_rule,
        rows_without_rule=settings.answered_rows,
        draws=settings.draws,
        seed=settings.seed,
    )
    with terminal.track(label, passes(len(rows), generation)) as advance:
        heldout = measure(
            model,
            prepared.tokenizer,
            rows,
            generation=generation,
            progress=advance,
            ranks=ranks,
        )
    if tokens is not None and ranks.is_first:
        look_at_heldout(tokens, model, rows, heldout, base_tokens or tokens)
    return heldout
