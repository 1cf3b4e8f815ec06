"""The options of the core's commands: tune, train, probe, objectives, report, demo, data, merge and
theory.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Any

from ..options import REQUIRED, add_arguments, add_options, option, options_of
from ..settings import TuneSettings

__all__ = [
    "PROBE_FIELDS",
    "SWEEP_FIELDS",
    "SWEPT",
    "Advice",
    "Crossover",
    "Data",
    "Demo",
    "Escape",
    "Merge",
    "Objectives",
    "PhaseDiagram",
    "Report",
    "Theorem",
    "add_commands",
]

_TUNE_EPILOG = """\
examples:
  probtune tune Qwen/Qwen2.5-1.5B train.jsonl --compare nll,p
  probtune tune ./my-model gsm8k.jsonl --prompt-column question --response-column answer
  probtune tune --config run.yaml --learning-rate 1e-5
  probtune tune --config run.yaml --dry-run 8xH100
  torchrun --nproc_per_node 8 -m probtune tune --config run.yaml

A run that was interrupted goes on when the same command is given again.
--config takes the same names: 'learning_rate: 1e-5'. The command line wins.
"""


_SWEEP_EPILOG = """\
examples:
  probtune sweep MODEL train.jsonl --objectives 'nll,p,power(0.5)' --learning-rates 1e-5,3e-5
  probtune sweep MODEL train.jsonl --slurm partition=gpu --slurm time=240
  probtune sweep MODEL train.jsonl --commands | xargs -d '\\n' -P 8 -I{} sh -c '{}'
