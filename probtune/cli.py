"""The command line: a command parses, calls one function, prints a table and names its record.

Exit status: 0 done, 1 the work failed, 2 the request is wrong, 130 interrupted. Errors are one line
on standard error; `--debug` shows the traceback. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands.beyond_options import add_beyond_commands
from .errors import ProbtuneError, UsageError
from .eval_settings import EvalSettings
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
        options.asked.print_help()
        return 0
    try:
        _check_plot(getattr(options, "plot", None))
        module, function = options.run.split(".")
        getattr(importlib.import_module(f".commands.{module}", __package__), function)(options)
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


def _check_plot(path: str | None) -> None:
    """Refuse a picture's file name before the work behind the picture is done."""
    if path and os.path.splitext(path)[1] not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {path}: the file must end in .png, .svg or .pdf.")


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
    parser.set_defaults(asked=parser)
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
    tune.set_defaults(run="tuning.tune")

    train = commands.add_parser(
        "train",
        help="only train: tune without measuring, also on several processes",
        description=(
            "The training of `probtune tune`, in the same folder, without measuring and comparing;"
            " `probtune tune` with the same settings goes on from there. To train on several"
            " devices: torchrun --nproc_per_node N -m probtune train …, or accelerate launch with"
            " its configuration (FSDP, DeepSpeed)."
        ),
    )
    add_options(train, TuneSettings)
    train.add_argument("--config", metavar="FILE", help="YAML file with settings")
    train.set_defaults(run="tuning.train")

    probe = commands.add_parser(
        "probe",
        help="measure what a base model knows of the data, and suggest an objective",
        description=(
            "One forward pass of MODEL over a sample of DATA: target probabilities, overall and by"
            " kind of token, an estimate of label noise, and the objective they suggest for the"
            " training that is planned (--epochs and so on; nothing is trained)."
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
            "prompt_format",
            "system",
            "instruction",
            "response_end",
            "split",
            "subset",
        ),
        *("max_length", "skip_bad_rows", "probe_examples", "all", "seed", "decoding"),
        *("epochs", "max_steps", "learning_rate", "batch_size", "gradient_accumulation"),
    )
    add_options(probe, TuneSettings, only=wanted)
    probe.add_argument("--out", metavar="FILE", help="write the record here (JSON)")
    probe.add_argument(
        "--store",
        metavar="FILE.arrow",
        help=(
            "write the log-probabilities of all rows here, for objectives that compare with this"
            " model (tune --reference or --better); implies --all"
        ),
    )
    probe.set_defaults(run="tuning.probe")

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
    objectives.add_argument(
        "--verify",
        action="store_true",
        help="compare each gradient with float64 autograd; status 1 if one is off by over 1e-6",
    )
    objectives.set_defaults(run="tuning.objectives")

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
    report.set_defaults(run="tuning.report")

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
    demo.set_defaults(run="tuning.demo")
    evaluation = _evaluation(commands)
    prepare = _prepare(commands)
    reproduce = _reproduce(commands)
    beyond = add_beyond_commands(commands)
    theory = _theory(commands)
    several = (*evaluation, prepare, reproduce, *beyond, *theory)
    for command in (tune, train, probe, objectives, report, demo, *several):
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


_EVAL_EPILOG = """\
examples:
  probtune eval Qwen/Qwen2.5-Math-1.5B --tasks math --protocol strict,reference -k 16
  probtune eval runs/x/p/model --tasks math500 --limit 50 -k 4 --max-new-tokens 512
  probtune eval NAME --server http://localhost:8000/v1 --tokenizer Qwen/Qwen2.5-7B --tasks medical
  probtune eval --phase grade --out runs/eval-x     grade again, without the model

A run that was interrupted goes on when the same command is given again; more tasks, protocols
and answers (-k) extend its folder.
"""


