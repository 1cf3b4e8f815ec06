r"""The user's own questions as a benchmark: rows with a prompt, an answer, perhaps options, and a
grader by name.

    probtune eval MODEL --data questions.jsonl --grader math

Its name is `questions-GRADER`, so that a folder of answers says how they are graded. Where a grader
has a counterpart in the paper's code, that is its reference protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from ...data.messages import kind_of
from ...errors import DataError, UsageError
from ...measure.answers import read_rule
from ...measure.boxes import last_box
from ..grading.base import Grader
from . import graders
from .base import Decoding, Protocol, Question, Source, Task
from .fields import LETTERS, column, lettered, numbered

__all__ = ["GRADERS", "choose_grader", "gold_of", "own_grader", "own_task", "read_questions"]

_PREFIX = "questions-"
_BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
_PROMPTS = ("prompt", "question", "problem", "input", "instruction", "query")
_ANSWERS = ("answer", "gold", "target", "completion", "response", "output", "solution", "label")
_OPTIONS = ("options", "choices")
_TOKENS = 1024

GRADERS: Mapping[str, tuple[str, Grader, Grader | None, str]] = MappingProxyType(
    {
        "whole": (
            "the whole response is the answer (numbers as numbers, marks of Markdown aside)",
            graders.whole,
            None,
            "",
        ),
        "contains": (
            "the response contains the answer, as words of its own",
            graders.contains,
            None,
            "",
        ),
        "hash": (
            "what follows the last ####, as GSM8K writes it",
            graders.hash_mark,
            None,
            "",
        ),
        "boxed": ("the last box is the answer, compared as text", graders.boxed, None, _BOXED),
        "math": (
            "the last box, compared by math-verify; reference: the paper's mathematics",
            graders.math_strict,
            graders.math_reference_solved,
            _BOXED,
        ),
        "math-rounded": (
            "the same, where numbers may differ by a relative 1e-4; reference: the paper's Minerva",
            graders.math_rounded,
            graders.math_reference_units,
            _BOXED,
        ),
        "choice": (
            "the letter or the text of an option; reference: the paper's medicine",
            graders.choice_strict,
            graders.choice_reference,
            _BOXED,
        ),
        "word": (
            "the whole response, and its Jaro-Winkler similarity; reference: the paper's figlet",
            graders.figlet_strict,
            graders.figlet_reference,
            "",
        ),
    }
)
"""Name -> (rule, strict grader, the paper's counterpart or None, instruction)."""


def own_grader(name: str) -> str | None:
    """Return the grader of a benchmark's name that stands for the user's own questions; None for
    any other name.
    """
    grader = name.removeprefix(_PREFIX)
    return grader if grader in GRADERS and name.startswith(_PREFIX) else None


@cache
def own_task(grader: str) -> Task:
    """Return the benchmark of the user's own questions under a grader.

    Raises:
        UsageError: there is no such grader; the message lists them.
    """
    if grader not in GRADERS:
        raise UsageError(
            f"--grader must be one of {', '.join(GRADERS)}, got {grader!r}; probtune eval --list"
            " explains them."
        )
    rule, strict, reference, instruction = GRADERS[grader]
    decoding = Decoding(_TOKENS)
    protocols = {"strict": Protocol(decoding, strict, rule, None, instruction)}
    if reference is not None:
        protocols["reference"] = Protocol(decoding, reference, rule, None, instruction)
    example: dict[str, Any] = {"prompt": "What is 6 times 7?", "answer": "42"}
    if grader == "choice":
        example = {"prompt": "What is 6 times 7?", "answer": "B", "options": ["36", "42"]}
    return Task(
        name=_PREFIX + grader,
        domain="own",
        title=f"own questions ({grader})",
        source=Source(
            "own questions", "", 0, "the user's own", note="A file of the user's, by --data."
        ),
        read=lambda rows: read_questions(rows, grader=grader),
        protocols=MappingProxyType(protocols),
        example=example,
        example_response=_RESPONSES.get(grader, "42"),
    )


_RESPONSES = {
    "contains": "It is 42.",
    "hash": "6 * 7 = 42\n#### 42",
    **dict.fromkeys(("boxed", "math", "math-rounded"), "So it is \\boxed{42}."),
    "choice": "The answer is \\boxed{B}.",
}


def choose_grader(rows: Sequence[Mapping[str, Any]], answer_column: str | None = None) -> str:
    r"""Return the grader that fits the rows: `choice` where they have options, `math` where their
    answers hold a box or `####` or are numbers, else `whole`.

    >>> choose_grader([{"prompt": "6 * 7?", "answer": "42"}])
    'math'
    >>> choose_grader([{"prompt": "Capital of France?", "answer": "Paris"}])
    'whole'
    """
    if any(row.get(name) for row in rows for name in _OPTIONS):
        return "choice"
    if not rows:
        raise DataError("there are no rows.")
    name = _named(rows, answer_column, _ANSWERS, "an answer", "--answer-column")
    texts = [str(row.get(name, "")) for row in rows]
    plain = [_gold(text, "math") for text in texts]
    if all(text != gold or _is_number(gold) for text, gold in zip(texts, plain, strict=True)):
        return "math"
    return "whole"


def read_questions(
    rows: Sequence[Mapping[str, Any]],
    *,
    grader: str,
    prompt_column: str | None = None,
    answer_column: str | None = None,
) -> list[Question]:
    """Turn rows into questions.

    Args:
        prompt_column, answer_column: default: the first known name that the first row has.

    Raises:
        DataError: a row lacks a column, or its answer does not fit the grader; the message names
            the row.
    """
    if not rows:
        raise DataError("there are no rows.")
    prompts = _named(rows, prompt_column, _PROMPTS, "a prompt", "--prompt-column")
    answers = _named(rows, answer_column, _ANSWERS, "an answer", "--answer-column")
    return [_question(row, number, grader, prompts, answers) for number, row in numbered(rows)]


def _named(
    rows: Sequence[Mapping[str, Any]],
    column_name: str | None,
    names: Sequence[str],
    what: str,
    flag: str,
) -> str:
    """Return the name of a column: the user's, or the first known one of the first row."""
    first = rows[0]
    if column_name is not None:
        return column_name
    for name in names:
        if name in first:
            return name
    raise DataError(
        f"row 1 has no column with {what} ({', '.join(names)}); its columns are"
        f" {', '.join(map(repr, first))}. Name it with {flag}."
    )


def _question(
    row: Mapping[str, Any], number: int, grader: str, prompts: str, answers: str
) -> Question:
    prompt = column(row, number, prompts)
    if not isinstance(prompt, str):
        raise DataError(f"row {number}: {prompts!r} must be a text, got {kind_of(prompt)}.")
    answer = column(row, number, answers)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise DataError(
            f"row {number}: {answers!r} must be a text or a number, got {kind_of(answer)}."
        )
    identity = str(row.get("id", f"row-{number}"))
    cluster = row.get("cluster")
    cluster = None if cluster is None else str(cluster)
    gold, options = gold_of(row, f"row {number}", grader, answer, answers)
    lines = () if options is None else (f"{key}. {value}" for key, value in options.items())
    text = "\n".join([prompt.strip(), *lines])
    return Question(identity, text, gold, options, cluster=cluster)


def gold_of(
    row: Mapping[str, Any], where: str, grader: str, answer: str | int | float, column: str
) -> tuple[str, dict[str, str] | None]:
    """Return the right answer as a grader takes it, and the options of a choice.

    Args:
        answer: the answer of the row; the final one of a worked answer is looked for.
        column: name of the answer in an error.

    Raises:
        DataError: a choice has no options, or its answer is none of them.
    """
    if grader != "choice":
        return _gold(str(answer), grader), None
    options = _options(row, where)
    letter = _letter(answer, options)
    if letter is None and isinstance(answer, str):
        letter = _letter(_gold(answer, grader), options)
    if letter is None:
        raise DataError(
            f"{where}: {column!r} is {answer!r}, which is no letter, number or text of its options"
            f" {', '.join(options)}."
        )
    return letter, options


def _gold(answer: str, grader: str) -> str:
    """Return the final answer of a worked one, where the grader looks for a final answer."""
    if grader in ("whole", "contains", "word"):
        return answer.strip()
    box = last_box(answer)
    if box is not None:
        return box.strip()
    after = read_rule("hash")(answer)
    return answer.strip() if after is None else after.strip().replace(",", "")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _options(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return letter -> text, from a list of texts, an object by letter, or lists `label` and `text`
    as hub datasets hold them.
    """
    value = next((row[name] for name in _OPTIONS if row.get(name)), None)
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        labels = value.get("label") or LETTERS[: len(value["text"])]
        value = dict(zip(labels, value["text"], strict=False))
    if isinstance(value, Mapping):
        options = {str(key): str(text).strip() for key, text in value.items() if text is not None}
    elif isinstance(value, list):
        options = lettered([str(text).strip() for text in value])
    else:
        options = {}
    if len(options) < 2:
        raise DataError(
            f"{where} has no options; a choice needs a column {' or '.join(_OPTIONS)}: a list"
            " of texts, or an object of letters and texts."
        )
    return options


def _letter(answer: str | int | float, options: Mapping[str, str]) -> str | None:
    """Return the letter of an answer that is a letter, an index from 0, or an option's text."""
    if isinstance(answer, int) and 0 <= answer < len(options):
        return list(options)[answer]
    text = str(answer).strip()
    if text in options:
        return text
    matching = [letter for letter, option in options.items() if option == text]
    return matching[0] if len(matching) == 1 else None
