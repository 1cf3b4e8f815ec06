"""Benchmarks as tasks of the lm-evaluation-harness, which runs them.

`compile_task` turns questions, a prompt and a way of decoding into a task dict of lm-eval. It also
works alone, with `lm_eval.simple_evaluate`; its metrics are then means over the samples of a
question. `run_task` runs one through `lm_eval.evaluate`; `probtune eval` uses it with the models of
`backends`, which write every sample, and grades afterwards (`grade`).

This module closes three traps of sampling: transformers samples from the 50 most probable tokens by
default; a model's generation_config may set any other knob; and lm-eval scores only the first of
`repeats` responses unless a filter takes all of them.

References:
    Gao et al., "A framework for few-shot language model evaluation", 2024,
    https://github.com/EleutherAI/lm-evaluation-harness (0.4.13).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.prompts import PromptSpec
from ..errors import UsageError
from .grading.base import Grader, GradingItem
from .tasks.base import Decoding, Question

__all__ = ["compile_task", "generation_arguments", "run_task"]


def generation_arguments(
    decoding: Decoding, *, stop: Sequence[str] = (), ends: Sequence[int] = (), backend: str = "hf"
) -> dict[str, Any]:
    """Return lm-eval's `generation_kwargs` for a way of decoding, with every knob set.

    Args:
        stop: texts that end an answer besides `decoding.stop`, such as the end of the turn.
        ends: ids of tokens that end an answer. Texts are not enough: lm-eval drops special tokens
            before it looks for stop texts, so that it would miss the end of a turn.
        backend: `hf`, `vllm` or `server`, which name the same knobs differently.

    >>> generation_arguments(Decoding(16, temperature=1.0))["top_k"]
    0
    """
    until = list(dict.fromkeys([*stop, *decoding.stop]))
    arguments: dict[str, Any] = {"until": until, "max_gen_toks": decoding.max_new_tokens}
    sampled = decoding.temperature > 0
    if backend == "hf":
        arguments |= {"do_sample": sampled, "num_beams": 1, "repetition_penalty": 1.0}
        if sampled:
            arguments |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        if ends:
            arguments["eos_token_id"] = list(ends)
        return arguments
    arguments |= {
        "do_sample": sampled,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "skip_special_tokens": True,
    }
    if ends:
        arguments["stop_token_ids"] = list(ends)
    return arguments


def compile_task(
    name: str,
    questions: Sequence[Question],
    prompt: PromptSpec,
    decoding: Decoding,
    *,
    grader: Grader | None = None,
    ends: Sequence[int] = (),
    backend: str = "hf",
) -> dict[str, Any]:
    """Return a task dict of lm-eval, for `simple_evaluate(tasks=[...])` or
    `TaskManager().load([...])`.

        task = find_tasks("math500")[0]
        protocol = task.protocols["strict"]
        compiled = compile_task(
            task.name, load_questions(task), protocol.prompt("chatml"), protocol.decoding,
            grader=protocol.grader, ends=[tokenizer.convert_tokens_to_ids("<|im_end|>")],
        )
        lm_eval.simple_evaluate(model=lm, tasks=[compiled])

    Prompts are whole texts, turns included: pass no chat template. With a grader, the metric
    `score` is the mean over the samples of a question, so that lm-eval's standard error is that
    over questions; without one, `samples` counts them.

    Raises:
        UsageError: no question is passed, or several samples of greedy decoding.
    """
    if not questions:
        raise UsageError(f"{name} has no questions.")
    k = decoding.samples
    if k > 1 and not decoding.temperature > 0:
        raise UsageError(
            f"{name}: {k} samples of greedy decoding would be the same text; set a temperature, or"
            " one sample."
        )
    by_id = {question.id: question for question in questions}

    def rows(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        columns = [{"id": q.id, "prompt": prompt.render(q.text)} for q in questions]
        return {"test": Dataset.from_list(columns)}

    def target(doc: Mapping[str, Any]) -> str:
        return json.dumps(by_id[doc["id"]].gold, ensure_ascii=False)

    def process(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        (texts,) = results
        if grader is None:
            return {"samples": len(texts)}
        question = by_id[doc["id"]]
        grades = grader([GradingItem(text, question.gold, question.options) for text in texts])
        return {"score": sum(grade.score for grade in grades) / len(grades)}

    metric = "samples" if grader is None else "score"
    form = prompt.form
    return {
        "task": name,
        "custom_dataset": rows,
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": _prompt_of,
        "doc_to_target": target,
        "process_results": process,
        "repeats": k,
        "num_fewshot": 0,
        # Without it lm-eval scores the first sample alone.
        "filter_list": [{"name": "all", "filter": [{"function": "take_first_k", "k": k}]}],
        "generation_kwargs": generation_arguments(
            decoding, stop=[form.end] if form.end else [], ends=ends, backend=backend
        ),
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}],
    }


def run_task(lm: Any, compiled: Mapping[str, Any]) -> dict[str, float]:
    """Run a compiled task with a model of lm-eval, and return its metrics and their standard
    errors.

    lm-eval's own index of tasks, which takes seconds to build, is not loaded.
    """
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    loud = logging.getLogger("lm_eval")
    before = loud.level
    loud.setLevel(logging.ERROR)
    try:
        loaded = TaskManager(include_defaults=False).load([dict(compiled)])
        results = evaluate(lm, loaded, log_samples=False, bootstrap_iters=0)
    finally:
        loud.setLevel(before)
    assert results is not None
    (metrics,) = results.get("results", {}).values()
    return {
        name.split(",")[0]: value
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }


def _prompt_of(doc: Mapping[str, Any]) -> str:
    return doc["prompt"]
