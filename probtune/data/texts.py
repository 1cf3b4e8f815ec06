"""Rows -> one text each, with the characters of it that are supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError
from .chat import ChatTemplate, added_tokens
from .example import Example
from .written import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RowText", "RowTexts"]


class RowText(NamedTuple):
    """A row as one text."""

    example: Example
    text: str
    spans: tuple[tuple[int, int], ...]
    """Supervised characters."""
    prompt: str
    response: str
    same_context: bool = True
    """True if the text begins with the prompt."""
    unwritten: tuple[str, ...] = ()


class RowTexts:
    """Rows -> texts: the options of `encode`, with what they need of the tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        separator: str,
        chat: bool,
        end: int | None,
        begins: bool,
    ):
        self.tokenizer, self.separator, self.chat, self.begins = tokenizer, separator, chat, begins
        end_of_text: Any = tokenizer.eos_token_id
        self.end: int | None = end_of_text if end is None else end
        self.added = added_tokens(tokenizer)
        named = {self.end, end_of_text}
        self._ends = tuple(self.added[i] for i in named if i in self.added)
        start: Any = tokenizer.bos_token
        adds_start = start and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        self._start = str(start) if adds_start and not begins else ""
        self._template: ChatTemplate | None = None

    def of(self, example: Example) -> RowText:
        """The row as text.

        Raises:
            Refusal: the chat template refuses it, or it needs one.
        """
        if self.chat:
            example = example.as_conversation()
        return self._conversation(example) if example.messages else self._pair(example)

    def _conversation(self, example: Example) -> RowText:
        if self._template is None:
            if not self.tokenizer.is_fast:
                raise UsageError(
                    "conversations need a fast tokenizer (character offsets); this one is slow."
                )
            self._template = ChatTemplate(self.tokenizer)
        rendered = self._template.render(example)
        return RowText(
            example,
            rendered.text,
            rendered.spans,
            rendered.prompt,
            rendered.response,
            rendered.same_context,
            rendered.unwritten,
        )

    def _pair(self, example: Example) -> RowText:
        """Prompt and completion as one text, so that training sees the tokens that generation sees.

        An end token that the completion brings is left out, since one is added; so is a beginning
        of text that the prompt brings.
        """
        assert example.prompt is not None and example.completion is not None
        if example.history:
            raise Refusal("has earlier turns ('history'), which need a chat template: pass --chat")
        prompt = example.prompt.removeprefix(self._start)
        if example.system:
            prompt = f"{example.system}\n\n{prompt}"
        completion = example.completion
        if self.end is not None:
            stripped = completion.rstrip()
            while stripped.endswith(self._ends):
                end = next(end for end in self._ends if stripped.endswith(end))
                completion = stripped = stripped.removesuffix(end)
        if not completion.strip():
            raise Refusal("has a response that is an end token and nothing else")
        apart = prompt[-1:].isspace() or completion[0].isspace()
        prompt = prompt if apart else prompt + self.separator
        text = prompt + completion
        return RowText(example, text, ((len(prompt), len(text)),), prompt, completion)
