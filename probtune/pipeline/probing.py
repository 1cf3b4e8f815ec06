"""The probe of a run and of `probtune probe`: the base model as it is, and again under a scout."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..data.encoding import Encoded
from ..models.kinds import check_decoder_folder
from ..models.loading import load_model, load_tokenizer
from ..models.ranks import ALONE, Ranks, processes_per_row
from ..probe.capability import Plan, sample, summarize
from ..probe.scout import check_enough, split, steps_of, trained_on
from ..probe.warmed import probe_after_scout
from ..records import environment, make_record, write_record
from ..settings import TuneSettings
from ..terminal import Terminal
from .measuring import measure_tokens
from .preparation import Locate, check_vocabulary, encode_rows, max_length_of, read
from .viewing import by_group, probed_tokens, tokens_under_scout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["plan_of", "probe_only", "probe_rows", "probe_with_scout"]


def probe_only(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    store: Path | None = None,
    locate: Locate | None = None,
    warmup: bool = False,
) -> dict[str, Any]:
    """Run the probe alone, on all rows of the data; return its record, and write it where
    `settings.out` names a file. With `store`, the log-probabilities of the rows that were read are
    written there, for objectives that compare with them. With `warmup`, a scout is sent as well,
    and the record holds the probe after it under `scout`.
    """
    terminal = terminal or Terminal()
    check_decoder_folder(settings.model)
    rows = read(settings, settings.data, terminal, locate=locate)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    max_length = max_length_of(settings, terminal)
    examples = sample(
        rows.examples, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    # A scout takes its rows from all that there are.
    encoding = encode_rows(
        rows.examples if warmup else examples,
        tokenizer,
        settings,
        rows.schema,
        max_length,
        terminal,
    )
    check_vocabulary(settings.model, encoding)
    if warmup:
        check_enough(len(encoding.rows))
    sampled = {example.where for example in examples}
    probed = [row for row in encoding.rows if row.where in sampled]
    probe = probe_rows(
        settings,
        tokenizer,
        probed,
        terminal,
        of_examples=len(rows),
        store=store,
        groups=rows.groups,
    )
    if store is not None:
        terminal.show(f"log-probabilities of {len(probed)} rows  {store}", wrap=False)
    record = make_record(
        "probe",
        {
            "model": settings.model,
            "data": rows.source,
            "sha256": rows.sha256,
            "environment": environment(),
            **probe,
        },
    )
    if warmup:
        record["scout"] = probe_with_scout(
            settings, tokenizer, encoding.rows, terminal, before=record
        )
    if settings.out is not None:
        return write_record(Path(settings.out), "probe", record)
    return make_record("probe", record)


def probe_rows(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    of_examples: int,
    store: Path | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
    ranks: Ranks = ALONE,
    groups: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Probe the base model on these of `of_examples` rows, for the training that the settings plan.
    Arguments as in `measure_tokens`.

    Args:
        groups: where a row stands -> its source or kind, by which the record splits the probe.
    """
    started = time.monotonic()
    tokens: dict[str, Any] = {}
    table = measure_tokens(
        settings.model,
        rows,
        terminal,
        label="probing the base model",
        store=store,
        files=files,
        ranks=ranks,
        dtype=settings.measured_as,
        then=lambda model, table: tokens.update(probed_tokens(model, rows, table, tokenizer)),
    )
    probe = summarize(
        table,
        tokenizer,
        of_examples=of_examples,
        seed=settings.seed,
        plan=plan_of(settings, of_examples, ranks),
    )
    return {
        **probe.to_dict(),
        "tokens_of_rows": tokens,
        "groups": by_group(table, [groups.get(row.where) for row in rows]),
        "seconds": time.monotonic() - started,
    }


def probe_with_scout(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    terminal: Terminal,
    *,
    before: Mapping[str, Any],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Send a scout on some of the training rows, and probe the base model under it on others. The
    record says under `decodings` what the choice means for greedy and for sampled answers.

    Args:
        before: the record of the base model's probe without a scout.
    """
    end = before["end_token"]
    measured = len(rows) if settings.all else settings.probe_examples
    train, measure = split(rows, measured, seed=settings.seed)
    model = load_model(settings.model, dtype=settings.measured_as)
    steps = steps_of(len(train), settings.scout_steps)
    total = trained_on(len(train), steps) + len(measure)
    with terminal.track(f"a scout of {steps} steps, and the probe", total) as advance:
        return probe_after_scout(
            model,
            tokenizer,
            train,
            measure,
            plan=plan_of(settings, len(rows), ranks),
            of_examples=len(rows),
            # A probe of before this was measured says nothing, and NLL goes first.
            base_rows=before["expected_rows"]["value"] if "expected_rows" in before else 0.0,
            end_p=None if end is None else end["mean_p"]["value"],
            steps=settings.scout_steps,
            seed=settings.seed,
            progress=advance,
            tokens_of=lambda looks, excess: tokens_under_scout(measure, looks, excess, tokenizer),
        )


def plan_of(settings: TuneSettings, rows: int, ranks: Ranks) -> Plan:
    """Return the training that the settings ask for on this many rows and processes."""
    parts = ranks.number // processes_per_row()
    per_step = settings.batch_size * settings.gradient_accumulation * parts
    steps = settings.max_steps
    if steps < 0:
        steps = math.ceil(settings.epochs * math.ceil(rows / per_step))
    epochs = steps * per_step / rows
    return Plan(steps, epochs, settings.learning_rate, settings.decoding)
