"""Texts to be rewritten: our own. Answers are sentences, most of whose words are in the question.

No limit of the estimate was set on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["names", "questions"]


def names() -> tuple[str, ...]:
    """The ways of rewriting."""
    return tuple(_WAYS)


def questions(rng: random.Random, name: str, number: int) -> list[tuple[str, str]]:
    """Draw (question, answer), with repeats."""
    return [_WAYS[name](rng) for _ in range(number)]


_SENTENCES = [
    (f"{subject} {past} {rest}.", f"{subject} {present} {rest}.")
    for subject, past, present, rest in (
        line.split("|")
        for line in """
The old man|walked|walks|slowly to the shop
My sister|bought|buys|a new bicycle every spring
We|had|have|dinner in a small restaurant near the river
The children|played|play|football in the park
She|wrote|writes|a long letter to her aunt
The train|arrived|arrives|late because of the snow
He|found|finds|a silver coin under the bed
The teacher|explained|explains|the problem twice
They|took|take|the bus to the airport
Our neighbour|sold|sells|his old house
The cat|slept|sleeps|on the warm windowsill
Grandmother|forgot|forgets|her umbrella at the office
The river|flooded|floods|two villages
The doctor|gave|gives|him some good advice
A loud noise|woke|wakes|the whole family
The company|opened|opens|an office in Berlin
The chef|cooked|cooks|a soup with fresh tomatoes
The pilot|landed|lands|the plane safely
Her brother|broke|breaks|his arm in winter
The students|asked|ask|many questions
The farmer|grew|grows|wheat and potatoes
The mayor|promised|promises|to build a bridge
The dog|chased|chases|a squirrel up the tree
A stranger|knocked|knocks|on the door at midnight
The museum|showed|shows|pictures by young artists
The team|lost|loses|the final match
The baby|cried|cries|for an hour
The captain|knew|knows|every island in the bay
The singer|forgot|forgets|the words of the song
The library|closed|closes|at six in the evening
The police|caught|catch|the thief near the station
The gardener|planted|plants|roses along the wall
The boys|swam|swim|across the lake
The queen|wore|wears|a red coat
The judge|read|reads|the letter aloud
The waiter|brought|brings|the wrong plate
The mechanic|repaired|repairs|the engine in a day
The actor|learned|learns|his part in a week
The girl|drew|draws|a map of the island
The guests|left|leave|before the speech""".strip().splitlines()
    )
]
_NAMES = "Tom Anna Ben Clara David Emma Frank Grace Henry Ida Jack Kate Leo Mia Nora Oscar".split()
_DEEDS = (
    *("walk home", "buy bread", "call the doctor", "read the letter", "cook a soup"),
    *("sell the car", "visit an aunt", "paint the wall", "close the shop", "feed the cat"),
    *("clean the windows", "fix the clock", "learn a song", "draw a map", "plant a tree"),
)
_WHEN = ("tomorrow", "today", "at noon", "in the evening", "on Sunday")
_PLACES = (
    *("at the station", "in the park", "near the church", "at school", "on the bus"),
    *("in Rome", "at the market"),
)
_AFTER = (
    *("", " It was a Monday.", " Nobody was surprised.", " That was in May."),
    *(" Everybody talked about it.", " It rained all day.", " The neighbours saw it."),
)


def _sentence(rng: random.Random) -> str:
    return rng.choice(_SENTENCES)[0]


def _inside(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[0].lower() + sentence[1:]


def _present(rng: random.Random) -> tuple[str, str]:
    past, present = rng.choice(_SENTENCES)
    says = rng.choice(("According to {}: ", "{} says: ", "A note of {}: ")).format(
        rng.choice(_NAMES)
    )
    return f"Put into the present tense. {says}{past}", says + present


def _correct(rng: random.Random) -> tuple[str, str]:
    right = _sentence(rng)
    words = right.split()
    twice = rng.randrange(len(words) - 1)
    wrong = rng.choice(
        (
            right.replace(words[1], words[1] + words[1][-1], 1),
            " ".join(words[: twice + 1] + words[twice:]),
            _inside(right),
        )
    )
    says, after = f"{rng.choice(_NAMES)}: ", rng.choice(_AFTER)
    return f"Correct the mistake.\n\n{says}{wrong}{after}", says + right + after


def _join(rng: random.Random) -> tuple[str, str]:
    first, second = _sentence(rng), _sentence(rng)
    word = rng.choice(("and", "but", "while"))
    return f"Join with '{word}': {first} {second}", f"{first[:-1]} {word} {_inside(second)}"


def _pick(rng: random.Random) -> tuple[str, str]:
    both = _sentence(rng), _sentence(rng)
    second = rng.random() < 0.5
    which = "second" if second else "first"
    question = f"Which sentence comes {which}?\n\n{' '.join(both)}{rng.choice(_AFTER)}"
    return question, both[second]


def _ask(rng: random.Random) -> tuple[str, str]:
    name, deed, when = rng.choice(_NAMES), rng.choice(_DEEDS), rng.choice(_WHEN)
    return f"Make a question: {name} will {deed} {when}.", f"Will {name} {deed} {when}?"


def _deny(rng: random.Random) -> tuple[str, str]:
    name, deed, when = rng.choice(_NAMES), rng.choice(_DEEDS), rng.choice(_WHEN)
    may = rng.choice(("will", "should", "must"))
    question = f"Say the opposite with 'not': {name} {may} {deed} {when}."
    return question, f"{name} {may} not {deed} {when}."


def _report(rng: random.Random) -> tuple[str, str]:
    name, sentence = rng.choice(_NAMES), _sentence(rng)
    question = f'Write as reported speech. {name}: "{sentence}"'
    return question, f"{name} said that {_inside(sentence)}"


def _list(rng: random.Random) -> tuple[str, str]:
    sentences = [_sentence(rng) for _ in range(3)]
    question = f"Make a list of the sentences.\n\n{' '.join(sentences)}"
    return question, "\n".join(f"- {sentence}" for sentence in sentences)


def _begin(rng: random.Random) -> tuple[str, str]:
    sentence = _sentence(rng)
    question = f"With which three words does the text begin?\n\n{sentence} {_sentence(rng)}"
    return question, " ".join(sentence.split()[:3])


def _replace(rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(_NAMES, 2)
    deed = rng.choice(("met", "saw", "helped", "called", "thanked"))
    rest = f"{deed} us {rng.choice(_PLACES)}. {_sentence(rng)}"
    return f"Replace {first} by {second}.\n\n{first} {rest}", f"{second} {rest}"


_WAYS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "present": _present,
    "correct": _correct,
    "join": _join,
    "pick": _pick,
    "ask": _ask,
    "deny": _deny,
    "report": _report,
    "list": _list,
    "begin": _begin,
    "replace": _replace,
}
