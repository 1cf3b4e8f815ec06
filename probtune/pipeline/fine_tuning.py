"""One objective's training: a checkpoint now and then, an interruption that loses nothing, and the
fine-tuned model at the end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..data.tokens import TokenRows
from ..errors import Interrupted, ProbtuneError, UsageError
from ..measure.answers import answer_mask, read_rule
from ..models.adapters import adapter_settings
from ..models.loading import default_device, load_model
from ..models.ranks import launched, splits_layers, splits_rows
from ..objectives import Objective, kind_of, parameter_of
from ..records import make_record, read_record, write_record
from ..reports.groups import largest_groups
from ..settings import TuneSettings
from ..terminal import Terminal
from .metrics import HELDOUT, Turn, read_metrics
from .preparation import Prepared
from .refusals import check_fields, check_fsdp, check_heldout_signals, check_split
from .trackers import Trackers, foreign
from .weighing import NEEDED_BY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "mixed_precision",
    "number_columns",
    "train_stage",
    "training_config",
]


def train_stage(
    folder: Path,
    objective: Objective,
    settings: TuneSettings,
    prepared: Prepared,
    terminal: Terminal,
    stores: Mapping[str, str],
    *,
    turn: Turn | None = None,
    trackers: Trackers | None = None,
    card: str | None = None,
    row_weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Train, unless the record is there, and return the record.

    Args:
        stores: files of log-probabilities, by the names of `ProbTuneConfig`'s fields.
        turn: which of the run's trainings this is.
        trackers: where it is reported; none by default.
        card: text of the model's card.
        row_weights: a weight per training row, for objectives that weigh sequences.
    """
    path = folder / "train.json"
    if path.is_file():
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # if it was stopped before that
        return read_record(path, "train")
    _check_processes(folder.parent)
    from datasets import disable_progress_bars

    from ..training import (
        CheckpointClock,
        ProbTuneTrainer,
        forget_sharding,
        gather_when_saved,
        save_whole,
    )
    from .following import follow

    disable_progress_bars()
    started = time.monotonic()
    # Of several processes each has its own device, where the trainer puts the model.
    model = load_model(
        settings.model,
        dtype=settings.weights,
        device=None if launched() == 1 else _own_device(settings),
        adapter=settings.lora_rank or "merged",
        attention=settings.attention,
        split=splits_layers(),
    )
    _check_space(folder, model)
    _say_tied(settings, model, terminal)
    clock = CheckpointClock(settings.checkpoint_minutes)
    arguments = training_config(folder, objective, settings, stores)
    arguments.padding_free = _padding_free(settings, model, terminal)
    arguments.groups, of_training, of_heldout = _groups(prepared)
    columns = _columns(objective, prepared, terminal) | of_training
    if row_weights is not None and NEEDED_BY in objective.needs:
        columns[NEEDED_BY] = row_weights
        of_heldout = {**of_heldout, NEEDED_BY: [1.0] * len(prepared.heldout.rows)}
    rows = prepared.train.rows.dataset(columns)
    trainer = ProbTuneTrainer(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=prepared.heldout.rows.dataset(of_heldout) if settings.eval_steps else None,
        processing_class=prepared.tokenizer,
        callbacks=[clock],
        peft_config=None if adapter_settings(settings.model) else _adapter(settings),
    )
    gather_when_saved(trainer)
    checkpoint = _resumed(trainer, folder / "checkpoints", terminal, str(objective))
    trackers = trackers or Trackers((), folder)
    config = {**settings.to_dict(), "objective": str(objective)}
    with _interruptible(clock):
        with (
            trackers.run(str(objective), folder.name, config) as runs,
            follow(
                trainer,
                terminal,
                str(objective),
                turn or Turn(),
                folder / "metrics.jsonl",
                runs,
            ),
        ):
            result = trainer.train(resume_from_checkpoint=checkpoint)
        if clock.stopped:
            raise _interrupted(clock, trainer.state)
        _say_untrained(trainer.state, str(objective), terminal)
        _teach_to_stop(model, prepared.train.rows)
        # with LoRA, the adapter alone
        save_whole(trainer, folder / "model", generation=model.generation_config, card=card)
    forget_sharding()
    content = {
        "objective": str(objective),
        "steps": trainer.state.global_step,
        "loss": _over_processes(trainer, result.training_loss),
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "heldout_log": _heldout_log(trainer.state),
        **_group_logs(folder / "metrics.jsonl"),
        "processes": trainer.accelerator.num_processes,
        "seconds": time.monotonic() - started,
    }
    if not trainer.is_world_process_zero():
        return make_record("train", content)
    record = write_record(path, "train", content)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if clock.stopping:  # the signal came after the last step
        raise _interrupted(clock, trainer.state)
    return record


