"""Options of this wing's commands: eval, compare, success, replay, forgetting, calibration,
diversity, drift and judge.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from ...options import REQUIRED, add_arguments, add_options, option, options_of
from ...settings import TuneSettings
from ..settings import EvalSettings

__all__ = [
    "ROWS",
    "Calibration",
    "Compare",
    "Diversity",
    "Drift",
    "Forgetting",
    "JudgeAnswers",
    "Replay",
    "Success",
    "add_commands",
]

ROWS = (
    *("prompt_column", "response_column", "messages_column", "separator", "chat", "chat_template"),
    *("prompt_format", "system", "instruction", "response_end", "split", "subset", "max_length"),
    *("skip_bad_rows", "seed"),
)
"""Settings of `tune` for reading rows and writing them as prompts."""


def _protocol() -> Any:
    return option("strict", "grades to use (default: %(default)s)", choices=("strict", "reference"))


def _out() -> Any:
    return option(
        None,
        "write the record here (JSON); an evaluation's report shows those in its folder `beyond`",
        metavar="FILE",
        new_file=True,
        made_folder="beyond",
    )


def _limit() -> Any:
    return option(
        500, "rows of DATA, at random (default: %(default)s)", flag="--rows", metavar="N", least=1
    )


def _dtype() -> Any:
    return option("auto", "dtype of the weights (default: as stored)", metavar="DTYPE")


def _device() -> Any:
    return option(None, "default: the accelerator if there is one", metavar="DEVICE")


def _samples(default: int) -> Any:
    return option(
        default,
        "answers to each prompt, at temperature 1 (default: %(default)s)",
        metavar="K",
        least=1,
        most=1000,
    )


def _benchmark_data() -> Any:
    return option(None, "the benchmarks' rows, instead of the hub", metavar="DIR")


def _positional(help: str, metavar: str, default: Any = REQUIRED, **more: Any) -> Any:
    return option(default, help, group="positional", metavar=metavar, **more)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _EvalToo:
    """Options of `probtune eval` besides its settings."""

    config: str | None = option(None, "YAML file with settings", metavar="FILE")
    models: tuple[str, ...] = option(
        (),
        "a further model or checkpoint, asked the same and compared with MODEL; repeatable",
        flag="--and",
        metavar="MODEL",
    )
    list: bool = option(False, "list benchmarks and graders, and stop")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Compare:
    """Options of `probtune compare`."""

    runs: tuple[str, ...] = _positional(
        "folder of an evaluation; folders with the same label are seeds of one objective, in the"
        " same order for every label",
        "[LABEL=]DIR",
        nargs="+",
    )
    protocol: str = option("strict,reference", "default: %(default)s", metavar="LIST")
    out: str = option("runs/comparison", "folder (default: %(default)s)", metavar="DIR")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Forgetting:
    """Options of `probtune forgetting`."""

    base: str = _positional("folder of the base model, or hub id", "BASE")
    tuned: str = _positional("the fine-tuned model", "TUNED")
    rows: str | None = option(None, "rows, as `tune` reads them", flag="--data", metavar="ROWS")
    text: str | None = option(None, "documents: .txt, or rows with a text", metavar="FILE")
    text_column: str = option(
        "text", "column with a document (default: %(default)s)", metavar="NAME"
    )
    eval: tuple[str, ...] | None = option(
        None, "folders of `probtune eval`", nargs=2, metavar=("base=DIR", "tuned=DIR")
    )
    target: str = option("", "benchmarks that the tuning was for", metavar="LIST")
    max_new_tokens: int = option(
        256,
        "length of each sample of the base model; 0: no samples (default: %(default)s)",
        metavar="N",
        least=0,
        most=2**20,
    )
    window: int = option(
        2048, "tokens of text at once (default: %(default)s)", metavar="N", least=2, most=2**20
    )
    row_settings: dict[str, Any] = options_of(TuneSettings, ROWS)
    limit: int = _limit()
    dtype: str = _dtype()
    device: str | None = _device()
    protocol: str = _protocol()
    out: str | None = _out()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration:
    """Options of `probtune calibration`."""

    model: str | None = _positional("folder or hub id", "MODEL", None)
    rows: str | None = _positional("rows, as `tune` reads them", "DATA", None)
    tasks: str | None = option(None, "multiple-choice benchmarks", metavar="LIST")
    questions: int | None = option(
        None, "at most so many a benchmark (default: all)", metavar="N", least=1
    )
    eval: str | None = option(None, "folder of `probtune eval`", metavar="DIR")
    row_settings: dict[str, Any] = options_of(TuneSettings, ROWS)
    limit: int = _limit()
    dtype: str = _dtype()
    device: str | None = _device()
    protocol: str = _protocol()
    benchmark_data: str | None = _benchmark_data()
    out: str | None = _out()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Diversity:
    """Options of `probtune diversity`."""

    folders: tuple[str, ...] = _positional("folder of `probtune eval`", "[LABEL=]DIR", nargs="+")
    protocol: str = _protocol()
    out: str | None = _out()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Drift:
    """Options of `probtune drift`."""

    base: str = _positional("folder with safetensors, or hub id", "BASE")
    tuned: str = _positional("the same", "TUNED")
    no_ranks: bool = option(False, "norms only, which takes seconds")
    device: str = option(
        "cpu", "device that computes ranks (default: %(default)s)", metavar="DEVICE"
    )
    out: str | None = _out()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JudgeAnswers:
    """Options of `probtune judge`."""

    folder: str = _positional("folder of `probtune eval`", "DIR")
    against: str | None = option(
        None, "evaluation to compare with (default: the benchmark's own answers)", metavar="DIR"
    )
    url: str = option(REQUIRED, "an OpenAI-compatible server, up to /v1", metavar="URL")
    model: str = option(REQUIRED, "the judge's name there", metavar="NAME")
    key_variable: str | None = option(None, "environment variable with its key", metavar="NAME")
    prompt: str | None = option(None, "prompt of the judge, instead of ours", metavar="FILE")
    concurrent: int = option(8, "requests at a time (default: %(default)s)", metavar="N", least=1)
    protocol: str = _protocol()
    benchmark_data: str | None = _benchmark_data()
    out: str | None = _out()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Rollouts:
    """Options of the commands that draw answers to training rows."""

    model: str = _positional("folder or hub id", "MODEL")
    rows: str = _positional("rows, as `tune` reads them", "DATA")
    out: str = option(
        REQUIRED,
        "the new rows (.jsonl); answers lie beside it in *.answers.jsonl, from which an interrupted"
        " command goes on",
        metavar="FILE",
        new_file=True,
    )
    max_new_tokens: int | None = option(
        None,
        "limit of an answer (default: the longest response of the rows)",
        metavar="N",
        least=1,
        most=2**20,
    )
    limit: int | None = option(
        None, "rows of DATA, at random (default: all)", flag="--rows", metavar="N", least=1
    )
    row_settings: dict[str, Any] = options_of(TuneSettings, ROWS)
    dtype: str = _dtype()
    device: str | None = _device()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Success(_Rollouts):
    """Options of `probtune success`."""

    samples: int = _samples(2)
    grader: str | None = option(
        None, "grader by name, as `eval --list` shows them (default: by --answer)", metavar="NAME"
    )
    answer: str = option(
        "auto",
        "how to find a short answer in answers and responses, as `tune --answer`",
        metavar="RULE",
    )
    answer_column: str | None = option(
        None, "column with the right answer, for --grader (default: the response)", metavar="NAME"
    )
    weight_column: str = option(
        "weight", "column to write weights to (default: %(default)s)", metavar="NAME"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Replay(_Rollouts):
    """Options of `probtune replay`."""

    samples: int = _samples(1)


def add_commands(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add this wing's commands, and return their parsers."""
    return [*_evaluation(commands), *_rollouts(commands), *_beyond(commands)]


