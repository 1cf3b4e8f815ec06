"""Turns of a conversation, as rows have them -> messages, checked.

A message keeps its fields (tool calls, reasoning, names), for the chat template to write. What
changes its meaning and cannot be trained on, such as an image, is refused.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import uuid
from collections.abc import Mapping
from typing import Any

from .example import Message

__all__ = [
    "FLAGS",
    "MEDIA",
    "Broken",
    "check_texts",
    "has_turns",
    "json_list",
    "kind_of",
    "messages_of",
    "names_of",
    "plain_value",
    "refuse_media",
    "without_nothing",
]


class Broken(Exception):
    """A rule that a row breaks; the text completes 'file:line …'."""


_ROLES = ("system", "developer", "user", "assistant", "tool")

_OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Names in ShareGPT and older formats -> role."""

FLAGS = ("weight", "train", "trainable", "train_on_turn", "loss")
"""Fields that say whether a turn is trained on: OpenAI's, axolotl's and ms-swift's."""

MEDIA = ("images", "image", "videos", "video", "audios", "audio")

_TEXT_PARTS = (None, "text", "input_text", "output_text")

_DEEPEST = 100


def messages_of(value: Any, name: str) -> tuple[tuple[Message, ...], tuple[int, ...]]:
    """(messages, indices of the turns that are excluded from training)."""
    value = json_list(value) or value
    if isinstance(value, Mapping) and value and all(isinstance(v, list) for v in value.values()):
        # A list of objects as older `datasets` keeps it: an object of lists
        if len({len(v) for v in value.values()}) == 1:
            value = [
                dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)
            ]
    if not isinstance(value, list) or not value:
        raise Broken(f"{name!r} must be a list of messages, got {kind_of(value)}")
    messages, untrained = [], []
    for index, turn in enumerate(value):
        message, trained = _message(turn, f"{name}[{index}]")
        messages.append(message)
        if not trained:
            untrained.append(index)
    return tuple(messages), tuple(untrained)


def _message(turn: Any, path: str) -> tuple[Message, bool]:
    """(message, True if it may be trained on)."""
    if type(turn) is dict and len(turn) == 2 and turn.get("role") in _ROLES:
        content = turn.get("content")
        if type(content) is str and (turn["role"] != "assistant" or content.strip()):
            return turn, True  # the usual one
    if isinstance(turn, list) and turn and all(isinstance(p, tuple) and len(p) == 2 for p in turn):
        turn = dict(turn)  # Arrow's maps
    if isinstance(turn, Mapping) and "role" not in turn and isinstance(turn.get("from"), str):
        turn = {
            "role": turn["from"],
            "content": turn.get("value"),
            **{k: v for k, v in turn.items() if k not in ("from", "value")},
        }
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        fields = f" with {names_of(turn)}" if isinstance(turn, Mapping) else ""
        raise Broken(
            f"{path} must be an object with 'role' and 'content' (or 'from' and 'value'), got"
            f" {kind_of(turn)}{fields}"
        )
    role = _OTHER_ROLES.get(turn["role"].lower(), turn["role"])
    if role not in _ROLES:
        raise Broken(
            f"{path} has the role {turn['role']!r}; known are {', '.join(_ROLES)}, and"
            f" {', '.join(_OTHER_ROLES)}"
        )
    refuse_media(turn, f"{path} ")
    message = {"role": role, "content": _content(turn.get("content"), path)}
    for name, value in turn.items():
        if name not in ("role", "content", *FLAGS) and value is not None:
            message[name] = plain_value(value, f"{path}.{name}")
    if turn["role"] == "function_call" or "function_call" in message:
        _read_call(message)
    if message.get("tool_calls"):
        message["tool_calls"] = _calls(message["tool_calls"], path)
    if message["content"] is None:
        if not message.get("tool_calls"):
            raise Broken(f"{path} must have a text as 'content', got nothing")
        message["content"] = ""
    if role == "assistant" and not message["content"].strip() and not message.get("tool_calls"):
        raise Broken(f"{path} is an assistant message without text")
    return message, _is_trained(turn, path)


