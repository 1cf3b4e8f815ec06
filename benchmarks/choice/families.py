"""The task families, each one small function of the world; and which of them are held out.

Development families are for building features, rules and defaults. Held-out ones are looked at
once, at the end. The split was made by name before anything was run. `MIXED` came later, for a
second confirmation: several templates in one set of data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from .world import HOLE, Family, World

__all__ = ["DEVELOPMENT", "FAMILIES", "HELD_OUT", "MIXED", "external"]


def chain(world: World) -> Family:
    """Running sum of four digits modulo 10, worked: the partial sums, a bar, the result."""

    def solve(x: np.ndarray) -> np.ndarray:
        sums = np.cumsum(x, 1)[:, 1:] % 10
        bar = np.full((len(x), 1), world.sign("|"))
        return np.concatenate([sums, bar, sums[:, -1:]], 1)

    return Family(lambda rng, n: rng.integers(0, 10, (n, 4)), solve)


def reverse(world: World) -> Family:
    """Five letters backwards."""
    return Family(lambda rng, n: rng.choice(world.letters, (n, 5)), lambda x: x[:, ::-1])


def larger(world: World) -> Family:
    """Return the larger digit of each of three pairs."""
    return Family(
        lambda rng, n: rng.integers(0, 10, (n, 6)), lambda x: np.maximum(x[:, ::2], x[:, 1::2])
    )


def lookup(world: World) -> Family:
    """Return the three letters that belong to a key of two letters: 48 facts. The new form asks for
    other facts about the same keys, which no rule gives.
    """
    rng = np.random.default_rng([world.seed, 23])
    count = min(48, world.num_letters**2)
    keys = rng.choice(world.num_letters**2, count, replace=False)
    facts = [rng.choice(world.letters, (world.num_letters**2, 3)) for _ in range(2)]

    def key(x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def show(x: np.ndarray) -> np.ndarray:
        return world.letters[np.stack(np.divmod(key(x), world.num_letters), 1)]

    return Family(
        lambda rng, n: rng.choice(keys, (n, 1)),
        lambda x: facts[0][key(x)],
        show,
        lambda x: facts[1][key(x)],
    )


def layout(world: World) -> Family:
    """Three values out of a record `a 3 b 7 c 1`: familiar `3 , 7 , 1`, new `< 1 ; 7 ; 3 >`."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        x = rng.integers(0, 10, (n, 6))
        x[:, ::2] = rng.choice(world.letters, (n, 3))
        return x

    def lay(x: np.ndarray, pattern: str) -> np.ndarray:
        columns = {"1": x[:, 1], "2": x[:, 3], "3": x[:, 5]}
        signs = {name: np.full(len(x), world.sign(name)) for name in ",;<>"}
        return np.stack([{**columns, **signs}[c] for c in pattern], 1)

    return Family(draw, lambda x: lay(x, "1,2,3"), solve_new=lambda x: lay(x, "<3;2;1>"))


