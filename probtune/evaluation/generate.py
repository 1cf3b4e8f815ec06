"""Phase 1: ask the model. Every sample becomes a line of a file as soon as it exists, and is not
drawn again.

Needs `probtune[eval]`. The files are described in `samples`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.prompts import PromptSpec
from ..errors import DataError, UsageError
from ..records import environment, read_record, write_record
from ..terminal import Terminal
from .samples import (
    append_samples,
    check_samples,
    generation_key,
    read_samples,
    sha256,
    write_wordings,
)
from .tasks.base import Decoding, Question, Task, asked_under

if TYPE_CHECKING:
    from .backends.opening import Opening
    from .settings import EvalSettings

__all__ = [
    "Generation",
    "decoding_of",
    "generate",
    "load_generations",
    "plan_generations",
    "question_hashes",
    "require_extra",
]


@dataclass(frozen=True)
class Generation:
    """One way in which a benchmark is asked; protocols that ask in the same way share it."""

    task: Task
    questions: Sequence[Question]
    """Questions, with the text that these protocols ask."""
    prompt: PromptSpec
    decoding: Decoding
    protocols: tuple[str, ...]
    variant: str = ""
    """Protocol that words some questions in its own way, if any."""

    @property
    def key(self) -> str:
        key = generation_key(self.prompt, self.decoding)
        return f"{key}-{self.variant}" if self.variant else key

    def folder(self, root: Path) -> Path:
        return root / self.task.name / self.key


def require_extra() -> None:
    """Refuse to generate if the extra is not installed.

    Raises:
        UsageError: the message holds the command that installs it.
    """
    from importlib.util import find_spec

    if find_spec("lm_eval") is None:
        raise UsageError(
            "generation runs on lm-evaluation-harness, which is not installed:"
            " pip install -e '.[eval]'."
        )


def plan_generations(
    tasks: Sequence[tuple[Task, Sequence[Question]]],
    settings: EvalSettings,
    family: str,
    trained: PromptSpec | None = None,
) -> list[Generation]:
    """Return the generations that these tasks and the settings' protocols need.

    Args:
        trained: prompt that the model was trained with, in which own questions are asked.
    """
    generations: dict[tuple[str, str], Generation] = {}
    for task, questions in tasks:
        for name in settings.protocols:
            if name not in task.protocols:  # own questions whose grader the paper's code lacks
                continue
            protocol = task.protocols[name]
            prompt = protocol.prompt(settings.prompt_format or family)
            if task.domain == "own" and trained is not None:
                prompt = trained
            changes: dict[str, Any] = {}
            if settings.prompt_format is not None:
                changes["format"] = settings.prompt_format
            if settings.system is not None:
                changes["system"] = settings.system or None
            if settings.instruction is not None:
                changes["instruction"] = settings.instruction
            prompt = replace(prompt, **changes)
            generation = Generation(
                task,
                asked_under(questions, name),
                prompt,
                decoding_of(protocol.decoding, settings),
                (name,),
                name if any(name in question.texts for question in questions) else "",
            )
            same = generations.get((task.name, generation.key))
            if same is not None:
                samples = max(same.decoding.samples, generation.decoding.samples)
                generation = replace(
                    same,
                    protocols=(*same.protocols, name),
                    decoding=replace(same.decoding, samples=samples),
                )
            generations[task.name, generation.key] = generation
    return list(generations.values())


def decoding_of(decoding: Decoding, settings: EvalSettings) -> Decoding:
    """Return a protocol's decoding, changed by the settings. Greedy decoding has one sample."""
    if settings.temperature is not None:
        decoding = replace(decoding, temperature=settings.temperature)
    if settings.max_new_tokens is not None:
        decoding = replace(decoding, max_new_tokens=settings.max_new_tokens)
    if not decoding.temperature > 0:
        return replace(decoding, samples=1)
    return replace(decoding, samples=settings.samples or decoding.samples)


