"""One row, in any of the shapes that people keep their data in -> an `Example`.

    messages            [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]
    conversations       the same, or ShareGPT's {"from": "human", "value": "…"}
    prompt/completion   two texts, or two lists of messages
    instruction/output  Alpaca's columns, with `input`, `system` and `history`
    question/answer     and other pairs by name, or the columns that the caller names

A message keeps its fields (tool calls, reasoning, names), for the chat template to write. What
changes the meaning of a row and cannot be trained on, such as an image, is refused; columns that
are not used are counted. The names of shapes are those of `datasets` and TRL; the checks are ours,
since both take what they do not know as it is.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .example import Example, Message

__all__ = ["Broken", "Columns", "example_of", "kind_of", "number_of", "schema_of", "unused_columns"]


class Broken(Exception):
    """A rule that a row breaks; the text completes 'file:line …'."""


class Columns(NamedTuple):
    """Columns that the caller names; None: by their usual names."""

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None


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
"""What ShareGPT and older formats call them."""

_FLAGS = ("weight", "train", "trainable", "loss")
"""Fields that say whether a turn is trained on: OpenAI's, axolotl's and ms-swift's."""

_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_TOOLS = ("tools", "functions")
_SYSTEM = ("system", "system_prompt")
_OPTIONS = "chat_template_kwargs"
_KNOWN = (
    "known are messages (or conversations, with role/content or from/value), prompt and completion,"
    " instruction and output, question and answer"
)
_DEEPEST = 100


def schema_of(row: Any, columns: Columns) -> str:
    """The name of a row's shape.

    Raises:
        Broken: it has none of the known ones, or two.
    """
    if not isinstance(row, Mapping):
        raise Broken(f"is not an object with named fields but {kind_of(row)}")
    named = [name for name in columns if name is not None]
    for name in named:
        if name not in row:
            raise Broken(f"has no column {name!r}; its columns are {_names(row)}")
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
    if row.get("prompt") is not None or row.get("completion") is not None:
        return "prompt/completion"  # one of them is missing, which the caller says
    raise Broken(f"has no known shape; {_KNOWN}; {_way_out(row)}")


def example_of(row: Mapping[str, Any], schema: str, where: str, columns: Columns) -> Example:
    """The row as an example.

    Raises:
        Broken: it cannot be trained on.
    """
    _refuse_media(row)
    if schema == columns.messages or "/" not in schema:
        example = _conversation(row, schema, where)
    else:
        prompt, response = schema.split("/", 1)
        if columns.prompt is not None and columns.response is not None:
            prompt, response = columns.prompt, columns.response
        example = _pair(row, prompt, response, where, by_name=columns.prompt is None)
    _check_texts(example.content)
    return example


def unused_columns(
    row: Mapping[str, Any], schema: str, columns: Columns, example: Example
) -> Iterator[str]:
    """Columns with text, or with lists of it, that no part of the example comes from."""
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
        if name not in used and name not in _MEDIA and _says_something(value):
            yield name


def kind_of(value: Any) -> str:
    """What a value is, in the words of a message."""
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


def number_of(row: Mapping[str, Any], name: str) -> float:
    """The number in a column that weights a loss.

    Raises:
        Broken: it is none, or negative.
    """
    if name not in row:
        raise Broken(f"has no column {name!r}; its columns are {_names(row)}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Broken(f"{name!r} must be a finite number, got {kind_of(value)}")
    if value < 0:
        raise Broken(f"{name!r} must not be negative, got {value:g}: it weights a loss")
    return float(value)


def _names(row: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, row)) or "none"


def _way_out(row: Mapping[str, Any]) -> str:
    """Columns of the row, with the option that would use them."""
    columns = f"its columns are {_names(row)}"
    texts = [name for name, value in row.items() if isinstance(value, str)]
    talks = [name for name, value in row.items() if _turns_in(value)]
    if "chosen" in row:
        prompt = "prompt" if "prompt" in row else "…"
        return (
            f"{columns}: it is a preference; take --prompt-column {prompt} --response-column chosen"
        )
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
        if isinstance(value, str) and _json_list(value):
            return name
    if _pair_columns(row):
        return None
    talks = [name for name, value in row.items() if _turns_in(value)]
    return talks[0] if len(talks) == 1 else None


