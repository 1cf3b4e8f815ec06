"""The command line: a command parses, calls one function, prints a table and names its record.

Exit status: 0 done, 1 the work failed, 2 the request is wrong, 130 interrupted. Errors are one line
on standard error; `--debug` shows the traceback. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__
from .errors import ProbtuneError
from .settings import TuneSettings, add_options

__all__ = ["main"]

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
        from . import commands

        getattr(commands, options.run)(options)
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
    tune.set_defaults(run="tune")

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
    probe.set_defaults(run="probe")

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
    objectives.set_defaults(run="objectives")

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
    report.set_defaults(run="report")

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
    demo.set_defaults(run="demo")
    for command in (tune, probe, objectives, report, demo):
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser
