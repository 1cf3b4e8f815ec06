"""Models that the paper fine-tunes: their hub ids, shapes, forms of turns, and licences.

Shapes are those of each model's config.json on the Hugging Face hub; parameters follow from them
(and agree with the model cards, which round them). Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from ...errors import UsageError

__all__ = ["BACKBONES", "Backbone", "backbone"]


@dataclass(frozen=True)
class Backbone:
    """One pre-trained model."""

    name: str
    """Name in recipes and folders."""
    hub: str
    """Hub id."""
    architecture: str
    """Class of transformers."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int
    context: int
    """Longest sequence, in tokens."""
    tied: bool
    """True if the embedding serves as the head."""
    family: str
    """Form of turns: a name of `probtune.data.prompts.FORMATS`."""
    licence: str
    gated: bool = False
    """True if the hub asks for an account and an agreement."""
    default_system: str | None = None
    """Default system text of the tokenizer's chat template."""
    head_dimension: int | None = None
    bias: bool = False
    """True if query, key and value have biases (Qwen2)."""

    @property
    def label(self) -> str:
        """Name in the tables of `probtune.evaluation.tasks`: the last part of the hub id."""
        return self.hub.rpartition("/")[2]

    @property
    def parameters(self) -> int:
        """Number of weights with embeddings; a tied head counts once.

        >>> round(backbone("llama-3.1-8b").parameters / 1e9, 2)
        8.03
        """
        width = self.head_dimension or self.hidden // self.heads
        query, key = self.heads * width, self.key_value_heads * width
        attention = self.hidden * (2 * query + 2 * key) + (query + 2 * key) * self.bias
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + tables + self.hidden

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.hub}"


_ASSISTANT = "You are a helpful assistant."
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


def _qwen(
    name: str,
    hub: str,
    layers: int,
    hidden: int,
    intermediate: int,
    heads: int,
    key_value_heads: int,
    vocabulary: int,
    context: int,
    *,
    tied: bool = False,
    licence: str = "apache-2.0",
    default_system: str = _ASSISTANT,
) -> Backbone:
    return Backbone(
        name,
        f"Qwen/{hub}",
        "Qwen2ForCausalLM",
        layers,
        hidden,
        intermediate,
        heads,
        key_value_heads,
        vocabulary,
        context,
        tied,
        "chatml",
        licence,
        default_system=default_system,
        bias=True,
    )


BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        model.name: model
        for model in (
            Backbone(
                *("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "LlamaForCausalLM"),
                *(32, 4096, 14336, 32, 8, 128256, 131072, False, "llama3", "llama3.1", True),
            ),
            Backbone(
                *("llama-3.2-3b", "meta-llama/Llama-3.2-3B", "LlamaForCausalLM"),
                *(28, 3072, 8192, 24, 8, 128256, 131072, True, "llama3", "llama3.2", True),
                head_dimension=128,
            ),
            Backbone(
                *("deepseekmath-7b", "deepseek-ai/deepseek-math-7b-base", "LlamaForCausalLM"),
                *(30, 4096, 11008, 32, 32, 102400, 4096, False, "deepseek", "deepseek"),
            ),
            _qwen("qwen2.5-1.5b", "Qwen2.5-1.5B", 28, 1536, 8960, 12, 2, 151936, 131072, tied=True),
            _qwen(
                *("qwen2.5-3b", "Qwen2.5-3B", 36, 2048, 11008, 16, 2, 151936, 32768),
                tied=True,
                licence="qwen-research",
            ),
            _qwen("qwen2.5-7b", "Qwen2.5-7B", 28, 3584, 18944, 28, 4, 152064, 131072),
            _qwen("qwen2.5-14b", "Qwen2.5-14B", 48, 5120, 13824, 40, 8, 152064, 131072),
            _qwen("qwen2.5-32b", "Qwen2.5-32B", 64, 5120, 27648, 40, 8, 152064, 131072),
            _qwen(
                *("qwen2.5-math-1.5b", "Qwen2.5-Math-1.5B", 28, 1536, 8960, 12, 2, 151936, 4096),
                tied=True,
                default_system=_BOXED,
            ),
            _qwen(
                *("qwen2.5-math-7b", "Qwen2.5-Math-7B", 28, 3584, 18944, 28, 4, 152064, 4096),
                default_system=_BOXED,
            ),
            _qwen("qwen2.5-coder-7b", "Qwen2.5-Coder-7B", 28, 3584, 18944, 28, 4, 152064, 32768),
        )
    }
)
"""Name -> model, in the order of the paper's tables."""


def backbone(name: str) -> Backbone:
    """The model that a recipe names.

    Raises:
        UsageError: there is no such model, with the names that come close.
    """
    if name not in BACKBONES:
        close = get_close_matches(name, BACKBONES, n=3, cutoff=0.5)
        meant = (
            f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(BACKBONES)}."
        )
        raise UsageError(f"there is no backbone {name!r}. {meant}")
    return BACKBONES[name]
