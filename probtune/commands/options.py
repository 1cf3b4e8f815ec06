"""The options of the core's commands: tune, train, probe, objectives, report, demo, data, merge and
theory.
"""

from __future__ import annotations

import argparse

from ..settings import TuneSettings, add_options

__all__ = ["add_commands"]

_TUNE_EPILOG = """\
examples:
  probtune tune Qwen/Qwen2.5-1.5B train.jsonl --compare nll,p
  probtune tune ./my-model gsm8k.jsonl --prompt-column question --response-column answer
  probtune tune --config run.yaml --learning-rate 1e-5

A run that was interrupted goes on when the same command is given again.
--config takes the same names: 'learning_rate: 1e-5'. The command line wins.
"""


_ROW_FIELDS = (
    *("prompt_column", "response_column", "messages_column", "separator", "chat", "chat_template"),
    *("prompt_format", "system", "instruction", "response_end", "split", "subset"),
    *("max_length", "skip_bad_rows"),
)
"""Settings that say how rows become tokens."""


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
    tune.add_argument("--config", metavar="FILE", help="YAML file with settings")
    _trust(tune)
    tune.set_defaults(run="commands.tuning:tune")

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
    _trust(train)
    train.set_defaults(run="commands.tuning:train")

    probe = commands.add_parser(
        "probe",
        help="measure what a base model knows of the data, and suggest an objective",
        description=(
            "One forward pass of MODEL over a sample of DATA: target probabilities, overall and by"
            " kind of token, an estimate of label noise, and the objective they suggest for the"
            " training that is planned (--epochs and so on; nothing is trained)."
        ),
    )
    probe_fields = (
        *("model", "data", *_ROW_FIELDS),
        *(
            "probe_examples",
            "scout_steps",
            "all",
            "seed",
            "decoding",
        ),
        *("epochs", "max_steps", "learning_rate", "batch_size", "gradient_accumulation"),
    )
    add_options(probe, TuneSettings, only=probe_fields)
    probe.add_argument("--out", metavar="FILE", help="write the record here (JSON)")
    probe.add_argument(
        "--store",
        metavar="FILE.arrow",
        help=(
            "write the log-probabilities of all rows here, for objectives that compare with this"
            " model (tune --reference or --better); implies --all"
        ),
    )
    probe.add_argument(
        "--warmup",
        action="store_true",
        help=(
            "send a scout as well (--scout-steps steps of NLL on an adapter that is thrown away),"
            " probe again after it, and list the rows that look wrong"
        ),
    )
    probe.set_defaults(run="commands.tuning:probe")

    objectives = commands.add_parser(
        "objectives",
        help="list the objectives, and draw f, w and W_f",
        description=(
            "The objectives with their token weight. With --plot, the curves of f(p), of the token"
            " weight w(p) = -p f'(p) and of the logit gradient W_f(p) = w(p)(1 - p), as a picture."
        ),
    )
    objectives.add_argument(
        "list",
        nargs="?",
        metavar="LIST",
        help="the ones to show, as nll,power(0.5) (default: all)",
    )
    objectives.add_argument(
        "--plot",
        nargs="?",
        const="objectives.png",
        metavar="FILE",
        help="draw the curves (.png, .svg or .pdf)",
    )
    objectives.add_argument(
        "--tau",
        type=float,
        default=0.5,
        help="p above which the mass of W_f counts as prior-leaning (default: 0.5)",
    )
    objectives.add_argument(
        "--verify",
        action="store_true",
        help="compare each gradient with float64 autograd; status 1 if one is off by over 1e-6",
    )
    objectives.set_defaults(run="commands.tuning:objectives")

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
    report.set_defaults(run="commands.tuning:report")

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
    demo.set_defaults(run="commands.tuning:demo")
    return [tune, train, probe, objectives, report, demo]


