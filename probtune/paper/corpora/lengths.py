"""Length of a question and its response, in the turns of a model's family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...data.prompts import PromptSpec, format_of
from ...errors import UsageError

__all__ = ["longest", "turns"]


def turns(tokenizer: Any, prompt: str, completion: str) -> str:
    """Return both texts in the turns of a tokenizer's family, without a system text, with the end.

    >>> class Tokenizer:
    ...     eos_token = "<|im_end|>"
    ...     def get_vocab(self): return {"<|im_start|>": 0}
    >>> turns(Tokenizer(), "Hi", "Ho")
    '<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHo<|im_end|>\\n'
    """
    spec = PromptSpec(format_of(tokenizer))
    if spec.format == "llama3":  # its template trims both texts
        prompt, completion = prompt.strip(), completion.strip()
    end = spec.form.end or tokenizer.eos_token or ""
    return spec.render(prompt) + completion + end + ("\n" if spec.format == "chatml" else "")


def longest(names: Sequence[str]) -> Callable[[str, str], int]:
    """Return a function for the largest number of tokens of (prompt, completion) under any of the
    tokenizers.

    Raises:
        UsageError: a tokenizer cannot be loaded.
    """
    from ...models.loading import load_tokenizer

    try:
        tokenizers: list[Any] = [load_tokenizer(name) for name in names]
    except UsageError as error:
        raise UsageError(
            f"{str(error).rstrip('.')}. The length is measured with {' and '.join(names)}: a gated"
            " model needs `hf auth login` or HF_TOKEN; --tokenizer names others."
        ) from None
    special = [not PromptSpec(format_of(tokenizer)).begins for tokenizer in tokenizers]

    def measure(prompt: str, completion: str) -> int:
        return max(
            len(tokenizer(turns(tokenizer, prompt, completion), add_special_tokens=add).input_ids)
            for tokenizer, add in zip(tokenizers, special, strict=True)
        )

    return measure