def _pair_columns(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(
        ((a, b) for a, b in PAIRS if row.get(a) is not None and row.get(b) is not None), None
    )


def _turns_in(value: Any) -> bool:
    """True if the value is a list of turns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) and {"role", "from"} & set(turn) for turn in value)
    )


def _same_turns(row: Mapping[str, Any], talk: str, pair: tuple[str, str]) -> bool:
    """True if the conversation is the prompt and its completion once more."""
    try:
        turns = _messages(row[talk], talk)[0]
        parts = [_side(row[name], name, role) for name, role in zip(pair, _SIDES, strict=True)]
    except Broken:
        return False
    texts = [message["content"] for message in turns if message["role"] != "system"]
    others = [m["content"] for part in parts for m in part if m["role"] != "system"]
    return texts == others


_SIDES = ("user", "assistant")


def _side(value: Any, name: str, role: str) -> tuple[Message, ...]:
    """A prompt or a completion as messages."""
    if isinstance(value, str) and not _json_list(value):
        return ({"role": role, "content": value},)
    return _messages(value, name)[0]


def _conversation(row: Mapping[str, Any], column: str, where: str) -> Example:
    messages, untrained = _messages(row[column], column)
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
    lists = [_json_list(value) or value for value in (prompt, response)]
    if any(isinstance(value, list) for value in lists):
        return _two_lists(row, prompt_column, response_column, where)
    for column, text in ((prompt_column, prompt), (response_column, response)):
        if not isinstance(text, str):
            further = text is None and len(row) > 1 and set(row) - {prompt_column, response_column}
            others = f"; its columns are {_names(row)}" if further else ""
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
    if isinstance(response, str) and not _json_list(response):
        after, untrained = _side(response, response_column, "assistant"), ()
    else:
        after, untrained = _messages(response, response_column)
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


def _messages(value: Any, name: str) -> tuple[tuple[Message, ...], tuple[int, ...]]:
    """(messages, indices of the turns that are excluded from training)."""
    value = _json_list(value) or value
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


def _message(turn: Any, place: str) -> tuple[Message, bool]:
    """(message, True if it may be trained on)."""
    if isinstance(turn, list) and turn and all(isinstance(p, tuple) and len(p) == 2 for p in turn):
        turn = dict(turn)  # Arrow's maps
    if isinstance(turn, Mapping) and "role" not in turn and isinstance(turn.get("from"), str):
        turn = {
            "role": turn["from"],
            "content": turn.get("value"),
            **{k: v for k, v in turn.items() if k not in ("from", "value")},
        }
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        fields = f" with {_names(turn)}" if isinstance(turn, Mapping) else ""
        raise Broken(
            f"{place} must be an object with 'role' and 'content' (or 'from' and 'value'), got"
            f" {kind_of(turn)}{fields}"
        )
    role = _OTHER_ROLES.get(turn["role"].lower(), turn["role"])
    if role not in _ROLES:
        raise Broken(
            f"{place} has the role {turn['role']!r}; known are {', '.join(_ROLES)}, and"
            f" {', '.join(_OTHER_ROLES)}"
        )
    _refuse_media(turn, f"{place} ")
    message = {"role": role, "content": _content(turn.get("content"), place)}
    for name, value in turn.items():
        if name not in ("role", "content", *_FLAGS) and value is not None:
            message[name] = value
    if turn["role"] == "function_call" or "function_call" in message:
        _read_call(message)
    if message.get("tool_calls"):
        message["tool_calls"] = _calls(message["tool_calls"], place)
    if message["content"] is None:
        if not message.get("tool_calls"):
            raise Broken(f"{place} must have a text as 'content', got nothing")
        message["content"] = ""
    if role == "assistant" and not message["content"].strip() and not message.get("tool_calls"):
        raise Broken(f"{place} is an assistant message without text")
    return message, _is_trained(turn, place)


def _content(value: Any, place: str) -> str | None:
    """The text of a message, of which a list of text parts may be made."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        texts = []
        for part in value:
            if isinstance(part, Mapping):
                kind = part.get("type")
                _refuse_media(part, f"{place} ")
                if kind in (None, "text") and isinstance(part.get("text"), str):
                    texts.append(part["text"])
                    continue
                if kind not in (None, "text"):
                    raise Broken(
                        f"{place} has a part of the type {kind!r}; only models of texts are trained"
                    )
            raise Broken(f"{place} must have a text as 'content', got a list with {kind_of(part)}")
        return "".join(texts)
    raise Broken(f"{place} must have a text as 'content', got {kind_of(value)}")


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


def _calls(value: Any, place: str) -> list[Any]:
    """Tool calls with their arguments as objects, as transformers wants them."""
    if isinstance(value, str):
        value = _json_list(value) or value
    if not isinstance(value, list) or not all(isinstance(call, Mapping) for call in value):
        raise Broken(f"{place} must have a list of objects as 'tool_calls', got {kind_of(value)}")
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


def _is_trained(turn: Mapping[str, Any], place: str) -> bool:
    for name in _FLAGS:
        value = turn.get(name)
        if value is not None and value not in (0, 1):
            raise Broken(
                f"{place} has {name!r} = {value!r}; a turn is trained on (1, true) or not (0,"
                " false): weights of whole rows go into a column for weighted()"
            )
        if value is not None and not value:
            return False
    return True


def _refuse_media(row: Mapping[str, Any], place: str = "") -> None:
    for name in _MEDIA:
        if row.get(name):
            raise Broken(f"{place}has {name!r}; only models of texts are trained")


def _system(row: Mapping[str, Any]) -> str | None:
    for name in _SYSTEM:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _history(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = row.get("history")
    value = _json_list(value) or value
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
        value = _json_list(value) or value
        if not value or value == "[]":
            continue
        if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
            raise Broken(f"{name!r} must be a list of objects, got {kind_of(value)}")
        tools = [_without_nothing(tool) for tool in value]
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
    return {name: option for name, option in value.items() if option is not None}


def _without_nothing(value: Any) -> Any:
    """The value without fields of nothing, with which Arrow fills objects of other rows' fields."""
    if isinstance(value, Mapping):
        return {k: _without_nothing(v) for k, v in value.items() if v is not None}
    return [_without_nothing(part) for part in value] if isinstance(value, list) else value


def _json_list(value: Any) -> list[Any] | None:
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


def _says_something(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list | Mapping) and bool(value)


def _check_texts(value: Any, depth: int = 0) -> None:
    """Refuse text that is no Unicode, and objects that are nested too deeply to be written."""
    if isinstance(value, str):
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
            _check_texts(name, depth)
            _check_texts(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_texts(part, depth + 1)
