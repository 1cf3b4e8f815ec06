"""Comparison of a row with the text that a chat template made of it: the answer must stand in what
is supervised, and fields that the template does not write are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .example import Example, Message

__all__ = ["Refusal", "check_answer", "text_of", "unwritten_fields"]

_BOOKKEEPING = frozenset({"role", "content", "tool_call_id", "id", "type", "index"})
"""Fields of a message that need not be written: they name other messages, or are checked apart."""
_THOUGHT_END = "</think>"


class Refusal(Exception):
    """A row that the chat template cannot train; the text completes 'file:line …'."""


def text_of(message: Message) -> str:
    content = message.get("content")
    if content:
        return content
    return json.dumps(message.get("tool_calls") or [], ensure_ascii=False)


def check_answer(index: int, message: Message, supervised: str) -> None:
    """Refuse a turn whose answer is not in what is trained on."""
    content = message.get("content") or ""
    answer = content.rpartition(_THOUGHT_END)[2].strip()
    parts = [answer, *(name for name in _call_names(message))]
    missing = next((part for part in parts if part not in supervised), None)
    if missing is not None:
        raise Refusal(
            f"has an answer that the chat template does not write into what is trained on: turn"
            f" {index + 1} says {missing[:40]!r}"
        )


def _call_names(message: Message) -> list[str]:
    calls = message.get("tool_calls") or []
    functions = [call.get("function", call) for call in calls if isinstance(call, Mapping)]
    return [str(f["name"]) for f in functions if isinstance(f, Mapping) and f.get("name")]


def unwritten_fields(example: Example, text: str) -> Iterator[str]:
    """Names of the fields whose content does not stand in the text."""
    for message in example.messages:
        for name, value in message.items():
            if name not in _BOOKKEEPING and not _stands(name, value, message, text):
                yield name
        content = message.get("content")
        if isinstance(content, str) and _lost(content, text):
            yield f"content of {message['role']} turns"
    for tool in example.tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        if isinstance(function, Mapping) and str(function.get("name", "")) not in text:
            yield "tools"
    for name, value in example.template_options.items():
        if isinstance(value, str) and value not in text:
            yield name


def _stands(name: str, value: Any, message: Message, text: str) -> bool:
    if name == "tool_calls":
        return all(call in text for call in _call_names(message))
    return all(leaf.strip() in text for leaf in _leaves(value))


def _lost(content: str, text: str) -> bool:
    """True if the text lacks a part of the content; thoughts and answer may be written apart."""
    parts = content.replace("<think>", _THOUGHT_END).split(_THOUGHT_END)
    return any(part.strip() not in text for part in parts)


def _leaves(value: Any) -> Iterator[str]:
    """All texts inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _leaves(part)
    elif value is not None:
        yield str(value)
