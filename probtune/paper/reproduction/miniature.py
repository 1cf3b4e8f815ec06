"""Miniature of a plan: the same path from rows to the table, with a tiny model of the backbone's
architecture and family, example rows in the datasets' own schemas, two steps, and a few tokens.

It shows that the path works; its numbers mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...evaluation.tasks.base import Task
from ...evaluation.tasks.table import find_tasks
from ...records import write_text
from ...terminal import Terminal
from ..corpora import corpus, prepare
from ..corpora.base import Corpus, Dropped
from .backbones import Backbone
from .plan import CellPlan, Mode, plan_cell
from .recipe import Recipe

__all__ = ["miniature", "save_tiny_model"]

_CAUTION = "A tiny model on example rows: the path is real, the numbers mean nothing."

_ROWS = 14
_SPECIAL = {
    "chatml": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "llama3": (
        *("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>",
    ),
    "deepseek": ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
}
"""Family -> its special tokens: the end of text first, then its beginning if it has one."""
_ASKS = ("question", "problem", "prompt", "input", "instruction", "question_stem", "value")
"""Columns that hold a question."""
_BEGINS = {"llama3": "<|begin_of_text|>", "deepseek": "<｜begin▁of▁sentence｜>"}


def miniature(
    recipe: Recipe, mode: Mode, folder: Path, terminal: Terminal, **options: Any
) -> CellPlan:
    """Return the recipe's plan with at most two objectives (three of many), rates, seeds and varied
    values. Its models and rows are written into the folder.

    Args:
        options: those of `plan_cell`.
    """
    plan = plan_cell(_smaller(recipe), mode, **{**options, "processes": 1})
    questions = folder / "questions"
    models = {}
    for model in {run.backbone.name: run.backbone for run in plan.runs}.values():
        target = folder / "models" / model.name
        if not (target / "config.json").is_file():
            save_tiny_model(model, target, _texts(recipe))
        models[model.name] = str(target)
    if recipe.evaluation.tasks:
        _write_questions(find_tasks(recipe.evaluation.tasks), questions)
    rows: dict[str, str] = {}
    runs = []
    for run in plan.runs:
        data = run.training.data
        if data not in rows:
            rows[data] = str(_training_rows(data, folder, models[run.backbone.name], terminal))
        training = replace(
            run.training,
            model=models[run.backbone.name],
            data=rows[data],
            max_steps=2,
            batch_size=2,
            gradient_accumulation=2,
            max_length=min(run.training.max_length, 1024),
            heldout=min(run.training.heldout or 1, 2.0),
            max_new_tokens=4,
        )
        evaluation = run.evaluation and replace(
            run.evaluation,
            model=models[run.backbone.name],
            data=str(questions),
            limit=1 if "code" in run.evaluation.tasks else 2,  # programs run in processes
            samples=2,
            max_new_tokens=4,
            backend="hf",
            dtype="float32",
            server=None,
            fit_context=True,
        )
        runs.append(replace(run, training=training, evaluation=evaluation))
    return replace(plan, runs=tuple(runs), notes=(_CAUTION,))


def save_tiny_model(model: Backbone, folder: Path, texts: Sequence[str]) -> None:
    """Save a randomly initialised model of the backbone's class with a few thousand weights, and a
    tokenizer with its family's special tokens, trained on the texts.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer(model.family, texts)
    kinds: Mapping[str, Any] = {
        "LlamaForCausalLM": (LlamaConfig, LlamaForCausalLM),
        "Qwen2ForCausalLM": (Qwen2Config, Qwen2ForCausalLM),
    }
    config, kind = kinds[model.architecture]
    shape = config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=max(1, 2 * model.key_value_heads // model.heads),
        max_position_embeddings=4096,
        tie_word_embeddings=model.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(family: str, texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = _SPECIAL[family]
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    begin = _BEGINS.get(family)
    if begin is not None:
        bare.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, bare.token_to_id(begin))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=begin,
        eos_token=special[0],
        pad_token=special[0],
        additional_special_tokens=list(special[1:]),
    )


