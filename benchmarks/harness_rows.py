"""Questions with options in the schemas of benchmarks whose rows are on the hub alone, so that both
harnesses can be asked the same 50 questions. They are written here, and what they ask is no
benchmark's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["rows_like"]

Row = dict[str, Any]

_CAPITALS = dict(
    pair.split()
    for pair in "France Paris,Italy Rome,Spain Madrid,Germany Berlin,Austria Vienna,Poland Warsaw,"
    "Greece Athens,Egypt Cairo,Kenya Nairobi,Japan Tokyo,China Beijing,Canada Ottawa,Cuba Havana,"
    "Peru Lima,Chile Santiago,Norway Oslo,Sweden Stockholm,Finland Helsinki,Portugal Lisbon,"
    "Hungary Budapest,Russia Moscow,Iran Tehran,Iraq Baghdad,Ireland Dublin,Ukraine Kyiv".split(",")
)
_OPPOSITES = dict(
    pair.split()
    for pair in "hot cold,big small,fast slow,happy sad,light dark,rich poor,old young,open closed,"
    "wet dry,full empty,early late,strong weak,high low,thick thin,clean dirty,loud quiet,near far,"
    "deep shallow,wide narrow,true false,good bad,left right,day night,first last,cheap expensive"
    "".split(",")
)
_YES_NO_MAYBE = ("yes", "no", "maybe")


class _Question(NamedTuple):
    text: str
    options: list[str]
    right: int


def rows_like(example: Mapping[str, Any], number: int, seed: int = 0) -> list[Row]:
    """Return distinct rows in the schema of a task's example, with as many options each."""
    rng = random.Random(seed)
    if "problem" in example:
        return _products(example, number, rng)
    count = len(_options(example))
    trial = str(example.get("question", "")).startswith("Abstract: ")
    questions: dict[str, _Question] = {}
    for index in range(100 * number):
        question = _trial(rng) if trial else _choice(rng, index % 3, count)
        questions.setdefault(question.text, question)
        if len(questions) == number:
            break
    return [_in_schema(example, question) for question in questions.values()]


def _products(example: Mapping[str, Any], number: int, rng: random.Random) -> list[Row]:
    """Problems with a number below 1,000 as the answer, as AIME's are."""
    pairs = [(a, b) for a in range(3, 31) for b in range(3, 31) if a * b < 1000]
    return [
        {**example, "problem": f"What is {a} * {b}?", "answer": str(a * b)}
        for a, b in rng.sample(pairs, number)
    ]


def _options(example: Mapping[str, Any]) -> list[str]:
    if "choices" in example:
        return list(example["choices"]["text"])
    if "options" in example:
        return list(example["options"].values())
    names = [f"option_{i}" for i in range(10)]
    return [example[name] for name in names if example[name] is not None]


def _choice(rng: random.Random, kind: int, count: int) -> _Question:
    """A sum, a capital or an opposite with `count` options."""
    if kind == 0:
        a, b = rng.randrange(10, 90), rng.randrange(10, 90)
        right, text = str(a + b), f"What is {a} + {b}?"
        others = [str(a + b + d) for d in (-11, -10, -9, -2, -1, 1, 2, 9, 10, 11)]
    else:
        table = _CAPITALS if kind == 1 else _OPPOSITES
        left = rng.choice(sorted(table))
        right = table[left]
        text = f"What is the {'capital' if kind == 1 else 'opposite'} of {left}?"
        others = [answer for answer in table.values() if answer != right]
    options = [right, *rng.sample(others, count - 1)]
    rng.shuffle(options)
    return _Question(text, options, options.index(right))


def _trial(rng: random.Random) -> _Question:
    """An abstract of two groups, and whether the first did better."""
    size, first, second = rng.randrange(50, 200), rng.randrange(5, 45), rng.randrange(5, 45)
    if rng.random() < 0.3:
        second = first
    text = (
        f"Abstract: In {2 * size} patients a new drug was compared with an old one. {first} of"
        f" {size} with the new drug and {second} of {size} with the old one recovered.\n"
        f"Question: Did more patients recover with the new drug?"
    )
    right = 0 if first > second else 1 if first < second else 2
    return _Question(text, list(_YES_NO_MAYBE), right)


def _in_schema(example: Mapping[str, Any], question: _Question) -> Row:
    letters = "ABCDEFGHIJ"[: len(question.options)]
    answer = letters[question.right]
    if "choices" in example:
        choices = {"text": question.options, "label": list(letters)}
        own = {"question_stem": question.text, "choices": choices, "answerKey": answer}
    elif "options" in example:
        own = {
            "question": question.text,
            "options": dict(zip(letters, question.options, strict=True)),
            "answer": question.options[question.right],
            "answer_idx": answer,
        }
    else:
        own = {"question": question.text, "answer": answer, "answer_index": question.right}
        own |= {f"option_{i}": option for i, option in enumerate(question.options)}
    return {**example, **own}