def _check_processes(run: Path) -> None:
    """Refuse to compare a training with those of the run that had another number of processes.

    Raises:
        UsageError: with the numbers.
    """
    for path in sorted(run.glob("*/train.json")):
        record = read_record(path, "train")
        if record["processes"] != launched():
            raise UsageError(
                f"{record['objective']} was trained on {record['processes']} processes, and this"
                f" run has {launched()}: a step would have other rows. Start as many, or choose"
                " another --out."
            )


def _padding_free(settings: TuneSettings, model: PreTrainedModel, terminal: Terminal) -> bool:
    """True if the rows of a batch are joined instead of padded; says so where nobody asked."""
    from ..training import reads_boundaries

    if settings.padding_free is not None:
        return settings.padding_free
    if settings.packing or settings.batch_size == 1 or splits_rows():
        return False
    if not reads_boundaries(model):
        return False
    terminal.say("Rows of a batch are joined without padding, which this attention keeps apart.")
    return True


def _over_processes(trainer: Any, loss: float) -> float:
    """Return the mean training loss over all processes; the trainer's own is that of one, since the
    last log entry.
    """
    if trainer.accelerator.num_processes == 1:
        return loss
    import torch

    of_process = torch.tensor(loss, device=trainer.args.device)
    return float(trainer.accelerator.reduce(of_process, "mean"))


def _heldout_log(state: Any) -> list[dict[str, float]]:
    """Return what was measured on the held-out rows during training, by the names of `log`."""
    return [
        {
            "step": entry["step"],
            **{name: entry[f"eval_{name}"] for name in HELDOUT},
        }
        for entry in state.log_history
        if "eval_nll" in entry
    ]