def _evaluation(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """`probtune eval` and `probtune compare`."""
    plain = argparse.RawDescriptionHelpFormatter
    evaluate = commands.add_parser(
        "eval",
        help="ask a model the paper's benchmarks, grade strictly and as the paper, with intervals",
        description=(
            "Ask MODEL benchmarks by lm-evaluation-harness, grade its answers under two protocols,"
            " and write the numbers with their intervals: three phases, each to be run again alone."
        ),
        epilog=_EVAL_EPILOG,
        formatter_class=plain,
    )
    add_options(evaluate, EvalSettings)
    evaluate.add_argument("--config", metavar="FILE", help="YAML file with settings")
    evaluate.add_argument("--list", action="store_true", help="list the benchmarks, and stop")
    evaluate.set_defaults(run="evaluation.evaluate")

    compare = commands.add_parser(
        "compare",
        help="compare evaluated models on the same questions, paired",
        description=(
            "Differences between evaluations (folders of `probtune eval`), paired by question: with"
            " intervals, p-values corrected for the number of pairs, macro averages of domains, and"
            " over seeds where a label names several folders."
        ),
        epilog=(
            "example:\n  probtune compare nll=runs/eval-nll-0 nll=runs/eval-nll-1"
            " p=runs/eval-p-0 p=runs/eval-p-1\n"
        ),
        formatter_class=plain,
    )
    compare.add_argument(
        "runs",
        nargs="+",
        metavar="[LABEL=]DIR",
        help="folder of an evaluation; folders with the same label are seeds of one objective, in"
        " the same order for every label",
    )
    compare.add_argument(
        "--protocol", metavar="LIST", default="strict,reference", help="default: %(default)s"
    )
    compare.add_argument(
        "--out", metavar="DIR", default="runs/comparison", help="folder (default: %(default)s)"
    )
    compare.set_defaults(run="evaluation.compare")
    return [evaluate, compare]


_REPRODUCE_EPILOG = """\
examples:
  probtune reproduce --list
  probtune reproduce table-1 --dry-run                     runs and cost, offline
  probtune reproduce math/qwen2.5-math-1.5b --mode faithful --gpus 2
  probtune reproduce figure-6 --slurm partition=gpu --slurm time=720
  probtune reproduce medical/llama-3.2-3b --mode faithful --without double-prompt
  probtune reproduce table-10 --miniature                  the same path in a minute, on a CPU

Runs that are finished are not done again when the same command is given once more.
"""


def _reproduce(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`probtune reproduce`."""
    reproduce = commands.add_parser(
        "reproduce",
        help="reproduce a cell, a table or a figure of the paper, as its code ran or fairly",
        description=(
            "Show the runs and what they cost, carry them out, and print the paper's table with"
            " ours beside it: difference, interval, verdict."
        ),
        epilog=_REPRODUCE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = reproduce.add_argument
    add(
        "target",
        nargs="?",
        metavar="CELL|TABLE|FIGURE|all",
        help="as math/llama-3.1-8b, table-1, figure-5, or a recipe's file",
    )
    add(
        "--mode",
        choices=("fair", "faithful"),
        default="fair",
        help="fair: shared prompts, rates swept, seeds, strict grading; faithful: as the paper's"
        " code ran (default: fair)",
    )
    add("--list", action="store_true", help="list cells and deviations, and stop")
    add(
        "--dry-run",
        action="store_true",
        help="show runs and cost, resolve every option, offline, and stop",
    )
    add("--without", action="append", default=[], metavar="NAME", help="leave a deviation out")
    add("--with", action="append", default=[], dest="add", metavar="NAME", help="add a deviation")
    add("--seeds", metavar="LIST", help="as 0,1,2 (default: the recipe's)")
    add("--gpus", type=int, metavar="N", help="devices that train one model together (default: 1)")
    add(
        "--backend",
        choices=("hf", "vllm"),
        help="what draws the answers: transformers or vLLM (default: hf)",
    )
    add(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="submit to SLURM with this parameter, as partition=gpu (probtune[slurm]); repeatable",
    )
    add(
        "--judge",
        metavar="URL",
        help="judge answers to instructions, p() against nll(), by an OpenAI-compatible server (its"
        " address up to /v1)",
    )
    add("--judge-model", metavar="NAME", help="the judge's name there")
    add("--judge-key", metavar="VARIABLE", help="environment variable that holds its key")
    add("--out", metavar="DIR", default="runs/reproduction", help="folder (default: %(default)s)")
    add("--keep-models", action="store_true", help="keep models once they are evaluated")
    add("--yes", action="store_true", help="begin without asking")
    add("--report", action="store_true", help="only make table and report of what is there")
    add(
        "--miniature",
        action="store_true",
        help="try the path on this machine: tiny models, example rows, two steps",
    )
    add("--run", dest="one", help=argparse.SUPPRESS)
    reproduce.set_defaults(run="reproduction.reproduce")
    return reproduce


def _prepare(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`probtune prepare`."""
    prepare = commands.add_parser(
        "prepare",
        help="make a training set of the paper, with its manifest and contamination",
        description=(
            "Read a training set of the paper from its source, leave out what cannot be trained"
            " on, and write rows.jsonl and manifest.json. Settings name it as data:"
            " corpus:NAME."
        ),
    )
    prepare.add_argument(
        "name", nargs="?", metavar="NAME", help="as numina-67k or openbookqa-noisy(0.3)"
    )
    prepare.add_argument("--list", action="store_true", help="show the training sets")
    prepare.add_argument(
        "--dry-run", action="store_true", help="say what would be downloaded, and what is ours"
    )
    prepare.add_argument(
        "--out", metavar="DIR", help="folder (default: in XDG_CACHE_HOME, else ~/.cache)"
    )
    prepare.add_argument(
        "--data", metavar="PATH", help="local rows in the dataset's own schema, not the hub"
    )
    prepare.add_argument(
        "--tokenizer", metavar="LIST", help="measure the bounded length with these models"
    )
    prepare.add_argument("--limit", type=int, metavar="N", help="rows of each part at most")
    prepare.add_argument(
        "--seed", type=int, metavar="N", help="subset, order and label noise (default: 42)"
    )
    prepare.add_argument(
        "--unique", action="store_true", help="leave out questions that have come before"
    )
    prepare.add_argument(
        "--check-against",
        metavar="LIST",
        help="report n-grams shared with these benchmarks, as math500,olympiadbench or math",
    )
    prepare.add_argument(
        "--data-benchmarks", metavar="DIR", help="folder with the benchmarks' rows, not the hub"
    )
    prepare.add_argument(
        "--ngrams", metavar="LIST", default="13,8", help="words in an n-gram (default: 13,8)"
    )
    prepare.set_defaults(run="corpora.prepare")
    return prepare


def _theory(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """`probtune theory` and its questions."""
    theory = commands.add_parser(
        "theory",
        help="gradient flow under label noise: where objectives trade places, and why",
        description=(
            "What gradient flow on softmax logits says about objectives under label noise, from"
            " closed forms and exact integration. Derivations: docs/theory.md."
        ),
    )
    questions = theory.add_subparsers(title="questions", metavar="QUESTION")
    theory.set_defaults(asked=theory)

    def question(name: str, help: str) -> argparse.ArgumentParser:
        parser = questions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        function = name.replace("-", "_")
        parser.set_defaults(run=f"theory.{function}")
        if name != "advice":
            parser.add_argument(
                "--plot",
                nargs="?",
                const=f"theory-{name}.png",
                metavar="FILE",
                help="draw it (.png, .svg or .pdf)",
            )
        return parser

    crossover = question("crossover", "the p at which NLL and -p trade places")
    crossover.add_argument(
        "--noise", metavar="LIST", default="0.05,0.1,0.2,0.3,0.4", help="noise rates (%(default)s)"
    )
    crossover.add_argument(
        "--classes", metavar="LIST", default="10", help="effective classes (%(default)s)"
    )
    crossover.add_argument("--budget", metavar="LIST", help="also after these times, as 10,100")

    phase = question("phase-diagram", "the best objective for each capability and noise rate")
    phase.add_argument("--objectives", metavar="LIST", help="default: seven powers")
    phase.add_argument(
        "--budget", type=float, default=30.0, metavar="T", help="time; 0: the start (%(default)g)"
    )
    phase.add_argument("--classes", type=int, default=10, metavar="K", help="(%(default)s)")
    phase.add_argument(
        "--max-noise", type=float, default=0.6, metavar="X", help="highest noise rate (%(default)g)"
    )
    phase.add_argument(
        "--size", type=int, default=200, metavar="N", help="grid N x N (%(default)s)"
    )

    escape = question("escape", "how long an unlikely right target takes to become likely")
    escape.add_argument("--objectives", metavar="LIST", help="as nll,power(0.5),p")
    escape.add_argument(
        "--p", metavar="LIST", default="0.01,0.0001", help="starting probabilities (%(default)s)"
    )
    escape.add_argument("--noise", type=float, default=0.0, metavar="X", help="(%(default)g)")
    escape.add_argument(
        "--classes",
        type=int,
        default=2,
        metavar="K",
        help="2: all other mass on one class, a confident conflict (%(default)s)",
    )
    escape.add_argument("--to", type=float, default=0.5, metavar="P", help="(%(default)g)")

    theorem = question("theorem", "the paper's theorem: its conditions, and what holds exactly")
    theorem.add_argument("--first", default="p()", metavar="OBJECTIVE", help="(%(default)s)")
    theorem.add_argument("--second", default="nll()", metavar="OBJECTIVE", help="(%(default)s)")
    theorem.add_argument(
        "--noise", metavar="LIST", default="0,0.05,0.1,0.3", help="noise rates (%(default)s)"
    )
    theorem.add_argument("--classes", type=int, default=1000, metavar="K", help="(%(default)s)")

    advice = question("advice", "the power to take for a capability, a noise rate and a budget")
    advice.add_argument("--p", type=float, required=True, help="probability of right targets")
    advice.add_argument("--noise", type=float, required=True, metavar="X", help="label noise rate")
    advice.add_argument(
        "--budget", metavar="LIST", default="3,30,300", help="times to compare (%(default)s)"
    )
    advice.add_argument("--classes", type=int, default=10, metavar="K", help="(%(default)s)")
    return [theory, *questions.choices.values()]