def _smaller(recipe: Recipe) -> Recipe:
    """Return a recipe with at most two of everything that multiplies runs."""
    objectives = recipe.objectives
    few = objectives[:2]
    if len(objectives) > 4:  # an ablation: its first, middle and last
        few = (objectives[0], objectives[len(objectives) // 2], objectives[-1])
    rates, seeds = recipe.learning_rates, recipe.seeds[:2]
    chosen = [rate for rate in rates if rate != recipe.training.learning_rate][:1]
    if recipe.vary:  # where values vary, one run of each
        seeds, chosen = seeds[:1], []
    return replace(
        recipe,
        training=replace(recipe.training, objective=few[0], compare=", ".join(few[1:])),
        seeds=seeds,
        learning_rates=(recipe.training.learning_rate, *chosen),
        vary={name: values[:2] for name, values in recipe.vary.items()},
    )


def _texts(recipe: Recipe) -> list[str]:
    """Return the texts that the tokenizer is trained on."""
    chosen = corpus(recipe.training.data.removeprefix("corpus:"))
    examples: list[Any] = [part.example for part in chosen.parts]
    examples += [task.example for task in find_tasks(recipe.evaluation.tasks)]
    return [text for example in examples for text in _strings(example)]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _training_rows(text: str, folder: Path, model: str, terminal: Terminal) -> Path:
    """Write example rows in the datasets' schemas, through the same conversion as the real ones."""
    from ..corpora.table import slug

    chosen = corpus(text.removeprefix("corpus:"))
    target = folder / "rows" / slug(chosen)
    if chosen.make is not None:  # a generated corpus would compare these rows with known ones
        path = target / "rows.jsonl"
        _write(path, _converted(chosen))
        return path
    sources = folder / "sources" / chosen.name
    for index, part in enumerate(chosen.parts):
        numbers = range(index * _ROWS, (index + 1) * _ROWS)
        _write(sources / f"{part.stem}.jsonl", [_other(part.example, n) for n in numbers])
    files = [sources / f"{part.stem}.jsonl" for part in chosen.parts]
    data = sources if len(files) > 1 else files[0]
    manifest = prepare(
        chosen, out=target, tokenizers=(model,), data=str(data), unique=False, terminal=terminal
    )
    return manifest.path


def _converted(chosen: Corpus) -> list[dict[str, Any]]:
    rows = []
    for part in chosen.parts:
        for number in range(_ROWS):
            row = part.convert(_other(part.example, number))
            assert not isinstance(row, Dropped)
            rows.append({name: row[name] for name in ("prompt", "completion")})
    return rows


def _changed(example: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the row with numbered ids, as another row."""
    return {name: _renamed(name, value, number) for name, value in example.items()}


def _other(example: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the row with numbered ids and another question."""
    return {
        name: (
            f"{value} ({number})"
            if name in _ASKS and isinstance(value, str)
            else _other(value, number)
            if isinstance(value, Mapping)
            else [_other(item, number) if isinstance(item, Mapping) else item for item in value]
            if isinstance(value, list)
            else value
        )
        for name, value in _changed(example, number).items()
    }


def _renamed(name: str, value: Any, number: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(key, item, number) for key, item in value.items()}
    if name in ("id", "unique_id", "task_id", "question_id", "index", "idx"):
        if isinstance(value, int):
            return value + number
        if isinstance(value, str) and number:
            head, slash, tail = value.partition("/")
            return f"{head}/{int(tail) + number}" if tail.isdigit() else f"{value}-{number}"
    return value


def _write_questions(tasks: Sequence[Task], folder: Path) -> None:
    """Write three example rows of each benchmark, for `probtune eval --data`."""
    lists: dict[Path, dict[str, list[Any]]] = {}
    for task in tasks:
        assert task.local is not None
        path = folder / task.local
        rows = [_worked(_changed(task.example, number)) for number in range(3)]
        if path.suffix == ".json" and task.source.config is not None:
            lists.setdefault(path, {})[task.source.config] = rows
        elif path.suffix == ".json":
            write_text(path, json.dumps(rows, ensure_ascii=False))
        else:
            _write(path, rows)
    for path, content in lists.items():
        write_text(path, json.dumps(content, ensure_ascii=False))


def _worked(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row of MMLU-ProX some reasoning, since its first rows serve as worked examples."""
    return {**row, "cot_content": "…"} if row.get("cot_content") == "" else row


def _write(path: Path, rows: Sequence[Any]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
