"""Tables and small builders shared by the tests."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from probtune.objectives import MEMBERS, Objective, objective

EXAMPLES = [m.example for m in MEMBERS.values() if not objective(m.example).needs]
"""Examples of the members that have a value of their own."""

OBJECTIVES: list[Objective] = [
    objective(text)
    for text in (
        *EXAMPLES,
        "power(-0.5)",
        "power(-2)",
        "power(0)",
        "power(1)",
        "power(10)",
        "above(0.05, p())",
        "below(0.3, power(0.5))",
        "above(0.01, below(0.9, dft()))",
        "floor(0.2, tailr(0.1))",
        "floor(0, above(0.3, p()))",
        "cap(0.5, floor(0.1, power(2)))",
        "mix(1, nll(), power(-1))",
        "mix(0.5, above(0.2, nll()), below(0.7, p()))",
        "affine(0, 2)",
        "focal(0)",
        "focal(0.5)",
        "tailr(0)",
        "tailr(1)",
        "taylor(1)",
        "taylor(6)",
        "luffy(0.5)",
        "infosft(0.5)",
        "gft(1)",
    )
]
"""Every member, and parameters at both ends."""

WORDS = [*"0123456789", "+", "=", "ask", "say", "user", "assistant", "<eos>", "<pad>"]

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} <eos> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def word_tokenizer(chat_template: str | None = None) -> Any:
    """One token per word, separated by spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", chat_template=chat_template
    )


def word_config(**changes: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        **{
            "vocab_size": len(WORDS),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": WORDS.index("<eos>"),
            "pad_token_id": WORDS.index("<pad>"),
            **changes,
        }
    )


def word_causal_model(seed: int = 0, **changes: Any) -> Any:
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(word_config(**changes))


def save_word_model(folder: Path, seed: int = 0, chat_template: str | None = None) -> None:
    word_causal_model(seed).save_pretrained(folder)
    word_tokenizer(chat_template).save_pretrained(folder)


def sums(n: int, *, start: int = 0) -> list[dict[str, str]]:
    """Rows of one-digit additions as prompt and completion; all different up to 55."""
    pairs = [(a, b) for a in range(10) for b in range(10) if a + b < 10]
    return [
        {"prompt": f"ask {a} + {b} = ", "completion": f"{a + b}"}
        for a, b in (pairs * (1 + n // len(pairs)))[start : start + n]
    ]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def encoded_rows(n: int, *, masked: tuple[int, ...] = (), seed: int = 0) -> list[dict[str, Any]]:
    """Random rows of 4 to 12 tokens with labels; those of `masked` have none."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(n):
        length = int(torch.randint(4, 12, (1,), generator=generator))
        ids = torch.randint(0, len(WORDS) - 2, (length,), generator=generator).tolist()
        labels = [-100] * length if index in masked else [-100, -100, *ids[2:]]
        rows.append({"input_ids": ids, "labels": labels})
    return rows


@contextmanager
def example(name: str) -> Iterator[ModuleType]:
    """A program of examples/, imported as Python does for a program beside it."""
    folder = str(Path(__file__).resolve().parents[1] / "examples")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(folder)