def _trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust-objective-code",
        action="store_true",
        help="let --config name an objective in a Python file, which is then run (mine.py:square)",
    )


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
    data.add_argument("data", metavar="DATA", help="training rows, as for probtune tune")
    data.add_argument(
        "--model", metavar="MODEL", required=True, help="folder or hub id of the model"
    )
    add_options(data, TuneSettings, only=_ROW_FIELDS)
    data.set_defaults(run="commands.data:data")

    merge = commands.add_parser(
        "merge",
        help="write a LoRA adapter and its base as one model",
        description="Adds the weights of a LoRA adapter to its base model and saves the result.",
    )
    merge.add_argument("adapter", metavar="ADAPTER", help="folder of the adapter")
    merge.add_argument("out", metavar="OUT", help="folder of the new model")
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

    def question(name: str, help: str) -> argparse.ArgumentParser:
        parser = questions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        function = name.replace("-", "_")
        parser.set_defaults(run=f"commands.theory:{function}")
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
        "--classes",
        metavar="LIST",
        default="10",
        help="effective numbers of classes (%(default)s)",
    )
    crossover.add_argument(
        "--budget", metavar="LIST", help="show it also after these training times, as 10,100"
    )

    phase = question("phase-diagram", "the best objective for each capability and noise rate")
    phase.add_argument(
        "--objectives", metavar="LIST", help="objectives to compare (default: seven powers)"
    )
    phase.add_argument(
        "--budget",
        type=float,
        default=30.0,
        metavar="T",
        help="training time; 0: the first instant (%(default)g)",
    )
    phase.add_argument(
        "--classes", type=int, default=10, metavar="K", help="effective classes (%(default)s)"
    )
    phase.add_argument(
        "--max-noise", type=float, default=0.6, metavar="X", help="highest noise rate (%(default)g)"
    )
    phase.add_argument(
        "--size",
        type=int,
        default=200,
        metavar="N",
        help="points per axis of the grid (%(default)s)",
    )

    escape = question("escape", "how long an unlikely right target takes to become likely")
    escape.add_argument(
        "--objectives", metavar="LIST", help="objectives to compare, as nll,power(0.5),p"
    )
    escape.add_argument(
        "--p", metavar="LIST", default="0.01,0.0001", help="starting probabilities (%(default)s)"
    )
    escape.add_argument(
        "--noise", type=float, default=0.0, metavar="X", help="label noise rate (%(default)g)"
    )
    escape.add_argument(
        "--classes",
        type=int,
        default=2,
        metavar="K",
        help="effective classes; with 2 all other mass is on one class (%(default)s)",
    )
    escape.add_argument(
        "--to", type=float, default=0.5, metavar="P", help="probability to reach (%(default)g)"
    )

    theorem = question("theorem", "the paper's theorem: its conditions, and what holds exactly")
    theorem.add_argument(
        "--first", default="p()", metavar="OBJECTIVE", help="objective to compare (%(default)s)"
    )
    theorem.add_argument(
        "--second", default="nll()", metavar="OBJECTIVE", help="the one beside it (%(default)s)"
    )
    theorem.add_argument(
        "--noise", metavar="LIST", default="0,0.05,0.1,0.3", help="noise rates (%(default)s)"
    )
    theorem.add_argument(
        "--classes", type=int, default=1000, metavar="K", help="effective classes (%(default)s)"
    )

    advice = question("advice", "the power to take for a capability, a noise rate and a budget")
    advice.add_argument(
        "--p", type=float, required=True, metavar="P", help="mean probability of right targets"
    )
    advice.add_argument("--noise", type=float, required=True, metavar="X", help="label noise rate")
    advice.add_argument(
        "--budget",
        metavar="LIST",
        default="3,30,300",
        help="training times to compare (%(default)s)",
    )
    advice.add_argument(
        "--classes", type=int, default=10, metavar="K", help="effective classes (%(default)s)"
    )
    return [theory, *questions.choices.values()]
