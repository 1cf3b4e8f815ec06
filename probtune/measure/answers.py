"""Short answers: finding the final answer in a response, and comparing two of them by exact match.

A rule is chosen from the references, so that it is the same for every model, or named by the user:

    hash       the text after the last `####`              (GSM8K's own convention)
    boxed      the content of the last `\\boxed{…}`         (MATH and its relatives)
    whole      the whole response, where responses are short
    regex:…    the first group of a regular expression's last match

An answer that the rule does not find is no answer, and counts as wrong. These rules are for
watching a training run; the graders for benchmark claims belong to the evaluation of benchmarks,
not here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ..errors import UsageError
from .boxes import last_box

__all__ = ["AnswerRule", "answer_mask", "choose_rule", "exact_match", "read_rule"]

AnswerRule = Callable[[str], str | None]

_WHOLE_WORDS = 8


def choose_rule(references: Sequence[str]) -> str:
    """Return the name of the first rule that finds an answer in nine of ten references, or `none`.

    >>> choose_rule(["2 + 2 = 4\\n#### 4"]), choose_rule(["Paris"])
    ('hash', 'whole')
    """
    for name in ("hash", "boxed", "whole"):
        answered = sum(read_rule(name)(reference) is not None for reference in references)
        if references and answered >= 0.9 * len(references):
            return name
    return "none"


def read_rule(name: str) -> AnswerRule:
    """Return the rule a name stands for.

    Raises:
        UsageError: the name is unknown, or the regular expression is wrong or has no group.
    """
    if name == "hash":
        return _after_hash
    if name == "boxed":
        return last_box
    if name == "whole":
        return _whole
    if name.startswith("regex:"):
        try:
            pattern = re.compile(name.removeprefix("regex:"), re.DOTALL)
        except re.error as error:
            raise UsageError(f"--answer {name!r} is not a regular expression: {error}.") from None
        if pattern.groups < 1:
            raise UsageError(f"--answer {name!r} needs a group, such as regex:answer is (\\d+).")
        return lambda text: _last_group(pattern, text)
    raise UsageError(
        f"--answer must be auto, none, hash, boxed, whole or regex:PATTERN, got {name!r}."
    )


def exact_match(prediction: str | None, reference: str | None) -> bool:
    """True if two answers are the same text, up to white space, marks of Markdown, dollar signs,
    thousands separators and a final stop; or if both are numbers, and the same one.

    >>> exact_match("$1,250.", "1250"), exact_match("**$29.00**", "29"), exact_match(None, None)
    (True, True, False)
    """
    if prediction is None or reference is None:
        return False
    one, other = _normal(prediction), _normal(reference)
    if one == other:
        return True
    return all(map(_NUMBER.fullmatch, (one, other))) and Fraction(one) == Fraction(other)


def answer_mask(
    tokenizer: Any, input_ids: Any, labels: Sequence[int], answer: str | None
) -> list[int]:
    """1 at the tokens of the last supervised stretch that spell the answer, 0 elsewhere, aligned
    with `input_ids`; all 0 if there is no answer, or it was cut off.

    A token that holds both the answer and what stands before it counts.
    """
    mask = [0] * len(input_ids)
    last = max((i for i, label in enumerate(labels) if label != -100), default=-1)
    first = last
    while first > 0 and labels[first - 1] != -100:
        first -= 1
    ids = list(input_ids[first : last + 1])

    def text_of(number: int) -> str:
        return tokenizer.decode(ids[:number], clean_up_tokenization_spaces=False)

    start = text_of(len(ids)).rfind(answer) if answer and last >= 0 else -1
    if answer is None or start < 0:
        return mask
    numbers = range(1, len(ids) + 1)
    begin = bisect_right(numbers, start, key=lambda n: len(text_of(n)))
    end = bisect_left(numbers, start + len(answer), key=lambda n: len(text_of(n)))
    mask[first + begin : first + end + 1] = [1] * (end + 1 - begin)
    return mask


def _normal(text: str) -> str:
    text = " ".join(text.translate(_SIGNS).split()).strip("*_` ")
    text = text.removeprefix("\\").removeprefix("$").removesuffix("$").removesuffix("\\").strip()
    text = text.strip("*_` ").removesuffix(".").strip()
    text = re.sub(r"^([-+]) ?\\?\$ ?", r"\1", text)
    return re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text)


_NUMBER = re.compile(r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})", re.ASCII)
_SIGNS = str.maketrans({"−": "-", "–": "-", "＄": "$"})


def _after_hash(text: str) -> str | None:
    _, mark, answer = text.rpartition("####")
    lines = answer.strip().splitlines()
    return lines[0].strip() or None if mark and lines else None


def _whole(text: str) -> str | None:
    text = text.strip()
    return text if text and "\n" not in text and len(text.split()) <= _WHOLE_WORDS else None


def _last_group(pattern: re.Pattern[str], text: str) -> str | None:
    matches = list(pattern.finditer(text))
    return (matches[-1].group(1) or "").strip() or None if matches else None