def _content(value: Any, path: str) -> str | None:
    """The text of a message, of which a list of text parts may be made."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        texts = []
        for part in value:
            if isinstance(part, Mapping):
                kind = part.get("type")
                refuse_media(part, f"{path} ")
                if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
                    texts.append(part["text"])
                    continue
                if kind not in _TEXT_PARTS:
                    media = any(name in str(kind) for name in ("image", "video", "audio"))
                    raise Broken(
                        f"{path} has a part of the type {kind!r}; "
                        + ("only models of texts are trained" if media else "only text is read")
                    )
            raise Broken(f"{path} must have a text as 'content', got a list with {kind_of(part)}")
        return "".join(texts)
    raise Broken(f"{path} must have a text as 'content', got {kind_of(value)}")


def _read_call(message: dict[str, Any]) -> None:
    """Turn OpenAI's older `function_call`, and ShareGPT's turn of that name, into a tool call."""
    call = message.pop("function_call", None)
    if call is None:
        try:
            call = json.loads(message["content"] or "")
        except ValueError:
            return  # the turn's text is the call, in a form of its own
        if not (isinstance(call, Mapping) and isinstance(call.get("name"), str)):
            return
        message["content"] = None
    message["tool_calls"] = [{"type": "function", "function": dict(call)}]


def _calls(value: Any, path: str) -> list[Any]:
    """Tool calls with their arguments as objects, as transformers wants them."""
    if isinstance(value, str):
        value = json_list(value) or value
    if not isinstance(value, list) or not all(isinstance(call, Mapping) for call in value):
        raise Broken(f"{path} must have a list of objects as 'tool_calls', got {kind_of(value)}")
    return [_call(call) for call in value]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    read = {name: value for name, value in call.items() if value is not None}
    if isinstance(read.get("function"), Mapping):
        read["function"] = _call(read["function"])
    if isinstance(read.get("arguments"), str):
        try:
            arguments = json.loads(read["arguments"])
        except (ValueError, RecursionError):
            return read
        if isinstance(arguments, Mapping):
            read["arguments"] = arguments
    return read


def _is_trained(turn: Mapping[str, Any], path: str) -> bool:
    for name in FLAGS:
        value = turn.get(name)
        if value is not None and value not in (0, 1):
            raise Broken(
                f"{path} has {name!r} = {value!r}; a turn is trained on (1, true) or not (0,"
                " false): weights of whole rows go into a column for weighted()"
            )
        if value is not None and not value:
            return False
    return True


def refuse_media(row: Mapping[str, Any], path: str = "") -> None:
    for name in MEDIA:
        if row.get(name):
            raise Broken(f"{path}has {name!r}; only models of texts are trained")


def has_turns(value: Any) -> bool:
    """True if the value is a list of turns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) and {"role", "from"} & set(turn) for turn in value)
    )


def without_nothing(value: Any) -> Any:
    """The value without fields of nothing, with which Arrow fills objects of other rows' fields."""
    if isinstance(value, Mapping):
        return {k: without_nothing(v) for k, v in value.items() if v is not None}
    return [without_nothing(part) for part in value] if isinstance(value, list) else value


def json_list(value: Any) -> list[Any] | None:
    """The list that a text holds as JSON, or as Python writes it; None if it holds none."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            content = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
            return content
    return None


def check_texts(value: Any, depth: int = 0) -> None:
    """Refuse text that is no Unicode, and objects that are nested too deeply to be written."""
    if type(value) is str:
        if value.isascii():
            return
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = value[error.start].encode("unicode_escape").decode()
            raise Broken(
                f"holds half a character ({half}), which is no text; remove it or write the"
                " whole character"
            ) from None
    elif depth > _DEEPEST:
        raise Broken(f"is nested more than {_DEEPEST} objects deep")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            check_texts(name, depth)
            check_texts(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            check_texts(part, depth + 1)


def plain_value(value: Any, path: str) -> Any:
    """The value as JSON has it: dates and decimals, which Parquet has, as text.

    Raises:
        Broken: it is none, such as bytes.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain_value(part, path) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part, path) for part in value]
    if isinstance(value, datetime.date | datetime.time | decimal.Decimal | uuid.UUID):
        return str(value)
    raise Broken(f"{path} must be text, numbers, lists and objects, got {kind_of(value)}")


def kind_of(value: Any) -> str:
    """Return the kind of a value, in the words of an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" if value else "an empty text"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {
        "dict": "an object",
        "int": "a number",
        "float": "a number",
        "bool": "true or false",
        "bytes": "bytes",
    }.get(type(value).__name__, type(value).__name__)


def names_of(row: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, row)) or "none"