def addition(world: World) -> Family:
    """Two-digit addition, worked from the right as sum digit and carry, a bar, the result."""

    def show(x: np.ndarray) -> np.ndarray:
        return np.insert(x, 2, world.sign("+"), axis=1)

    def solve(x: np.ndarray) -> np.ndarray:
        low = x[:, 1] + x[:, 3]
        high = x[:, 0] + x[:, 2] + low // 10
        steps = [low % 10, low // 10, high % 10, high // 10]
        bar = np.full(len(x), world.sign("|"))
        return np.stack([*steps, bar, high // 10, high % 10, low % 10], 1)

    return Family(lambda rng, n: rng.integers(0, 10, (n, 4)), solve, show)


def ordering(world: World) -> Family:
    """Four digits sorted: familiar upwards, new downwards."""
    return Family(
        lambda rng, n: rng.integers(0, 10, (n, 4)),
        lambda x: np.sort(x, 1),
        solve_new=lambda x: np.sort(x, 1)[:, ::-1],
    )


def glyphs(world: World) -> Family:
    """Three letters drawn side by side in two rows of two dots each, to be read."""
    rng = np.random.default_rng([world.seed, 29])
    dots = (rng.permutation(16)[: world.num_letters, None] >> np.arange(4)) & 1
    ink = np.array([world.sign("."), world.sign("#")])

    def show(x: np.ndarray) -> np.ndarray:
        drawn = dots[x - world.letters[0]].reshape(len(x), 3, 2, 2)  # letter, row, column
        return ink[drawn.transpose(0, 2, 1, 3).reshape(len(x), 12)]

    return Family(lambda rng, n: rng.choice(world.letters, (n, 3)), lambda x: x, show)


def mixed(world: World) -> Family:
    """Three templates, each with its sign, in one set of data: four digits backwards, four digits
    sorted, or the larger digit of each of two pairs.
    """
    return _of_templates(
        world,
        lambda x: x[:, ::-1],
        lambda x: np.sort(x, 1),
        lambda x: np.maximum(x[:, ::2], x[:, 1::2]),
    )


def mixed_long(world: World) -> Family:
    """Three templates of unlike length: a worked running sum of four digits, the digits backwards,
    or the last digit alone.
    """
    return _of_templates(world, chain(world).solve, lambda x: x[:, ::-1], lambda x: x[:, -1:])


def _of_templates(world: World, *solves: Callable[[np.ndarray], np.ndarray]) -> Family:
    """Four digits behind a sign that says which of these is asked for."""
    signs = np.array([world.sign(name) for name in ",;+"])

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        x = rng.integers(0, 10, (n, 5))
        x[:, 0] %= len(solves)
        return x

    def show(x: np.ndarray) -> np.ndarray:
        return np.concatenate([signs[x[:, :1]], x[:, 1:]], 1)

    def solve(x: np.ndarray) -> np.ndarray:
        answers = [of_template(x[:, 1:]) for of_template in solves]
        out = np.full((len(x), max(a.shape[1] for a in answers)), HOLE)
        for template, answer in enumerate(answers):
            mine = x[:, 0] == template
            out[mine, : answer.shape[1]] = answer[mine]
        return out

    return Family(draw, solve, show)


DEVELOPMENT = {f.__name__: f for f in (chain, reverse, larger, lookup, layout)}
HELD_OUT = {f.__name__: f for f in (addition, ordering, glyphs)}
MIXED = {f.__name__: f for f in (mixed, mixed_long)}
FAMILIES: dict[str, Callable[[World], Family]] = {**DEVELOPMENT, **HELD_OUT}


def external(folder: str) -> tuple[str, Callable[[World], Family]]:
    """Return a family from outside, `file.py:function`, checked on a few rows.

    Raises:
        ValueError: no such file or function, or what it returns is no family.
    """
    path, _, name = folder.rpartition(":")
    if not path or not Path(path).is_file():
        raise ValueError(f"--family takes file.py:function, got {folder!r}: there is no such file.")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(
            f"{path} has no function {name!r}; it has {', '.join(_functions(module))}."
        )
    world = World(0)
    family = function(world)
    if not isinstance(family, Family):
        raise ValueError(f"{folder} must return a Family, got {type(family).__name__}.")
    x = family.draw(np.random.default_rng(0), 5)
    for what, rows in {"draw": x, "show": family.show(x), "solve": family.solve(x)}.items():
        if not (isinstance(rows, np.ndarray) and rows.ndim == 2 and len(rows) == 5):
            raise ValueError(f"{folder}: {what} must give (n, columns) token ids.")
    tokens = np.concatenate([family.show(x).ravel(), family.solve(x).ravel()])
    if tokens.max() >= world.size or tokens.min() < HOLE:
        raise ValueError(f"{folder}: tokens must be from 0 to {world.size - 1}.")
    return name, cast(Callable[[World], Family], function)


def _functions(module: object) -> list[str]:
    return sorted(k for k, v in vars(module).items() if callable(v) and not k.startswith("_"))
