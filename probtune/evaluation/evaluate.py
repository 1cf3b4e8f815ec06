"""`probtune eval`: three phases; each can be rerun on its own.

DIR/run.json                  the evaluation's identity: model, prompts, decoding, seed
DIR/<task>/<key>/…            the files that `samples` and `graded` describe
DIR/record.json               the numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.prompts import PromptSpec
from ..data.readers import read_source
from ..errors import DataError, UsageError
from ..files import remove_leftovers
from ..lock import FolderLock, is_fresh
from ..records import environment, read_record, write_record
from ..terminal import Terminal
from .analyse import analyse
from .generate import generate, load_generations, plan_generations, require_extra
from .grade import grade, grader_of, is_current
from .grading.judge import NO_JUDGE, Judge
from .tasks.base import Question, Task, asked_under
from .tasks.questions import choose_grader, own_grader, own_task, read_questions
from .tasks.reading import load_questions
from .tasks.table import TASKS, find_tasks

if TYPE_CHECKING:
    from .backends.opening import Opening
    from .settings import EvalSettings

__all__ = ["evaluate", "resumed", "trained_prompt"]


def evaluate(
    settings: EvalSettings, terminal: Terminal, *, model: Any = None, tokenizer: Any = None
) -> dict[str, Any]:
    """Run the phases that the settings name. Return the record of `analyse`, or that of `run.json`
    if the settings leave the analysis out.

    Args:
        model: a model in this process, with its `tokenizer`. `settings.model` is then only a name,
            and nothing is loaded.

    Raises:
        UsageError, DataError, EvaluationError: see the phases.
    """
    settings = _with_questions(resumed(settings), terminal)
    root = settings.folder
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; choose another --out.")
    lock = FolderLock(root)
    try:
        if root.exists():
            lock.take()
        return _evaluate(settings, lock, terminal, model, tokenizer)
    finally:
        lock.release()


def _evaluate(
    settings: EvalSettings, lock: FolderLock, terminal: Terminal, model: Any, tokenizer: Any
) -> dict[str, Any]:
    root = lock.folder
    questions = _Rows(settings, terminal)
    if "generate" in settings.phases:
        _generate(settings, lock, questions, terminal, model, tokenizer)
    run = read_record(root / "run.json", "eval-run")
    remove_leftovers(root, below=True)
    if "grade" in settings.phases:
        _grade(settings, root, questions, terminal)
    if "analyse" not in settings.phases:
        return run
    numbers = analyse(root, backbone=settings.paper_backbone)
    generations = load_generations(root)
    content = {
        "settings": settings.to_dict(),
        "fingerprint": run["fingerprint"],
        "environment": environment(),
        "generated_with": generations[0][1]["environment"],
        "backend": run["identity"]["backend"],
        "seconds": sum(record["seconds"] for _, record in generations),
        **numbers,
        "beyond": _beyond(root),
    }
    return write_record(root / "record.json", "eval", content)


def resumed(settings: EvalSettings) -> EvalSettings:
    """Return the settings, completed by those of an earlier command on this folder.

    Raises:
        UsageError: generating needs a model and benchmarks, which are not named; or a later phase
            is to run in a folder that holds no evaluation.
    """
    path = settings.folder / "run.json"
    if not path.is_file():
        if "generate" not in settings.phases:
            raise UsageError(
                f"{settings.folder} holds no evaluation, so there is nothing to"
                f" {settings.phase}; run the command without --phase first."
            )
        if settings.model is None:
            raise UsageError("MODEL is missing; name a model.")
        if not settings.tasks and not _has_questions(settings):
            from .tasks.table import DOMAINS

            raise UsageError(
                f"--tasks is missing; name benchmarks or domains ({', '.join(DOMAINS)}), see"
                " `probtune eval --list`."
            )
        return settings
    run = read_record(path, "eval-run")
    changes: dict[str, Any] = {}
    if not settings.tasks:
        changes["tasks"] = ",".join(run["tasks"])
    if settings.data is None:
        changes["data"] = run["data"]
    if settings.server is None:
        changes["server"] = run["server"]
    if settings.model is None:
        changes["protocol"] = ",".join(run["protocols"])
    if "generate" not in settings.phases or settings.model is None:
        # Grading and analysis concern the answers in the folder, whatever model is named now.
        names = {item.name for item in fields(settings)}
        changes |= {name: value for name, value in run["identity"].items() if name in names}
    return replace(settings, **changes)


def _with_questions(settings: EvalSettings, terminal: Terminal) -> EvalSettings:
    """Return the settings with a name for the user's own questions, by the grader that they name
    or that fits the answers.

    Raises:
        UsageError: the grader does not exist, or is named beside benchmarks.
    """
    if settings.tasks:
        if settings.grader is not None and own_grader(settings.tasks) is None:
            raise UsageError(
                f"--grader is for your own questions, and --tasks names {settings.tasks}; leave"
                " one of them out."
            )
        return settings
    if not _has_questions(settings):
        return settings
    assert settings.data is not None
    grader = settings.grader
    if grader is None:
        rows = [row for _, row in read_source(settings.data, "test", None)]
        if not rows:
            raise DataError(f"{settings.data} holds no rows; there is nothing to ask.")
        grader = choose_grader(rows, settings.answer_column)
        terminal.say(f"{settings.data}: graded by {grader} (--grader names another).")
    return replace(settings, tasks=own_task(grader).name, grader=grader)


def _has_questions(settings: EvalSettings) -> bool:
    """True if the settings name a file with the user's own questions."""
    return settings.data is not None and not Path(settings.data).expanduser().is_dir()


