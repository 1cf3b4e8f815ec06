"""Command line of the bench."""

import argparse
from pathlib import Path

import torch

from probtune.terminal import Terminal

from .bench import Run
from .design import design


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice")
    parser.add_argument("--out", type=Path, default=Path("runs/choice"))
    parser.add_argument("--batches", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    Run(options.out).all(design(options.batches), Terminal())


if __name__ == "__main__":
    main()
