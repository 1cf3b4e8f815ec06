"""Conversations -> text, and which characters of it are trained on.

One rule, whatever the form of the row: an assistant turn is supervised from where generation would
begin to its end token. So a turn's header is not, nor an opening `<think>` that the generation
prompt supplies, nor a newline after the end token, nor anything of a turn that is context.

Rendering is transformers'; the copies of known templates that mark the assistant's text with
`{% generation %}` are TRL's. Ours is what neither does: the marks are cut to the rule above, turns
that are context lose theirs, the answer must stand in what is supervised, and fields that a
template does not write are named.

References:
    transformers, "Chat templates", https://huggingface.co/docs/transformers/chat_templating
    TRL, "Chat templates", https://huggingface.co/docs/trl/chat_templates
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from .example import Example, Message
from .limits import check_size, limited
from .skeletons import Skeleton, inserts_contents, shape_of
from .written import Refusal, check_answer, text_of, unwritten_fields

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "Refusal", "Rendered", "added_tokens"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text."""

    text: str
    spans: tuple[Span, ...]
    """Supervised characters, in order."""
    prompt: str
    """The text that the model is given to write the last trained turn itself."""
    response: str
    """The last trained turn as the row has it."""
    unwritten: tuple[str, ...]
    """Fields of the row that the template does not write."""

    @property
    def same_context(self) -> bool:
        """True if training sees what generation sees before the last trained turn."""
        return self.text.startswith(self.prompt)


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """All tokens that were added to the vocabulary, special or not.

    More than `all_special_ids`, which knows only those that have a name such as `eos_token`: the
    `<|eot_id|>` that ends a turn of LLaMA 3 has none.
    """
    tokens = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    return tokens | {index: token for index, token in named if index is not None}


