"""Recipe: one cell of the paper's tables as a YAML file. `probtune tune`, `train`, `eval` and
`compare` take it unchanged, and it names the options that make it the run of the paper's code.

The files lie in `probtune/paper/recipes/`; each value is followed by its place in the paper or its
code. Unchanged they are the fair mode.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...evaluation.settings import EvalSettings
from ...settings import TuneSettings, settings_from
from ..settings import RECIPE_KEYS, RECIPES, read_configuration, recipe_path
from .backbones import BACKBONES, Backbone, backbone
from .deviations import DEVIATIONS

__all__ = ["Recipe", "all_recipes", "find_recipes", "read_recipe"]

_SHOWN = (
    *(f"table-{number}" for number in (1, 2, 3, 5, 6, 7, 8, 9, 10)),
    *("figure-1", "figure-4", "figure-5", "figure-6", "figure-6-likelihood", "figure-7"),
    *("noise", "noise-capability", "learning-rates", "gradient-norms", "normalizers", "seeds"),
)
"""Values of `shows`: the paper's tables and figures with numbers, and ablations that it lacks."""

_OF_TRAINING = frozenset(item.name for item in fields(TuneSettings))
_CLIP = "max_grad_norm"


@dataclass(frozen=True)
class Recipe:
    """One cell."""

    path: Path
    cell: str
    """Name of the cell, such as `math/llama-3.1-8b`."""
    title: str
    backbone: Backbone
    shows: tuple[str, ...]
    """Tables and figures that it belongs to."""
    training: TuneSettings
    evaluation: EvalSettings
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    """Rates that are swept for each objective on held-out rows."""
    processes: int
    """Devices of the paper's run, over which its micro-batches were spread."""
    deviations: tuple[str, ...]
    """Names of `DEVIATIONS` that apply."""
    vary: Mapping[str, tuple[Any, ...]]
    """Setting (or `backbone`, or `max_grad_norm`) -> values, every combination of which is run."""
    likelihood: bool
    """True if the mean p of the training rows is measured after training as well."""
    learning_rate_of: Mapping[str, float]
    """Objective -> its own rate in the paper's code."""

    @property
    def domain(self) -> str:
        return self.cell.partition("/")[0]

    @property
    def objectives(self) -> tuple[str, ...]:
        """Objectives to train, in the recipe's order."""
        from ...objectives import objective_list

        named = f"{self.training.objective}, {self.training.compare}".rstrip(", ")
        return tuple(str(member) for member in objective_list(named))

    def variants(self) -> list[dict[str, Any]]:
        """Return every combination of the varied settings; one empty one if nothing varies."""
        combinations: list[dict[str, Any]] = [{}]
        for name, values in self.vary.items():
            combinations = [{**before, name: value} for before in combinations for value in values]
        return combinations


def read_recipe(name: str) -> Recipe:
    """Read a recipe from a file, or one of this package by its name. Every option is checked by
    making the settings that it stands for.

    Raises:
        UsageError: a key is unknown, a value has the wrong type or names something that does not
            exist; the message names file and key.
    """
    path = recipe_path(name)
    content = _content(path, name)
    where = str(path)
    training = settings_from({}, where, read=read_configuration)
    evaluation = settings_from({}, where, EvalSettings, read=read_configuration)
    own = {key: content.get(key) for key in RECIPE_KEYS}
    model = backbone(_text(where, own, "backbone"))
    if model.hub != training.model:
        raise UsageError(f"{where}: backbone {model.name} is {model.hub}, not {training.model}.")
    recipe = Recipe(
        path=path,
        cell=_text(where, own, "cell"),
        title=_text(where, own, "title"),
        backbone=model,
        shows=_names(where, own, "shows", _SHOWN),
        training=training,
        evaluation=evaluation,
        seeds=tuple(_whole(where, "seeds", seed) for seed in _list(where, own, "seeds")),
        learning_rates=tuple(
            _rate(where, "learning_rates", rate) for rate in _list(where, own, "learning_rates")
        ),
        processes=_whole(where, "processes", own["processes"] or 1),
        deviations=_names(where, own, "deviations", DEVIATIONS),
        vary=_variations(where, own["vary"] or {}),
        likelihood=bool(own["likelihood"]),
        learning_rate_of={
            _objective(where, name): _rate(where, "learning_rate_of", rate)
            for name, rate in (own["learning_rate_of"] or {}).items()
        },
    )
    if training.learning_rate not in recipe.learning_rates:
        raise UsageError(
            f"{where}: learning_rates must hold learning_rate, {training.learning_rate:g}; they are"
            f" {', '.join(f'{rate:g}' for rate in recipe.learning_rates)}."
        )
    if recipe.vary.keys() & {"learning_rate"} and len(recipe.learning_rates) > 1:
        raise UsageError(f"{where}: a rate that varies cannot be swept too; give it one rate.")
    return recipe


