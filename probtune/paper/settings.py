"""Recipes as configurations: how the commands of the other parts read the paper's cells.

A recipe is one file that `tune`, `train`, `eval` and `compare` share, so each leaves the others'
keys out. The command line hands `read_configuration` to them. Standard library only.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from ..settings import TuneSettings, checked, yaml_content

__all__ = ["RECIPES", "RECIPE_KEYS", "read_configuration", "recipe_path"]

RECIPES = Path(__file__).with_name("recipes")
"""Folder of the paper's cells; see `probtune.paper.reproduction`."""

RECIPE_KEYS: frozenset[str] = frozenset(
    ("cell", "title", "backbone", "shows", "seeds", "learning_rates", "learning_rate_of")
    + ("processes", "deviations", "vary", "likelihood")
    + ("tasks", "protocol", "allow_code", "fit_context", "paper_backbone", "dtype")
)
"""Keys of a recipe besides those of `TuneSettings`: its own, and some of `EvalSettings`."""


def recipe_path(name: str) -> Path:
    """Return a file, or else the recipe of this package that is named so, as math/llama-3.1-8b."""
    packaged = RECIPES / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    return packaged if packaged.is_file() and not Path(name).is_file() else Path(name)


def read_configuration(name: str, kind: type[Any]) -> dict[str, Any]:
    """Settings (of `kind`) in a configuration: a YAML file, or a recipe by file or name.

    Raises:
        UsageError: as `probtune.settings.read_yaml`.
    """
    content = yaml_content(recipe_path(name), name)
    ignored: set[str] = set()
    if "cell" in content:
        kinds = set(typing.get_type_hints(kind))
        ignored = set(RECIPE_KEYS) - kinds
        if kind is not TuneSettings:
            ignored |= set(typing.get_type_hints(TuneSettings)) - {"model"}
    return checked(content, kind, name, ignored)