class ChatTemplate:
    """The chat template of a tokenizer, compiled once for many conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        if tokenizer.chat_template is None:
            raise DataError(
                "the rows are conversations, but the tokenizer has no chat template: take the"
                " instruct version of the model, name a file with --chat-template (in Python, set"
                " tokenizer.chat_template), or give prompt and completion as texts."
            )
        self._tokenizer = tokenizer
        self._added = tuple(token for token in added_tokens(tokenizer).values() if token.strip())
        # Contents that the rules of a turn's end and of thoughts look at
        particular = (*self._added, "think>", *_PARTS)
        self._particular = re.compile("|".join(map(re.escape, particular)))
        self._plain: bool | None = None
        self._skeletons: dict[Any, Skeleton | None] = {}
        self._filled = 0
        self._marked: dict[str, str | None] = {}
        self._written: dict[tuple[str, bool, int, int], str] = {}
        """Texts of the conversation at hand: its parts are asked for more than once."""

    def render(self, example: Example) -> Rendered:
        """Render a conversation with its supervised characters.

        Raises:
            Refusal: the template refuses the row, or does not write its answer where it counts.
        """
        if not example.trained:
            raise Refusal("has no assistant turn to train on")
        return self._quickly(example) or self._slowly(example)

    def _quickly(self, example: Example) -> Rendered | None:
        """Put the contents into the text of an earlier conversation with the same roles, where a
        template does nothing else with them.
        """
        shape = shape_of(example)
        if shape is None or self._plain is False:
            return None
        if self._particular.search("\n".join(shape.contents)):
            return None
        if shape.key not in self._skeletons:
            self._skeletons[shape.key] = self._skeleton(shape.placeholders(example))
        skeleton = self._skeletons[shape.key]
        if skeleton is None:
            return None
        rendered = Rendered(*skeleton.filled(shape.contents), ())
        self._filled += 1
        if self._filled < _CHECKED or self._filled % _CHECKED == 0:
            assert rendered == self._slowly(example), example.where
        return rendered

    def _skeleton(self, example: Example) -> Skeleton | None:
        template = self._template(example)
        if self._plain is None:
            self._plain = inserts_contents(template)
        if not self._plain:
            return None
        try:
            rendered = self._slowly(example)
            before = [
                self._beginning(template, example.messages[:index], example)
                for index in example.trained
            ]
        except (Refusal, _TemplateFailed):
            return None
        return Skeleton.of(example, rendered.text, rendered.spans, before)

    def _slowly(self, example: Example) -> Rendered:
        messages = tuple(self._without_end(message) for message in example.messages)
        example = replace(example, messages=messages)
        refusals = []
        for form in (messages, *_other_forms(messages)):
            try:
                return self._render(example, form)
            except _TemplateFailed as error:
                refusals.append(f"is refused by the chat template: {error}")
            except Refusal as refusal:
                refusals.append(str(refusal))
        raise Refusal(refusals[0])

    @cached_property
    def end(self) -> str | None:
        """The token that the template writes after an answer, or None."""
        probe = Example("", messages=_PROBE)
        try:
            text = self._write(self._template(probe), _PROBE, probe)
        except _TemplateFailed:
            return None
        after = text[text.rfind(_PROBE[-1]["content"]) + len(_PROBE[-1]["content"]) :].lstrip()
        return max((t for t in self._added if after.startswith(t)), key=len, default=None)

    def _render(self, example: Example, messages: Sequence[Message]) -> Rendered:
        template = self._template(example)
        marked = self._marked_copy(template)
        self._written.clear()
        text, marks = self._write_marked(
            marked or template, messages, example, marks=marked is not None
        )
        self._written[marked or template, False, len(messages), id(messages[0])] = text
        if any(sign in text and sign not in str(example.messages) for sign in _PARTS):
            raise Refusal("is refused by the chat template: it writes a list of parts as it stands")
        turns = self._turns(marked, text, marks, messages, example)
        last = example.trained[-1]
        for index in example.trained:
            check_answer(
                index, example.messages[index], "".join(text[a:b] for a, b in turns[index])
            )
        return Rendered(
            text=text,
            spans=tuple(span for index in example.trained for span in turns[index]),
            prompt=self._beginning(template, messages[:last], example),
            response=text_of(example.messages[last]),
            unwritten=tuple(unwritten_fields(example, text)),
        )

    def _turns(
        self,
        marked: str | None,
        text: str,
        marks: Sequence[Span],
        messages: Sequence[Message],
        example: Example,
    ) -> dict[int, list[Span]]:
        """The supervised characters of each trained turn."""
        if marked is None:
            return {i: [self._by_prefixes(i, text, messages, example)] for i in example.trained}
        turns = self._assign(marked, marks, messages, example)
        for index in example.trained:
            spans = turns[index]
            if not spans:
                raise Refusal(
                    f"is refused by the chat template: it marks nothing of turn {index + 1} as the"
                    " assistant's"
                )
            (first, _), (_, end) = spans[0], spans[-1]
            begin = self._generation_begins(marked, text, first, end, messages[:index], example)
            spans = [(max(a, begin), b) for a, b in spans if b > begin]
            spans[-1] = (spans[-1][0], self._turn_ends(text, *spans[-1]))
            turns[index] = spans
        return turns

    def _assign(
        self, marked: str, marks: Sequence[Span], messages: Sequence[Message], example: Example
    ) -> dict[int, list[Span]]:
        """Marked characters by turn."""
        assistants = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        if len(marks) == len(assistants):
            return {index: [mark] for index, mark in zip(assistants, marks, strict=True)}
        turns: dict[int, list[Span]] = {}
        before = 0
        for index in assistants:
            # As history: some templates mark an end of the whole text after the last turn.
            _, some = self._write_marked(
                marked, messages[: index + 1], example, add_generation_prompt=True
            )
            turns[index] = list(marks[before : len(some)])
            before = max(before, len(some))
        return turns

    def _generation_begins(
        self,
        template: str,
        text: str,
        first: int,
        end: int,
        before: Sequence[Message],
        example: Example,
    ) -> int:
        """The place in the text at which generation of the turn in [first, end) would begin."""
        prompt = self._beginning(template, before, example)
        if first <= len(prompt) <= end and text.startswith(prompt):
            return len(prompt)
        cue = self._cue(template, before, example)
        header = next(n for n in range(len(cue), -1, -1) if text.endswith(cue[:n], 0, first))
        return first + _common_prefix(cue[header:], text[first:end])

    def _by_prefixes(
        self, index: int, text: str, messages: Sequence[Message], example: Example
    ) -> Span:
        """A turn as the text that it adds to what was rendered before it."""
        template = self._template(example)
        after = self._write(template, messages[: index + 1], example)
        before = self._beginning(template, messages[:index], example)
        begin = len(before)
        if not after.startswith(before):
            before = self._write(template, messages[:index], example) if index else ""
            cue = self._cue(template, messages[:index], example)
            begin = len(before) + _common_prefix(cue, after[len(before) :])
        if not (after.startswith(before) and text.startswith(after.rstrip())):
            raise Refusal(
                f"is refused by the chat template: turn {index + 1} is rendered differently once"
                " the conversation goes on, so the assistant's text cannot be told apart; use a"
                " chat template with {% generation %} marks"
            )
        return begin, self._turn_ends(text, begin, len(after.rstrip()))

    def _turn_ends(self, text: str, begin: int, end: int) -> int:
        """The end of a turn without the white space that follows its end token."""
        stripped = text[begin:end].rstrip()
        return begin + len(stripped) if stripped.endswith(self._added) else end

    def _beginning(self, template: str, messages: Sequence[Message], example: Example) -> str:
        """The text that the model is given to write the next turn."""
        if messages:
            return self._write(template, messages, example, add_generation_prompt=True)
        try:
            return self._write(template, messages, example, add_generation_prompt=True)
        except _TemplateFailed:  # many templates read the first message
            return self._cue(template, _PROBE[:1], example)

    def _cue(self, template: str, messages: Sequence[Message], example: Example) -> str:
        """The generation prompt: what invites the model to write."""
        for some in (messages, _PROBE[:1]):
            if some:
                cued = self._write(template, some, example, add_generation_prompt=True)
                plain = self._write(template, some, example)
                if cued.startswith(plain):
                    return cued[len(plain) :]
        return ""

    def _template(self, example: Example) -> str:
        return self._tokenizer.get_chat_template(tools=list(example.tools) or None)

    def _marked_copy(self, template: str) -> str | None:
        """The template with `{% generation %}` marks: its own, or TRL's; None if there is none."""
        if template not in self._marked:
            self._marked[template] = _marked_copy(self._tokenizer, template)
        return self._marked[template]

    def _write(
        self,
        template: str,
        messages: Sequence[Message],
        example: Example,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        first = id(messages[0]) if messages else 0
        key = (template, add_generation_prompt, len(messages), first)
        if key not in self._written:
            self._written[key], _ = self._write_marked(
                template,
                messages,
                example,
                add_generation_prompt=add_generation_prompt,
                marks=False,
            )
        return self._written[key]

    def _write_marked(
        self,
        template: str,
        messages: Sequence[Message],
        example: Example,
        *,
        add_generation_prompt: bool = False,
        marks: bool = True,
    ) -> tuple[str, list[Span]]:
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        conversation: Any = list(messages)
        try:
            with limited():
                texts, spans = render_jinja_template(
                    [conversation],
                    tools=list(example.tools) or None,
                    chat_template=template,
                    return_assistant_tokens_mask=marks,
                    add_generation_prompt=add_generation_prompt,
                    **{**self._tokenizer.special_tokens_map, **example.template_options},
                )
        except UsageError:
            raise
        # What a template's own expressions raise on rows that they were not written for.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise _TemplateFailed(" ".join(str(error).split()) or type(error).__name__) from None
        marked: Any = spans[0] if spans else []
        return check_size(texts[0]), list(marked)

    def _without_end(self, message: Message) -> Message:
        """The message without an end token that the template will write again."""
        content = message.get("content")
        if message["role"] != "assistant" or not isinstance(content, str) or not self.end:
            return message
        stripped = content.rstrip()
        while stripped.endswith(self.end):
            content = stripped = stripped.removesuffix(self.end)
        return message if content == message["content"] else {**message, "content": content}


_PROBE = ({"role": "user", "content": "Question?"}, {"role": "assistant", "content": "Answer."})


_CHECKED = 256
"""Conversations that are rendered as well as filled in: the first ones, and one in so many."""

_PARTS = ("'type': 'text'", '"type": "text"')
"""Signs of a list of parts in a text: the template wanted a text."""


class _TemplateFailed(Exception):
    """The template raised; the text is its reason."""


def _marked_copy(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    from jinja2.exceptions import TemplateError
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(template):
        return template
    alone = copy.copy(tokenizer)
    alone.chat_template = template  # of several named ones, the one that is used
    try:
        return get_training_chat_template(alone)
    except (ValueError, TemplateError):
        return None


def _common_prefix(a: str, b: str) -> int:
    """The number of characters that both begin with."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _other_forms(messages: tuple[Message, ...]) -> Iterator[Sequence[Message]]:
    """The same messages as other templates want them: the arguments of calls as JSON text instead
    of an object, the content as a list of parts instead of a text.
    """
    texts = [_with_arguments(message) for message in messages]
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    if texts != list(messages):
        yield texts
    yield parts
    if texts != list(messages):
        yield [_with_arguments(message) for message in parts]


def _with_arguments(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message

    def changed(call: Any) -> Any:
        if not isinstance(call, Mapping):
            return call
        if isinstance(call.get("function"), Mapping):
            return {**call, "function": changed(call["function"])}
        if isinstance(call.get("arguments"), Mapping):
            return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
        return call

    return {**message, "tool_calls": [changed(call) for call in calls]}
