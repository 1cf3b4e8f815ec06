"""One row of training data, checked: the value that readers make and encoding reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..texts import counted

__all__ = ["BadRow", "Example", "Message", "count_rules", "reasons_of"]

Message = Mapping[str, Any]
"""A turn: `role`, `content`, and whatever else the row says of it, for the chat template."""


@dataclass(frozen=True)
class Example:
    """One row, checked. Either two texts, or a conversation whose assistant turns from
    `first_trained` on count.
    """

    where: str
    """File and line, for messages to the user."""
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] = ()
    first_trained: int = 0
    """Index of the first message that may be trained on; earlier assistant turns are context."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further columns that were asked for."""
    untrained: tuple[int, ...] = ()
    """Indices of assistant turns that the row itself excludes (`weight: 0`, `train: false`)."""
    tools: tuple[Any, ...] = ()
    """Descriptions of the functions that the model may call, for the chat template."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """The row's `chat_template_kwargs`: variables of the chat template."""
    system: str | None = None
    """System text of a row with two texts."""
    history: tuple[tuple[str, str], ...] = ()
    """Earlier questions and answers of a row with two texts."""

    @property
    def fields(self) -> tuple[Any, ...]:
        """The values of all fields, in the order of the constructor."""
        return (
            self.where,
            self.prompt,
            self.completion,
            self.messages,
            self.first_trained,
            self.numbers,
            self.untrained,
            self.tools,
            self.template_options,
            self.system,
            self.history,
        )

    @cached_property
    def trained(self) -> tuple[int, ...]:
        """Indices of the assistant turns that are trained on."""
        return tuple(
            index
            for index in range(self.first_trained, len(self.messages))
            if self.messages[index]["role"] == "assistant" and index not in self.untrained
        )

    @property
    def content(self) -> dict[str, Any]:
        """The row without where it stands: the part that counts for the data hash and for
        duplicates.
        """
        content: dict[str, Any]
        if self.messages:
            content = {"messages": [dict(m) for m in self.messages], "from": self.first_trained}
        else:
            content = {"prompt": self.prompt, "completion": self.completion}
        if not (self.numbers or self.untrained or self.tools or self.template_options) and not (
            self.system or self.history
        ):
            return content
        further = {
            "numbers": dict(self.numbers),
            "untrained": list(self.untrained),
            "tools": list(self.tools),
            "template_options": dict(self.template_options),
            "system": self.system,
            "history": [list(turn) for turn in self.history],
        }
        return content | {name: value for name, value in further.items() if value}

    @property
    def question(self) -> str:
        """The prompt as one text: equal questions must not fall on both sides of a split."""
        if self.messages:
            before = [dict(m) for m in self.messages[: self._last_answer]]
            return json.dumps(before, ensure_ascii=False, sort_keys=True)
        if self.history:
            return json.dumps([*self.history, self.prompt], ensure_ascii=False)
        return self.prompt or ""

    @property
    def _last_answer(self) -> int:
        """Index of the last assistant turn that is trained on, or of the last one if none is."""
        return (self.trained or _assistants(self.messages))[-1]

    @property
    def repeats_question(self) -> bool:
        """True if the last response is the question before it once more, but for space around it.

        >>> Example("a:1", "What is 2 + 3?", " What is 2 + 3?").repeats_question
        True
        """
        question, answer = self.prompt, self.completion
        if self.messages:
            last = self._last_answer
            if last == 0 or self.messages[last - 1]["role"] != "user":
                return False
            question, answer = (self.messages[i].get("content") for i in (last - 1, last))
        if not isinstance(question, str) or not isinstance(answer, str):
            return False
        return question.strip() == answer.strip() != ""

    def as_conversation(self) -> Example:
        """The same row as turns: a system text, the history, a question and its answer."""
        if self.messages:
            return self
        turns = [] if self.system is None else [{"role": "system", "content": self.system}]
        for question, answer in (*self.history, (self.prompt or "", self.completion or "")):
            turns += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        return Example(
            self.where,
            messages=tuple(turns),
            first_trained=len(turns) - 1,
            numbers=self.numbers,
            tools=self.tools,
            template_options=self.template_options,
        )


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be trained on, with the rule it breaks."""

    where: str
    rule: str


def count_rules(bad: Sequence[BadRow]) -> dict[str, int]:
    """Number of rows by the rule they break, the most frequent first; what is particular to a row
    (numbers, quoted texts after a comma) does not tell rules apart.

    >>> count_rules([BadRow("a:1", "'x' is empty"), BadRow("a:2", "'x' is empty")])
    {"'x' is empty": 2}
    """
    counts: dict[str, tuple[str, int]] = {}
    for row in bad:
        kind = re.sub(r"\d+", "0", re.sub(r"\b(got|says|holds|but)\b.*", "", row.rule))
        rule, number = counts.get(kind, (row.rule, 0))
        counts[kind] = rule, number + 1
    ordered = sorted(counts.values(), key=lambda pair: -pair[1])
    return {rule: number for rule, number in ordered}


def reasons_of(bad: Sequence[BadRow]) -> str:
    """Return the rules that rows break, with the number of rows of each.

    >>> reasons_of([BadRow("a:1", "'x' is empty"), BadRow("a:2", "'x' is empty")])
    "2 rows: 'x' is empty"
    """
    rules = count_rules(bad)
    return "; ".join(f"{counted(number, 'row')}: {rule}" for rule, number in rules.items())


def _assistants(messages: Sequence[Message]) -> tuple[int, ...]:
    return tuple(i for i, m in enumerate(messages) if m["role"] == "assistant")
