"""Options of this wing's commands: eval, compare, forgetting, calibration, diversity, drift and
judge.
"""

from __future__ import annotations

import argparse

from ...settings import TuneSettings, add_options
from ..settings import EvalSettings

__all__ = ["ROWS", "add_commands"]

ROWS = (
    *("prompt_column", "response_column", "separator", "chat", "prompt_format", "system"),
    *("instruction", "response_end", "split", "subset", "max_length", "skip_bad_rows", "seed"),
)
"""Settings of `tune` for reading rows and writing them as prompts."""


def add_commands(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add this wing's commands, and return their parsers."""
    return [*_evaluation(commands), *_beyond(commands)]


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
    """Add `probtune eval` and `probtune compare`."""
    plain = argparse.RawDescriptionHelpFormatter
    evaluate = commands.add_parser(
        "eval",
        help="ask a model benchmarks, grade its answers strictly and as the paper does",
        description=(
            "Ask MODEL the questions of benchmarks through lm-evaluation-harness, grade its answers"
            " under two protocols, and write the numbers with their intervals. Each of the three"
            " phases can be rerun on its own (--phase)."
        ),
        epilog=_EVAL_EPILOG,
        formatter_class=plain,
    )
    add_options(evaluate, EvalSettings)
    evaluate.add_argument("--config", metavar="FILE", help="YAML file with settings")
    evaluate.add_argument("--list", action="store_true", help="list the benchmarks, and stop")
    evaluate.set_defaults(run="commands.evaluation:evaluate")

    compare = commands.add_parser(
        "compare",
        help="compare evaluated models on the same questions, paired",
        description=(
            "Show the differences between evaluations (folders of `probtune eval`), paired by"
            " question, with intervals, p-values corrected for the number of pairs, and means of"
            " domains. Several folders of one label are its seeds."
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
    compare.set_defaults(run="commands.evaluation:compare")
    return [evaluate, compare]


def _beyond(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add `probtune forgetting`, `calibration`, `diversity`, `drift` and `judge`."""
    runs = {name: f"commands.evaluation:{name}" for name in ("forgetting", "calibration")}

    def command(name: str, help: str, description: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=help, description=description)
        parser.set_defaults(run=runs.get(name, f"evaluation.commands.beyond:{name}"))
        return parser

    forgetting = command(
        "forgetting",
        "measure the cost of fine-tuning elsewhere: divergence, held-out text, other benchmarks",
        "Measure the KL between BASE and TUNED per token, both ways, on new rows and on samples of"
        " BASE; bits per byte of held-out text; and the drop on benchmarks from two evaluations.",
    )
    forgetting.add_argument("base", metavar="BASE", help="folder of the base model, or hub id")
    forgetting.add_argument("tuned", metavar="TUNED", help="the fine-tuned model")
    forgetting.add_argument("--data", dest="rows", help="rows, as `tune` reads them")
    forgetting.add_argument("--text", metavar="FILE", help="documents: .txt, or rows with a text")
    forgetting.add_argument("--text-column", metavar="NAME", default="text", help="(%(default)s)")
    forgetting.add_argument(
        "--eval", nargs=2, metavar=("base=DIR", "tuned=DIR"), help="folders of `probtune eval`"
    )
    forgetting.add_argument(
        "--target", metavar="LIST", default="", help="benchmarks that the tuning was for"
    )
    forgetting.add_argument(
        "--max-new-tokens",
        type=int,
        default=256,
        metavar="N",
        help="length of each sample of the base model; 0: no samples (%(default)s)",
    )
    forgetting.add_argument(
        "--window", type=int, default=2048, metavar="N", help="tokens of text at once (%(default)s)"
    )

    calibration = command(
        "calibration",
        "compare a model's stated probabilities with its accuracy",
        "Measure the calibration of MODEL's tokens on DATA, of the letters of multiple-choice"
        " benchmarks, and of the share of samples that agree in an evaluation.",
    )
    calibration.add_argument("model", metavar="MODEL", nargs="?", help="folder or hub id")
    calibration.add_argument("rows", metavar="DATA", nargs="?", help="rows, as `tune` reads them")
    calibration.add_argument("--tasks", metavar="LIST", help="multiple-choice benchmarks")
    calibration.add_argument(
        "--questions", type=int, metavar="N", help="at most so many a benchmark (default: all)"
    )
    calibration.add_argument("--eval", metavar="DIR", help="folder of `probtune eval`")

    diversity = command(
        "diversity",
        "count distinct answers in evaluations: pass@k, majority vote",
        "Count the distinct answers and texts among the samples of a question, and show pass@k and"
        " the majority's accuracy. Needs no model.",
    )
    diversity.add_argument("folders", nargs="+", metavar="[LABEL=]DIR", help="of `probtune eval`")

    drift = command(
        "drift",
        "measure the movement of the weights, by layer and kind",
        "Show ||theta - theta0|| / ||theta0|| and effective ranks, tensor by tensor; TUNED may hold"
        " LoRA adapters.",
    )
    drift.add_argument("base", metavar="BASE", help="folder with safetensors, or hub id")
    drift.add_argument("tuned", metavar="TUNED", help="the same")
    drift.add_argument("--no-ranks", action="store_true", help="norms only, which takes seconds")
    drift.add_argument("--device", default="cpu", help="device that computes ranks (%(default)s)")

    judge = command(
        "judge",
        "have another model judge answers to instructions: win rates",
        "Let a judge that you name compare the answers of an evaluation (--tasks alpaca_eval) with"
        " the benchmark's, or with another model's. A stopped run goes on.",
    )
    judge.add_argument("folder", metavar="DIR", help="folder of `probtune eval`")
    judge.add_argument("--against", metavar="DIR", help="another one (default: the benchmark's)")
    judge.add_argument("--url", required=True, help="an OpenAI-compatible server, up to /v1")
    judge.add_argument("--model", required=True, metavar="NAME", help="the judge's name there")
    judge.add_argument("--key-variable", metavar="NAME", help="environment variable with its key")
    judge.add_argument("--prompt", metavar="FILE", help="prompt of the judge, instead of ours")
    judge.add_argument("--concurrent", type=int, default=8, metavar="N", help="(%(default)s)")

    for parser in (forgetting, calibration):
        add_options(parser, TuneSettings, only=ROWS)
        parser.add_argument(
            "--rows",
            dest="limit",
            type=int,
            default=500,
            metavar="N",
            help="rows of DATA, at random (%(default)s)",
        )
        parser.add_argument("--dtype", default="auto", help="dtype of the weights (as stored)")
        parser.add_argument("--device", help="default: the accelerator if there is one")
    for parser in (forgetting, calibration, diversity, judge):
        parser.add_argument(
            "--protocol", choices=("strict", "reference"), default="strict", help="(%(default)s)"
        )
    for parser in (calibration, judge):
        parser.add_argument(
            "--benchmark-data", metavar="DIR", help="the benchmarks' rows, instead of the hub"
        )
    parsers = [forgetting, calibration, diversity, drift, judge]
    for parser in parsers:
        parser.add_argument(
            "--out",
            metavar="FILE",
            help="write the record here (JSON); an evaluation's report shows those in its folder"
            " `beyond`",
        )
    return parsers
