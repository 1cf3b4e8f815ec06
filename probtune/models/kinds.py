"""Kinds of models: only decoders predict each next token from those before it.

A masked model reads the target itself, and an encoder-decoder its labels where they stand, so that
p of a next token means nothing there. transformers reads many of them as causal models without a
word: `AutoModelForCausalLM` makes a BERT that attends to both sides.
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from .adapters import base_of, without_adapters

__all__ = ["check_decoder", "check_decoder_folder"]

_OF_ROWS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
)


def check_decoder(model: Any) -> None:
    """Refuse a model that is no decoder-only causal language model.

    Args:
        model: with or without PEFT's adapters. One without a configuration of transformers passes.

    Raises:
        UsageError: with its class, its kind, and what to do instead.
    """
    base = without_adapters(model)
    config, name = getattr(base, "config", None), type(base).__name__
    if not hasattr(config, "get_text_config"):
        return
    kind = _other_kind(config, name)
    if kind is None and _has_no_head(base, name):
        kind = "a model without an output layer"
    if kind is not None:
        raise _refused(name, kind)


def check_decoder_folder(name: str) -> None:
    """Refuse the same of a folder or hub id, by its configuration: no weights are read.

    Raises:
        UsageError: as `check_decoder`; or there is no such model.
    """
    from transformers import AutoConfig, PreTrainedConfig

    from .loading import readable
    from .packaged import model_folder

    with readable(name, "configuration"):
        folder = model_folder(base_of(name) or name)
        raw, _ = PreTrainedConfig.get_config_dict(folder)
        if "auto_map" in raw:
            return  # code of its own: refused, or trusted, where the model is loaded
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    named = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    kind = _other_kind(config, named)
    if kind is not None:
        raise _refused(f"{name} ({named})", kind)


def _refused(what: str, kind: str) -> UsageError:
    return UsageError(
        "an objective is trained and measured on decoder-only causal language models, which predict"
        f" each next token from those before it; got {what}, {kind}. Take a causal model (a Llama,"
        " Qwen or GPT-2, by AutoModelForCausalLM), or call probtune.loss(..., shift=False) on the"
        " logits of this one in a loop of your own."
    )


def _other_kind(config: Any, name: str) -> str | None:
    """Return what a model of this configuration and class is, or None if it may be a decoder."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if getattr(config, "is_encoder_decoder", False):
        return "an encoder-decoder"
    if name.endswith(_OF_ROWS):
        return "a classifier, without logits of the next token"
    text = config.get_text_config()
    both_sides = "which attends to both sides of a target and so reads the target itself"
    # One setting makes a decoder of an encoder in some families.
    decodes = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decodes:
        causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        unless = " (its configuration does not say is_decoder)" if causal else ""
        return f"a masked language model, {both_sides}{unless}"
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        return f"{both_sides} (use_bidirectional_attention of its configuration)"
    if getattr(text, "is_causal", True) is False:
        return f"{both_sides} (is_causal of its configuration)"
    return None


def _has_no_head(model: Any, name: str) -> bool:
    """True if a bare backbone (`LlamaModel`) is all there is."""
    return name.endswith("Model") and model.get_output_embeddings() is None
