"""The noise kinds, each one small function; and which of them are held out.

A kind takes inputs x and returns (x, response) of a bad demonstration of every one of them. The
rate is the share of demonstrations that are bad, the same for every kind. The split was made by
name before anything was run. `LATER` came for a second confirmation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .world import HOLE, Family, Problems, World, problems, respond

__all__ = ["DEVELOPMENT", "HELD_OUT", "KINDS", "LATER", "RATES", "ROOM", "WRONG_LABELS", "corrupt"]

RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)

ROOM = 3
"""Columns a response needs besides its own: two irrelevant tokens and the end."""

Kind = Callable[[np.random.Generator, World, Family, np.ndarray], tuple[np.ndarray, np.ndarray]]


def uniform(rng, world, family, x):
    """Half of the tokens, at least one, replaced by random digits or letters."""
    response = respond(world, family, x, new=True)
    hit = rng.random(response.shape) < 0.5
    hit[np.arange(len(x)), rng.integers(0, response.shape[1], len(x))] = True
    random = rng.integers(0, 10 + world.num_letters - 1, response.shape)
    random += random >= response  # anything but the right one
    return x, np.where(hit & (response != HOLE), random, response)


def slips(rng, world, family, x):
    """Return a plausible slip: one input is misread, and the answer is right for what was read."""
    other, column = family.draw(rng, len(x)), rng.integers(0, x.shape[1], len(x))
    misread = x.copy()
    rows = np.arange(len(x))
    misread[rows, column] = other[rows, column]
    return x, respond(world, family, misread, new=True)


def irrelevant(rng, world, family, x):
    """Return the right response with two irrelevant tokens before or in it."""
    response = respond(world, family, x, new=True)
    at = rng.integers(0, response.shape[1], len(x))
    spans = np.array([world.sign("um"), world.sign("well")])[rng.integers(0, 2, (len(x), 2))]
    out = np.empty((len(x), response.shape[1] + 2), dtype=response.dtype)
    for column in np.unique(at):
        rows = at == column
        out[rows] = np.concatenate(
            [response[rows, :column], spans[rows], response[rows, column:]], axis=1
        )
    return x, out


def imbalance(rng, world, family, x):
    """Right responses, but all about the same four inputs: a class that is far too common."""
    few = family.draw(rng, 4)
    x = few[rng.integers(0, len(few), len(x))]
    return x, respond(world, family, x, new=True)


def wrong_format(rng, world, family, x):
    """Return the response in the familiar form: right, but not what is asked for."""
    return x, family.solve(x)


def missing(rng, world, family, x):
    """Leave a stretch of half of the response out."""
    response = respond(world, family, x, new=True).copy()
    columns = response.shape[1]
    gone = max(1, columns // 2)
    start = rng.integers(0, columns - gone + 1, len(x))[:, None]
    column = np.arange(columns)[None, :]
    response[(column >= start) & (column < start + gone)] = HOLE
    return x, response


def swapped(rng, world, family, x):
    """Return the right response to another input."""
    return x, respond(world, family, family.draw(rng, len(x)), new=True)


def one_sided(rng, world, family, x):
    """Return always the same other response: a confusion, not a spread of errors."""
    two = family.draw(np.random.default_rng([world.seed, 41]), 2)
    first, second = respond(world, family, two, new=True)
    right = respond(world, family, x, new=True)
    return x, np.where((right == first).all(1)[:, None], second, first)


DEVELOPMENT = {f.__name__: f for f in (uniform, slips, irrelevant, imbalance)}
HELD_OUT = {f.__name__: f for f in (wrong_format, missing)}
LATER = {f.__name__: f for f in (swapped, one_sided)}
KINDS: dict[str, Kind] = {**DEVELOPMENT, **HELD_OUT}

_ALL = {**KINDS, **LATER}
WRONG_LABELS = frozenset(_ALL) - {"imbalance"}
"""Kinds whose bad demonstrations have wrong labels; imbalance has right ones."""


def corrupt(
    rng: np.random.Generator,
    world: World,
    family: Family,
    x: np.ndarray,
    *,
    kind: str | None,
    rate: float,
    room: int,
) -> Problems:
    """Demonstrations in the new form, `rate` of them bad (to the nearest row), with the mask.

    A bad demonstration that came out right by chance (a misread digit that changes nothing) is
    drawn anew.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be in [0, 1), got {rate}.")
    if kind is not None and kind not in _ALL:
        raise ValueError(f"kind must be one of {', '.join(_ALL)}, got {kind!r}.")
    right = respond(world, family, x, new=True)
    response = np.pad(right, ((0, 0), (0, 2)), constant_values=HOLE)
    bad = np.zeros(len(x), dtype=bool)
    bad[rng.permutation(len(x))[: round(rate * len(x))]] = kind is not None
    x = x.copy()
    todo = np.flatnonzero(bad)
    for _ in range(100):
        if not todo.size:
            break
        assert kind is not None
        new_x, new = _ALL[kind](rng, world, family, x[todo])
        wide = np.pad(new, ((0, 0), (0, response.shape[1] - new.shape[1])), constant_values=HOLE)
        x[todo], response[todo] = new_x, wide
        same = (wide == np.pad(right[todo], ((0, 0), (0, 2)), constant_values=HOLE)).all(1)
        todo = todo[same] if kind in WRONG_LABELS else todo[:0]
    else:
        raise ValueError(f"{kind} changes nothing in {todo.size} rows of this family.")
    return problems(world, family, x, response, new=True, room=room, corrupted=bad)
