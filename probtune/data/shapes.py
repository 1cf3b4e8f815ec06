"""One row, in any of the shapes that people keep their data in -> an `Example`.

    messages            [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]
    conversations       the same, or ShareGPT's {"from": "human", "value": "…"}
    prompt/completion   two texts, or two lists of messages
    instruction/output  Alpaca's columns, with `input`, `system` and `history`
    question/answer     and other pairs by name, or the columns that the caller names

What changes the meaning of a row and cannot be trained on, such as an image, is refused; columns
that are not used are counted. The names of shapes are those of `datasets` and TRL; the checks are
ours, since both take what they do not know as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .example import Example, Message
from .messages import (
    FLAGS,
    MEDIA,
    Broken,
    check_texts,
    has_turns,
    json_list,
    kind_of,
    messages_of,
    names_of,
    plain_value,
    refuse_media,
    without_nothing,
)

__all__ = ["Broken", "Columns", "example_of", "kind_of", "number_of", "schema_of", "unused_columns"]


class Columns(NamedTuple):
    """Columns that the caller names; None: by their usual names."""

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None


_BY_NAME = Columns()

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("instruction", "completion"),
    ("instruction", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("question", "output"),
    ("question", "solution"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("input", "output"),
    ("input", "target"),
    ("input", "response"),
    ("source", "target"),
    ("user", "assistant"),
)
"""Names of prompt and response, the first that a row has."""

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
"""Names of a column with turns."""

_TOOLS = ("tools", "functions")
_SYSTEM = ("system", "system_prompt")
_MARKS = (*FLAGS, "label")
"""Columns of numbers and truth values that say whether a row is to be learned."""
_OPTIONS = "chat_template_kwargs"
_KNOWN = (
    "known are messages (or conversations, with role/content or from/value), prompt and completion,"
    " instruction and output, question and answer"
)


def schema_of(row: Any, columns: Columns) -> str:
    """Return the name of a row's shape.

    Raises:
        Broken: it has none of the known ones, or two.
    """
    if not isinstance(row, Mapping):
        way_out = "; rows in one list belong into a .json file" if isinstance(row, list) else ""
        raise Broken(f"is not an object with named fields but {kind_of(row)}{way_out}")
    if columns == _BY_NAME:
        talk, pair = row.get("messages"), (row.get("prompt"), row.get("completion"))
        if len(row) == 1 and isinstance(talk, list):
            return "messages"  # the usual ones
        if len(row) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str):
            return "prompt/completion"
    named = [name for name in columns if name is not None]
    for name in named:
        if name not in row:
            raise Broken(f"has no column {name!r}; its columns are {names_of(row)}")
    if columns.messages is not None:
        return columns.messages
    if columns.prompt is not None and columns.response is not None:
        return f"{columns.prompt}/{columns.response}"
    talk = _talk_column(row)
    pair = _pair_columns(row)
    if talk and pair and pair[0] == "prompt":
        if _same_turns(row, talk, pair):
            return "/".join(pair)
        raise Broken(
            f"has both {talk!r} and '{pair[0]}'/'{pair[1]}', which differ; choose with"
            f" --messages-column {talk}, or with --prompt-column and --response-column"
        )
    if talk:
        return talk
    if pair:
        return "/".join(pair)
    for name in CONVERSATIONS:
        if name in row and row[name] is None:
            raise Broken(f"{name!r} must be a list of messages, got nothing")
    if "chosen" in row:
        raise Broken(f"has no known shape; {_KNOWN}; {_way_out(row)}")
    if row.get("prompt") is not None or row.get("completion") is not None:
        return "prompt/completion"  # one of them is missing, which the caller says
    raise Broken(f"has no known shape; {_KNOWN}; {_way_out(row)}")


def example_of(row: Mapping[str, Any], schema: str, where: str, columns: Columns) -> Example:
    """Return the row as an example.

    Raises:
        Broken: it cannot be trained on.
    """
    refuse_media(row)
    if schema == columns.messages or "/" not in schema:
        example = _conversation(row, schema, where)
    else:
        prompt, response = schema.split("/", 1)
        if columns.prompt is not None and columns.response is not None:
            prompt, response = columns.prompt, columns.response
        example = _pair(row, prompt, response, where, by_name=columns.prompt is None)
    _check(example)
    return example


def _check(example: Example) -> None:
    """Refuse texts that are no Unicode, and what is nested too deeply."""
    for message in example.messages:
        if len(message) == 2:
            check_texts(message["content"])
        else:
            check_texts(message, 2)
    for part in (example.prompt, example.completion, example.system):
        if part is not None:
            check_texts(part)
    for parts in (example.tools, example.history, example.template_options):
        if parts:
            check_texts(parts)


def unused_columns(
    row: Mapping[str, Any], schema: str, columns: Columns, example: Example
) -> Iterator[str]:
    """Columns with text, or with lists of it, that no part of the example comes from."""
    if len(row) == schema.count("/") + 1 and all(name in row for name in schema.split("/")):
        return  # the shape's own columns and no other
    if schema == columns.messages or "/" not in schema:
        used = {schema, *_TOOLS, *_SYSTEM, _OPTIONS}
        if any(row.get("prompt") == message.get("content") for message in example.messages):
            used.add("prompt")
    else:
        used = set(schema.split("/", 1)) | {columns.prompt, columns.response}
        if columns.prompt is None:
            used |= {*_TOOLS, *_SYSTEM, _OPTIONS} if isinstance(row.get("prompt"), list) else set()
            if schema.startswith("instruction/"):
                used |= {"input", "history", *_SYSTEM}
            if schema.startswith("prompt/"):
                used |= {name for name in CONVERSATIONS if name in row}
    for name, value in row.items():
        meaningful = _says_something(value) or (name in _MARKS and value is not None)
        if name not in used and name not in MEDIA and meaningful:
            yield name


def number_of(row: Mapping[str, Any], name: str) -> float:
    """Return the number in a column that weights a loss.

    Raises:
        Broken: it is none, or negative.
    """
    if name not in row:
        raise Broken(f"has no column {name!r}; its columns are {names_of(row)}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Broken(f"{name!r} must be a finite number, got {kind_of(value)}")
    if value < 0:
        raise Broken(f"{name!r} must not be negative, got {value:g}: it weights a loss")
    return float(value)


def _way_out(row: Mapping[str, Any]) -> str:
    """Columns of the row, with the option that would use them."""
    columns = f"its columns are {names_of(row)}"
    texts = [name for name, value in row.items() if isinstance(value, str)]
    talks = [name for name, value in row.items() if has_turns(value)]
    if "chosen" in row:
        prompt = "prompt" if "prompt" in row else "…"
        return (
            f"{columns}: it is a preference; take --prompt-column {prompt} --response-column chosen"
        )
    objects = [name for name, value in row.items() if isinstance(value, Mapping)]
    if objects and not texts:
        inner = names_of(row[objects[0]])
        return f"{columns}: {objects[0]!r} is an object with {inner}; lift its fields into the row"
    if len(talks) > 1:
        return f"{columns}: name the one with the turns with --messages-column"
    if len(texts) == 1:
        return (
            f"{columns}: name two of them with --prompt-column and --response-column; it has one"
            " text, so there is no response to train on apart from its prompt"
        )
    return f"{columns}: name two of them with --prompt-column and --response-column"


def _talk_column(row: Mapping[str, Any]) -> str | None:
    """The column with turns: by its name, or the only one whose content is turns."""
    for name in CONVERSATIONS:
        value = row.get(name)
        if value is not None and (name == "messages" or not isinstance(value, str)):
            return name
        if isinstance(value, str) and json_list(value):
            return name
    if _pair_columns(row):
        return None
    talks = [name for name, value in row.items() if has_turns(value)]
    return talks[0] if len(talks) == 1 else None


def _pair_columns(row: Mapping[str, Any]) -> tuple[str, str] | None:
    for prompt, response in _pairs_among(tuple(row)):
        if row[prompt] is not None and row[response] is not None:
            return prompt, response
    return None


@lru_cache(maxsize=256)
def _pairs_among(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in PAIRS if set(pair) <= set(names))


def _same_turns(row: Mapping[str, Any], talk: str, pair: tuple[str, str]) -> bool:
    """True if the conversation is the prompt and its completion once more."""
    try:
        turns = messages_of(row[talk], talk)[0]
        parts = [_side(row[name], name, role) for name, role in zip(pair, _SIDES, strict=True)]
    except Broken:
        return False
    texts = [message["content"] for message in turns if message["role"] != "system"]
    others = [m["content"] for part in parts for m in part if m["role"] != "system"]
    return texts == others


_SIDES = ("user", "assistant")


def _side(value: Any, name: str, role: str) -> tuple[Message, ...]:
    """A prompt or a completion as messages."""
    if isinstance(value, str) and not json_list(value):
        return ({"role": role, "content": value},)
    return messages_of(value, name)[0]


def _conversation(row: Mapping[str, Any], column: str, where: str) -> Example:
    messages, untrained = messages_of(row[column], column)
    system = _system(row)
    if system is not None and messages[0]["role"] not in ("system", "developer"):
        messages = ({"role": "system", "content": system}, *messages)
        untrained = tuple(index + 1 for index in untrained)
    example = Example(
        where,
        messages=messages,
        untrained=untrained,
        tools=_tools(row),
        template_options=_options(row),
    )
    if not any(m["role"] == "assistant" for m in messages):
        raise Broken("has no assistant message; there is nothing to train on")
    if not example.trained:
        raise Broken("excludes every assistant message from training; there is nothing to train on")
    return example


def _pair(
    row: Mapping[str, Any], prompt_column: str, response_column: str, where: str, *, by_name: bool
) -> Example:
    prompt, response = row.get(prompt_column), row.get(response_column)
    lists = [json_list(value) or value for value in (prompt, response)]
    if any(isinstance(value, list) for value in lists):
        return _two_lists(row, prompt_column, response_column, where)
    for column, text in ((prompt_column, prompt), (response_column, response)):
        if not isinstance(text, str):
            further = text is None and len(row) > 1 and set(row) - {prompt_column, response_column}
            others = f"; its columns are {names_of(row)}" if further else ""
            raise Broken(f"{column!r} must be a text, got {kind_of(text)}{others}")
        if not text.strip():
            raise Broken(f"{column!r} is empty")
    assert isinstance(prompt, str) and isinstance(response, str)
    if not (by_name and prompt_column == "instruction"):
        return Example(where, prompt=prompt, completion=response)
    context = row.get("input")
    if context is not None and not isinstance(context, str):
        raise Broken(f"'input' must be a text, got {kind_of(context)}")
    if context and context.strip():
        prompt = f"{prompt}\n{context}"
    return Example(
        where, prompt=prompt, completion=response, system=_system(row), history=_history(row)
    )


def _two_lists(
    row: Mapping[str, Any], prompt_column: str, response_column: str, where: str
) -> Example:
    prompt, response = row.get(prompt_column), row.get(response_column)
    if prompt is None or response is None:
        missing = prompt_column if prompt is None else response_column
        raise Broken(f"{missing!r} must be a list of messages, got nothing")
    before = _side(prompt, prompt_column, "user")
    if isinstance(response, str) and not json_list(response):
        after, untrained = _side(response, response_column, "assistant"), ()
    else:
        after, untrained = messages_of(response, response_column)
    system = _system(row)
    if system is not None and before[0]["role"] not in ("system", "developer"):
        before = ({"role": "system", "content": system}, *before)
    if len(after) > len(before) and _plain(after[: len(before)]) == _plain(before):
        after = after[len(before) :]  # preference data repeat the prompt in each answer
        untrained = tuple(i - len(before) for i in untrained if i >= len(before))
    if not any(m["role"] == "assistant" for m in after):
        raise Broken(
            f"has no assistant message in {response_column!r}; there is nothing to train on"
        )
    example = Example(
        where,
        messages=before + after,
        first_trained=len(before),
        untrained=tuple(index + len(before) for index in untrained),
        tools=_tools(row),
        template_options=_options(row),
    )
    if not example.trained:
        raise Broken("excludes every assistant message from training; there is nothing to train on")
    return example


def _plain(messages: Sequence[Message]) -> list[tuple[Any, Any]]:
    return [(m["role"], m.get("content")) for m in messages]


def _system(row: Mapping[str, Any]) -> str | None:
    for name in _SYSTEM:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _history(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = row.get("history")
    value = json_list(value) or value
    if not value:
        return ()
    if not isinstance(value, list) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(t, str) for t in turn)
        for turn in value
    ):
        raise Broken(
            f"'history' must be a list of pairs of texts (question, answer), got {kind_of(value)}"
        )
    return tuple((question, answer) for question, answer in value)


def _tools(row: Mapping[str, Any]) -> tuple[Any, ...]:
    for name in _TOOLS:
        value = row.get(name)
        value = json_list(value) or value
        if not value or value == "[]":
            continue
        if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
            raise Broken(f"{name!r} must be a list of objects, got {kind_of(value)}")
        tools = [plain_value(without_nothing(tool), name) for tool in value]
        if name == "functions":
            tools = [{"type": "function", "function": tool} for tool in tools]
        return tuple(tools)
    return ()


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get(_OPTIONS)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Broken(f"{_OPTIONS!r} must be an object, got {kind_of(value)}")
    return {name: plain_value(o, _OPTIONS) for name, o in value.items() if o is not None}


def _says_something(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list | Mapping) and bool(value)
