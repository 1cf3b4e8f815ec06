"""Models measured by name: loaded, run over the rows with a progress bar, and let go."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..data.encoding import Encoded
from ..measure.heldout import HeldOut, measure
from ..models.loading import TokenTable, load_model, token_table
from ..models.store import LogprobStore, fingerprint, store_logprobs
from ..probe.capability import Plan, summarize
from ..probe.scout import ROWS_PER_STEP, split
from ..probe.warmed import probe_after_scout
from ..settings import TuneSettings
from ..terminal import Terminal
from .preparation import Prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["measure_heldout", "measure_tokens", "probe_rows", "probe_with_scout"]


def measure_tokens(
    model_name: str,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    label: str,
    store: Path | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> TokenTable:
    """Return a model's statistics of the rows' target tokens.

    Args:
        label: what the progress bar says.
        store: a file to write the log-probabilities to.
        files: files of log-probabilities that must be this model's (`reference`) or another's
            (`better`).
    """
    model = load_model(model_name, dtype="auto")
    for name, path in files.items():
        if Path(path).is_file():
            same = name == "reference"
            LogprobStore(path).check_model(model_name, fingerprint(model), same=same)
    with terminal.track(label, len(rows)) as advance:
        table = token_table(model, rows, progress=advance)
    if store is not None:
        store_logprobs(store, rows, table, model=model_name, fingerprint=fingerprint(model))
    return table


def measure_heldout(
    model_name: str,
    prepared: Prepared,
    settings: TuneSettings,
    terminal: Terminal,
    *,
    label: str,
) -> HeldOut:
    """Measure a model on the held-out rows; a generated answer may be as long as the longest
    response, unless the settings say otherwise.
    """
    model = load_model(model_name, dtype="auto")
    rows = prepared.heldout.rows
    longest = max(len(row.input_ids) - len(row.prompt_ids) for row in rows) + 1
    total = len(rows) * (1 if prepared.answer_rule == "none" else 2)
    with terminal.track(label, total) as advance:
        return measure(
            model,
            prepared.tokenizer,
            rows,
            answer_rule=prepared.answer_rule,
            max_new_tokens=settings.max_new_tokens or longest,
            progress=advance,
        )


def probe_rows(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    of_examples: int,
    store: Path | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Probe the base model on these of `of_examples` rows, for the training that the settings plan.
    Arguments as in `measure_tokens`.
    """
    started = time.monotonic()
    table = measure_tokens(
        settings.model, rows, terminal, label="probing the base model", store=store, files=files
    )
    probe = summarize(
        table,
        tokenizer,
        of_examples=of_examples,
        seed=settings.seed,
        plan=_plan(settings, of_examples),
    )
    return {**probe.to_dict(), "seconds": time.monotonic() - started}


def probe_with_scout(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    end_p: float | None,
) -> dict[str, Any]:
    """Send a scout on some of the training rows, and probe the base model under it on others.

    Args:
        end_p: mean p of the end tokens under the base model as it is; None if there are none.
    """
    measured = len(rows) if settings.all else settings.probe_examples
    train, measure = split(rows, measured, seed=settings.seed)
    model = load_model(settings.model, dtype="auto")
    total = min(len(train), settings.scout_steps * ROWS_PER_STEP) + len(measure)
    with terminal.track(
        f"a scout of {settings.scout_steps} steps, and the probe", total
    ) as advance:
        return probe_after_scout(
            model,
            tokenizer,
            train,
            measure,
            plan=_plan(settings, len(rows)),
            of_examples=len(rows),
            end_p=end_p,
            steps=settings.scout_steps,
            seed=settings.seed,
            progress=advance,
        )


def _plan(settings: TuneSettings, rows: int) -> Plan:
    """Return the training that the settings ask for on this many rows."""
    per_step = settings.batch_size * settings.gradient_accumulation
    steps = settings.max_steps
    if steps < 0:
        steps = math.ceil(settings.epochs * math.ceil(rows / per_step))
    epochs = steps * per_step / rows
    return Plan(steps, epochs, settings.learning_rate, settings.decoding)