def _rollouts(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add `probtune success` and `probtune replay`."""
    plain = argparse.RawDescriptionHelpFormatter
    success = commands.add_parser(
        "success",
        help="weigh rows by how often a model's own answers are right (OSW-FT)",
        description=(
            "Draw K answers of MODEL to the prompt of every row, grade them, and write the rows"
            " with two columns more: success_rate, the share of right answers, and weight, 1 minus"
            " it."
        ),
        epilog=(
            "example:\n  probtune success MODEL rows.jsonl --grader math --out weighted.jsonl\n"
            "  probtune tune MODEL weighted.jsonl --objective 'weighted(nll(), \"weight\")'\n"
        ),
        formatter_class=plain,
    )
    add_arguments(success, Success)
    success.set_defaults(run="commands.evaluation:success")
    replay = commands.add_parser(
        "replay",
        help="write rows that a model answers itself, to train on against forgetting",
        description=(
            "Draw answers of MODEL to the prompts of DATA (rows, or a .txt file with a prompt a"
            " line) and write rows of the same shape with them as responses. Answers that reach the"
            " limit of tokens are left out."
        ),
        epilog=(
            "example:\n  probtune replay MODEL rows.jsonl --out replay.jsonl\n"
            "  probtune tune MODEL rows.jsonl,replay.jsonl --heldout-data heldout.jsonl\n"
        ),
        formatter_class=plain,
    )
    add_arguments(replay, Replay)
    replay.set_defaults(run="commands.evaluation:replay")
    return [success, replay]


_EVAL_EPILOG = """\
examples:
  probtune eval Qwen/Qwen2.5-Math-1.5B --tasks math --protocol strict,reference -k 16
  probtune eval runs/x/p/model --tasks math500 --limit 50 -k 4 --max-new-tokens 512
  probtune eval runs/x/p/model --data questions.jsonl     your own questions and answers
  probtune eval BASE --and runs/x/nll/model --and runs/x/p/model --tasks math500 --out runs/e
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
    add_arguments(evaluate, _EvalToo, besides=True)
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
    add_arguments(compare, Compare)
    compare.set_defaults(run="commands.evaluation:compare")
    return [evaluate, compare]


def _beyond(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add `probtune forgetting`, `calibration`, `diversity`, `drift` and `judge`."""
    runs = {name: f"commands.evaluation:{name}" for name in ("forgetting", "calibration")}

    def command(
        name: str, options: type[Any], help: str, description: str
    ) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=help, description=description)
        add_arguments(parser, options)
        parser.set_defaults(run=runs.get(name, f"evaluation.commands.beyond:{name}"))
        return parser

    return [
        command(
            "forgetting",
            Forgetting,
            "measure the cost of fine-tuning elsewhere: divergence, held-out text, other"
            " benchmarks",
            "Measure the KL between BASE and TUNED per token, both ways, on new rows and on samples"
            " of BASE; bits per byte of held-out text; and the drop on benchmarks from two"
            " evaluations.",
        ),
        command(
            "calibration",
            Calibration,
            "compare a model's stated probabilities with its accuracy",
            "Measure the calibration of MODEL's tokens on DATA, of the letters of multiple-choice"
            " benchmarks, and of the share of samples that agree in an evaluation.",
        ),
        command(
            "diversity",
            Diversity,
            "count distinct answers in evaluations: pass@k, majority vote",
            "Count the distinct answers and texts among the samples of a question, and show pass@k"
            " and the majority's accuracy. Needs no model.",
        ),
        command(
            "drift",
            Drift,
            "measure the movement of the weights, by layer and kind",
            "Show ||theta - theta0|| / ||theta0|| and effective ranks, tensor by tensor; TUNED may"
            " hold LoRA adapters.",
        ),
        command(
            "judge",
            JudgeAnswers,
            "have another model judge answers to instructions: win rates",
            "Let a judge that you name compare the answers of an evaluation (--tasks alpaca_eval)"
            " with the benchmark's, or with another model's. A stopped run goes on.",
        ),
    ]
