"""The commands: each calls one function, prints a table and says where the record is."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from ..numbers import interval, plus_minus
from ..options import arguments_of
from ..paper.settings import read_configuration
from ..settings import TuneSettings, settings_from
from .options import PROBE_FIELDS, Demo, Report

if TYPE_CHECKING:
    from ..terminal import Terminal

_WORST = 5
"""Rows that look wrong, shown in the terminal; the record names more."""

__all__ = ["demo", "probe", "report", "seeds_of", "settings_of", "train", "tune"]


def settings_of(options: argparse.Namespace) -> TuneSettings:
    """Return the settings that the command line and --config name."""
    typed = {
        name: value
        for name, value in vars(options).items()
        if name in TuneSettings.__dataclass_fields__
    }
    trusted = getattr(options, "trust_objective_code", False)

    def read(path: str, kind: type[Any]) -> dict[str, Any]:
        values = read_configuration(path, kind)
        for name in () if trusted else ("objective", "compare"):
            if _names_code(values.get(name)):
                raise UsageError(
                    f"{path}: {name}: {values[name]!r} would run a Python file, and a configuration"
                    " may come from elsewhere; look at the file, then add --trust-objective-code,"
                    f" or write --{name} on the command line."
                )
        return values

    return settings_from(typed, getattr(options, "config", None), read=read)


def _names_code(text: Any) -> bool:
    """True if a setting names what a Python file holds; without torch."""
    return isinstance(text, str) and re.search(r"\.py:[A-Za-z_]", text) is not None


def _own_objectives(settings: TuneSettings) -> dict[str, Any]:
    """Load the objectives that the settings name in Python files, as arguments of the pipeline."""
    from ..objectives import objective, objective_list

    own: dict[str, Any] = {}
    if settings.objective.startswith("select:") and _names_code(settings.objective):
        raise UsageError(
            f"--objective {settings.objective}: select takes objectives by name; compare one of"
            " your own with --compare FILE.py:NAME."
        )
    if _names_code(settings.objective):
        own["objective"] = objective(settings.objective, run_code=True)
    if _names_code(settings.compare):
        own["compare"] = objective_list(settings.compare, run_code=True)
    return own


def tune(options: argparse.Namespace) -> None:
    from ..terminal import Terminal, quiet_libraries

    settings = settings_of(options)
    quiet_libraries()
    from ..paper.corpora import locate

    if options.dry_run is not None:
        from ..pipeline.dry_run import dry_run

        own = _own_objectives(settings)
        dry_run(settings, options.dry_run, Terminal(), locate=locate, **own)
        return
    from ..pipeline import tune

    terminal = Terminal(quiet=int(os.environ.get("RANK", "0")) > 0)
    record = tune(settings, terminal, locate=locate, **_own_objectives(settings))
    if not terminal.quiet:
        _show_run(record, settings.folder, terminal)


def train(options: argparse.Namespace) -> None:
    from ..terminal import Terminal, quiet_libraries

    settings = settings_of(options)
    quiet_libraries()
    from ..paper.corpora import locate
    from ..pipeline import train

    terminal = Terminal(quiet=int(os.environ.get("RANK", "0")) > 0)
    models = train(settings, terminal, locate=locate, **_own_objectives(settings))
    if not terminal.quiet:
        for objective, folder in models.items():
            terminal.show(f"{objective}  {folder}", wrap=False)
        _show_next(terminal, "tune", settings)


def _show_next(
    terminal: Terminal, command: str, settings: TuneSettings, only: Container[str] | None = None
) -> None:
    """Print the command that goes on, as the last line."""
    words = shlex.join(["probtune", command, *arguments_of(settings, only)])
    terminal.show(f"next    {words}", wrap=False)


def _show_run(record: dict[str, Any], folder: Path, terminal: Terminal) -> None:
    from ..reports.report import METRIC_NAMES, decide, verdicts

    chosen = record["choice"]["objective"]
    decision = decide(record)
    metrics = list(record["runs"][0]["heldout"]["metrics"])
    rows = []
    for run in record["runs"]:
        cells = [plus_minus(run["heldout"]["metrics"][metric], spec=".3f") for metric in metrics]
        name = "base model" if run["name"] == "base" else run["name"]
        rows.append([f"{name} *" if run["name"] == chosen else name, *cells])
    count = record["data"]["heldout"]["rows"]
    terminal.table(
        f"{count} held-out rows, ± one standard error",
        ["", *(METRIC_NAMES[metric] for metric in metrics)],
        rows,
        notes=[f"* {record['choice']['reason']}"],
    )
    _show_endings(record, terminal)
    for line in verdicts(record):
        terminal.show(line)
    terminal.show(f"\n{decision.title}")
    if decision.why:
        terminal.show(decision.why)
    if decision.model is not None:
        terminal.show(f"model   {folder / decision.model}", wrap=False)
    terminal.show(f"record  {folder / 'record.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)
    terminal.show(f"next    {_next_of(record, folder, decision.model)}", wrap=False)


_SHARED = {
    "chat": "--chat",
    "prompt_column": "--prompt-column",
    "response_column": "--response-column",
    "messages_column": "--messages-column",
    "prompt_format": "--prompt-format",
}
"""Settings of the data that `forgetting` takes as well."""


def _next_of(record: dict[str, Any], folder: Path, model: str | None) -> str:
    """Return the command that comes next: what the best model cost elsewhere; where it is the base
    model, the page.
    """
    if model is None:
        return f"probtune report {shlex.quote(str(folder))}"
    settings = record["settings"]
    words = ["probtune", "forgetting", settings["model"], str(folder / model)]
    words += ["--data", settings["data"]]
    for name, flag in _SHARED.items():
        value = settings.get(name)
        if value:
            words += [flag] if value is True else [flag, str(value)]
    return " ".join(shlex.quote(word) for word in words)


def _show_endings(record: dict[str, Any], terminal: Terminal) -> None:
    """Print how the answers of each model end."""
    from ..reports.report import RATE_NAMES

    runs = [run for run in record["runs"] if run["heldout"]["rates"]]
    if not runs:
        return
    rates = list(runs[0]["heldout"]["rates"])
    limit = runs[0]["heldout"]["max_new_tokens"]
    title = "p of the end token after the right response"
    if "stops" in rates:
        number = runs[0]["heldout"]["rates"]["stops"]["n"]
        title = f"How {number} greedy answers of at most {limit} tokens end [95 %]"
    rows = [
        [
            "base model" if run["name"] == "base" else run["name"],
            *(interval(run["heldout"]["rates"][rate], spec=".2f", share=True) for rate in rates),
        ]
        for run in runs
    ]
    terminal.table(title, ["", *(RATE_NAMES[rate] for rate in rates)], rows)


def probe(options: argparse.Namespace) -> None:
    from ..terminal import Terminal, quiet_libraries

    settings = settings_of(options)
    if settings.out is not None and Path(settings.out).exists():
        raise UsageError(f"{settings.out} exists; choose another --out.")
    store = None if options.store is None else Path(options.store)
    if store is not None:
        if store.suffix != ".arrow":
            raise UsageError(f"--store must end in .arrow, got {store}.")
        if store.exists():
            raise UsageError(f"{store} exists; choose another --store.")
        settings = replace(settings, all=True)
    quiet_libraries()
    from ..paper.corpora import locate
    from ..pipeline import probe_only

    terminal = Terminal()
    if options.warmup and settings.scout_steps == 0:
        raise UsageError("--warmup sends a scout; --scout-steps must be at least 1 with it, got 0.")
    record = probe_only(settings, terminal, store=store, locate=locate, warmup=options.warmup)
    groups = [("all", record), *((f"  {group['name']}", group) for group in record["classes"])]
    if record["end_token"] is not None:
        groups.append(("  end token", record["end_token"]))
    terminal.table(
        f"{settings.model} on {settings.data}: {record['tokens']} target tokens of"
        f" {record['examples']} of {record['of_examples']} rows",
        ["tokens", "number", "mean p [95 %]", "share p < 0.1 [95 %]"],
        [
            [
                name,
                f"{g['tokens']:,}",
                *(interval(g[x], spec=".3f", share=True) for x in ("mean_p", "below_0_1")),
            ]
            for name, g in groups
        ],
    )
    quantiles = "  ".join(f"{q}: {value:.3g}" for q, value in record["quantiles"].items())
    terminal.show(f"quantiles of p   {quantiles}")
    for name, what in (
        ("above_0_55", "share p > 0.55"),
        ("below_0_001", "share p < 0.001"),
        ("confident_conflict", "confident conflict (p < 0.1, entropy < ln 2)"),
        ("token_accuracy", "token accuracy"),
        ("entropy", "mean entropy, nats"),
        ("nll", "NLL, nats"),
    ):
        share = name not in ("entropy", "nll")
        terminal.show(
            f"{what:46s} {interval(record[name], spec='.3f', share=share, nonnegative=True)}"
        )
    if record.get("scout") is not None:
        _show_scout(record["scout"], terminal)
    else:
        noise = record["features"]["noise"] if record["features"]["noise_known"] else None
        said = "cannot be told: the model knows too little" if noise is None else f"{noise:.3f}"
        terminal.show(f"{'share of rows that look wrong (estimate)':46s} {said}")
        suggestion = record["suggestion"]
        named = suggestion["objective"]
        if suggestion["undecided"]:
            named = f"undecided between {' and '.join(suggestion['race'])}"
        terminal.show(f"\n{suggestion['verdict']}: {named}. {suggestion['reason']}")
        for caution in suggestion["cautions"]:
            terminal.show(caution)
    if settings.out is not None:
        terminal.show(f"record  {settings.out}", wrap=False)
    suggestion = (record.get("scout") or {"probe": record})["probe"]["suggestion"]
    if options.emit is not None:
        from ..integrations.emitted import lines

        text = lines(options.emit, suggestion["objective"], settings.model, settings.data)
        terminal.show(f"\n{text}", wrap=False)
        return
    objective = "auto"
    if suggestion["undecided"]:
        objective = f"select:{','.join(suggestion['race'])}"
    _show_next(terminal, "tune", replace(settings, objective=objective), _NEXT_FIELDS)


_NEXT_FIELDS = {*PROBE_FIELDS, "objective"} - {"out"}


def _show_scout(scouted: dict[str, Any], terminal: Terminal) -> None:
    """Print what the probe after the scout says, and the rows that look most wrong."""
    scout, noise, probe = scouted["scout"], scouted["noise"], scouted["probe"]
    suggestion = probe["suggestion"]
    terminal.show(
        f"\nAfter a scout of {scout['steps']} steps on {scout['rows']} other rows: mean p"
        f" {interval(probe['mean_p'], spec='.3f', share=True)}"
    )
    share = "cannot be told: the model knows too little of the rows"
    if noise["known"]:
        share = interval(noise["share"], spec=".3f", share=True)
    terminal.show(f"{'share of rows that look wrong':46s} {share}")
    for row in noise["worst"][:_WORST] if noise["known"] else ():
        why = ", ends where it would go on" if row.get("cut_short") else ""
        why = ", repeats its question or itself" if row.get("echo") else why
        terminal.show(f"  {row['where']}  (excess surprise {row['excess']:.1f}{why})", wrap=False)
    terminal.show(f"\n{suggestion['verdict']}: {suggestion['objective']}. {suggestion['reason']}")
    terminal.show(scouted["decodings"])


def report(options: Report) -> None:
    from ..evaluation.reports.parts import MAKERS as EVALUATION
    from ..paper.reports.parts import MAKERS as PAPER
    from ..records import read_record, write_text
    from ..reports.report import MAKERS, render
    from ..terminal import Terminal

    paths = [Path(folder) for folder in options.folders]
    records = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such folder; name that of a run, or its record.")
        if (path / "sweep.json").is_file():
            records.append(read_record(path / "sweep.json", "sweep"))
            files = [path / name / "record.json" for name in records[-1]["folders"].values()]
        else:
            files = [path / "record.json" if path.is_dir() else path]
        for file in files:
            if path.is_dir() and not file.is_file():
                raise DataError(
                    f"{file.parent} holds no finished run: there is no record.json in it."
                )
            records.append(read_record(file))
    if options.out is not None:
        out = Path(options.out)
    else:
        out = (
            (paths[0] if paths[0].is_dir() else paths[0].parent) / "report.html"
            if len(paths) == 1
            else Path("report.html")
        )
    if (
        out.exists()
        and '<meta name="generator" content="probtune">'
        not in out.read_text(errors="replace")[:1000]
    ):
        raise UsageError(f"{out} exists and is not a report of probtune; choose another --out.")
    html = render(records, {**MAKERS, **EVALUATION, **PAPER})
    write_text(out, html)
    terminal = Terminal()
    terminal.show(f"report  {out}", wrap=False)
    if options.serve:
        from .serving import serve

        serve(html, options.port, terminal)


def demo(options: Demo) -> None:
    from ..terminal import Terminal, quiet_libraries

    if options.out is not None and not options.out.strip():
        raise UsageError("--out is empty; name a folder.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from ..demo import grid, real, summary
    from ..records import read_record, write_text
    from ..reports.report import render

    if options.real:
        if options.seeds:
            raise UsageError("--seeds is for tiny models; --real has one seed.")
        quiet_libraries()
        folder, terminal = Path(options.out or "runs/demo-real"), Terminal()
        record = real.run(folder, terminal)
        runs = [read_record(folder / cell["folder"] / "record.json") for cell in record["cells"]]
        summary.show_real(record, runs, terminal)
        terminal.show(f"record  {folder / 'record.json'}", wrap=False)
        terminal.show(f"report  {folder / 'report.html'}", wrap=False)
        return
    plan = grid.FAST if options.fast else grid.FULL if options.full else grid.STANDARD
    if options.seeds is not None:
        plan = replace(plan, seeds=seeds_of(options.seeds))
    folder = Path(options.out or "runs/demo")
    terminal = Terminal()
    terminal.say(summary.introduction(plan))
    record = grid.run(folder, plan, terminal)
    write_text(folder / "report.html", render([record]))
    summary.show(record, terminal)
    terminal.show(f"record  {folder / 'record.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)


_MOST_SEEDS = 1000


def seeds_of(text: str) -> tuple[int, ...]:
    """Read a list of seeds.

    Raises:
        UsageError: it is no such list.
    """
    try:
        seeds: list[int] = []
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            named = range(int(first), int(last if dash else first) + 1)
            if len(named) + len(seeds) > _MOST_SEEDS or named.stop > 2**32:
                raise UsageError(f"--seeds {text}: at most {_MOST_SEEDS} seeds, each below 2^32.")
            seeds.extend(named)
    except UsageError:
        raise
    except ValueError:
        raise UsageError(
            f"--seeds must be whole numbers as 0,1,2 or 10-14, got {text!r}."
        ) from None
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds must name each seed once, got {text!r}.")
    return tuple(seeds)
