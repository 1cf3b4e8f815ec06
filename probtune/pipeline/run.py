"""The stages in their order, each with its record."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..capability import describe, sample
from ..encoding import Encoded
from ..errors import UsageError
from ..evaluation.compare import compare
from ..evaluation.heldout import HeldOut, measure
from ..models import load_model, load_tokenizer
from ..objectives import Objective, objective_list
from ..objectives import objective as read_objective
from ..records import environment, read_record, write_record, write_text
from ..reports.report import render
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import train_stage, training_config
from .preparation import (
    Prepared,
    check_vocabulary,
    encode_rows,
    max_length_of,
    prepare,
    read,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["probe_only", "slug", "tune"]


def tune(settings: TuneSettings, terminal: Terminal | None = None) -> dict[str, Any]:
    """Run all stages and return the run's record. See the module; `settings.folder` holds
    everything afterwards.

    Raises:
        UsageError: a setting is wrong, or the folder holds another run.
        DataError: the data cannot be used; nothing was loaded or written but the folder.
        TrainingError: training diverged; what was finished is kept.
    """
    started = time.monotonic()
    terminal = terminal or Terminal()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "probtune tune runs in one process; to train on several, launch a script with"
            " ProbTuneTrainer."
        )
    asked = None if settings.objective == "auto" else read_objective(settings.objective)
    others = objective_list(settings.compare) if settings.compare.strip() else ()
    folder = settings.folder
    _check_folder(folder, settings)
    prepared = prepare(settings, terminal)
    for objective in (asked or read_objective("nll"), *others):
        training_config(folder, objective, settings)
    _open_run(folder, settings, prepared)

    probed = _probe_stage(folder, settings, prepared, terminal)
    chosen = asked or read_objective(probed["suggestion"]["objective"])
    terminal.say(_explain(probed, asked))
    objectives = list(dict.fromkeys((chosen, *others)))
    fixed = {o: o.fixed(lambda share: _quantile(probed, share)) for o in objectives}
    for objective in objectives:
        if fixed[objective] != objective:
            terminal.say(f"{objective} is {fixed[objective]}, by the base model's quantiles.")
    results = {
        "base": _measure_stage(
            folder / "base", settings.model, prepared, settings, terminal, "base model"
        )
    }
    trained = {}
    for objective in objectives:
        place = folder / slug(objective)
        trained[str(objective)] = train_stage(place, fixed[objective], settings, prepared, terminal)
        results[str(objective)] = _measure_stage(
            place, str(place / "model"), prepared, settings, terminal, str(objective)
        )
    record = write_record(
        folder / "record.json",
        "tune",
        {
            "settings": settings.to_dict(),
            "environment": environment(),
            "data": prepared.to_dict(),
            "probe": probed,
            "choice": {
                "objective": str(chosen),
                "asked": settings.objective,
                "reason": probed["suggestion"]["reason"] if asked is None else "asked for",
            },
            "runs": [
                {"name": name, "train": trained.get(name), "heldout": result.to_dict()}
                for name, result in results.items()
            ],
            "comparisons": compare(results),
            "seconds": time.monotonic() - started,
        },
    )
    write_text(folder / "report.html", render([record]))
    return record


def _quantile(probed: dict[str, Any], share: float) -> float:
    """The base model's quantile of p, between the probe's percentiles by a straight line."""
    import numpy as np

    return float(np.interp(100.0 * share, np.arange(101), probed["percentiles"]))


def probe_only(settings: TuneSettings, terminal: Terminal | None = None) -> dict[str, Any]:
    """The probe alone, on all rows of the data; returns its record, and writes it where
    `settings.out` names a file.
    """
    terminal = terminal or Terminal()
    rows = read(settings, settings.data)
    tokenizer = load_tokenizer(settings.model)
    max_length = max_length_of(settings, terminal)
    chosen = sample(
        rows.examples, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    encoding = encode_rows(chosen, tokenizer, settings, rows.schema, max_length, terminal)
    check_vocabulary(settings.model, encoding)
    found = _run_probe(settings, tokenizer, encoding.rows, len(rows), terminal)
    content = {
        "model": settings.model,
        "data": rows.source,
        "sha256": rows.sha256,
        "environment": environment(),
        **found,
    }
    if settings.out is not None:
        return write_record(Path(settings.out), "probe", content)
    return {"kind": "probe", **content}


def slug(objective: Objective) -> str:
    """The objective as a folder name.

    >>> slug(read_objective("above(0.2, power(-0.5))"))
    'above_0.2_power_-0.5'
    """
    return re.sub(r"[^\w.+-]+", "_", str(objective)).strip("_")


def _check_folder(folder: Path, settings: TuneSettings) -> None:
    """Refuse a folder that holds something else, before any work."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} exists and is not a run of probtune; choose another --out.")
    there = read_record(folder / "run.json", "run")["settings"]
    different = [
        f"{name} ({there.get(name)!r} there, {value!r} here)"
        for name, value in settings.to_dict().items()
        if there.get(name) != value
    ]
    if different:
        raise UsageError(
            f"{folder} holds another run: it differs in {', '.join(different)}. Choose another"
            " --out."
        )