def _group_logs(metrics: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the numbers of each group of training rows and of held-out rows, from the file of log
    entries.
    """
    entries = read_metrics(metrics)
    return {
        log: [{"step": e["step"], "groups": e[key]} for e in entries if key in e]
        for log, key in (("group_log", "groups"), ("heldout_group_log", "heldout_groups"))
    }


def _groups(
    prepared: Prepared,
) -> tuple[list[str] | None, dict[str, list[int]], dict[str, list[int]]]:
    """Return the names of the largest groups of the training rows, and the columns that say which
    one a training row and a held-out row is of; nothing where rows have no groups.
    """
    from ..training.columns import GROUP

    if not prepared.rows.groups:
        return None, {}, {}
    of_row = [prepared.rows.groups.get(row.where) for row in prepared.train.rows]
    names = [name for name, _ in largest_groups(of_row)]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    heldout = prepared.heldout_rows.groups
    of_heldout = [heldout.get(row.where) for row in prepared.heldout.rows]
    return (
        names,
        {GROUP: [numbers.get(name or "", 0) for name in of_row]},
        {GROUP: [numbers.get(name or "", 0) for name in of_heldout]},
    )


def _resumed(trainer: Any, folder: Path, terminal: Terminal, what: str) -> str | None:
    """Return the checkpoint that training goes on from, and say which."""
    from ..training import newest_whole, step_of

    with trainer.accelerator.main_process_first():
        checkpoint = newest_whole(folder, terminal.say)
    if checkpoint is None:
        return None
    terminal.say(f"{what} goes on from the checkpoint of step {step_of(checkpoint)}.")
    return str(checkpoint)


def _say_untrained(state: Any, objective: str, terminal: Terminal) -> None:
    """Warn of a model whose gradient was nothing at every logged step."""
    norms = [entry["grad_norm"] for entry in state.log_history if "grad_norm" in entry]
    if norms and not any(norms):
        terminal.say(
            f"Warning: {objective} trained nothing in {state.global_step} steps: the gradient was 0"
            " at every logged step, so no token was kept or all weights vanish. Choose another"
            " objective or threshold."
        )


def _interrupted(clock: Any, state: Any) -> Interrupted:
    return Interrupted(
        f"stopped at step {state.global_step} of {state.max_steps} with a checkpoint; give the"
        " same command again to go on.",
        signal=clock.signal,
    )


def _columns(objective: Objective, prepared: Prepared, terminal: Terminal) -> dict[str, Any]:
    """Return the columns of the rows that the objective needs besides tokens and labels."""
    rows = prepared.train.rows
    columns: dict[str, Any] = {name: rows.column(name) for name in number_columns(objective)}
    if "answer" in objective.needs:
        rule = read_rule(prepared.answer_rule)
        columns["answer_mask"] = masks = [
            answer_mask(prepared.tokenizer, row.input_ids, row.labels.tolist(), rule(row.response))
            for row in rows
        ]
        without = sum(not any(mask) for mask in masks)
        if without:
            terminal.say(f"{without} of {len(rows)} training rows have no answer to find.")
    return columns


def number_columns(objective: Objective) -> list[str]:
    """Return the columns of the data that it needs."""
    return sorted(parameter_of(n) for n in objective.needs if kind_of(n) == "column")


def training_config(
    folder: Path,
    objective: Objective,
    settings: TuneSettings,
    stores: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    from ..training import CHECKPOINTING, ProbTuneConfig, check_trainer

    on_cpu = default_device() == "cpu"
    fields = {
        "output_dir": str(folder / "checkpoints"),
        "objective": objective,
        "normalizer": settings.normalizer,
        "accumulation": settings.accumulation,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a share of the steps
        "lr_scheduler_type": settings.scheduler,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": mixed_precision(settings, on_cpu),
        "use_cpu": on_cpu,
        CHECKPOINTING: not on_cpu,
        "packing": settings.packing,
        "padding_free": bool(settings.padding_free),
        "groups": None if settings.group_by is None else [settings.group_by],  # set with the rows
        "max_length": settings.max_length if settings.packing else None,
        "dataset_kwargs": None if settings.packing else {"skip_prepare_dataset": True},
        "logging_steps": 10,
        "logging_first_step": True,
        "save_strategy": "no",  # a CheckpointClock saves instead
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        **stores,
    }
    if settings.eval_steps:
        check_heldout_signals(objective, weighed=settings.scouts_weigh)
        fields |= {
            "eval_strategy": "steps",
            "eval_steps": settings.eval_steps,
            "per_device_eval_batch_size": settings.batch_size,
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
    check_fields(settings)
    check_split(settings)
    if on_cpu:
        check_fsdp(settings)
    try:
        config = ProbTuneConfig(**{**fields, **settings.training, "report_to": foreign(settings)})
        check_trainer(config, eval_steps=settings.eval_steps)
    except UsageError:
        raise
    except (
        TypeError,
        ValueError,
        OSError,
        ImportError,
        RuntimeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        AssertionError,
    ) as error:
        # What a foreign field holds meets foreign code, which raises as it likes.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"--training or --scheduler: {reason}") from None
    return config


def _own_device(settings: TuneSettings) -> str:
    """Return the device that one of several processes loads a model on: a model in 4 bits stays
    where it is made.
    """
    if settings.weights == "nf4" and default_device() == "cuda":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu"


def mixed_precision(settings: TuneSettings, on_cpu: bool) -> bool:
    """True if precisions are mixed: on an accelerator, unless the weights are bfloat16."""
    if settings.bf16 is not None:
        return settings.bf16
    return not on_cpu and settings.weights != "bfloat16"


def _teach_to_stop(model: PreTrainedModel, rows: TokenRows) -> None:
    """Let generation end at the token that training taught as the end (of a turn, say)."""
    settings = model.generation_config
    if settings is None:
        return
    ends = settings.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    taught = set(rows.ends)
    settings.eos_token_id = [*ends, *sorted(taught - set(ends))] or None


def _adapter(settings: TuneSettings) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig

    targets = settings.lora_targets
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules=targets if targets == "all-linear" else targets.split(","),
        task_type="CAUSAL_LM",
    )


def _say_tied(settings: TuneSettings, model: PreTrainedModel, terminal: Terminal) -> None:
    """Warn of an adapter on a head whose weights are the embedding's."""
    if not settings.lora_rank or not getattr(model.config, "tie_word_embeddings", False):
        return
    head = model.get_output_embeddings()
    name = next((n for n, module in model.named_modules() if module is head), "")
    if name.rpartition(".")[2] in settings.lora_targets.split(","):
        terminal.say(
            f"{name} shares its weights with the input embedding: the adapter changes {name} alone,"
            " and merged it would change both. Keep it as an adapter, or leave"
            f" {name} out of --lora-targets."
        )


def _check_space(folder: Path, model: PreTrainedModel) -> None:
    """Room for the model and one checkpoint with AdamW's two moments, before training."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ProbtuneError(
            f"{folder} has {free / 1e9:.1f} GB free, and training needs {needed / 1e9:.1f} GB for"
            " the model and a checkpoint; free some space, or choose another --out."
        )


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
        clock.stop_after_save(number)
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)

    for s in signals:
        signal.signal(s, stop)
    try:
        yield
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)
