"""The symbols, and what a task family is.

A family is a function of the `World` (the symbols of one seed) that returns a `Family`: how to draw
inputs, how they look in the prompt, and the right response. Every family is known to a base model
in its *familiar* form, and fine-tuning asks for the *new* form: another alphabet unless the family
says otherwise. A base that saw only the familiar form is therefore confidently wrong, as a real
model is about an unfamiliar format.

    familiar     F  c a f  =  f a c <eos>
    new          N  c a f  =  b k h <eos>
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["HOLE", "SIGNS", "Family", "Problems", "World", "derangement", "problems"]

HOLE = -1
"""In a response: no token here; what follows closes up."""

SIGNS = ("<pad>", "<eos>", "F", "N", "=", "|", "+", ",", ";", "<", ">", "#", ".", "um", "well")
"""Tokens that are neither digits nor letters."""


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random permutation of 0 ... n-1 that leaves nothing in its place."""
    while True:
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return order


@dataclass(frozen=True)
class World:
    """The symbols of one seed. Digits are their own ids, letters follow, then the signs."""

    seed: int
    num_letters: int = 12
    disguise: np.ndarray = field(init=False, repr=False, compare=False)
    """Token id -> the token that stands for it in the new form; signs stand for themselves."""

    def __post_init__(self):
        if not 4 <= self.num_letters <= 16:
            raise ValueError(f"num_letters must be from 4 to 16, got {self.num_letters}.")
        rng = np.random.default_rng([self.seed, 17])
        disguise = np.arange(self.size)
        disguise[:10] = derangement(10, rng)
        disguise[self.letters] = self.letters[derangement(self.num_letters, rng)]
        object.__setattr__(self, "disguise", disguise)

    @property
    def letters(self) -> np.ndarray:
        """Token ids of the letters."""
        return np.arange(10, 10 + self.num_letters)

    @property
    def size(self) -> int:
        """Size of the vocabulary."""
        return 10 + self.num_letters + len(SIGNS)

    def sign(self, name: str) -> int:
        """Token id of a sign."""
        return 10 + self.num_letters + SIGNS.index(name)

    def text(self, ids: np.ndarray) -> str:
        """Tokens as words, padding left out."""
        words = [*"0123456789", *"abcdefghijklmnop"[: self.num_letters], *SIGNS]
        return " ".join(words[i] for i in ids if i not in (HOLE, self.sign("<pad>")))


Rows = np.ndarray
"""(n, columns) token ids."""


@dataclass(frozen=True)
class Family:
    """A task: inputs x, how a prompt shows them, and the right response in both forms."""

    draw: Callable[[np.random.Generator, int], Rows]
    """(rng, n) -> x. Columns must be exchangeable between rows: a slip takes one from another."""
    solve: Callable[[Rows], Rows]
    """x -> the response in the familiar form, without end token; `HOLE` where it is shorter."""
    show: Callable[[Rows], Rows] = lambda x: x
    """x -> the prompt, without marker and equals sign."""
    solve_new: Callable[[Rows], Rows] | None = None
    """x -> the response in the new form; None: the familiar one in the other alphabet."""


@dataclass(frozen=True)
class Problems:
    """Rows ready for training."""

    x: Rows
    ids: Rows
    """(n, prompt + response): marker, prompt, equals sign, response, end token, padding."""
    prompt: int
    """Tokens before the response."""
    corrupted: np.ndarray
    """(n,) which rows the noise has touched."""


def respond(world: World, family: Family, x: Rows, *, new: bool) -> Rows:
    """Return the right response in one form, without end token."""
    if not new:
        return family.solve(x)
    if family.solve_new is not None:
        return family.solve_new(x)
    familiar = family.solve(x)
    return np.where(familiar == HOLE, HOLE, world.disguise[familiar])


def problems(
    world: World,
    family: Family,
    x: Rows,
    response: Rows,
    *,
    new: bool,
    room: int,
    corrupted: np.ndarray | None = None,
) -> Problems:
    """Put marker, prompt, response and end together; `room` is the width of the response."""
    n = len(x)

    def column(name: str) -> Rows:
        return np.full((n, 1), world.sign(name))

    prompt = np.concatenate([column("N" if new else "F"), family.show(x), column("=")], 1)
    body = np.concatenate([response, column("<eos>")], 1)
    order = np.argsort(body == HOLE, axis=1, kind="stable")  # holes to the end
    closed = np.take_along_axis(body, order, 1)
    width = (closed != HOLE).sum(1).max(initial=1)
    if width > room:
        raise ValueError(f"a response takes {width} tokens with its end, more than {room}.")
    padded = np.full((n, room), world.sign("<pad>"))
    take = min(room, closed.shape[1])
    padded[:, :take] = np.where(closed[:, :take] == HOLE, world.sign("<pad>"), closed[:, :take])
    return Problems(
        x,
        np.concatenate([prompt, padded], 1),
        prompt.shape[1],
        np.zeros(n, dtype=bool) if corrupted is None else corrupted,
    )