def _open_run(folder: Path, settings: TuneSettings, prepared: Prepared) -> None:
    """Write what the run is, or check that the folder's run has the same data."""
    path = folder / "run.json"
    if path.is_file():
        if read_record(path, "run")["hashes"] != prepared.hashes:
            raise UsageError(
                f"the data has changed since the run in {folder} began; choose another --out."
            )
        return
    write_record(path, "run", {"settings": settings.to_dict(), "hashes": prepared.hashes})


def _probe_stage(
    folder: Path, settings: TuneSettings, prepared: Prepared, terminal: Terminal
) -> dict[str, Any]:
    path = folder / "probe.json"
    if path.is_file():
        return read_record(path, "probe")
    rows = sample(
        prepared.train.rows, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    found = _run_probe(settings, prepared.tokenizer, rows, len(prepared.train.rows), terminal)
    return write_record(path, "probe", found)


def _run_probe(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    of_examples: int,
    terminal: Terminal,
) -> dict[str, Any]:
    model = load_model(settings.model, dtype="auto")
    with terminal.track("probing the base model", len(rows)) as advance:
        found = describe(
            model, tokenizer, rows, of_examples=of_examples, seed=settings.seed, progress=advance
        )
    return found.to_dict()


def _explain(probed: dict[str, Any], asked: Objective | None) -> str:
    suggestion = probed["suggestion"]
    text = f"Probe: {suggestion['verdict']}. {suggestion['reason']}"
    for caution in suggestion["cautions"]:
        text += f" {caution}"
    if asked is not None:
        return f"{text}\nTraining {asked}, as asked for."
    return f"{text}\nTraining {suggestion['objective']}."


def _measure_stage(
    place: Path,
    model_name: str,
    prepared: Prepared,
    settings: TuneSettings,
    terminal: Terminal,
    label: str,
) -> HeldOut:
    path = place / "heldout.json"
    if path.is_file():
        return HeldOut.from_dict(read_record(path, "heldout"))
    model = load_model(model_name, dtype="auto")
    rows = prepared.heldout.rows
    total = len(rows) * (1 if prepared.answer_rule == "none" else 2)
    with terminal.track(f"measuring {label}", total) as advance:
        found = measure(
            model,
            prepared.tokenizer,
            rows,
            answer_rule=prepared.answer_rule,
            max_new_tokens=settings.max_new_tokens or _longest_response(rows),
            progress=advance,
        )
    write_record(path, "heldout", found.to_dict())
    return found


def _longest_response(rows: Sequence[Encoded]) -> int:
    return max(len(row.input_ids) - len(row.prompt_ids) for row in rows) + 1
