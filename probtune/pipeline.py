"""`probtune tune`: hold out, probe, choose, train, measure, compare, report.

    read rows ── hold out ─┬─ probe the base model ── choose ─┬─ train f1 ── measure ─┐
                           │                                  ├─ train f2 ── measure ─┼─ compare
                           └──────────── measure the base model ──────────────────────┘

Every stage leaves a record in the run's folder, and a stage whose record is there is not done
again: an interrupted run goes on where it was when the same command is given once more.

    DIR/run.json                what the run is: settings and data hashes
    DIR/probe.json              the probe and its suggestion
    DIR/base/heldout.json       the base model on the held-out rows
    DIR/<objective>/model/      the fine-tuned model
    DIR/<objective>/train.json  how it was trained
    DIR/<objective>/heldout.json
    DIR/record.json             all of it, with the paired comparison
    DIR/report.html             the same to look at, in one file
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import capability
from .data import Example, Rows, hold_out, read_rows
from .encoding import Encoded, Encoding, encode
from .errors import DataError, ProbtuneError, TrainingError, UsageError
from .evaluation.answers import choose_rule, read_rule
from .evaluation.compare import compare
from .evaluation.heldout import HeldOut, measure
from .models import context_length, default_device, load_model, load_tokenizer
from .objectives import Objective, objective_list
from .objectives import objective as read_objective
from .records import digest, environment, read_record, write_record, write_text
from .reports.report import render
from .settings import TuneSettings
from .terminal import Terminal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["prepare", "probe_only", "tune"]

_MAX_HELDOUT = 500
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
        """What makes two runs' data the same."""
        return {
            "train": self.rows.sha256,
            "heldout": digest(row.input_ids for row in self.heldout.rows),
        }

    def to_dict(self) -> dict[str, Any]:
        """Counts and sources, for the record."""
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
            "items": [
                {
                    "where": row.where,
                    "prompt": self.tokenizer.decode(row.prompt_ids)[-_SHOWN_CHARACTERS:],
                    "reference": row.response[:_SHOWN_CHARACTERS],
                }
                for row in self.heldout.rows
            ],
        }


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
        _training_config(folder, objective, settings)
    _open_run(folder, settings, prepared)

    probed = _probe_stage(folder, settings, prepared, terminal)
    chosen = asked or read_objective(probed["suggestion"]["objective"])
    terminal.say(_explain(probed, asked))
    objectives = list(dict.fromkeys((chosen, *others)))
    results = {
        "base": _measure_stage(
            folder / "base", settings.model, prepared, settings, terminal, "base model"
        )
    }
    trained = {}
    for objective in objectives:
        place = folder / slug(objective)
        trained[str(objective)] = _train_stage(place, objective, settings, prepared, terminal)
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


