"""Kinds of wrong rows: each takes a right row and the others, and returns a wrong response.

Development and held-out kinds were named before anything was fitted, `LATER` ones before they were
run; `missing` and `one_sided` had a part in the estimate from 2026-11-30 on, `echo` from
2026-12-01 on, and `twice` came with the rule that sees it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from .tasks import Row

__all__ = ["DEVELOPMENT", "HELD_OUT", "KINDS", "LATER", "SEEN", "corrupt"]

Kind = Callable[[random.Random, Row, Sequence[Row]], str]


def other_row(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The response of another row of the same kind."""
    others = [r.response for r in rows if r.kind == row.kind and r.response != row.response]
    return rng.choice(others)


def slip(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """One number is off by a little, or one word or letter is exchanged."""
    numbers = list(re.finditer(r"\d+", row.response))
    if numbers:
        match = numbers[-1] if rng.random() < 0.5 else rng.choice(numbers)
        value = int(match.group())
        changed = str(max(0, value + rng.choice([-10, -2, -1, 1, 2, 10])))
        if changed == match.group():
            changed = str(value + 1)
        return row.response[: match.start()] + changed + row.response[match.end() :]
    words = row.response.split(" ")
    if len(words) > 1:
        others = [w for r in rows for w in r.response.split(" ") if w not in words]
        words[-1] = rng.choice(others) if others else words[-1] + "s"
        return " ".join(words)
    letters = list(row.response)
    at = rng.randrange(len(letters))
    letters[at] = rng.choice([c for c in "abcdefghijklmnopqrstuvwxyz" if c != letters[at].lower()])
    return "".join(letters)


def missing(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The second half is left out."""
    words = row.response.split(" ")
    if len(words) > 1:
        return " ".join(words[: max(1, len(words) // 2)])
    return row.response[: max(1, len(row.response) // 2)]


def wrong_format(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The right response, wrapped in words that nobody asked for."""
    before = rng.choice(["Well, I think it is: ", "OK. ", "My answer would be ", "Hmm, maybe "])
    return before + row.response + rng.choice(["", " I guess.", " (I think)", " or so"])


def one_sided(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """Always the same other response of that kind: a confusion, not a spread of errors."""
    responses = sorted({r.response for r in rows if r.kind == row.kind})
    first, second = responses[0], responses[-1]
    return second if row.response == first else first


def refusal(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """A refusal, in one of four wordings."""
    return rng.choice(
        (
            *("I am sorry, but I cannot help with that.", "Sorry, I do not know the answer."),
            *("As an assistant I cannot answer this.", "That is something I cannot do."),
        )
    )


def echo(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The question once more."""
    return row.prompt


def twice(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The right response, and then once more."""
    return rng.choice((" ", "\n", ", ")).join((row.response, row.response))


def garbled(rng: random.Random, row: Row, rows: Sequence[Row]) -> str:
    """The right letters and digits in another order, word by word; a lone one is doubled."""
    for _ in range(20):
        words = ["".join(rng.sample(word, len(word))) for word in row.response.split(" ")]
        if (changed := " ".join(words)) != row.response:
            return changed
    return row.response + row.response[-1]


DEVELOPMENT = {f.__name__: f for f in (other_row, slip)}
SEEN = {f.__name__: f for f in (missing, one_sided, echo, twice)}
"""With a part in the estimate; held out until then, but for `twice`."""
LATER = {f.__name__: f for f in (refusal, garbled)}
HELD_OUT = {wrong_format.__name__: wrong_format, **LATER}
KINDS: dict[str, Kind] = {**DEVELOPMENT, **SEEN, **HELD_OUT}


def corrupt(
    rows: Sequence[Row], *, kind: str, rate: float, seed: int
) -> tuple[list[Row], list[bool]]:
    """Make a share of the rows wrong; returns the rows and a mask of the wrong ones."""
    rng = random.Random(f"{kind} {rate} {seed}")
    wrong = [False] * len(rows)
    for index in rng.sample(range(len(rows)), round(rate * len(rows))):
        wrong[index] = True
    return [
        row._replace(response=KINDS[kind](rng, row, rows)) if bad else row
        for row, bad in zip(rows, wrong, strict=True)
    ], wrong
