"""Trial: a cell's protocol on a model, rows and questions that the user has, between the miniature,
whose numbers mean nothing, and the whole cell.

Everything that the user does not change is the recipe's: prompts (in the turns of the model's own
family), objectives, rates, seeds, decoding, graders, deviations. What has to differ is in the notes
of the plan, and the table names the model and holds no number of the paper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...data.prompts import format_of
from ...data.readers import read_source
from ...errors import DataError, UsageError
from ...models.adapters import base_of
from ...models.loading import context_length, load_tokenizer
from ...models.packaged import model_folder
from ...records import write_text
from ...terminal import Terminal
from ..corpora import corpus, prepare
from ..corpora.locating import default_folder
from ..corpora.preparing import request
from .backbones import Backbone
from .plan import CellPlan, Mode, plan_cell
from .recipe import Recipe

__all__ = ["Trial", "plan_trial", "summary", "with_rows"]

_STEPS = 32
"""Steps that a pass over few rows has at least, as long as steps of 8 rows allow it."""
_LEAST = 8
_NEEDS_FAMILY: Mapping[str, tuple[str, ...]] = {
    "double-prompt": ("llama3",),
    "bare-question": ("chatml",),
    "reference-turns": ("chatml", "llama3", "deepseek"),
}
"""Deviation -> families of turns that it is about."""


@dataclass(frozen=True)
class Trial:
    """The user's part of a cell. None leaves the recipe's value."""

    model: str | None = None
    """Folder, hub id, GGUF file or packaged name."""
    limit_train: int | None = None
    """Rows to train on, the first of the training set."""
    limit_eval: int | None = None
    """Questions of each benchmark, its first."""
    samples: int | None = None
    """Answers to each question where the protocol samples."""
    train_data: str | None = None
    """Rows as `train` reads them, instead of the training set."""
    eval_data: str | None = None
    """Folder with the benchmarks' rows, instead of the hub."""
    tasks: str | None = None
    """Benchmarks, instead of the recipe's."""
    max_new_tokens: int | None = None
    learning_rates: tuple[float, ...] = ()
    step_rows: int | None = None
    """Rows of a step. None: 256, or fewer if the rows would make few steps."""

    @property
    def chosen(self) -> bool:
        """True if the user changes anything, so that the paper's numbers do not apply."""
        return self != Trial()

    def to_dict(self) -> dict[str, Any]:
        """Return what the user changes."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    def flags(self) -> dict[str, Any]:
        """Return the value of every option of a trial, by its flag."""
        values = {**asdict(self), "rates": list(self.learning_rates)}
        del values["learning_rates"]
        return {f"--{name.replace('_', '-')}": value for name, value in values.items()}


def plan_trial(recipe: Recipe, mode: Mode, trial: Trial, **options: Any) -> CellPlan:
    """Return the recipe's plan with the user's model and limits. Its rows are still named by their
    training set; `with_rows` prepares them.

    Args:
        options: those of `plan_cell`.

    Raises:
        UsageError: the model does not exist, or a limit is below its least value.
    """
    _check(trial)
    model = recipe.backbone if trial.model is None else _backbone(trial.model)
    rates = trial.learning_rates or recipe.learning_rates
    rate = recipe.training.learning_rate
    notes = []
    unfit = [name for name, families in _NEEDS_FAMILY.items() if model.family not in families]
    if "bare-question" not in unfit and model.default_system is None:
        unfit.append("bare-question")
    training = replace(
        recipe.training,
        model=model.hub,
        prompt_format=recipe.training.prompt_format and model.family,
        learning_rate=rate if rate in rates else rates[0],
        heldout=_heldout(recipe, trial),
        **_step(recipe, trial),
    )
    evaluation = replace(
        recipe.evaluation,
        model=model.hub,
        tasks=trial.tasks or recipe.evaluation.tasks,
        data=trial.eval_data,
        limit=trial.limit_eval,
        samples=trial.samples,
        max_new_tokens=trial.max_new_tokens,
        fit_context=True,
        dtype=recipe.evaluation.dtype if _has_accelerator() else "float32",
        paper_backbone=None,
    )
    changed = replace(
        recipe,
        backbone=model,
        training=training,
        evaluation=evaluation,
        learning_rates=rates,
        learning_rate_of={} if trial.learning_rates else recipe.learning_rate_of,
        vary={name: values for name, values in recipe.vary.items() if name != "backbone"},
        deviations=tuple(name for name in recipe.deviations if name not in unfit),
        processes=1 if trial.step_rows or training != recipe.training else recipe.processes,
    )
    plan = plan_cell(changed, mode, **{**options, "processes": options.get("processes") or 1})
    rows = training.batch_size * training.gradient_accumulation
    usual = recipe.training.batch_size * recipe.training.gradient_accumulation
    if rows != usual:
        notes.append(f"{rows} rows a step instead of {usual}.")
    if mode == "faithful" and (lost := [name for name in unfit if name in recipe.deviations]):
        notes.append(
            f"{', '.join(lost)}: about another family of models than {model.family}; left out."
        )
    return replace(plan, notes=tuple(notes), trial=trial)


def with_rows(plan: CellPlan, folder: Path, terminal: Terminal) -> CellPlan:
    """Return the plan with files of rows in place of the training sets' names. The first rows of a
    training set are prepared in the cache; those of the user's own file are copied to `folder`.

    Raises:
        UsageError, DataError: the rows cannot be had; see `probtune.paper.corpora.prepare`.
    """
    trial = plan.trial
    assert trial is not None
    files: dict[str, str] = {}
    for run in plan.runs:
        name = run.training.data
        if name not in files:
            files[name] = str(_rows(name, plan, folder, terminal))
    runs = (
        replace(run, training=replace(run.training, data=files[run.training.data]))
        for run in plan.runs
    )
    return replace(plan, runs=tuple(runs))


def _rows(name: str, plan: CellPlan, folder: Path, terminal: Terminal) -> Path:
    trial, training = plan.trial, plan.recipe.training
    assert trial is not None
    number = None
    if trial.limit_train is not None:
        number = trial.limit_train + int(training.heldout or 0)
    if trial.train_data is not None:
        if number is None:
            return Path(trial.train_data)
        return _first(trial.train_data, number, training.split, folder / "rows.jsonl")
    chosen = corpus(name.removeprefix("corpus:"))
    limit = None if number is None else -(-number // len(chosen.parts))
    tokenizers = (plan.recipe.backbone.hub,)
    out = default_folder(request(chosen, tokenizers=tokenizers, limit=limit))
    return prepare(chosen, out=out, tokenizers=tokenizers, limit=limit, terminal=terminal).path


def _first(source: str, number: int, split: str, path: Path) -> Path:
    """Write the first rows of a file to another."""
    rows = [row for _, row in islice(read_source(source, split, None), number)]
    if len(rows) < number:
        raise DataError(
            f"{source} has {len(rows)} rows, and {number} are needed: those to train on and the"
            " held-out ones. Give a smaller --limit-train, or more rows."
        )
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _backbone(name: str) -> Backbone:
    """Return a model of the user as a backbone, from its configuration and tokenizer."""
    if base_of(name) is not None:
        raise UsageError(f"{name} holds adapters; name a whole model, or merge them into theirs.")
    from transformers import AutoConfig

    context, vocabulary = context_length(name)
    folder = model_folder(name)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    return Backbone(
        name=_label(name),
        hub=folder,
        architecture=next(iter(config.architectures or ("unknown",))),
        layers=getattr(config, "num_hidden_layers", 0),
        hidden=getattr(config, "hidden_size", 0),
        intermediate=getattr(config, "intermediate_size", 0) or 0,
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", heads) or heads,
        vocabulary=vocabulary or 0,
        context=context or 0,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        family=format_of(load_tokenizer(folder)),
        licence="not read",
    )


def _label(name: str) -> str:
    """Return the last part of a path or hub id; `model` is named by its run.

    >>> _label("HuggingFaceTB/SmolLM2-135M"), _label("runs/x/nll/model/")
    ('SmolLM2-135M', 'x-nll')
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "~")]
    if len(parts) > 2 and parts[-1] == "model":
        return "-".join(parts[-3:-1])
    return parts[-1] if parts else name