def probe_only(settings: TuneSettings, terminal: Terminal | None = None) -> dict[str, Any]:
    """The probe alone, on all rows of the data; returns its record, and writes it where
    `settings.out` names a file.
    """
    terminal = terminal or Terminal()
    rows = _read(settings, settings.data)
    tokenizer = load_tokenizer(settings.model)
    max_length = _max_length(settings, terminal)
    chosen = capability.sample(
        rows.examples, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    encoding = _encode(chosen, tokenizer, settings, rows.schema, max_length, terminal)
    _check_vocabulary(settings.model, encoding)
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


def prepare(settings: TuneSettings, terminal: Terminal) -> Prepared:
    """Read, check, split and tokenize the data."""
    rows = _read(settings, settings.data)
    if settings.heldout_data is None:
        size = (
            settings.heldout
            if settings.heldout is not None
            else min(max(1, len(rows) // 10), _MAX_HELDOUT)
        )
        size = round(size * len(rows)) if size < 1 else int(size)
        train, held = hold_out(rows, max(size, 1), seed=settings.seed)
        heldout_rows = rows
    else:
        heldout_rows = _read(settings, settings.heldout_data)
        train, held = rows.examples, heldout_rows.examples
        _warn_of_overlap(train, held, terminal)
        if settings.heldout is not None and settings.heldout >= 1:
            held = capability.sample(held, int(settings.heldout), seed=settings.seed)
    tokenizer = load_tokenizer(settings.model)
    max_length = _max_length(settings, terminal)
    encoding = _encode(train, tokenizer, settings, rows.schema, max_length, terminal)
    heldout = _encode(held, tokenizer, settings, heldout_rows.schema, max_length, terminal)
    for part in (encoding, heldout):
        _check_vocabulary(settings.model, part)
    answer_rule = settings.answer
    if answer_rule == "auto":
        answer_rule = choose_rule([row.response for row in heldout.rows])
    elif answer_rule != "none":
        read_rule(answer_rule)
    prepared = Prepared(rows, heldout_rows, tokenizer, encoding, heldout, answer_rule, max_length)
    _say_counts(prepared, terminal)
    return prepared


def slug(objective: Objective) -> str:
    """The objective as a folder name.

    >>> slug(read_objective("above(0.2, power(-0.5))"))
    'above_0.2_power_-0.5'
    """
    return re.sub(r"[^\w.+-]+", "_", str(objective)).strip("_")


def _read(settings: TuneSettings, source: str) -> Rows:
    return read_rows(
        source,
        prompt_column=settings.prompt_column,
        response_column=settings.response_column,
        split=settings.split,
        subset=settings.subset,
        skip_bad_rows=settings.skip_bad_rows,
    )


def _max_length(settings: TuneSettings, terminal: Terminal) -> int:
    context, _ = context_length(settings.model)
    if context is not None and context < settings.max_length:
        terminal.say(f"max_length is {context}, the longest sequence of {settings.model}.")
        return context
    return settings.max_length


def _encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    settings: TuneSettings,
    schema: str,
    max_length: int,
    terminal: Terminal,
) -> Encoding:
    separator = settings.separator
    if separator is None:
        separator = "" if schema in ("prompt/completion", "messages") else "\n"
    with terminal.track("tokenizing", len(examples)) as advance:
        return encode(
            examples,
            tokenizer,
            max_length=max_length,
            separator=separator,
            chat=settings.chat,
            skip_bad_rows=settings.skip_bad_rows,
            progress=advance,
        )


def _check_vocabulary(model: str, encoding: Encoding) -> None:
    _, vocabulary = context_length(model)
    for row in encoding.rows:
        if vocabulary is not None and max(row.input_ids) >= vocabulary:
            raise DataError(
                f"{row.where} has token {max(row.input_ids)}, outside the model's vocabulary of"
                f" {vocabulary}: the tokenizer does not belong to the model, or tokens were added"
                " without resizing its embeddings."
            )


def _warn_of_overlap(train: Sequence[Example], held: Sequence[Example], terminal: Terminal) -> None:
    questions = {example.question for example in train}
    shared = sum(example.question in questions for example in held)
    if shared:
        terminal.say(f"{shared} of {len(held)} held-out prompts also stand in the training rows.")


def _say_counts(prepared: Prepared, terminal: Terminal) -> None:
    counts, held = prepared.train.counts, prepared.heldout.counts
    terminal.say(
        f"{counts['rows']} training rows ({counts['supervised_tokens']} supervised of"
        f" {counts['tokens']} tokens), {held['rows']} held out; short answers:"
        f" {prepared.answer_rule}."
    )
    for what, number in (
        (f"cut at {prepared.max_length} tokens", counts["truncated"]),
        ("dropped, nothing supervised was left", counts["dropped"]),
        ("refused by the chat template and left out", counts["refused"]),
        ("unusable and left out", len(prepared.rows.bad)),
        (
            "with tokens merged across the end of the prompt (generation sees another context)",
            counts["merged_boundary"],
        ),
        ("without a supervised end token (the model is not taught to stop)", counts["without_end"]),
    ):
        if number:
            terminal.say(f"  {number} rows {what}.")


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
    rows = capability.sample(
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
        found = capability.describe(
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


def _train_stage(
    place: Path,
    objective: Objective,
    settings: TuneSettings,
    prepared: Prepared,
    terminal: Terminal,
) -> dict[str, Any]:
    path = place / "train.json"
    if path.is_file():
        return read_record(path, "train")
    from datasets import Dataset, disable_progress_bars

    from .training import CheckpointClock, ProbTuneTrainer

    disable_progress_bars()
    started = time.monotonic()
    model = load_model(settings.model)
    _check_space(place, model)
    clock = CheckpointClock(settings.checkpoint_minutes)
    rows = Dataset.from_dict(
        {
            "input_ids": [r.input_ids for r in prepared.train.rows],
            "labels": [r.labels for r in prepared.train.rows],
        }
    )
    trainer = ProbTuneTrainer(
        model,
        _training_config(place, objective, settings),
        train_dataset=rows,
        processing_class=prepared.tokenizer,
        callbacks=[clock],
        peft_config=_adapter(settings),
    )
    with _shown(trainer, terminal, f"training {objective}"), _interruptible(clock):
        result = trainer.train(resume_from_checkpoint=_last_checkpoint(place / "checkpoints"))
    if clock.stopping:
        raise TrainingError(
            f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps} with a"
            " checkpoint; give the same command again to go on."
        )
    _teach_to_stop(model, prepared.train.rows)
    trainer.save_model(str(place / "model"))  # with LoRA, the adapter alone
    record = write_record(
        path,
        "train",
        {
            "objective": str(objective),
            "steps": trainer.state.global_step,
            "loss": result.training_loss,
            "log": [entry for entry in trainer.state.log_history if "loss" in entry],
            "seconds": time.monotonic() - started,
        },
    )
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return record


def _training_config(place: Path, objective: Objective, settings: TuneSettings) -> Any:
    from .training import CHECKPOINTING, ProbTuneConfig

    on_cpu = default_device() == "cpu"
    fields = {
        "output_dir": str(place / "checkpoints"),
        "objective": str(objective),
        "normalizer": settings.normalizer,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a share of the steps
        "lr_scheduler_type": settings.scheduler,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": settings.bf16 if settings.bf16 is not None else not on_cpu,
        "use_cpu": on_cpu,
        CHECKPOINTING: not on_cpu,
        "packing": settings.packing,
        "max_length": settings.max_length if settings.packing else None,
        "dataset_kwargs": None if settings.packing else {"skip_prepare_dataset": True},
        "logging_steps": 10,
        "logging_first_step": True,
        "save_strategy": "no",  # a CheckpointClock saves instead
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    for name in settings.training:
        if name in fields and name not in (
            CHECKPOINTING,
            "logging_steps",
            "report_to",
        ):
            raise UsageError(
                f"--training {name} is set by the run itself; use the option of probtune tune."
            )
    try:
        return ProbTuneConfig(**{**fields, **settings.training})
    except (TypeError, ValueError) as error:
        raise UsageError(f"--training: {error}") from None


def _teach_to_stop(model: PreTrainedModel, rows: Sequence[Encoded]) -> None:
    """Let generation end at the token that training taught as the end (of a turn, say)."""
    settings = model.generation_config
    if settings is None:
        return
    known = settings.eos_token_id
    known = known if isinstance(known, list) else [] if known is None else [known]
    taught = {row.end for row in rows if row.end is not None}
    settings.eos_token_id = [*known, *sorted(taught - set(known))] or None


def _adapter(settings: TuneSettings) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _last_checkpoint(folder: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def _check_space(place: Path, model: PreTrainedModel) -> None:
    """Room for the model and one checkpoint with AdamW's two moments, before training."""
    place.mkdir(parents=True, exist_ok=True)
    needed = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ProbtuneError(
            f"{place} has {free / 1e9:.1f} GB free, and training needs {needed / 1e9:.1f} GB for"
            " the model and a checkpoint; free some space, or choose another --out."
        )


@contextmanager
def _shown(trainer: Any, terminal: Terminal, what: str) -> Iterator[None]:
    """Our progress bar, with the last logged numbers, instead of printed dictionaries."""
    from transformers import PrinterCallback, TrainerCallback

    with terminal.track(what, 0) as advance:

        class Shown(TrainerCallback):
            def on_train_begin(self, args, state, control, **kwargs):
                advance(state.global_step, total=state.max_steps)

            def on_step_end(self, args, state, control, **kwargs):
                advance(1)

            def on_log(self, args, state, control, logs=None, **kwargs):
                if logs and "nll" in logs:
                    advance(0, note=f"nll {logs['nll']:.3f}  mean p {logs['mean_p']:.3f}")

        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Shown())
        yield


@contextmanager
def _interruptible(clock: Any) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends training at the next step with a checkpoint; a second one ends at
    once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(s) for s in signals]

    def stop(number: int, frame: Any) -> None:
        clock.stop_after_save()
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)

    for s in signals:
        signal.signal(s, stop)
    try:
        yield
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)
