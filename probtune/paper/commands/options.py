"""Options of this wing's commands: prepare and reproduce."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from ...options import add_arguments, option

__all__ = ["Prepare", "Reproduce", "add_commands"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prepare:
    """Options of `probtune prepare`."""

    name: str | None = option(
        None,
        "such as numina-67k or openbookqa-noisy(0.3)",
        group="positional",
        metavar="NAME",
    )
    list: bool = option(False, "show the training sets")
    dry_run: bool = option(False, "show the source and our own choices, and stop")
    out: str | None = option(
        None, "folder (default: in XDG_CACHE_HOME, else ~/.cache)", metavar="DIR"
    )
    data: str | None = option(
        None, "local rows in the dataset's own schema, instead of the hub", metavar="PATH"
    )
    tokenizer: str | None = option(
        None, "measure the length with the tokenizers of these models", metavar="LIST"
    )
    limit: int | None = option(None, "at most so many rows of each part", metavar="N")
    seed: int | None = option(
        None, "seed of subset, order and label noise (default: 42)", metavar="N"
    )
    unique: bool = option(False, "leave out repeated questions")
    check_against: str | None = option(
        None,
        "report n-grams shared with these benchmarks, such as math500,olympiadbench or math",
        metavar="LIST",
    )
    data_benchmarks: str | None = option(
        None, "the benchmarks' rows, instead of the hub", metavar="DIR"
    )
    ngrams: str = option("13,8", "words in an n-gram (default: 13,8)", metavar="LIST")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Reproduce:
    """Options of `probtune reproduce`."""

    target: str | None = option(
        None,
        "such as math/llama-3.1-8b, table-1, figure-5, or a recipe's file",
        group="positional",
        metavar="CELL|TABLE|FIGURE|all",
    )
    mode: Literal["fair", "faithful"] = option(
        "fair",
        "fair: same prompts in training and evaluation, swept rates, several seeds, strict grading;"
        " faithful: as the paper's code ran (default: fair)",
        choices=("fair", "faithful"),
    )
    list: bool = option(False, "list cells and deviations, and stop")
    dry_run: bool = option(False, "show runs and cost, check every option, offline, and stop")
    without: tuple[str, ...] = option((), "leave a deviation out", metavar="NAME")
    add: tuple[str, ...] = option((), "add a deviation", flag="--with", metavar="NAME")
    seeds: str | None = option(None, "such as 0,1,2 (default: the recipe's)", metavar="LIST")
    gpus: int | None = option(
        None, "devices that train one model together (default: 1)", metavar="N", least=1
    )
    backend: str | None = option(
        None, "draw answers with transformers or vLLM (default: hf)", choices=("hf", "vllm")
    )
    slurm: tuple[str, ...] = option(
        (),
        "submit to SLURM with this parameter, such as partition=gpu (probtune[slurm]); repeatable",
        metavar="KEY=VALUE",
    )
    model: str | None = option(
        None,
        "trial: the cell's protocol on this model (folder, hub id, packaged name)",
        metavar="MODEL",
    )
    limit_train: int | None = option(
        None, "trial: the first N rows of the training set", metavar="N", least=2
    )
    limit_eval: int | None = option(
        None, "trial: the first N questions of each benchmark", metavar="N", least=1
    )
    samples: int | None = option(
        None,
        "trial: answers to each question where the protocol samples",
        metavar="K",
        least=1,
    )
    train_data: str | None = option(
        None,
        "trial: rows as `train` reads them, instead of the training set",
        metavar="FILE",
    )
    eval_data: str | None = option(
        None, "trial: folder with the benchmarks' rows, instead of the hub", metavar="DIR"
    )
    tasks: str | None = option(None, "trial: benchmarks, instead of the cell's", metavar="LIST")
    max_new_tokens: int | None = option(None, "trial: longest answer", metavar="N", least=1)
    rates: str | None = option(
        None, "trial: learning rates, instead of the cell's, such as 1e-4,3e-4", metavar="LIST"
    )
    step_rows: int | None = option(
        None,
        "trial: rows of a step (default: 256, and fewer for few rows)",
        metavar="N",
        least=1,
    )
    judge: str | None = option(
        None,
        "judge answers to instructions, p() against nll(), by an OpenAI-compatible server (its"
        " address up to /v1)",
        metavar="URL",
    )
    judge_model: str | None = option(None, "the judge's name there", metavar="NAME")
    judge_key: str | None = option(
        None, "environment variable that holds its key", metavar="VARIABLE"
    )
    out: str = option("runs/reproduction", "folder (default: %(default)s)", metavar="DIR")
    keep_models: bool = option(False, "keep models after their evaluation")
    yes: bool = option(False, "begin without asking")
    report: bool = option(False, "make table and report of finished runs, and stop")
    miniature: bool = option(
        False, "try the path on this machine: tiny models, example rows, two steps"
    )
    one: str | None = option(None, argparse.SUPPRESS, flag="--run")


def add_commands(commands: argparse._SubParsersAction) -> list[argparse.ArgumentParser]:
    """Add this wing's commands, and return their parsers."""
    return [_prepare(commands), _reproduce(commands)]


def _prepare(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `probtune prepare`."""
    prepare = commands.add_parser(
        "prepare",
        help="prepare a training set of the paper, with a manifest of its origin",
        description=(
            "Read a training set of the paper from its source, leave out unusable rows, and write"
            " rows.jsonl and manifest.json. Settings name it as data: corpus:NAME."
        ),
    )
    add_arguments(prepare, Prepare)
    prepare.set_defaults(run="paper.commands.corpora:prepare")
    return prepare


_REPRODUCE_EPILOG = """\
examples:
  probtune reproduce --list
  probtune reproduce table-1 --dry-run                     runs and cost, offline
  probtune reproduce math/qwen2.5-math-1.5b --mode faithful --gpus 2
  probtune reproduce figure-6 --slurm partition=gpu --slurm time=720
  probtune reproduce medical/llama-3.2-3b --mode faithful --without double-prompt
  probtune reproduce table-10 --miniature                  the same path in a minute, on a CPU
  probtune reproduce figlet/qwen2.5-1.5b --model smollm2-135m --limit-train 512 --limit-eval 100
                                                           a trial: its protocol on your model

The same command continues an interrupted reproduction; finished runs are not repeated.
"""


def _reproduce(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `probtune reproduce`."""
    reproduce = commands.add_parser(
        "reproduce",
        help="reproduce a cell, a table or a figure of the paper, as its code ran or fairly",
        description=(
            "Show the runs and their cost, carry them out, and print the paper's table with our"
            " numbers beside it: difference, interval, verdict."
        ),
        epilog=_REPRODUCE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(reproduce, Reproduce)
    reproduce.set_defaults(run="paper.commands.reproduction:reproduce")
    return reproduce