def _own_reader(task: Task, settings: EvalSettings) -> Any:
    grader = own_grader(task.name)
    if grader is None:
        return None
    return partial(
        read_questions,
        grader=grader,
        prompt_column=settings.prompt_column,
        answer_column=settings.answer_column,
    )


def _protocols(task: Task, settings: EvalSettings) -> list[str]:
    """Return the settings' protocols that a benchmark has.

    Raises:
        UsageError: it has none of them.
    """
    protocols = [name for name in settings.protocols if name in task.protocols]
    if not protocols:
        raise UsageError(
            f"{task.title} has no {settings.protocol} protocol, since the paper's code has no such"
            " grader; give --protocol strict."
        )
    return protocols


def _generate(
    settings: EvalSettings,
    lock: FolderLock,
    questions: _Rows,
    terminal: Terminal,
    model: Any,
    tokenizer: Any,
) -> None:
    root = lock.folder
    if settings.backend == "server" and settings.server is None:
        raise UsageError("--backend server needs its address: --server http://HOST:PORT/v1.")
    tasks = find_tasks(settings.tasks)
    if "grade" in settings.phases:
        for task in tasks:
            for protocol in _protocols(task, settings):
                grader_of(task, protocol, allow_code=settings.allow_code)
    require_extra()
    rows = [(task, questions.of(task)) for task in tasks]
    opening = _open(settings, model, tokenizer)
    family = settings.prompt_format or opening.family
    if family is None:
        raise UsageError(
            f"{opening.name} has no tokenizer on this machine, so the form of its turns is unknown;"
            " give --tokenizer (folder or hub id), or --prompt-format."
        )
    lock.take()
    _start(settings, root, opening, [task.name for task in tasks])
    models: dict[str, Any] = {}
    trained = trained_prompt(opening)
    own = None if settings.prompt_format else trained
    for generation in plan_generations(rows, settings, family, own):
        if trained not in (None, generation.prompt):
            terminal.say(
                f"{generation.task.title} ({', '.join(generation.protocols)}) asks in another form"
                f" than the model was trained in: {_differences(generation.prompt, trained)}."
            )
        generate(generation, opening, settings, root, terminal, models)


def trained_prompt(opening: Opening) -> PromptSpec | None:
    """Return the prompt that a model was trained with, if it lies in a folder of `probtune tune`
    whose settings name one; else None.
    """
    path = Path(opening.name).expanduser().resolve().parent.parent / "run.json"
    if not Path(opening.name).expanduser().is_dir() or not path.is_file():
        return None
    run = read_record(path)
    settings = run.get("settings", {})
    name = settings.get("prompt_format")
    if run["kind"] != "run" or name is None:
        return None
    return PromptSpec(
        opening.family or "plain" if name == "auto" else name,
        settings.get("system"),
        settings.get("instruction", ""),
    )


def _differences(prompt: PromptSpec, trained: PromptSpec | None) -> str:
    assert trained is not None
    before, now = trained.to_dict(), prompt.to_dict()
    return "; ".join(
        f"{name} {now[name]!r}, not {before[name]!r}" for name in now if now[name] != before[name]
    )


