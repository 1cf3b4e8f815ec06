"""Commands of the evaluation that also take the paper's recipes and training sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..evaluation.commands import beyond, evaluation, rollouts
from ..evaluation.commands.options import Calibration, Compare, Forgetting, Replay, Success
from ..paper.settings import read_configuration

__all__ = ["calibration", "compare", "evaluate", "forgetting", "replay", "success"]


def evaluate(options: argparse.Namespace) -> None:
    evaluation.evaluate(options, read=read_configuration)


def compare(options: Compare) -> None:
    evaluation.compare(options, folders=_folders(options.runs))


def forgetting(options: Forgetting) -> None:
    from ..paper.corpora import locate

    beyond.forgetting(options, locate=locate)


def success(options: Success) -> None:
    from ..paper.corpora import locate

    rollouts.success(options, locate=locate)


def replay(options: Replay) -> None:
    from ..paper.corpora import locate

    rollouts.replay(options, locate=locate)


def calibration(options: Calibration) -> None:
    from ..paper.corpora import locate

    beyond.calibration(options, locate=locate)


def _folders(texts: Sequence[str]) -> list[str]:
    """Folders to compare; a recipe stands for what `probtune reproduce` has evaluated of it."""
    from ..paper.reproduction.run import evaluated

    folders: list[str] = []
    for text in texts:
        folders += evaluated(text) if text.endswith((".yaml", ".yml")) else [text]
    return folders
