"""`probtune forgetting`, `calibration`, `diversity`, `drift` and `judge`: measurements beside the
target score. Each calls functions of `evaluation`, prints a panel, and writes a record with --out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError, UsageError
from ...settings import TuneSettings
from ...terminal import Terminal
from .options import Calibration, Diversity, Drift, Forgetting, JudgeAnswers

if TYPE_CHECKING:
    from ...data.encoding import Encoding
    from ...pipeline.preparation import Locate

__all__ = ["calibration", "diversity", "drift", "forgetting", "judge"]


def forgetting(options: Forgetting, *, locate: Locate | None = None) -> None:
    _check_out(options.out)
    if not (options.rows or options.text or options.eval):
        raise UsageError(
            "name what to measure on: --data ROWS (divergence), --text FILE (bits per byte) or"
            " --eval base=DIR tuned=DIR (benchmarks)."
        )
    folders = _folders(options.eval) if options.eval else None
    terminal = Terminal()
    content: dict[str, Any] = {
        "base": options.base,
        "tuned": options.tuned,
        "divergence": None,
        "text": None,
        "tasks": None,
    }
    if folders is not None:
        from ..forgetting import drop_on_tasks

        content["tasks"] = drop_on_tasks(*folders, protocol=options.protocol, target=options.target)
    if options.rows or options.text:
        content |= _on_texts(options, terminal, locate)
    _finish("forgetting", content, options.out, terminal)


def _on_texts(options: Forgetting, terminal: Terminal, locate: Locate | None) -> dict[str, Any]:
    """Load both models, and measure divergence and bits per byte."""
    from ...terminal import quiet_libraries

    quiet_libraries()
    from ...models.loading import load_tokenizer
    from ..divergence import divergences, draw
    from ..documents import cost_of, read_documents

    tokenizer = load_tokenizer(options.base)
    _same_vocabulary(options, tokenizer)
    settings = _row_settings(options, options.base, options.rows)
    documents = read_documents(options.text, column=options.text_column) if options.text else []
    encoded = None if settings is None else _encoded(settings, options.limit, terminal, locate)
    base, tuned = (_load(name, options) for name in (options.base, options.tuned))
    content: dict[str, Any] = {}
    if encoded is not None:
        rows, source = encoded
        drawn = []
        if options.max_new_tokens:
            with terminal.track("samples of the base model", len(rows.rows)) as advance:
                drawn = draw(
                    base,
                    tokenizer,
                    [row.prompt_ids for row in rows.rows],
                    max_new_tokens=options.max_new_tokens,
                    seed=options.row_settings.get("seed", 0),
                    progress=advance,
                )
        content["divergence"] = dict(source)
        for name, part in (("data", list(rows.rows)), ("samples", drawn)):
            if part:
                with terminal.track(f"divergence, {name}", len(part)) as advance:
                    measured = divergences(base, tuned, part, progress=advance)
                content["divergence"][name] = {
                    "rows": len(part),
                    "tokens": int(measured.tokens.sum()),
                    **measured.estimates(),
                }
    if documents:
        length = _length(options.base, options)
        costs = []
        for name, model in (("base", base), ("tuned", tuned)):
            with terminal.track(f"held-out text, {name}", len(documents)) as advance:
                costs.append(
                    cost_of(model, tokenizer, documents, max_length=length, progress=advance)
                )
        before, after = costs
        content["text"] = {
            "source": options.text,
            "documents": len(documents),
            "bytes": int(before.bytes.sum()),
            "tokens": int(before.tokens.sum()),
            "window": length,
            "base": before.bits_per_byte,
            "tuned": after.bits_per_byte,
            "difference": after.minus(before),
        }
    return content


def calibration(options: Calibration, *, locate: Locate | None = None) -> None:
    _check_out(options.out)
    if not (options.rows or options.tasks or options.eval):
        raise UsageError(
            "name what to measure on: DATA (tokens), --tasks LIST (letters of a multiple choice)"
            " or --eval DIR (the share of samples that agree)."
        )
    if options.model is None and (options.rows or options.tasks):
        raise UsageError("MODEL is missing; name a model.")
    terminal = Terminal()
    content: dict[str, Any] = {
        "model": options.model or options.eval,
        "tokens": None,
        "options": [],
        "votes": [],
    }
    if options.eval:
        from ..calibrating import of_votes
        from ..sampled import load_sampled

        content["votes"] = [
            of_votes(sampled)
            for sampled in load_sampled(Path(options.eval), options.protocol, terminal)
        ]
    if options.rows or options.tasks:
        content |= _of_model(options, terminal, locate)
    _finish("calibration", content, options.out, terminal)


def _of_model(options: Calibration, terminal: Terminal, locate: Locate | None) -> dict[str, Any]:
    from ...terminal import quiet_libraries

    quiet_libraries()
    assert options.model is not None
    base = _base_of(options.model)
    settings = _row_settings(options, base, options.rows)
    encoded = None if settings is None else _encoded(settings, options.limit, terminal, locate)
    benchmarks = []
    if options.tasks:
        from ..tasks.reading import load_questions
        from ..tasks.table import find_tasks

        for task in find_tasks(options.tasks):
            questions = load_questions(
                task,
                data=options.benchmark_data,
                limit=options.questions,
                caution=terminal.say,
            )
            if not all(question.options for question in questions):
                raise UsageError(
                    f"{task.name} is no multiple choice, so it has no letters to measure; name one"
                    " with --tasks."
                )
            benchmarks.append((task, questions))
    from ..calibrating import of_letters, of_tokens

    model = _load(options.model, options)
    content: dict[str, Any] = {}
    if encoded is not None:
        rows, source = encoded
        with terminal.track("tokens", len(rows.rows)) as advance:
            content["tokens"] = {**source, **of_tokens(model, rows.rows, progress=advance)}
    content["options"] = []
    for task, questions in benchmarks:
        from ...data.prompts import format_of
        from ...models.loading import context_length, load_tokenizer

        tokenizer = load_tokenizer(base)
        family = options.row_settings.get("prompt_format") or "auto"
        family = format_of(tokenizer) if family == "auto" else family
        letters = sum(len(question.options or ()) for question in questions)
        with terminal.track(f"{task.name}: letters", letters) as advance:
            content["options"].append(
                of_letters(
                    model,
                    tokenizer,
                    task,
                    questions,
                    task.protocols[options.protocol].prompt(family),
                    max_length=context_length(base)[0],
                    progress=advance,
                )
            )
    return content


def diversity(options: Diversity) -> None:
    from ..diversity import diversity as measure
    from ..sampled import load_sampled

    _check_out(options.out)
    terminal = Terminal()
    labelled = [_labelled(text) for text in options.folders]
    tasks = []
    for label, folder in labelled:
        for sampled in load_sampled(folder, options.protocol, terminal):
            measures = measure(
                sampled.texts, sampled.answers, sampled.correct, clusters=sampled.clusters
            )
            tasks.append(
                {
                    "name": sampled.measured.task.name,
                    "title": sampled.measured.task.title,
                    "protocol": sampled.measured.protocol,
                    "label": label,
                    "samples": sampled.samples,
                    "questions": len(sampled.answers),
                    "measures": measures,
                    "last": [name for name in measures if name.startswith("pass@")][-1],
                }
            )
    content = {"folders": dict(labelled), "labelled": len(labelled) > 1, "tasks": tasks}
    _finish("diversity", content, options.out, terminal)


def drift(options: Drift) -> None:
    from ..drift import drift as measure
    from ..drift import summary

    _check_out(options.out)
    terminal = Terminal()
    with terminal.track("tensors", 1) as advance:
        moved = measure(
            options.base,
            options.tuned,
            ranks=not options.no_ranks,
            device=options.device,
            progress=advance,
            total=lambda number: advance(0, total=number),
        )
    content = {
        "base": options.base,
        "tuned": options.tuned,
        **summary(moved),
        "tensors": [vars(one) | {"relative": one.relative} for one in moved],
    }
    _finish("drift", content, options.out, terminal)


def judge(options: JudgeAnswers) -> None:
    from ..grading.judge import PROMPT, Judge
    from ..judging import judge_answers

    _check_out(options.out)
    terminal = Terminal()
    chosen = Judge(
        options.url,
        options.model,
        key_variable=options.key_variable,
        prompt=_text(options.prompt) if options.prompt else PROMPT,
        concurrent=options.concurrent,
    )
    content = judge_answers(
        Path(options.folder),
        chosen,
        against=None if options.against is None else Path(options.against),
        protocol=options.protocol,
        data=options.benchmark_data,
        terminal=terminal,
    )
    _finish("judgement", content, options.out, terminal)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None


# Evaluation folders


def _folders(texts: Sequence[str]) -> tuple[Path, Path]:
    folders = dict(_labelled(text) for text in texts)
    if set(folders) != {"base", "tuned"}:
        raise UsageError("--eval takes two folders, as base=DIR tuned=DIR.")
    return folders["base"], folders["tuned"]


def _labelled(text: str) -> tuple[str, Path]:
    label, equals, folder = text.partition("=")
    path = Path(folder if equals else text)
    return (label if equals else path.name), path


# Models and rows


def _row_settings(
    options: Forgetting | Calibration, model: str, source: str | None
) -> TuneSettings | None:
    if source is None:
        return None
    return TuneSettings(model=model, data=source, **options.row_settings)


def _encoded(
    settings: TuneSettings, limit: int | None, terminal: Terminal, locate: Locate | None
) -> tuple[Encoding, dict[str, Any]]:
    """Return (rows as tokens, their source)."""
    from ...models.loading import load_tokenizer
    from ...pipeline.preparation import check_vocabulary, encode_rows, max_length_of, read
    from ...probe.capability import sample

    rows = read(settings, settings.data, terminal, locate=locate)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    chosen = sample(rows.examples, limit, seed=settings.seed)
    length = max_length_of(settings, terminal)
    encoding = encode_rows(chosen, tokenizer, settings, rows.schema, length, terminal)
    check_vocabulary(settings.model, encoding)
    return encoding, {"source": rows.source, "sha256": rows.sha256, "of_rows": len(rows)}


def _base_of(name: str) -> str:
    """Return the base model of a folder with adapters, for its tokenizer and context; any other
    name unchanged.
    """
    path = Path(name) / "adapter_config.json"
    if not path.is_file() or (Path(name) / "config.json").is_file():
        return name
    return json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]


def _load(name: str, options: Forgetting | Calibration) -> Any:
    from ...models.loading import load_model

    return load_model(name, dtype=options.dtype, device=options.device)


def _length(name: str, options: Forgetting) -> int:
    from ...models.loading import context_length

    return min(context_length(name)[0] or 2048, options.window)


def _same_vocabulary(options: Forgetting, tokenizer: Any) -> None:
    """Refuse a tuned model with another tokenizer; a folder without one has that of the base."""
    from ...models.loading import load_tokenizer

    if (
        Path(options.tuned).is_dir()
        and not (Path(options.tuned) / "tokenizer_config.json").exists()
    ):
        return
    if load_tokenizer(options.tuned).get_vocab() != tokenizer.get_vocab():
        raise DataError(
            f"{options.base} and {options.tuned} have different tokenizers, so they cannot be"
            " compared token by token; give two models with the same tokenizer."
        )


# Records


def _check_out(out: str | None) -> None:
    if out is not None and Path(out).exists():
        raise UsageError(f"{out} exists; choose another --out.")


def _finish(kind: str, content: dict[str, Any], out: str | None, terminal: Terminal) -> None:
    """Print the panel, and write its record."""
    from ...records import environment, make_record, write_record
    from ..reports.panels import panel

    content = {**content, "environment": environment()}
    shown = panel(make_record(kind, content))
    table = shown["table"]
    terminal.table(shown["title"], table["header"], table["rows"], notes=[shown["note"]])
    if out is not None:
        write_record(Path(out), kind, content)
        terminal.show(f"record  {out}", wrap=False)
