"""Prompts: from a question to the text that a model reads. One `PromptSpec` serves training and
evaluation, so that a model is never asked in another form than it was taught.

A prompt is a question, an instruction after it, a system text, and the form of turns that the
model's family writes around them:

    chatml         Qwen, and most others          <|im_start|>user … <|im_end|>
    llama3         LLaMA 3                        <|start_header_id|>user… <|eot_id|>
    deepseek       DeepSeekMath and DeepSeek-LLM  User: … Assistant:
    deepseek-bare  the same, and never a system text
    plain          no turns: the question as it stands
    …-evalplus     as EvalPlus asks for a program: the answer's first words are given
    …-reference    as the paper's code writes them, deviations included

Turns are written out here instead of taken from the tokenizer's chat template: base models often
have none, and templates change between releases of one model. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import UsageError

__all__ = ["FORMATS", "PromptSpec", "TurnFormat", "format_of"]

_DATE = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
"""Text of LLaMA 3.1's own chat template before the system text."""


@dataclass(frozen=True)
class TurnFormat:
    """Turns that a model family writes around a system text and a question."""

    name: str
    system: str
    """With `{system}`; left out when there is no system text."""
    user: str
    """With `{user}`, up to where the response begins."""
    start: str = ""
    """Beginning of the whole text: the token that begins a text, where the form names it."""
    end: str | None = None
    """The token that ends the assistant's turn; None: the tokenizer's end of text."""
    gap: str = ""
    """Text between the prompt and a response that begins without white space. A model
    writes it itself when it is asked."""


_HEADERS = "<|start_header_id|>{}<|end_header_id|>\n\n"
_USER, _ASSISTANT = _HEADERS.format("user"), _HEADERS.format("assistant")

_PROGRAM = (
    "Please provide a self-contained Python script that solves the following problem in a markdown"
    " code block:\n```\n{user}```\n"
)
_ANSWER = (
    "Below is a Python script with a self-contained function that solves the problem and passes"
    " corresponding tests:\n```python\n"
)
"""EvalPlus 0.3.1, `codegen.py` and `provider/utility.py`; the problem ends with a newline."""

FORMATS: Mapping[str, TurnFormat] = MappingProxyType(
    {
        form.name: form
        for form in (
            TurnFormat("plain", "{system}\n\n", "{user}"),
            TurnFormat(
                "chatml",
                "<|im_start|>system\n{system}<|im_end|>\n",
                "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
                end="<|im_end|>",
            ),
            TurnFormat(
                "llama3",
                _HEADERS.format("system") + "{system}<|eot_id|>",
                f"{_USER}{{user}}<|eot_id|>{_ASSISTANT}",
                start="<|begin_of_text|>",
                end="<|eot_id|>",
            ),
            TurnFormat("deepseek", "{system}\n\n", "User: {user}\n\nAssistant:", gap=" "),
            TurnFormat(
                "chatml-evalplus",
                "<|im_start|>system\n{system}<|im_end|>\n",
                f"<|im_start|>user\n{_PROGRAM}<|im_end|>\n<|im_start|>assistant\n{_ANSWER}",
                end="<|im_end|>",
            ),
            TurnFormat(
                "llama3-evalplus",
                _HEADERS.format("system") + "{system}<|eot_id|>",
                f"{_USER}{_PROGRAM}<|eot_id|>{_ASSISTANT}{_ANSWER}",
                start="<|begin_of_text|>",
                end="<|eot_id|>",
            ),
            TurnFormat(
                "deepseek-evalplus", "{system}\n\n", f"User: {_PROGRAM}\n\nAssistant: {_ANSWER}"
            ),
            # DeepSeek's models without a system text, which their authors advise against.
            TurnFormat("deepseek-bare", "", "User: {user}\n\nAssistant:", gap=" "),
            # The paper's code (GaotangLi/Beyond-Log-Likelihood at 220589d). Math: a newline after
            # each of LLaMA's turns, DeepSeek's token written out (vLLM adds a second one).
            TurnFormat(
                "llama3-reference",
                _HEADERS.format("system") + "{system}<|eot_id|>\n",
                f"{_USER}{{user}}<|eot_id|>\n{_ASSISTANT}",
                start="<|begin_of_text|>",
                end="<|eot_id|>",
            ),
            TurnFormat(
                "deepseek-reference",
                "",
                "User: {user}\n\nAssistant:",
                start="<｜begin▁of▁sentence｜>",
            ),
            # Medical: two beginnings of text, and the date instead of the system text.
            TurnFormat(
                "llama3-dated-reference",
                "",
                f"{_USER}{{user}}<|eot_id|>{_ASSISTANT}",
                start="<|begin_of_text|><|begin_of_text|>"
                + _HEADERS.format("system")
                + _DATE
                + "<|eot_id|>",
                end="<|eot_id|>",
            ),
            # Figlet: two beginnings of text, and for Qwen a newline before the turn ends.
            TurnFormat(
                "llama3-double-reference",
                _HEADERS.format("system") + "{system}<|eot_id|>",
                f"{_USER}{{user}}<|eot_id|>{_ASSISTANT}",
                start="<|begin_of_text|><|begin_of_text|>",
                end="<|eot_id|>",
            ),
            TurnFormat(
                "chatml-newline-reference",
                "<|im_start|>system\n{system}<|im_end|>\n",
                "<|im_start|>user\n{user}\n<|im_end|>\n<|im_start|>assistant\n",
                end="<|im_end|>",
            ),
        )
    }
)
"""Name -> form."""


@dataclass(frozen=True)
class PromptSpec:
    """A form of turns with its fixed texts. Equal specs ask equally.

    >>> PromptSpec("deepseek", instruction="\\nThink.").render("1 + 1 = ?")
    'User: 1 + 1 = ?\\nThink.\\n\\nAssistant:'
    """

    format: str = "plain"
    """A name of `FORMATS`."""
    system: str | None = None
    instruction: str = ""
    """Text after the question in the user's turn, with the white space before it."""

    def __post_init__(self):
        if self.format not in FORMATS:
            raise UsageError(
                f"the prompt format must be one of {', '.join(FORMATS)}, got {self.format!r}."
            )

    @property
    def form(self) -> TurnFormat:
        return FORMATS[self.format]

    def render(self, question: str) -> str:
        """The whole text up to where the response begins, special tokens written out.

        A tokenizer that adds a beginning of text by itself must not do so when the text has one
        already: see `begins`.
        """
        form = self.form
        system = form.system.replace("{system}", self.system) if self.system else ""
        return form.start + system + form.user.replace("{user}", question + self.instruction)

    @property
    def begins(self) -> bool:
        """True if the text brings its own beginning-of-text token."""
        return bool(self.form.start)

    def to_dict(self) -> dict[str, Any]:
        return {"format": self.format, "system": self.system, "instruction": self.instruction}


def format_of(tokenizer: Any) -> str:
    """The form that a tokenizer's special tokens belong to: `chatml`, `llama3`, `deepseek` or
    `plain`.

    It looks at the vocabulary, never at the model's path: a folder may have any name.
    """
    vocabulary = set(tokenizer.get_vocab())
    if "<|im_start|>" in vocabulary:
        return "chatml"
    if "<|start_header_id|>" in vocabulary:
        return "llama3"
    if "<｜begin▁of▁sentence｜>" in vocabulary:
        return "deepseek"
    return "plain"
