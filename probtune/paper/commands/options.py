"""Options of this wing's commands: prepare and reproduce."""

from __future__ import annotations

import argparse

__all__ = ["add_commands"]


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
    prepare.add_argument(
        "name", nargs="?", metavar="NAME", help="such as numina-67k or openbookqa-noisy(0.3)"
    )
    prepare.add_argument("--list", action="store_true", help="show the training sets")
    prepare.add_argument(
        "--dry-run", action="store_true", help="show the source and our own choices, and stop"
    )
    prepare.add_argument(
        "--out", metavar="DIR", help="folder (default: in XDG_CACHE_HOME, else ~/.cache)"
    )
    prepare.add_argument(
        "--data", metavar="PATH", help="local rows in the dataset's own schema, instead of the hub"
    )
    prepare.add_argument(
        "--tokenizer", metavar="LIST", help="measure the length with the tokenizers of these models"
    )
    prepare.add_argument("--limit", type=int, metavar="N", help="at most so many rows of each part")
    prepare.add_argument(
        "--seed", type=int, metavar="N", help="seed of subset, order and label noise (default: 42)"
    )
    prepare.add_argument("--unique", action="store_true", help="leave out repeated questions")
    prepare.add_argument(
        "--check-against",
        metavar="LIST",
        help="report n-grams shared with these benchmarks, such as math500,olympiadbench or math",
    )
    prepare.add_argument(
        "--data-benchmarks", metavar="DIR", help="the benchmarks' rows, instead of the hub"
    )
    prepare.add_argument(
        "--ngrams", metavar="LIST", default="13,8", help="words in an n-gram (default: 13,8)"
    )
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
    add = reproduce.add_argument
    add(
        "target",
        nargs="?",
        metavar="CELL|TABLE|FIGURE|all",
        help="such as math/llama-3.1-8b, table-1, figure-5, or a recipe's file",
    )
    add(
        "--mode",
        choices=("fair", "faithful"),
        default="fair",
        help="fair: same prompts in training and evaluation, swept rates, several seeds, strict"
        " grading; faithful: as the paper's code ran (default: fair)",
    )
    add("--list", action="store_true", help="list cells and deviations, and stop")
    add(
        "--dry-run",
        action="store_true",
        help="show runs and cost, check every option, offline, and stop",
    )
    add("--without", action="append", default=[], metavar="NAME", help="leave a deviation out")
    add("--with", action="append", default=[], dest="add", metavar="NAME", help="add a deviation")
    add("--seeds", metavar="LIST", help="such as 0,1,2 (default: the recipe's)")
    add("--gpus", type=int, metavar="N", help="devices that train one model together (default: 1)")
    add(
        "--backend",
        choices=("hf", "vllm"),
        help="draw answers with transformers or vLLM (default: hf)",
    )
    add(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="submit to SLURM with this parameter, such as partition=gpu (probtune[slurm]);"
        " repeatable",
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
    add("--keep-models", action="store_true", help="keep models after their evaluation")
    add("--yes", action="store_true", help="begin without asking")
    add("--report", action="store_true", help="make table and report of finished runs, and stop")
    add(
        "--miniature",
        action="store_true",
        help="try the path on this machine: tiny models, example rows, two steps",
    )
    add("--run", dest="one", help=argparse.SUPPRESS)
    reproduce.set_defaults(run="paper.commands.reproduction:reproduce")
    return reproduce
