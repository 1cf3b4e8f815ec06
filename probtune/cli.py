"""The command line: a command parses, calls one function, prints a table and names its record.

Exit status: 0 done, 1 the work failed, 2 the request is wrong, 130 interrupted. Errors are one line
on standard error; `--debug` shows the traceback. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import DataError, ProbtuneError, UsageError
from .settings import TuneSettings, add_options, settings_from

if TYPE_CHECKING:
    from .terminal import Terminal

__all__ = ["main", "quiet_libraries"]

_DESCRIPTION = """\
Fine-tune language models with the objective that fits what they already know.

Supervised fine-tuning minimises -log p of each target token. Where the base model
already knows the domain and the labels are noisy, objectives that trust its prior
(1 - p, p^alpha, thresholds) do better; where it knows little, -log p does. probtune
measures where your model stands, trains, and compares honestly.
"""

_EPILOG = """\
start here:
  probtune demo                             see it on this machine's CPU, in minutes
  probtune probe MODEL rows.jsonl           what does the model know of my data?
  probtune tune MODEL rows.jsonl            probe, choose, train, measure, report
  probtune tune MODEL rows.jsonl --compare 'nll,p,power(0.5)'
"""

_TUNE_EPILOG = """\
examples:
  probtune tune Qwen/Qwen2.5-1.5B train.jsonl --compare nll,p
  probtune tune ./my-model gsm8k.jsonl --prompt-column question --response-column answer
  probtune tune --config run.yaml --learning-rate 1e-5

A run that was interrupted goes on when the same command is given again.
--config takes the same names: 'learning_rate: 1e-5'. The command line wins.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has printed the help or the error
        return int(stop.code or 0)
    if "run" not in options:
        parser.print_help()
        return 0
    try:
        options.run(options)
        return 0
    except ProbtuneError as error:
        if options.debug:
            raise
        return _fail(error, error.exit_status)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; finished stages are kept, the same command goes on from there.", 130
        )
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if options.debug:
            raise
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}. Finished stages are kept.", 1)
    except Exception as error:
        if options.debug:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        return _fail(
            f"{type(error).__name__}: {reason} (unexpected; run with --debug for the traceback)", 1
        )


