"""Benchmark: the source of its rows, the step from a row to a question, the prompt, decoding and
grader of each protocol, and the paper's figures.

Every benchmark has two protocols. `reference` asks and grades as the paper's code does, its bugs
included; `strict` as it should be done. If both ask in the same way, one generation serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ...data.prompts import PromptSpec
from ..grading.base import Grader

__all__ = [
    "PROTOCOLS",
    "Decoding",
    "Protocol",
    "Question",
    "Source",
    "Task",
    "asked_under",
    "counted_under",
]

PROTOCOLS = ("strict", "reference")


@dataclass(frozen=True)
class Source:
    """Source of the rows."""

    dataset: str
    """Hub id, or `generated` for rows that `Task.make` makes."""
    split: str
    rows: int
    """Number of rows; another number is an error, so that a changed dataset is noticed."""
    licence: str
    config: str | None = None
    revision: str | None = None
    """Commit of the dataset. None: not pinned, for the reason in `note`."""
    redistributable: bool = False
    """True if the rows may be passed on; otherwise they are never written into a project."""
    url: str = ""
    columns: tuple[str, ...] = ()
    """Columns that every row must have."""
    note: str = ""
    files: str | None = None
    """File of the dataset to read, if the dataset has no loader of its own."""
    md5: str | None = None
    """Digest of that file, if known; another digest raises a caution."""


@dataclass(frozen=True)
class Question:
    """One item of a benchmark."""

    id: str
    """Unique within the task, and the same in every run."""
    text: str
    """Text of the question, without instruction and turns."""
    gold: Any
    """JSON: the right answer, in the form that the task's graders take."""
    options: Mapping[str, str] | None = None
    """Letter -> text of a multiple choice."""
    cluster: str | None = None
    """Label shared by questions that are not independent (copies, the same stem)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Further columns that a breakdown may use, such as subject and level."""
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Protocol -> its own text instead of `text`: see `asked_under`."""
    protocols: tuple[str, ...] = PROTOCOLS
    """Protocols whose results count this question: see `counted_under`."""


def asked_under(questions: Sequence[Question], protocol: str) -> list[Question]:
    """Return the questions with the text that a protocol asks, for generation."""
    return [replace(q, text=q.texts[protocol]) if protocol in q.texts else q for q in questions]


def counted_under(questions: Sequence[Question], protocol: str) -> list[Question]:
    """Return the questions that a protocol's results count, for grading and analysis. Generation
    asks all questions, so that one file serves both protocols.
    """
    return [question for question in questions if protocol in question.protocols]


@dataclass(frozen=True)
class Decoding:
    """Way of drawing answers. top_k is always switched off and top_p always set: transformers
    samples from the 50 most probable tokens by default, and a model's generation_config may change
    more.
    """

    max_new_tokens: int
    temperature: float = 0.0
    """0: greedy."""
    samples: int = 1
    """Answers per question."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, besides the end of the turn and of the text."""
    top_p: float = 1.0


@dataclass(frozen=True)
class Protocol:
    """Way of asking and grading a benchmark."""

    decoding: Decoding
    grader: Grader
    extraction: str
    """Rule that extracts the answer from the response, in words, with its source."""
    system: str | None = None
    instruction: str = ""
    formats: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Form of a model family -> the form used instead, such as `llama3` -> `llama3-reference`."""

    def prompt(self, family: str) -> PromptSpec:
        """Return the prompt for a model whose own form of turns is `family`."""
        return PromptSpec(self.formats.get(family, family), self.system, self.instruction)


@dataclass(frozen=True)
class Task:
    """One benchmark."""

    name: str
    domain: str
    title: str
    source: Source
    read: Callable[[Sequence[Mapping[str, Any]]], list[Question]]
    """Rows in the dataset's own schema -> questions. Raises DataError naming the row."""
    protocols: Mapping[str, Protocol]
    example: Mapping[str, Any]
    """A row in the dataset's own schema, written by us, for documentation and tests."""
    example_response: str
    """A response to the example that every protocol grades as right."""
    paper: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(backbone, objective text or "base") -> the paper's figure, in points."""
    headline: str = "score"
    """Reported number of the grade: `score`, or a name of `Grade.metrics`."""
    also: tuple[str, ...] = ()
    """Further numbers of `Grade.metrics` that are reported beside it."""
    citation: str = ""
    make: Callable[[], list[dict[str, Any]]] | None = None
    """Function that makes the rows of a generated benchmark."""
    local: str | None = None
    """Path of the rows below the folder of --data, such as `math500/test.jsonl`."""