@functools.cache
def all_recipes() -> tuple[Recipe, ...]:
    """Return every recipe of this package: the cells in the order of the paper's tables, then the
    ablations.
    """
    recipes = [read_recipe(str(path)) for path in RECIPES.rglob("*.yaml")]
    models, domains = list(BACKBONES), list(_DOMAINS)
    return tuple(
        sorted(
            recipes, key=lambda r: (domains.index(r.domain), models.index(r.backbone.name), r.cell)
        )
    )


_DOMAINS = (
    *("math", "medical", "figlet", "instructions", "code", "languages", "knowledge"),
    "ablations",
)


def find_recipes(target: str) -> list[Recipe]:
    """Return the recipes of a cell, a domain, a table, a figure, `all`, or a file.

    Raises:
        UsageError: nothing has this name; the message holds similar names.
    """
    if target.endswith((".yaml", ".yml")):
        return [read_recipe(target)]
    everything = all_recipes()
    if target == "all":
        return list(everything)
    recipes = [r for r in everything if target in (r.cell, r.domain, *r.shows)]
    if recipes:
        return recipes
    names = [name for r in everything for name in (r.cell, r.domain, *r.shows)]
    close = get_close_matches(target, dict.fromkeys(names), n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(close)}?" if close else "Name a cell, a table or a figure."
    raise UsageError(
        f"there is no cell, table or figure {target!r}. {meant} All: probtune reproduce --list."
    )


def _content(path: Path, name: str) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise UsageError(f"there is no recipe {name!r}; probtune reproduce --list shows all.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else path
        raise UsageError(f"{line} is not YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(content, dict) or "cell" not in content:
        raise UsageError(f"{path} is not a recipe: it has no 'cell:'.")
    return content


def _text(where: str, content: Mapping[str, Any], key: str) -> str:
    value = content[key]
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: {key} must be a text, got {value!r}.")
    return value


def _list(where: str, content: Mapping[str, Any], key: str) -> list[Any]:
    value = content[key]
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where}: {key} must be a list with something in it, got {value!r}.")
    return value


def _names(where: str, content: Mapping[str, Any], key: str, choices: Any) -> tuple[str, ...]:
    names = [] if content[key] is None else _list(where, content, key)
    for name in names:
        if name not in choices:
            close = get_close_matches(str(name), list(choices), n=1)
            meant = f" Did you mean {close[0]!r}?" if close else f" Known are {', '.join(choices)}."
            raise UsageError(f"{where}: {key} has {name!r}, which does not exist.{meant}")
    return tuple(names)


def _whole(where: str, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{where}: {key} takes whole numbers from 0, got {value!r}.")
    return value


def _rate(where: str, key: str, value: Any) -> float:
    """Read a learning rate; YAML takes 5e-5 for a text."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = 0.0
    if not rate > 0:
        raise UsageError(f"{where}: {key} takes positive numbers, got {value!r}.")
    return rate


def _objective(where: str, text: str) -> str:
    from ...objectives import objective

    return str(objective(text))


def _variations(where: str, content: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(content, dict):
        raise UsageError(f"{where}: vary must hold 'setting: [values]', got {content!r}.")
    varied = {}
    for key in content:
        values: Sequence[Any] = _list(where, content, key)
        if key == "backbone":
            values = [backbone(str(value)).name for value in values]
        elif key in ("learning_rate", _CLIP):
            values = [float(value) for value in values]
        elif key not in _OF_TRAINING:
            close = get_close_matches(str(key), _OF_TRAINING, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"{where}: vary has {key!r}, which is no setting.{meant}")
        varied[str(key)] = tuple(values)
    return varied