def _heldout(recipe: Recipe, trial: Trial) -> float | None:
    """Return the held-out rows: the recipe's, and at most a quarter of the rows to train on; one
    where they have no rate to choose.
    """
    if len(trial.learning_rates or recipe.learning_rates) == 1:
        return 1.0
    if trial.limit_train is None or recipe.training.heldout is None:
        return recipe.training.heldout
    return float(min(recipe.training.heldout, max(1, trial.limit_train // 4)))


def _step(recipe: Recipe, trial: Trial) -> dict[str, int]:
    """Return the rows of a step, as micro-batches."""
    training = recipe.training
    rows = training.batch_size * training.gradient_accumulation
    if trial.step_rows is not None:
        rows = trial.step_rows
    elif trial.limit_train is not None:
        rows = min(rows, max(_LEAST, trial.limit_train // _STEPS))
    batch = max(n for n in range(1, min(training.batch_size, rows) + 1) if rows % n == 0)
    return {"batch_size": batch, "gradient_accumulation": rows // batch}


def _check(trial: Trial) -> None:
    for name in ("limit_train", "limit_eval", "samples", "max_new_tokens", "step_rows"):
        value = getattr(trial, name)
        least = 2 if name == "limit_train" else 1
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, got {value}.")
    for rate in trial.learning_rates:
        if not rate > 0:
            raise UsageError(f"--rates takes positive numbers, got {rate:g}.")


def _has_accelerator() -> bool:
    from .checks import accelerators

    return bool(accelerators())


def summary(plan: CellPlan) -> str:
    """Return the sentence that marks the plan's table."""
    trial = plan.trial
    assert trial is not None
    parts = [f"the protocol of {plan.recipe.cell} on {plan.recipe.backbone.name}"]
    rows = trial.train_data or plan.recipe.training.data.removeprefix("corpus:")
    first = "" if trial.limit_train is None else f"the first {trial.limit_train} rows of "
    parts.append(f"{first}{rows}")
    questions = "all" if trial.limit_eval is None else f"the first {trial.limit_eval}"
    parts.append(f"{questions} questions of {plan.recipe.evaluation.tasks}")
    if trial.samples is not None:
        parts.append(f"{trial.samples} answers each where the protocol samples")
    if trial.max_new_tokens is not None:
        parts.append(f"at most {trial.max_new_tokens} tokens")
    return "Not a cell of the paper: " + "; ".join(parts) + "."