"""


_ROW_FIELDS = (
    *("prompt_column", "response_column", "messages_column", "separator", "chat", "chat_template"),
    *("prompt_format", "system", "instruction", "response_end", "split", "subset"),
    *("max_length", "skip_bad_rows"),
)
"""Settings that say how rows become tokens."""


PROBE_FIELDS = (
    *("model", "data", *_ROW_FIELDS),
    *("probe_examples", "scout_steps", "all", "seed", "decoding"),
    *("epochs", "max_steps", "learning_rate", "batch_size", "gradient_accumulation"),
)
"""Settings of `probtune tune` that `probtune probe` takes too."""


SWEPT = {
    "objective": "--objectives",
    "compare": "--objectives",
    "learning_rate": "--learning-rates",
    "seed": "--seeds",
}
"""Settings of `probtune tune` that `probtune sweep` varies, and its own options for them."""
SWEEP_FIELDS = tuple(item.name for item in fields(TuneSettings) if item.name not in SWEPT)
"""Settings of `probtune tune` that `probtune sweep` takes too."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _TuneToo:
    """Options of `probtune tune` and `probtune train` besides their settings."""

    config: str | None = option(None, "YAML file with settings", metavar="FILE")
    trust_objective_code: bool = option(
        False,
        "let --config name an objective in a Python file, which is then run (mine.py:square)",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _DryRun(_TuneToo):
    """Options of `probtune tune` alone."""

    dry_run: str | None = option(
        None,
        "say what training needs and takes, and do nothing: parameters, memory by what it holds,"
        " tokens and time of a step, on DEVICES such as 8xH100 (default: this machine)",
        metavar="DEVICES",
        nargs="?",
        const="here",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _SweepToo(_TuneToo):
    """Options of `probtune sweep` besides the settings of its runs."""

    objectives: str = option(
        "nll,p,power(0.5)", "objectives to compare (default: %(default)s)", metavar="LIST"
    )
    learning_rates: str = option(
        "5e-6,2e-5,5e-5",
        "learning rates of each objective; half of the held-out rows choose among them, the other"
        " half is reported (default: %(default)s)",
        metavar="LIST",
    )
    seeds: str = option("0-2", "as 0,1,2 or 10-14 (default: %(default)s)", metavar="LIST")
    devices: int = option(
        1,
        "runs at a time on this machine, each on a GPU of its own; above 1 needs probtune[slurm]"
        " (default: %(default)s)",
        metavar="N",
        least=1,
    )
    slurm: tuple[str, ...] = option(
        (),
        "submit the runs to SLURM with this parameter, as partition=gpu; may be repeated",
        metavar="KEY=VALUE",
    )
    commands: bool = option(
        False,
        "print the command of each run that is not finished, for another scheduler, and do nothing;"
        " the same `sweep` gathers them afterwards",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _ProbeToo:
    """Options of `probtune probe` besides its settings."""

    out: str | None = option(None, "write the record here (JSON)", metavar="FILE", new_file=True)
    store: str | None = option(
        None,
        "write the log-probabilities of all rows here, for objectives that compare with this model"
        " (tune --reference or --better); implies --all",
        metavar="FILE.arrow",
        new_file=True,
    )
    warmup: bool = option(
        False,
        "send a scout as well (--scout-steps steps of NLL on an adapter that is thrown away), probe"
        " again after it, and list the rows that look wrong",
    )
    emit: str | None = option(
        None,
        "print the lines that train the suggested objective in another engine: axolotl,"
        " llamafactory, swift, trl or verl",
        metavar="ENGINE",
        choices=("axolotl", "swift", "trl", "verl", "llamafactory"),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Objectives:
    """Options of `probtune objectives`."""

    list: str | None = option(
        None,
        "the ones to show in full, as power,dft or nll,power(0.5) (default: a line for each)",
        group="positional",
        metavar="LIST",
    )
    plot: str | None = option(
        None,
        "draw the curves (.png, .svg or .pdf)",
        metavar="FILE",
        new_file=True,
        nargs="?",
        const="objectives.png",
    )
    tau: float = option(
        0.5, "p above which the mass of W_f counts as prior-leaning (default: 0.5)", metavar="TAU"
    )
    verify: bool = option(
        False, "compare each gradient with float64 autograd; status 1 if one is off by over 1e-6"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Report:
    """Options of `probtune report`."""

    folders: tuple[str, ...] = option(
        REQUIRED,
        "folder of a run, a sweep or a demo, or a record",
        group="positional",
        metavar="DIR",
        nargs="+",
    )
    out: str | None = option(
        None,
        "default: DIR/report.html, or report.html for several",
        metavar="FILE",
        new_file=True,
    )
    serve: bool = option(False, "show the page at an address of this machine alone, until Ctrl-C")
    port: int = option(8765, "port of --serve; 0: a free one", metavar="N", least=0, most=65535)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Demo:
    """Options of `probtune demo`."""

    fast: bool = option(False, "2 seeds, the two ends only", exclusive="size")
    full: bool = option(False, "more noise rates, noise kinds and objectives", exclusive="size")
    real: bool = option(
        False,
        "SmolLM2-135M (extra probtune[smollm2]) on a task that it knows and one that it does not,"
        " with and without wrong answers; a quarter of an hour on two cores",
        exclusive="size",
    )
    seeds: str | None = option(
        None, "as 0,1,2 or 10-14 (default: 0-4; with --fast 0,1)", metavar="LIST"
    )
    out: str | None = option(
        None, "folder (default: runs/demo; with --real runs/demo-real)", metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Data:
    """Options of `probtune data`."""

    data: str = option(
        REQUIRED, "training rows, as for probtune tune", group="positional", metavar="DATA"
    )
    model: str = option(REQUIRED, "folder or hub id of the model", metavar="MODEL")
    row_settings: dict[str, Any] = options_of(TuneSettings, _ROW_FIELDS)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Merge:
    """Options of `probtune merge`."""

    adapter: str = option(REQUIRED, "folder of the adapter", group="positional", metavar="ADAPTER")
    out: str = option(REQUIRED, "folder of the new model", group="positional", metavar="OUT")


def _plot(name: str) -> Any:
    return option(
        None,
        "draw it (.png, .svg or .pdf)",
        metavar="FILE",
        new_file=True,
        nargs="?",
        const=f"theory-{name}.png",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Crossover:
    """Options of `probtune theory crossover`."""

    plot: str | None = _plot("crossover")
    noise: str = option(
        "0.05,0.1,0.2,0.3,0.4", "noise rates (default: %(default)s)", metavar="LIST"
    )
    classes: str = option(
        "10", "effective numbers of classes (default: %(default)s)", metavar="LIST"
    )
    budget: str | None = option(
        None, "show it also after these training times, as 10,100", metavar="LIST"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PhaseDiagram:
    """Options of `probtune theory phase-diagram`."""

    plot: str | None = _plot("phase-diagram")
    objectives: str | None = option(
        None, "objectives to compare (default: seven powers)", metavar="LIST"
    )
    budget: float = option(
        30.0, "training time; 0: the first instant (default: %(default)g)", metavar="T"
    )
    classes: int = option(10, "effective classes (default: %(default)s)", metavar="K", least=2)
    max_noise: float = option(0.6, "highest noise rate (default: %(default)g)", metavar="X")
    size: int = option(200, "points per axis of the grid (default: %(default)s)", metavar="N")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Escape:
    """Options of `probtune theory escape`."""

    plot: str | None = _plot("escape")
    objectives: str | None = option(
        None, "objectives to compare, as nll,power(0.5),p", metavar="LIST"
    )
    p: str = option("0.01,0.0001", "starting probabilities (default: %(default)s)", metavar="LIST")
    noise: float = option(0.0, "label noise rate (default: %(default)g)", metavar="X")
    classes: int = option(
        2,
        "effective classes; with 2 all other mass is on one class (default: %(default)s)",
        metavar="K",
        least=2,
    )
    to: float = option(0.5, "probability to reach (default: %(default)g)", metavar="P")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Theorem:
    """Options of `probtune theory theorem`."""

    plot: str | None = _plot("theorem")
    first: str = option("p()", "objective to compare (default: %(default)s)", metavar="OBJECTIVE")
    second: str = option("nll()", "the one beside it (default: %(default)s)", metavar="OBJECTIVE")
    noise: str = option("0,0.05,0.1,0.3", "noise rates (default: %(default)s)", metavar="LIST")
    classes: int = option(1000, "effective classes (default: %(default)s)", metavar="K", least=2)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Advice:
    """Options of `probtune theory advice`."""

    p: float = option(REQUIRED, "mean probability of right targets", metavar="P")
    noise: float = option(REQUIRED, "label noise rate", metavar="X")
    budget: str = option(
        "3,30,300", "training times to compare (default: %(default)s)", metavar="LIST"
    )
    classes: int = option(10, "effective classes (default: %(default)s)", metavar="K", least=2)


def add_commands(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add the core's commands; returns their parsers."""
    return [*_tuning(commands), *_data(commands), *_theory(commands)]


def _tuning(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    plain = argparse.RawDescriptionHelpFormatter
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
    add_arguments(tune, _DryRun, besides=True)
    tune.set_defaults(run="commands.tuning:tune")

    train = commands.add_parser(
        "train",
        help="only train: tune without measuring",
        description=(
            "The training of `probtune tune`, in the same folder, without measuring and comparing;"
            " `probtune tune` with the same settings goes on from there. On several"
            " devices: torchrun --nproc_per_node N -m probtune train …, or accelerate launch with"
            " its configuration (FSDP, DeepSpeed)."
        ),
    )
    add_options(train, TuneSettings)
    add_arguments(train, _TuneToo, besides=True)
    train.set_defaults(run="commands.tuning:train")

    sweep = commands.add_parser(
        "sweep",
        help="compare objectives fairly: learning rates and seeds for each",
        description=(
            "Train MODEL on DATA with every objective, learning rate and seed, and compare the"
            " objectives at the learning rate that suits each. A learning rate and a seed are a run"
            " of `probtune tune` in a folder of its own; all other options are those of `tune`."
            " Finished runs are not done again."
        ),
        epilog=_SWEEP_EPILOG,
        formatter_class=plain,
    )
    add_options(sweep, TuneSettings, only=SWEEP_FIELDS)
    add_arguments(sweep, _SweepToo, besides=True)
    sweep.set_defaults(run="commands.sweeping:sweep")

    probe = commands.add_parser(
        "probe",
        help="measure what a base model knows of the data, and suggest an objective",
        description=(
            "One forward pass of MODEL over a sample of DATA: target probabilities, overall and by"
            " kind of token, an estimate of label noise, and the objective they suggest for the"
            " training that is planned (--epochs and so on; nothing is trained)."
        ),
    )
    add_options(probe, TuneSettings, only=PROBE_FIELDS)
    add_arguments(probe, _ProbeToo, besides=True)
    probe.set_defaults(run="commands.tuning:probe")

    objectives = commands.add_parser(
        "objectives",
        help="list the objectives, and draw f, w and W_f",
        description=(
            "The objectives, a line each; those that are named, with formula, weight, leaning and"
            " source. With --plot, the curves of f(p), of the token"
            " weight w(p) = -p f'(p) and of the logit gradient W_f(p) = w(p)(1 - p), as a picture."
        ),
    )
    add_arguments(objectives, Objectives)
    objectives.set_defaults(run="commands.objectives:objectives")

    report = commands.add_parser(
        "report",
        help="make the HTML report of runs again, from their records",
        description=(
            "One self-contained HTML file from the records of one or more runs. Needs no torch."
        ),
    )
    add_arguments(report, Report)
    report.set_defaults(run="commands.tuning:report")

    demo = commands.add_parser(
        "demo",
        help="see the model-capability continuum on a CPU, offline, in minutes",
        description=(
            "Pre-trains tiny models to three levels of capability, fine-tunes them with NLL, 1 - p"
            " and power(0.5) on noisy labels by the path of `probtune tune`, and prints who wins"
            " where, over seeds. With --real, the same on a real language model, on two short"
            " tasks."
        ),
    )
    add_arguments(demo, Demo)
    demo.set_defaults(run="commands.tuning:demo")
    return [tune, train, probe, objectives, report, demo]


def _data(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """`probtune data` and `probtune merge`."""
    data = commands.add_parser(
        "data",
        help="show what would be trained on: counts, lengths, the supervised part of rows",
        description=(
            "Reads DATA as `probtune tune` does and shows what would be trained on: rows and"
            " supervised tokens, lengths, three rows with the supervised part between ⟦ and ⟧, and"
            " columns and fields that are not used. Needs the tokenizer of MODEL, no weights."
        ),
    )
    add_arguments(data, Data)
    data.set_defaults(run="commands.data:data")

    merge = commands.add_parser(
        "merge",
        help="write a LoRA adapter and its base as one model",
        description="Adds the weights of a LoRA adapter to its base model and saves the result.",
    )
    add_arguments(merge, Merge)
    merge.set_defaults(run="commands.data:merge")
    return [data, merge]


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

    for name, options, help in (
        ("crossover", Crossover, "the p at which NLL and -p trade places"),
        ("phase-diagram", PhaseDiagram, "the best objective for each capability and noise rate"),
        ("escape", Escape, "how long an unlikely right target takes to become likely"),
        ("theorem", Theorem, "the paper's theorem: its conditions, and what holds exactly"),
        ("advice", Advice, "the power to take for a capability, a noise rate and a budget"),
    ):
        parser = questions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        add_arguments(parser, options)
        parser.set_defaults(run=f"commands.theory:{name.replace('-', '_')}")
    return [theory, *questions.choices.values()]
