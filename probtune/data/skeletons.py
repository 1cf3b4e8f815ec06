"""Texts of conversations whose template only inserts contents: rendered once for each sequence of
roles, and filled in for every row.

Most of the time of a simple template goes into calling it. A template is simple if its syntax tree
writes `content` and does nothing else with it: no filter, no test, no function sees it. Then the
text between two contents depends on the roles alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError

from .example import Example

__all__ = ["Shape", "Skeleton", "inserts_contents", "shape_of"]

_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
Span = tuple[int, int]


class Shape(NamedTuple):
    """A conversation without its contents, and the contents."""

    key: tuple[tuple[str, ...], tuple[int, ...]]
    """Roles, and the turns that are trained on."""
    contents: tuple[str, ...]

    def placeholders(self, example: Example) -> Example:
        """Return the conversation with a name instead of each content."""
        turns = zip(example.messages, range(len(self.contents)), strict=True)
        return replace(
            example, messages=tuple({**turn, "content": _name(number)} for turn, number in turns)
        )


def _name(number: int) -> str:
    return f"\ue000{number}\ue001"  # of the private use area, so that no template writes it


def shape_of(example: Example) -> Shape | None:
    """Return the shape of a conversation with roles and contents and nothing else, or None."""
    if example.tools or example.template_options:
        return None
    messages = example.messages
    if any(len(message) != 2 for message in messages):
        return None
    contents = tuple(message["content"] for message in messages)
    return Shape((tuple(message["role"] for message in messages), example.trained), contents)


@dataclass(frozen=True)
class Skeleton:
    """The text of a conversation between its contents, with what is supervised of it."""

    literals: tuple[str, ...]
    """One more than contents: what stands before, between and after them."""
    turns: tuple[tuple[int, int], ...]
    """Trained turns: the number of the content, and the characters after it that count."""

    @classmethod
    def of(
        cls, example: Example, text: str, spans: Sequence[Span], before: Sequence[str]
    ) -> Skeleton | None:
        """Return the skeleton of a conversation of names, or None if the rules of a turn do more
        than count from a content's first character to an end token.

        Args:
            spans: supervised characters of the text.
            before: for each trained turn, the text that the model is given to write it.
        """
        names = [message["content"] for message in example.messages]
        literals, rest = [], text
        for name in names:
            literal, separator, rest = rest.partition(name)
            if not separator:
                return None
            literals.append(literal)
        if any(name in rest for name in names) or len(spans) != len(example.trained):
            return None
        turns = []
        for index, (begin, end), prompt in zip(example.trained, spans, before, strict=True):
            after = end - begin - len(names[index])
            if text[:begin] != prompt or not text.startswith(names[index], begin):
                return None
            if after <= 0 or not text[end - after : end].strip():
                return None
            turns.append((index, after))
        return cls((*literals, rest), tuple(turns))

    def filled(self, contents: Sequence[str]) -> tuple[str, tuple[Span, ...], str, str]:
        """Return the text of these contents, its supervised characters, and prompt and response of
        the last trained turn.
        """
        parts, begins, length = [], [], 0
        for literal, content in zip(self.literals, contents, strict=False):
            length += len(literal)
            begins.append(length)
            length += len(content)
            parts += (literal, content)
        text = "".join((*parts, self.literals[-1]))
        spans = tuple((begins[i], begins[i] + len(contents[i]) + n) for i, n in self.turns)
        last = self.turns[-1][0]
        return text, spans, text[: begins[last]], contents[last]


def inserts_contents(template: str) -> bool:
    """True if a chat template writes contents and does nothing else with them.

    >>> inserts_contents("{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}")
    True
    >>> inserts_contents("{% for m in messages %}{{ m.content | trim }}{% endfor %}")
    False
    """
    try:
        tree = Environment().parse(_MARKS.sub("", template))
    except TemplateSyntaxError:
        return False
    targets = {"messages"}
    for loop in tree.find_all(nodes.For):
        if isinstance(loop.target, nodes.Name):
            targets.add(loop.target.name)
    return all(_Reading(targets).statement(node) for node in tree.body)


class _Reading:
    """Rules of a simple template; `targets` are the names that hold messages."""

    def __init__(self, targets: set[str]):
        self._targets = targets

    def statement(self, node: Any) -> bool:
        if isinstance(node, nodes.Output):
            return all(map(self._written, node.nodes))
        if isinstance(node, nodes.If):
            inner = (*node.body, *node.elif_, *node.else_)
            return self._tested(node.test) and all(map(self.statement, inner))
        if isinstance(node, nodes.For):
            inner = (*node.body, *node.else_)
            plain = node.test is None and not node.recursive and isinstance(node.target, nodes.Name)
            return plain and self._is_messages(node.iter) and all(map(self.statement, inner))
        return False

    def _is_messages(self, node: Any) -> bool:
        """True if the expression is the conversation, or part of it."""
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return self._is_messages(node.node)
        return isinstance(node, nodes.Name) and node.name == "messages"

    def _field(self, node: Any) -> str | None:
        """The field of a message that the expression is."""
        if isinstance(node, nodes.Getattr):
            of, name = node.node, node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            of, name = node.node, node.arg.value
        else:
            return None
        if isinstance(of, nodes.Getitem) and isinstance(of.arg, nodes.Const):
            return name if self._is_messages(of.node) and isinstance(of.arg.value, int) else None
        is_message = isinstance(of, nodes.Name) and of.name in self._targets - {"messages"}
        return name if is_message else None

    def _written(self, node: Any) -> bool:
        if isinstance(node, nodes.Add):
            return self._written(node.left) and self._written(node.right)
        if isinstance(node, nodes.Concat):
            return all(map(self._written, node.nodes))
        if isinstance(node, nodes.Call):
            refusal = isinstance(node.node, nodes.Name) and node.node.name == "raise_exception"
            return refusal and all(isinstance(part, nodes.Const) for part in node.args)
        if isinstance(node, nodes.Name):
            return node.name not in self._targets
        literal = isinstance(node, nodes.TemplateData) or (
            isinstance(node, nodes.Const) and isinstance(node.value, str)
        )
        return literal or self._field(node) in ("role", "content")

    def _tested(self, node: Any) -> bool:
        if isinstance(node, nodes.And | nodes.Or):
            return self._tested(node.left) and self._tested(node.right)
        if isinstance(node, nodes.Not):
            return self._tested(node.node)
        if isinstance(node, nodes.Compare):
            operands = [node.expr, *(operand.expr for operand in node.ops)]
            return all(o.op in ("eq", "ne") for o in node.ops) and all(map(self._tested, operands))
        if isinstance(node, nodes.Test):
            return node.name in ("defined", "none") and self._tested(node.node)
        if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
            if node.node.name == "loop":
                return node.attr in ("first", "last", "index", "index0")
        if isinstance(node, nodes.Name):
            return node.name not in self._targets - {"messages"}
        return isinstance(node, nodes.Const) or self._field(node) == "role"
