"""The files between the phases of an evaluation: generated answers, and their grades.

    DIR/<task>/<key>/generation.json           record: model, prompt, decoding, questions, versions
    DIR/<task>/<key>/samples.jsonl             one line per sample, in the order of generation
    DIR/<task>/<key>/questions.jsonl           texts of the questions, where they may be passed on
    DIR/<task>/<key>/graded.<protocol>.jsonl   a header, then one line per sample, sorted

`key` stands for the prompt and the decoding (`generation_key`), so protocols that ask in the same
way share one generation. A sample's line is written whole, as soon as it exists. If an
interruption cut a line off, it is dropped when the file is opened again, and its sample is drawn
anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ..data.prompts import PromptSpec
from ..errors import DataError
from ..files import write_text
from ..records import digest
from .tasks.base import Decoding, Question, Task

__all__ = [
    "Sample",
    "Wording",
    "append_samples",
    "check_samples",
    "generation_key",
    "read_samples",
    "read_wordings",
    "sha256",
    "write_wordings",
]

_KEPT_CHARACTERS = 2000


@dataclass(frozen=True)
class Sample:
    """One answer of a model."""

    task: str
    question: str
    """`Question.id`."""
    sample: int
    """0 to k - 1."""
    prompt_sha256: str
    """Hash of the rendered prompt, as the model read it."""
    seed: int | None
    """Seed of the sampler; None for greedy decoding."""
    text: str
    finish_reason: str | None
    """`stop`, `length`, or None where the backend does not say."""
    tokens: int | None
    """Generated tokens, without the end token."""

    @property
    def key(self) -> tuple[str, int]:
        """(question, sample), unique in a file."""
        return self.question, self.sample


class Wording(NamedTuple):
    """A question and its right answer, for a page; at most 2,000 characters of each."""

    text: str
    reference: str


def write_wordings(folder: Path, task: Task, questions: Sequence[Question]) -> None:
    """Write the texts of questions beside their answers, where they may be passed on: the user's
    own, and those of benchmarks whose licence says so. Of others nothing is written.
    """
    if not (task.source.redistributable or task.domain == "own"):
        return
    lines = [
        {"id": q.id, "text": q.text[-_KEPT_CHARACTERS:], "reference": _reference(q.gold)}
        for q in questions
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path = folder / "questions.jsonl"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _reference(gold: object) -> str:
    text = gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False)
    return text[:_KEPT_CHARACTERS]


def read_wordings(folder: Path) -> dict[str, Wording]:
    """Return question id -> its texts; empty where none were written.

    Raises:
        DataError: a line is no question; with its number.
    """
    path = folder / "questions.jsonl"
    if not path.is_file():
        return {}
    questions = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            questions[entry["id"]] = Wording(str(entry["text"]), str(entry["reference"]))
        except (ValueError, TypeError, KeyError):
            raise DataError(
                f"{path}:{number} is no question; remove the file: pages then show ids."
            ) from None
    return questions


def sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def generation_key(prompt: PromptSpec, decoding: Decoding) -> str:
    """Return eight hexadecimal digits that stand for a prompt and a way of decoding. The number of
    samples is left out: more samples of the same kind extend a file.
    """
    drawn = {name: value for name, value in asdict(decoding).items() if name != "samples"}
    return digest([prompt.to_dict(), drawn])[:8]


def append_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Append samples to a file, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")


def read_samples(path: Path, *, repair: bool = False) -> list[Sample]:
    """Return all samples of a file.

    Args:
        repair: drop a last line that was cut off, from the file as well.

    Raises:
        DataError: a line is no sample, or two lines are the same sample; with the line's number.
    """
    if not path.is_file():
        return []
    line_of: dict[tuple[str, int], int] = {}
    samples = []
    for number, line, last in _lines(path):
        try:
            sample = Sample(**json.loads(line))
        except (ValueError, TypeError):
            if last and repair:
                _cut(path, number - 1)
                break
            raise DataError(
                f"{path}:{number} is not a sample; "
                + ("it was cut off: run the generation again, which goes on from there." if last
                   else "was the file edited? Move it away and generate again.")
            ) from None  # fmt: skip
        if sample.key in line_of:
            raise DataError(
                f"{path}:{number} holds question {sample.question!r}, sample {sample.sample} again"
                f" (first in line {line_of[sample.key]}); remove one of the two lines."
            )
        line_of[sample.key] = number
        samples.append(sample)
    return samples


def check_samples(
    path: Path, samples: Sequence[Sample], prompts: Mapping[str, str], number: int
) -> None:
    """Refuse a file that lacks a sample, or holds one of an unknown question or of another prompt.

    Args:
        prompts: question id -> SHA-256 of its prompt.
        number: samples that every question must have.

    Raises:
        DataError: with the first question and the way out.
    """
    for sample in samples:
        if sample.question not in prompts:
            raise DataError(
                f"{path} has a sample of question {sample.question!r}, which the task does not"
                " have: the benchmark's rows have changed; generate into another folder."
            )
        if prompts[sample.question] != sample.prompt_sha256:
            raise DataError(
                f"{path}: question {sample.question!r} was asked with another prompt; generate"
                " into another folder."
            )
    drawn = {sample.key for sample in samples}
    missing = [(q, i) for q in prompts for i in range(number) if (q, i) not in drawn]
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} of {len(prompts) * number} samples (first: question"
            f" {missing[0][0]!r}, sample {missing[0][1]}); run the generation again, which goes on"
            " where it stopped."
        )


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (number, line, True if it is the last) of a file's lines that are not empty."""
    # not `str.splitlines`, which also cuts at line separators inside a text
    lines = path.read_text(encoding="utf-8").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for index, (number, line) in enumerate(numbered):
        yield number, line, index == len(numbered) - 1


def _cut(path: Path, lines: int) -> None:
    """Keep the first lines of a file."""
    text = path.read_text(encoding="utf-8").split("\n")[:lines]
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