def _fail(reason: object, status: int) -> int:
    print(f"probtune: {' '.join(str(reason).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "probtune", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=plain
    )
    parser.add_argument("--version", action="version", version=f"probtune {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    tune = commands.add_parser(
        "tune",
        help="probe, choose the objective, train, measure, compare, report",
        description=(
            "Fine-tune MODEL on DATA: hold out a split, probe the base model, choose the objective,"
            " train, measure on the held-out rows, and write a record and a report."
        ),
        epilog=_TUNE_EPILOG,
        formatter_class=plain,
    )
    add_options(tune, TuneSettings)
    tune.add_argument("--config", metavar="FILE", help="YAML file with settings")
    tune.set_defaults(run=_run_tune)

    probe = commands.add_parser(
        "probe",
        help="measure what a base model knows of the data, and suggest an objective",
        description=(
            "One forward pass of MODEL over a sample of DATA: target probabilities, overall and by"
            " kind of token, and the objective they suggest."
        ),
    )
    wanted = (
        *(
            "model",
            "data",
            "prompt_column",
            "response_column",
            "separator",
            "chat",
            "split",
            "subset",
        ),
        *("max_length", "skip_bad_rows", "probe_examples", "all", "seed"),
    )
    add_options(probe, TuneSettings, only=wanted)
    probe.add_argument("--out", metavar="FILE", help="write the record here (JSON)")
    probe.set_defaults(run=_run_probe)

    objectives = commands.add_parser(
        "objectives",
        help="list the objectives, and draw f, w and W_f",
        description=(
            "The objectives with their token weight. With --plot, the curves of f(p), of the token"
            " weight w(p) = -p f'(p) and of the logit gradient W_f(p) = w(p)(1 - p), as a picture."
        ),
    )
    objectives.add_argument(
        "list", nargs="?", metavar="LIST", help="some of them, as nll,power(0.5) (default: all)"
    )
    objectives.add_argument(
        "--plot",
        nargs="?",
        const="objectives.png",
        metavar="FILE",
        help="draw the curves (.png, .svg or .pdf)",
    )
    objectives.add_argument(
        "--tau", type=float, default=0.5, help="threshold of leaning (default: 0.5)"
    )
    objectives.set_defaults(run=_run_objectives)

    report = commands.add_parser(
        "report",
        help="make the HTML report of runs again, from their records",
        description=(
            "One self-contained HTML file from the records of one or more runs. Needs no torch."
        ),
    )
    report.add_argument(
        "folders", nargs="+", metavar="DIR", help="folder of a run or a demo, or a record"
    )
    report.add_argument(
        "--out", metavar="FILE", help="default: DIR/report.html, or report.html for several"
    )
    report.set_defaults(run=_run_report)

    demo = commands.add_parser(
        "demo",
        help="see the model-capability continuum on a CPU, offline, in minutes",
        description=(
            "Pre-trains tiny models to three levels of capability, fine-tunes them with NLL, 1 - p"
            " and power(0.5) on noisy labels by the path of `probtune tune`, and prints who wins"
            " where, over seeds."
        ),
    )
    size = demo.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="2 seeds, the two ends only")
    size.add_argument(
        "--full", action="store_true", help="more noise rates, noise kinds and objectives"
    )
    demo.add_argument(
        "--seeds", metavar="LIST", help="as 0,1,2 or 10-14 (default: 0-4; with --fast 0,1)"
    )
    demo.add_argument(
        "--out", metavar="DIR", default="runs/demo", help="folder (default: runs/demo)"
    )
    demo.set_defaults(run=_run_demo)
    for command in (tune, probe, objectives, report, demo):
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def quiet_libraries() -> None:
    """Our progress bars and errors instead of the libraries' own chatter; no telemetry. Set before
    they load.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers

    transformers.logging.disable_progress_bar()
    import warnings

    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\..*"
    )


def _settings(options: argparse.Namespace) -> TuneSettings:
    given = {
        name: value
        for name, value in vars(options).items()
        if name not in ("run", "debug", "config")
    }
    return settings_from(given, getattr(options, "config", None))


def _run_tune(options: argparse.Namespace) -> None:
    from .terminal import Terminal

    settings = _settings(options)
    quiet_libraries()
    from .pipeline import tune

    terminal = Terminal()
    record = tune(settings, terminal)
    _show_run(record, settings.folder, terminal)


def _show_run(record: dict[str, Any], folder: Path, terminal: Terminal) -> None:
    from .reports.report import METRIC_NAMES, headline

    chosen = record["choice"]["objective"]
    metrics = list(record["runs"][0]["heldout"]["metrics"])
    rows = []
    for run in record["runs"]:
        found = [_plus_minus(run["heldout"]["metrics"][metric]) for metric in metrics]
        name = "base model" if run["name"] == "base" else run["name"]
        rows.append([f"{name} *" if run["name"] == chosen else name, *found])
    count = record["data"]["heldout"]["rows"]
    terminal.table(
        f"{count} held-out rows, ± one standard error",
        ["", *(METRIC_NAMES[metric] for metric in metrics)],
        rows,
        notes=[f"* {record['choice']['reason']}", headline(record)],
    )
    terminal.show(f"model   {folder / _slug(chosen) / 'model'}", wrap=False)
    terminal.show(f"record  {folder / 'record.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)


def _slug(text: str) -> str:
    from .objectives import objective
    from .pipeline import slug

    return slug(objective(text))


def _run_probe(options: argparse.Namespace) -> None:
    from .terminal import Terminal

    settings = _settings(options)
    if settings.out is not None and Path(settings.out).exists():
        raise UsageError(f"{settings.out} exists; choose another --out.")
    quiet_libraries()
    from .pipeline import probe_only

    terminal = Terminal()
    found = probe_only(settings, terminal)
    groups = [("all", found), *((f"  {group['name']}", group) for group in found["classes"])]
    if found["end_token"] is not None:
        groups.append(("  end token", found["end_token"]))
    terminal.table(
        f"{settings.model} on {settings.data}: {found['tokens']} target tokens of"
        f" {found['examples']} of {found['of_examples']} rows",
        ["tokens", "number", "mean p [95 %]", "share p < 0.1 [95 %]"],
        [
            [name, f"{g['tokens']:,}", _interval(g["mean_p"]), _interval(g["below_0_1"])]
            for name, g in groups
        ],
    )
    quantiles = "  ".join(f"{q}: {value:.3g}" for q, value in found["quantiles"].items())
    terminal.show(f"quantiles of p   {quantiles}")
    for name, what in (
        ("above_0_55", "share p > 0.55"),
        ("below_0_001", "share p < 0.001"),
        ("confident_conflict", "confident conflict (p < 0.1, entropy < ln 2)"),
        ("token_accuracy", "token accuracy"),
        ("entropy", "mean entropy, nats"),
        ("nll", "NLL, nats"),
    ):
        terminal.show(f"{what:46s} {_interval(found[name])}")
    suggestion = found["suggestion"]
    terminal.show(f"\n{suggestion['verdict']}: {suggestion['objective']}. {suggestion['reason']}")
    for caution in suggestion["cautions"]:
        terminal.show(caution)
    if settings.out is not None:
        terminal.show(f"record  {settings.out}", wrap=False)


def _run_objectives(options: argparse.Namespace) -> None:
    from .objectives import MEMBERS, objective, objective_list, signature
    from .terminal import Terminal

    terminal = Terminal()
    chosen = (
        objective_list(options.list)
        if options.list
        else [objective(m.example) for m in MEMBERS.values()]
    )
    if not 0 < options.tau < 1:
        raise UsageError(f"--tau must lie strictly between 0 and 1, got {options.tau}.")
    if not options.list:
        terminal.table(
            "Objectives: functions f(p) of the target probability; -log p is ordinary fine-tuning",
            [
                "objective",
                "f(p)",
                "weight w(p) = -p f'(p)",
                f"leaning, tau = {options.tau:g}",
                "what for",
            ],
            [
                [
                    signature(m),
                    m.formula,
                    m.weight_formula,
                    f"{o.leaning(options.tau)}: {o}",
                    m.summary,
                ]
                for m, o in zip(MEMBERS.values(), chosen, strict=True)
            ],
        )
        for member in MEMBERS.values():
            terminal.show(f"{member.__name__:7s} {member.source}")
    else:
        terminal.table(
            f"Leaning at tau = {options.tau:g}",
            ["objective", "leaning", "share of the mass of W_f above tau"],
            [[str(o), o.leaning(options.tau), f"{o.mass_above(options.tau):.3f}"] for o in chosen],
        )
    if options.plot:
        _plot(chosen, Path(options.plot))
        terminal.show(f"curves  {options.plot}", wrap=False)


def _plot(chosen: Sequence[Any], path: Path) -> None:
    import torch

    from .reports.figures import objective_curves

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {path}: the file must end in .png, .svg or .pdf.")
    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    quantities = ("value", "token_weight", "logit_gradient")
    found = {
        str(o): {name: getattr(o, name)(p.log()).tolist() for name in quantities} for o in chosen
    }
    objective_curves(p.tolist(), found).savefig(path, dpi=150)


def _run_report(options: argparse.Namespace) -> None:
    from .records import read_record, write_text
    from .reports.report import render
    from .terminal import Terminal

    paths = [Path(folder) for folder in options.folders]
    records = []
    for path in paths:
        file = path / "record.json" if path.is_dir() else path
        if path.is_dir() and not file.is_file():
            raise DataError(f"{path} holds no finished run: there is no record.json in it.")
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
    write_text(out, render(records))
    Terminal().show(f"report  {out}", wrap=False)


def _run_demo(options: argparse.Namespace) -> None:
    from .terminal import Terminal

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from dataclasses import replace

    from .demo import grid, summary
    from .records import write_text
    from .reports.report import render

    plan = grid.FAST if options.fast else grid.FULL if options.full else grid.STANDARD
    if options.seeds:
        plan = replace(plan, seeds=_seeds(options.seeds))
    folder = Path(options.out)
    terminal = Terminal()
    terminal.say(summary.introduction(plan))
    record = grid.run(folder, plan, terminal)
    write_text(folder / "report.html", render([record]))
    summary.show(record, terminal)
    terminal.show(f"record  {folder / 'record.json'}", wrap=False)
    terminal.show(f"report  {folder / 'report.html'}", wrap=False)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds: list[int] = []
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            seeds.extend(range(int(first), int(last) + 1) if dash else [int(first)])
    except ValueError:
        raise UsageError(
            f"--seeds must be whole numbers as 0,1,2 or 10-14, got {text!r}."
        ) from None
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds must name each seed once, got {text!r}.")
    return tuple(seeds)


def _plus_minus(found: Any) -> str:
    error = found["standard_error"]
    return f"{found['value']:.3f}" if error is None else f"{found['value']:.3f} ± {error:.3f}"


def _interval(found: Any) -> str:
    if found["value"] is None:
        return "-"
    return (
        f"{found['value']:.3f}"
        if found["low"] is None
        else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    )
