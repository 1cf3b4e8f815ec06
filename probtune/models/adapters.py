"""Folders with a LoRA adapter as models: their base, loading them to train on, merging.

An adapter names its base in `adapter_config.json`: a hub id, or a path that is absolute where this
project wrote it. Reading and merging are PEFT's.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .weights import check_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "adapter_settings",
    "base_of",
    "is_adapted",
    "merged",
    "stops_of",
    "trainable",
    "without_adapters",
]

_FILE = "adapter_config.json"


def is_adapted(model: Any) -> bool:
    """True for a model in PEFT's wrapper. PEFT is not imported for it; accelerate's `is_peft_model`
    reads the metadata of the package at every call, for milliseconds of every step.
    """
    return any(kind.__name__ == "PeftModel" for kind in type(model).__mro__)


def without_adapters(model: Any) -> Any:
    """Return the model inside PEFT's wrapper; any other model as it is."""
    return model.get_base_model() if is_adapted(model) else model


def adapter_settings(name: str) -> dict[str, Any] | None:
    """Return what `adapter_config.json` of a folder says; None for any other model.

    Raises:
        UsageError: the file is not JSON.
    """
    path = Path(name).expanduser() / _FILE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}.") from None


def base_of(name: str) -> str | None:
    """Return the base model of a folder with an adapter; None for any other model.

    Raises:
        UsageError: the adapter names no base, or a folder that is not there.
    """
    settings = adapter_settings(name)
    if settings is None:
        return None
    base = settings.get("base_model_name_or_path")
    if not base:
        raise UsageError(f"{name} is an adapter that names no base model in {_FILE}.")
    folder = Path(name).expanduser()
    for path in (Path(base).expanduser(), folder / base):
        if path.is_dir():
            return str(path.resolve())
    if base.startswith((".", "/", "~")):
        raise UsageError(
            f"{name} is an adapter of {base}, and there is no such folder; correct"
            f" base_model_name_or_path in {folder / _FILE}."
        )
    return base


def trainable(base: PreTrainedModel, name: str, rank: int) -> Any:
    """Return the base with the adapter of a folder, to train the adapter further.

    Raises:
        UsageError: the adapter has another rank.
    """
    stored = (adapter_settings(name) or {}).get("r")
    if stored != rank:
        raise UsageError(
            f"{name} is an adapter of rank {stored}, got --lora-rank {rank}; give --lora-rank"
            f" {stored} to train it further, or merge it first: probtune merge {name} OUT."
        )
    return _adapted(base, name, is_trainable=True)


def merged(base: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the base with the adapter of a folder added to its weights."""
    wrapped = _adapted(base, name)
    model = wrapped.merge_and_unload()
    model.requires_grad_(True)  # PEFT froze the base
    return model


def _adapted(base: PreTrainedModel, name: str, **options: Any) -> Any:
    """Return the base under the adapter of a folder, all of whose weights were read."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # `check_adapter` says it as an error
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        model = PeftModel.from_pretrained(base, str(Path(name).expanduser()), **options)
    check_adapter(model, name)
    return model


def stops_of(name: str) -> Any:
    """Return the generation settings that stand in an adapter's folder, or None."""
    from transformers import GenerationConfig

    folder = Path(name).expanduser()
    if not (folder / "generation_config.json").is_file():
        return None
    return GenerationConfig.from_pretrained(str(folder))
