"""What a benchmark is: where its rows come from, how a row becomes a question, how it is asked and
answered under each protocol, and what the paper printed.

Every benchmark has two protocols. `reference` asks and grades as the paper's code does, its bugs
included; `strict` as it should be done. Where both ask in the same way, one generation serves both.
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
    """Where the rows come from."""

    dataset: str
    """Hub id, or `generated` for rows that are made here."""
    split: str
    rows: int
    """Number of rows; another number is an error, so that a changed dataset is noticed."""
    licence: str
    config: str | None = None
    revision: str | None = None
    """Commit of the dataset. None: not pinned (why, in `note`)."""
    redistributable: bool = False
    """Whether the rows may be passed on; if not, they are never written into a project."""
    url: str = ""
    columns: tuple[str, ...] = ()
    """Columns that must be there."""
    note: str = ""
    files: str | None = None
    """A file of the dataset to read, where it has no loader of its own."""
    md5: str | None = None
    """Of that file, where it is known; another one is a caution."""


@dataclass(frozen=True)
class Question:
    """One item of a benchmark."""

    id: str
    """Unique within the task, and the same in every run."""
    text: str
    """What is asked, without instruction and turns."""
    gold: Any
    """JSON: the right answer, in the form that the task's graders take."""
    options: Mapping[str, str] | None = None
    """Letter -> text, of a multiple choice."""
    cluster: str | None = None
    """Questions that are not independent (copies, the same stem) share it."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Further columns that a breakdown may use, such as subject and level."""
    asked: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Protocol -> what it asks instead of `text`: see `asked_under`."""
    protocols: tuple[str, ...] = PROTOCOLS
    """Protocols whose results count it: see `counted_under`."""


def asked_under(questions: Sequence[Question], protocol: str) -> list[Question]:
    """The questions with the text that a protocol asks: what is generated from."""
    return [replace(q, text=q.asked[protocol]) if protocol in q.asked else q for q in questions]


def counted_under(questions: Sequence[Question], protocol: str) -> list[Question]:
    """The questions that a protocol's results count: what is graded and analysed. Generation asks
    all of them, so that one file serves both protocols.
    """
    return [question for question in questions if protocol in question.protocols]


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn. top_k is off and top_p is what stands here, always and explicitly:
    transformers samples from the 50 most probable tokens unless told otherwise, and a model's
    generation_config may change more.
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
    """How a benchmark is asked and graded."""

    decoding: Decoding
    grader: Grader
    extraction: str
    """How the answer is found in the response, in words, with the source of the rule."""
    system: str | None = None
    instruction: str = ""
    formats: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Family's form -> the form used instead, such as `llama3` -> `llama3-reference`."""

    def prompt(self, family: str) -> PromptSpec:
        """The prompt for a model whose own form of turns is `family`."""
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
    """A row in the dataset's own schema, written by us: what documentation and tests use."""
    example_response: str
    """A response to it that every protocol grades as right."""
    paper: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(backbone, objective text or "base") -> what the paper prints, in points."""
    headline: str = "score"
    """The grade's number that is reported: `score`, or a name of `Grade.metrics`."""
    also: tuple[str, ...] = ()
    """Further numbers of `Grade.metrics` that are reported beside it."""
    citation: str = ""
    make: Callable[[], list[dict[str, Any]]] | None = None
    """Makes the rows of a generated benchmark."""
    local: str | None = None
    """File name under which a folder given by --data may hold the rows, such as
    `math500/test.jsonl`.
    """
