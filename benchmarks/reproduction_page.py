"""Tables of docs/reproduction.md.

python benchmarks/reproduction_page.py        # ten seconds
"""

from pathlib import Path

from blocks import Table, write

from probtune.paper.reproduction.backbones import BACKBONES
from probtune.paper.reproduction.cost import cost_of
from probtune.paper.reproduction.deviations import DEVIATIONS
from probtune.paper.reproduction.plan import plan_cell
from probtune.paper.reproduction.recipe import all_recipes

DOCUMENT = Path(__file__).parents[1] / "docs" / "reproduction.md"


def cells() -> Table:
    rows = []
    for recipe in all_recipes():
        hours = [
            f"{cost_of(plan_cell(recipe, mode, backend='vllm')).hours:.1f}"
            for mode in ("faithful", "fair")
        ]
        objectives = recipe.objectives
        named = ", ".join(f"`{name}`" for name in objectives)
        rows.append(
            [
                f"[`{recipe.cell}`](../probtune/paper/recipes/{recipe.cell}.yaml)",
                recipe.backbone.label,
                ", ".join(name.replace("-", " ") for name in recipe.shows),
                named if len(objectives) <= 4 else f"{len(objectives)} objectives",
                f"{recipe.training.learning_rate:g}",
                *hours,
            ]
        )
    header = ["cell", "model", "shows", "objectives", "the code's rate"]
    return [*header, "GPU hours, faithful", "fair"], rows


def deviations() -> Table:
    used = {name: sum(name in recipe.deviations for recipe in all_recipes()) for name in DEVIATIONS}
    rows = [
        [
            f"`{d.name}`",
            _escaped(d.what),
            _escaped(d.instead),
            _escaped(d.source),
            str(used[d.name]),
        ]
        for d in DEVIATIONS.values()
    ]
    return ["name", "what the code does", "fair mode", "where", "cells"], rows


def backbones() -> Table:
    rows = [
        [
            f"`{model.name}`",
            f"[{model.hub}]({model.url})",
            f"{model.parameters / 1e9:.2f}",
            f"{model.layers} x {model.hidden}",
            f"{model.context:,}",
            model.family,
            model.licence,
            "yes" if model.gated else "no",
        ]
        for model in BACKBONES.values()
    ]
    header = ["name", "hub", "parameters, billions", "layers x width", "context", "turns"]
    return [*header, "licence", "to be accepted"], rows


def _escaped(text: str) -> str:
    for sign in ("|", "<", "_", "*"):
        text = text.replace(sign, f"\\{sign}")
    return text


TABLES = {f.__name__: f for f in (cells, deviations, backbones)}


def main() -> None:
    for name, make in TABLES.items():
        write(DOCUMENT, name, make())


if __name__ == "__main__":
    main()