def _open(settings: EvalSettings, model: Any, tokenizer: Any) -> Opening:
    from .backends.opening import open_model, open_server

    assert settings.model is not None
    if settings.backend == "server":
        assert settings.server is not None
        return open_server(settings.server, settings.model, tokenizer=settings.tokenizer)
    return open_model(
        settings.model,
        backend=settings.backend,
        dtype=settings.dtype,
        tensor_parallel=settings.tensor_parallel,
        data_parallel=settings.data_parallel,
        model=model,
        tokenizer=tokenizer,
    )


def _start(settings: EvalSettings, root: Path, opening: Opening, tasks: Sequence[str]) -> None:
    """Write the evaluation's identity, or compare it with that in the folder.

    Raises:
        UsageError: the folder holds something else, or an evaluation with other settings.
    """
    path = root / "run.json"
    protocols = list(settings.protocols)
    identity = {**settings.identity(), "family": opening.family}
    for name in ("tasks", "protocol"):  # a folder may grow by further benchmarks
        del identity[name]
    if path.is_file():
        run = read_record(path, "eval-run")
        for name, value in identity.items():
            if run["identity"].get(name) != value:
                raise UsageError(
                    f"{root} holds an evaluation with {name} {run['identity'].get(name)!r}, not"
                    f" {value!r}; choose another --out, or the same settings to go on."
                )
        if run["fingerprint"] != opening.fingerprint:
            raise UsageError(
                f"{root} holds an evaluation of {opening.name} with other weights than it has now;"
                " choose another --out."
            )
        tasks = list(dict.fromkeys([*run["tasks"], *tasks]))
        protocols = list(dict.fromkeys([*run["protocols"], *protocols]))
    elif not is_fresh(root):
        raise UsageError(f"{root} is not an evaluation of probtune; choose another --out.")
    write_record(
        path,
        "eval-run",
        {
            "identity": identity,
            "fingerprint": opening.fingerprint,
            "tasks": list(tasks),
            "protocols": protocols,
            "data": settings.data,
            "server": settings.server,
        },
    )


def _grade(settings: EvalSettings, root: Path, questions: _Rows, terminal: Terminal) -> None:
    judge = None
    if settings.judge is not None:
        assert settings.judge_model is not None
        judge = Judge(settings.judge, settings.judge_model, settings.judge_key)
    for folder, record in load_generations(root):
        task = TASKS.get(record["task"])
        if task is None:
            raise DataError(
                f"{folder} holds a benchmark {record['task']!r} that this version does not know."
            )
        for protocol in record["protocols"]:
            grader = grader_of(task, protocol, allow_code=settings.allow_code, judge=judge)
            if grader is None:
                terminal.say(f"{task.title}: {NO_JUDGE}")
                continue
            if is_current(folder, protocol, grader):
                continue
            grade(
                folder,
                record,
                task,
                protocol,
                _same(asked_under(questions.of(task), protocol), record, folder),
                grader,
                terminal,
            )


def _same(
    questions: Sequence[Question], record: dict[str, Any], folder: Path
) -> Sequence[Question]:
    """Return the questions that the model was asked; refuse rows that lack one of them."""
    generated = [entry["id"] for entry in record["questions"]]
    current = {question.id for question in questions}
    lost = next((question for question in generated if question not in current), None)
    if lost is not None:
        raise DataError(
            f"{folder} was generated for rows with a question {lost!r}, which are not those read"
            " now; give the same --data."
        )
    return [question for question in questions if question.id in set(generated)]


class _Rows:
    """The benchmarks' questions, each read once."""

    def __init__(self, settings: EvalSettings, terminal: Terminal):
        self._settings, self._terminal = settings, terminal
        self._questions: dict[str, list[Question]] = {}

    def of(self, task: Task) -> list[Question]:
        if task.name not in self._questions:
            self._questions[task.name] = load_questions(
                task,
                data=self._settings.data,
                limit=self._settings.limit,
                caution=self._terminal.say,
                read=_own_reader(task, self._settings),
            )
        return self._questions[task.name]


def _beyond(root: Path) -> dict[str, Any]:
    """Return the records that forgetting, calibration, diversity, drift and judge left here."""
    return {path.stem: read_record(path) for path in sorted((root / "beyond").glob("*.json"))}
