"""Rows in the schema of the paper's own training files: questions and responses in `extra_info`.

The files are Parquet for the trainer verl. `extra_info` holds the training texts; the other columns
(`data_source`, `prompt`, `ability`, `reward_model`) serve verl's reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import Dropped

__all__ = ["code", "reader"]


def code(path: str, commit: str = "220589d003d2a5e0c61f8a4128db3ad6dcceaa06") -> str:
    """Return the address of a file of the paper's code."""
    return f"https://github.com/GaotangLi/Beyond-Log-Likelihood/blob/{commit}/{path}"


def reader(
    question: str, response: str, name: str
) -> Callable[[Mapping[str, Any]], dict[str, Any] | Dropped]:
    """Return a conversion that takes two columns of `extra_info`; the id is `name/index` if the
    file numbers its rows.
    """

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
        info = row["extra_info"]
        converted = {"prompt": info[question], "completion": info[response]}
        if info.get("index") is not None:
            converted["id"] = f"{name}/{info['index']}"
        return converted

    return convert
