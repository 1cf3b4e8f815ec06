"""The stages in their order, each with its record."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..data.encoding import Encoded
from ..errors import UsageError
from ..measure.compare import compare
from ..measure.heldout import HeldOut, measure
from ..models.loading import TokenTable, default_device, load_model, load_tokenizer, token_table
from ..models.store import LogprobStore, fingerprint, store_logprobs
from ..objectives import Objective, objective_list
from ..objectives import objective as read_objective
from ..probe.capability import Plan, sample, summarize
from ..records import environment, make_record, read_record, write_record, write_text
from ..reports.report import render
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import check_adapter, number_columns, train_stage, training_config
from .preparation import (
    Locate,
    Prepared,
    check_vocabulary,
    encode_rows,
    max_length_of,
    prepare,
    read,
    slug,
)
from .race import race_stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["probe_only", "train", "tune"]


def tune(
    settings: TuneSettings, terminal: Terminal | None = None, *, locate: Locate | None = None
) -> dict[str, Any]:
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
            "probtune tune runs in one process; to train on several, launch `probtune train`, or a"
            " script with ProbTuneTrainer."
        )
    folder = settings.folder
    asked, others, prepared, stores, probed = _begin(settings, terminal, locate)
    raced = None
    if asked is None and probed["suggestion"]["undecided"]:
        prepared, raced = race_stage(folder, settings, prepared, probed, terminal)
    chosen = asked or read_objective((raced or probed["suggestion"])["objective"])
    fixed = _fixed((chosen, *others), probed, terminal)
    results = {
        "base": _measure_stage(
            folder / "base", settings.model, prepared, settings, terminal, "base model"
        )
    }
    trained = {}
    for objective, meant in fixed.items():
        place = folder / slug(objective)
        trained[str(objective)] = train_stage(place, meant, settings, prepared, terminal, stores)
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
                "reason": (raced or probed["suggestion"])["reason"]
                if asked is None
                else "asked for",
                "race": raced,
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


def train(
    settings: TuneSettings, terminal: Terminal | None = None, *, locate: Locate | None = None
) -> dict[str, Path]:
    """Only train: the same stages as `tune`, without measuring and comparing, in the same folder,
    so that `tune` with the same settings goes on from there. Also on several processes, started by
    torchrun or accelerate.

    Returns:
        Objective -> folder of its model.

    Raises:
        UsageError, DataError, TrainingError: as `tune`; also when the objective is left to the
            probe and the probe would race two of them.
    """
    from accelerate import PartialState

    state = PartialState(cpu=default_device() == "cpu")
    terminal = terminal or Terminal()
    if not state.is_main_process:
        terminal = Terminal(quiet=True)
    folder = settings.folder
    with state.main_process_first():
        asked, others, prepared, stores, probed = _begin(settings, terminal, locate)
    if asked is None and probed["suggestion"]["undecided"]:
        raise UsageError(
            f"the probe cannot decide between {' and '.join(probed['suggestion']['race'])}; name"
            " one with --objective, or let probtune tune race them."
        )
    chosen = asked or read_objective(probed["suggestion"]["objective"])
    models = {}
    for objective, meant in _fixed((chosen, *others), probed, terminal).items():
        place = folder / slug(objective)
        state.wait_for_everyone()
        train_stage(place, meant, settings, prepared, terminal, stores)
        models[str(objective)] = place / "model"
    return models


def _begin(
    settings: TuneSettings, terminal: Terminal, locate: Locate | None
) -> tuple[Objective | None, tuple[Objective, ...], Prepared, dict[str, str], dict[str, Any]]:
    """What comes before training: (objective asked for, further ones, data, files of
    log-probabilities, record of the probe). Wrong requests end here.
    """
    asked = None if settings.objective == "auto" else read_objective(settings.objective)
    others = tuple(objective_list(settings.compare)) if settings.compare.strip() else ()
    folder = settings.folder
    _check_folder(folder, settings)
    named = (asked or read_objective("nll"), *others)
    needs = frozenset().union(*(objective.needs for objective in named))
    _check_needs(needs, settings)
    check_adapter(settings)
    numbers = sorted({name for objective in named for name in number_columns(objective)})
    prepared = prepare(settings, terminal, numbers=numbers, locate=locate)
    if "answer" in needs and prepared.answer_rule == "none":
        raise UsageError(
            "nll_on_answer needs to know the answer, and no rule finds one in nine of ten held-out"
            " responses; give --answer, such as 'regex:answer is (.+)'."
        )
    for objective in named:
        training_config(folder, objective, settings)
    _check_rows(settings, prepared)
    _open_run(folder, settings, prepared)
    stores = _stores(folder, needs, settings, prepared, terminal)
    probed = _probe_stage(folder, settings, prepared, terminal, stores)
    terminal.say(_explain(probed, asked))
    return asked, others, prepared, stores, probed


def _fixed(
    objectives: Sequence[Objective], probed: dict[str, Any], terminal: Terminal
) -> dict[Objective, Objective]:
    """Each objective once, with its shares of tokens as thresholds of the base model."""
    fixed = {o: o.fixed(lambda share: _quantile(probed, share)) for o in objectives}
    for objective, meant in fixed.items():
        if meant != objective:
            terminal.say(f"{objective} is {meant}, by the base model's quantiles.")
    return fixed


def _quantile(probed: dict[str, Any], share: float) -> float:
    """The base model's quantile of p, between the probe's percentiles by a straight line."""
    import numpy as np

    return float(np.interp(100.0 * share, np.arange(101), probed["percentiles"]))


def probe_only(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    store: Path | None = None,
    locate: Locate | None = None,
) -> dict[str, Any]:
    """The probe alone, on all rows of the data; returns its record, and writes it where
    `settings.out` names a file. With `store`, the log-probabilities of the rows that were read are
    written there, for objectives that compare with them.
    """
    terminal = terminal or Terminal()
    rows = read(settings, settings.data, terminal, locate=locate)
    tokenizer = load_tokenizer(settings.model)
    max_length = max_length_of(settings, terminal)
    chosen = sample(
        rows.examples, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    encoding = encode_rows(chosen, tokenizer, settings, rows.schema, max_length, terminal)
    check_vocabulary(settings.model, encoding)
    found = _run_probe(settings, tokenizer, encoding.rows, len(rows), terminal, store)
    if store is not None:
        terminal.show(f"log-probabilities of {len(encoding.rows)} rows  {store}", wrap=False)
    content = {
        "model": settings.model,
        "data": rows.source,
        "sha256": rows.sha256,
        "environment": environment(),
        **found,
    }
    if settings.out is not None:
        return write_record(Path(settings.out), "probe", content)
    return make_record("probe", content)


def _check_folder(folder: Path, settings: TuneSettings) -> None:
    """Refuse a folder that holds something else, before any work."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} exists and is not a run of probtune; choose another --out.")
    # Settings that came later than the run had no other value than their default.
    later = type(settings)(settings.model, settings.data).to_dict()
    there = {**later, **read_record(folder / "run.json", "run")["settings"]}
    different = [
        f"{name} ({there[name]!r} there, {value!r} here)"
        for name, value in settings.to_dict().items()
        if there[name] != value
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


def _check_rows(settings: TuneSettings, prepared: Prepared) -> None:
    """Refuse files of log-probabilities that lack a training row."""
    rows = prepared.train.rows
    for path in _named_files(settings):
        LogprobStore(path).columns(
            ((row.input_ids, row.labels) for row in rows), names=[row.where for row in rows]
        )


def _check_needs(needs: Set[str], settings: TuneSettings) -> None:
    """Refuse before any work what the settings cannot provide."""
    if "better" in needs and settings.better is None:
        raise UsageError(
            "token_cleaning and rho1 compare with a better model; name it with --better."
        )
    for path in _named_files(settings):
        LogprobStore(path)


def _named_files(settings: TuneSettings) -> list[str]:
    """The files of log-probabilities that the user named."""
    found = [settings.better] if (settings.better or "").endswith(".arrow") else []
    return [path for path in (settings.reference, *found) if path is not None]


def _stores(
    folder: Path, needs: Set[str], settings: TuneSettings, prepared: Prepared, terminal: Terminal
) -> dict[str, str]:
    """The files of log-probabilities that the objectives need, by the trainer's names for them.
    That of the model before training is written by the probe.
    """
    found = {}
    rows = prepared.train.rows
    if {"reference", "sequence_gain", "sequence_weight"} & needs:
        found["reference"] = settings.reference or str(folder / "reference.arrow")
    if "better" in needs:
        assert settings.better is not None
        found["better"] = settings.better
        if not settings.better.endswith(".arrow"):
            found["better"] = str(folder / "better.arrow")
            if not Path(found["better"]).is_file():
                what = "measuring the better model"
                _measured(settings.better, rows, terminal, what, Path(found["better"]))
    return found


def _measured(
    model_name: str,
    rows: Sequence[Encoded],
    terminal: Terminal,
    what: str,
    store: Path | None,
    stores: Mapping[str, str] = MappingProxyType({}),
) -> TokenTable:
    """A model's statistics of the rows, and the file of its log-probabilities if one is named.

    Args:
        stores: files that must be this model's (`reference`) or another's (`better`).
    """
    model = load_model(model_name, dtype="auto")
    for name, path in stores.items():
        if Path(path).is_file():
            same = name == "reference"
            LogprobStore(path).check_model(model_name, fingerprint(model), same=same)
    with terminal.track(what, len(rows)) as advance:
        table = token_table(model, rows, progress=advance)
    if store is not None:
        store_logprobs(store, rows, table, model=model_name, fingerprint=fingerprint(model))
    return table


def _probe_stage(
    folder: Path,
    settings: TuneSettings,
    prepared: Prepared,
    terminal: Terminal,
    stores: dict[str, str],
) -> dict[str, Any]:
    """The probe, of all rows where their log-probabilities are wanted."""
    path = folder / "probe.json"
    store = None
    if "reference" in stores and settings.reference is None:
        store = Path(stores["reference"])
    if path.is_file() and (store is None or store.is_file()):
        return read_record(path, "probe")
    everything = settings.all or store is not None
    rows = sample(
        prepared.train.rows, None if everything else settings.probe_examples, seed=settings.seed
    )
    of_examples = len(prepared.train.rows)
    found = _run_probe(settings, prepared.tokenizer, rows, of_examples, terminal, store, stores)
    return write_record(path, "probe", found)


def _run_probe(
    settings: TuneSettings,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    of_examples: int,
    terminal: Terminal,
    store: Path | None,
    stores: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    started = time.monotonic()
    table = _measured(settings.model, rows, terminal, "probing the base model", store, stores)
    plan = _plan(settings, of_examples)
    found = summarize(table, tokenizer, of_examples=of_examples, seed=settings.seed, plan=plan)
    return {**found.to_dict(), "seconds": time.monotonic() - started}


def _plan(settings: TuneSettings, rows: int) -> Plan:
    """The training that the settings ask for on this many rows."""
    per_step = settings.batch_size * settings.gradient_accumulation
    steps = settings.max_steps
    if steps < 0:
        steps = math.ceil(settings.epochs * math.ceil(rows / per_step))
    epochs = steps * per_step / rows
    return Plan(steps, epochs, settings.learning_rate, settings.decoding)


def _explain(probed: dict[str, Any], asked: Objective | None) -> str:
    suggestion = probed["suggestion"]
    lines = [f"Probe: {suggestion['verdict']}. {suggestion['reason']}", *suggestion["cautions"]]
    if asked is not None:
        lines.append(f"Training {asked}, as asked for.")
    elif suggestion["undecided"]:
        raced = " and ".join(suggestion["race"])
        lines.append(f"Undecided: racing {raced} for {suggestion['race_share']:.0%} of the steps.")
    else:
        lines.append(f"Training {suggestion['objective']}.")
    return "\n".join(lines)


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