def generate(
    generation: Generation,
    opening: Opening,
    settings: EvalSettings,
    root: Path,
    terminal: Terminal,
    models: dict[str, Any],
) -> None:
    """Draw the missing samples, and record the prompt, the decoding and the environment.

    Args:
        models: the loaded model under `lm`; filled when the first sample has to be drawn.

    Raises:
        UsageError: the prompts do not fit the model, before anything is drawn.
        DataError: the folder holds samples of other questions or prompts.
        EvaluationError: the backend stopped; the finished samples stay in the file.
    """
    task, questions, prompt = generation.task, generation.questions, generation.prompt
    folder = generation.folder(root)
    path = folder / "samples.jsonl"
    rendered = {question.id: prompt.render(question.text) for question in questions}
    hashes = {question: sha256(text) for question, text in rendered.items()}
    samples = read_samples(path, repair=True)
    before = _earlier(folder, generation, questions, hashes)
    decoding = generation.decoding
    if before is not None:
        decoding = replace(decoding, samples=max(decoding.samples, before["decoding"]["samples"]))
    check_samples(path, samples, hashes, 0)
    # negative where an earlier command drew more samples than this one needs
    missing = len(questions) * decoding.samples - len(samples)
    batch_size = settings.batch_size or opening.batch_size
    opening.check(prompt)
    protocols = list(
        dict.fromkeys([*(before["protocols"] if before else ()), *generation.protocols])
    )
    sizes = [] if before is None else before["batch_sizes"]
    record = {
        "task": task.name,
        "key": generation.key,
        "protocols": protocols,
        "model": opening.name,
        "fingerprint": opening.fingerprint,
        "backend": opening.backend,
        "dtype": opening.dtype,
        "prompt": prompt.to_dict(),
        "family": opening.family,
        "decoding": asdict(decoding),
        "ends": opening.ends(prompt, decoding.stop),
        "context": opening.context,
        "fit_context": settings.fit_context,
        "seed": settings.seed,
        "limit": settings.limit,
        "source": asdict(task.source),
        "questions": [
            {
                "id": q.id,
                "prompt_sha256": hashes[q.id],
                "cluster": q.cluster,
                "protocols": list(q.protocols),
            }
            for q in questions
        ],
        "batch_sizes": sizes if batch_size in sizes or not missing else [*sizes, batch_size],
        "environment": environment() if missing or before is None else before["environment"],
        "seconds": 0.0 if before is None else before["seconds"],
    }
    if missing <= 0:
        if before is not None:
            write_wordings(folder, task, questions)
            if protocols != before["protocols"]:
                write_record(folder / "generation.json", "generation", record)
        return
    _fits(generation, rendered, opening, settings)
    write_record(folder / "generation.json", "generation", record)
    write_wordings(folder, task, questions)
    start = time.monotonic()
    try:
        generation = replace(generation, decoding=decoding)
        _draw(generation, opening, settings, batch_size, path, samples, terminal, models)
    finally:
        record["seconds"] += time.monotonic() - start
        record["environment"] = environment()
        write_record(folder / "generation.json", "generation", record)


def _draw(
    generation: Generation,
    opening: Opening,
    settings: EvalSettings,
    batch_size: int,
    path: Path,
    drawn: Sequence[Any],
    terminal: Terminal,
    models: dict[str, Any],
) -> None:
    from .backends.session import Session
    from .engine import compile_task, run_task

    if "lm" not in models:
        terminal.say(f"Loading {opening.name} ({opening.backend})")
        with _quiet():
            models["lm"] = opening.load(batch_size)
    lm, questions, decoding = models["lm"], generation.questions, generation.decoding
    compiled = compile_task(
        generation.task.name,
        questions,
        generation.prompt,
        decoding,
        ends=opening.ends(generation.prompt, decoding.stop),
        backend=opening.backend,
    )
    total = len(questions) * decoding.samples
    with terminal.track(f"{generation.task.name}: answers", total) as advance:
        advance(len(drawn))

        def write(samples: list[Any]) -> None:
            append_samples(path, samples)
            advance(len(samples))

        lm.session = Session(
            generation.task.name,
            [q.id for q in questions],
            settings.seed,
            batch_size,
            write,
            {sample.key: sample for sample in drawn},
            begins=generation.prompt.begins,
            context=opening.context,
            fit=settings.fit_context,
        )
        try:
            run_task(lm, compiled)
        finally:
            lm.session = None


def _fits(
    generation: Generation, rendered: Mapping[str, str], opening: Opening, settings: EvalSettings
) -> None:
    """Compare prompts and answers with the model's context before the weights are loaded."""
    from .backends.session import cut_at_context

    if opening.tokenizer is None:
        return
    added = {"add_special_tokens": False} if generation.prompt.begins else {}
    encoded = opening.tokenizer(list(rendered.values()), **added)["input_ids"]
    cut_at_context(
        [(question, len(ids)) for question, ids in zip(rendered, encoded, strict=True)],
        generation.decoding.max_new_tokens,
        opening.context,
        fit=settings.fit_context,
        task=generation.task.name,
    )


def _earlier(
    folder: Path, generation: Generation, questions: Sequence[Question], hashes: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the record of an earlier generation of the same questions in this folder, if any."""
    path = folder / "generation.json"
    if not path.is_file():
        return None
    before = read_record(path, "generation")
    earlier = {entry["id"]: entry["prompt_sha256"] for entry in before["questions"]}
    if earlier != dict(hashes):
        new = [q.id for q in questions if q.id not in earlier]
        gone = [q for q in earlier if q not in hashes]
        what = (
            f"question {new[0]!r} is new" if new
            else f"question {gone[0]!r} is gone" if gone
            else "questions are worded otherwise"
        )  # fmt: skip
        raise DataError(
            f"{folder} was generated for other rows of {generation.task.name} ({what}); generate"
            " into another --out."
        )
    return before


class _quiet:
    """Silence lm-eval's warning that the model is an object, which is how we pass it."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("lm_eval")
        self._level = self._log.level
        self._log.setLevel(logging.ERROR)

    def __exit__(self, *_: Any) -> None:
        self._log.setLevel(self._level)


def load_generations(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return (folder, record) of every generation in an evaluation's folder.

    Raises:
        DataError: the folder holds no generation.
    """
    generations = [
        (path.parent, read_record(path, "generation"))
        for path in sorted(root.glob("*/*/generation.json"))
    ]
    if not generations:
        raise DataError(
            f"{root} holds no generated answers; run `probtune eval MODEL --tasks … --out {root}`."
        )
    return generations


def question_hashes(record: Mapping[str, Any]) -> dict[str, str]:
    """Return question id -> SHA-256 of its prompt, from a generation's record."""
    return {entry["id"]: entry["prompt_sha256"] for entry in record["questions"]}
