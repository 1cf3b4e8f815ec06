"""Rows in the schema of the paper's own training files: questions and responses in `extra_info`.

The files are Parquet for the trainer verl; what is trained on stands in `extra_info`, and the
other columns (`data_source`, `prompt`, `ability`, `reward_model`) serve its reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import Dropped

__all__ = ["code", "reader"]


def code(path: str, commit: str = "220589d003d2a5e0c61f8a4128db3ad6dcceaa06") -> str:
    """The address of a file of the paper's code."""
    return f"https://github.com/GaotangLi/Beyond-Log-Likelihood/blob/{commit}/{path}"


def reader(
    question: str, response: str, name: str
) -> Callable[[Mapping[str, Any]], dict[str, Any] | Dropped]:
    """A conversion that takes two columns of `extra_info`; the id is `name/index` where the file
    numbers its rows.
    """

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
        found = row["extra_info"]
        converted = {"prompt": found[question], "completion": found[response]}
        if found.get("index") is not None:
            converted["id"] = f"{name}/{found['index']}"
        return converted

    return convert
