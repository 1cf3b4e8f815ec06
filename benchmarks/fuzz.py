"""A million seeded cases over what strangers can send: objectives as text, rows, records, answers,
texts for the terminal, reports. Each must give a result or an error that is meant.

    python -m benchmarks.fuzz [--cases 1000000]

Cases come from hypothesis in batches: an example is a seed, from which a hundred mutated inputs are
made. Standard output: cases by target.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies

from probtune.data.rows import read_rows
from probtune.errors import DataError, ProbtuneError, UsageError
from probtune.evaluation.grading import choice, latex, literals
from probtune.measure.answers import exact_match, read_rule
from probtune.objectives import objective
from probtune.records import make_record, read_record
from probtune.shapes import SHAPES, lacking
from probtune.texts import redacted, secrets_in, visible

__all__ = ["SHARES", "TARGETS", "fuzz"]

_PIECES = [
    *("nll", "p", "power(", "above(", "mix(", ")", ",", "0.5", "-1", "1e309", "nan", "[", "{", '"'),
    *("\\", "\x00", "\x1b[31m", "\u202e", "\ud800", "ｎ", "__import__('os')", "lambda:0", "#### 1"),
    *("\\boxed{", "}", "null", "true", ":", '"prompt"', '"completion"', "https://a:b@c"),
    "hf_" + "a" * 20,
    *(" ", "\n", "9" * 30, "x" * 50, "é", "<script>", "{{ 1 }}", "=", "token"),
]  # fmt: skip
_ANSWERS = [
    *(
        "A",
        "B",
        "(C)",
        "D.",
        "**",
        "*",
        "Answer:",
        "The answer is",
        "answer",
        " ",
        "\n",
        "\n\n",
        '"',
    ),
    *("<answer>", "</answer>", "\\boxed{", "}", "{", "\\text{", "\\frac", "\\frac{1}{2}", "\\sqrt"),
    *(
        "1",
        "1 000",
        "1,000",
        "0.\\overline{3}",
        "-",
        "−",
        "±",
        "\\pm",
        "=",
        "\\approx",
        "€",
        "$",
        "%",
    ),
    *(
        "^",
        "_",
        "\\circ",
        "\\color{red}{12}",
        "\\varnothing",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        "e9",
        "½",
    ),
    *(
        "\\left",
        "\\right",
        "\\pi",
        "x",
        "10^{9}",
        "9" * 40,
        ".",
        "/",
        "\\begin{pmatrix}",
        "&",
        "\\\\",
    ),
]
_BATCH = 100


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(0, 9)))


def _value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind == 6:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 7:
        return {_text(rng): _value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return (None, True, rng.randrange(-3, 3), rng.random(), float("inf"), _text(rng))[kind]


def _shaped(shape: Any, rng: random.Random) -> Any:
    """Return a value that has a shape, but for a mutation now and then."""
    if rng.random() < 0.01:
        return _value(rng)
    if isinstance(shape, dict):
        return {key: _shaped(inner, rng) for key, inner in shape.items() if rng.random() > 0.005}
    if isinstance(shape, list):
        return [_shaped(shape[0], rng) for _ in range(rng.randrange(3))]
    kind = shape[0] if isinstance(shape, tuple) else shape
    return {str: "nll()", int: 3, float: 0.5, bool: False, dict: {}, list: []}.get(kind)


def _parser(rng: random.Random, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            objective(_text(rng))
        except UsageError:
            pass


def _texts(rng: random.Random, folder: Path) -> None:
    text = _text(rng)
    shown = visible(redacted(text))
    assert "\x1b" not in shown and "\u202e" not in shown and "a:b@" not in shown, text
    shown.encode("utf-8")
    secrets_in({_text(rng): text, "settings": {"x": text}})


def _records(rng: random.Random, folder: Path) -> None:
    kind = rng.choice(list(SHAPES))
    value = _shaped(SHAPES[kind], rng)
    said = lacking(value, SHAPES[kind])
    assert said is None or visible(said)


def _files(rng: random.Random, folder: Path) -> None:
    path = folder / "record.json"
    text = json.dumps({"kind": rng.choice([*SHAPES, 3]), "schema": 1, **_any_object(rng)})
    at = rng.randrange(len(text))
    path.write_text(text[:at] + rng.choice(["", "}", "\x00", text[at:]]), encoding="utf-8")
    try:
        read_record(path)
    except DataError:
        pass


def _any_object(rng: random.Random) -> dict[str, Any]:
    return {_text(rng): _value(rng) for _ in range(3)}


def _answers(rng: random.Random, folder: Path) -> None:
    try:
        rule = read_rule(rng.choice(["hash", "boxed", "whole", "regex:(.)", _text(rng)]))
    except ProbtuneError:
        return
    exact_match(rule(_text(rng)), rule(_text(rng)))


def _letters(rng: random.Random, folder: Path) -> None:
    options = dict(zip("ABCD", (_written(rng) for _ in range(4)), strict=True))
    choice.find_strict(_written(rng), options)


def _numbers(rng: random.Random, folder: Path) -> None:
    text, other = _written(rng), _written(rng)
    for read in (latex.clean, latex.normal, latex.word, latex.fold, latex.unit, latex.split_list):
        read(text)
    latex.brackets(text), latex.interval(text), latex.base_and_digits(text)
    gold, answer = literals.read_literal(text), literals.read_literal(other)
    if gold is not None and answer is not None:
        assert literals.equal_literals(gold, answer) == literals.equal_literals(answer, gold), text


def _written(rng: random.Random) -> str:
    """Return an answer as models write them, or worse."""
    pieces = _PIECES if rng.random() < 0.2 else _ANSWERS
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(0, 12)))


def _readers(rng: random.Random, folder: Path) -> None:
    path = folder / "rows.jsonl"
    row = {"prompt": _value(rng), "completion": _value(rng)}
    lines = [json.dumps(row), '{"prompt": "a", "completion": "b"}', _text(rng)]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        read_rows(str(path), skip_bad_rows=rng.random() < 0.5)
    except ProbtuneError:
        pass


def _reports(rng: random.Random, folder: Path) -> None:
    from probtune.reports.report import render

    record = make_record("tune", {})
    record |= {key: _shaped(inner, rng) for key, inner in SHAPES["tune"].items()}
    try:
        page = render([record])
    except DataError:
        return
    assert page.count("<script") == 2 and "\u202e" not in page


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    "parser": _parser,
    "texts": _texts,
    "records": _records,
    "record files": _files,
    "answers": _answers,
    "letters": _letters,
    "numbers": _numbers,
    "readers": _readers,
    "reports": _reports,
}
SHARES = {
    "parser": 0.015,
    "texts": 0.485,
    "records": 0.28,
    "record files": 0.04,
    "answers": 0.1,
    "letters": 0.03,
    "numbers": 0.03,
    "readers": 0.019,
    "reports": 0.001,
}
"""Shares of the cases, by what one costs."""


def fuzz(target: str, cases: int, folder: Path) -> int:
    """Run so many cases of a target, and return their number; an error that is not meant ends it
    with hypothesis's smallest seed.
    """
    done = 0

    @settings(
        max_examples=max(1, -(-cases // _BATCH)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.integers(0, 2**62))
    def check(seed: int) -> None:
        nonlocal done
        rng = random.Random(seed)
        for _ in range(_BATCH):
            TARGETS[target](rng, folder)
            done += 1

    check()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    options = parser.parse_args()
    total = 0
    with tempfile.TemporaryDirectory(prefix="probtune-fuzz-") as name:
        for target, share in SHARES.items():
            started = time.monotonic()
            number = fuzz(target, round(share * options.cases * 1.01), Path(name))
            total += number
            print(
                f"{target:14s} {number:9,d} cases in {time.monotonic() - started:4.0f} s",
                flush=True,
            )
    print(f"{'all':14s} {total:9,d} cases, no error that is not meant")
    return 0 if total >= options.cases else 1


if __name__ == "__main__":
    sys.exit(main())
