"""Weights read whole or not at all: every tensor of the model from the file, every tensor of the
file into the model.

transformers fills what a file lacks with random numbers and only logs it. Here a tensor that is
missing, left over or of another shape ends the work with its name, before anything is computed.
Weights that the architecture ties to others need not be in a file, and neither must those that its
class lists as optional.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ..errors import UsageError

__all__ = ["READING_ERRORS", "check_adapter", "read_whole", "reason_of"]

_SHOWN = 4
_ADAPTER = "adapter_model.safetensors"


def _reading_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        UnpicklingError,
        RecursionError,
        ArithmeticError,
        SafetensorError,
        StrictDataclassError,
    )


READING_ERRORS = _reading_errors()
"""Errors of transformers, torch, tokenizers and safetensors over files that do not fit."""


def read_whole(name: str, source: str, *, architecture: Any = None, **options: Any) -> Any:
    """Return the causal language model of a folder or hub id, with all of its weights.

    Args:
        name: the model's name, for messages.
        architecture: the model's class (default: `AutoModelForCausalLM` chooses it).
        options: further arguments of `from_pretrained`.

    Raises:
        UsageError: a tensor is missing, left over or of another shape.
    """
    from transformers import AutoModelForCausalLM

    load: Any = (architecture or AutoModelForCausalLM).from_pretrained
    fixed = {
        "output_loading_info": True,  # returns a pair
        "ignore_mismatched_sizes": True,  # they are named below
    }
    if architecture is None or hasattr(architecture, "_model_mapping"):
        fixed["trust_remote_code"] = False
    model, info = load(source, **{**fixed, **options})
    _check(
        name,
        missing=info["missing_keys"],
        unexpected=info["unexpected_keys"],
        mismatched={key: tuple(shapes) for key, *shapes in info["mismatched_keys"]},
    )
    return model


def check_adapter(model: Any, name: str) -> None:
    """Compare the tensors of an adapter's file with those that the model got for it.

    Raises:
        UsageError: a tensor is missing, left over or of another shape; the file is damaged.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    path = Path(name).expanduser() / _ADAPTER
    if not path.is_file():
        return  # pickled weights: their names were compared by PEFT alone
    with safe_open(path, "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    adapted = get_peft_model_state_dict(model, save_embedding_layers=False)
    expected = {_plain(key): tuple(value.shape) for key, value in adapted.items()}
    stored = {_plain(key): shape for key, shape in shapes.items()}
    # PEFT stores the whole layer beside an adapter on the embeddings or the output layer.
    whole = {_plain(key) for key in model.state_dict()}
    extra = stored.keys() - expected.keys() - whole
    _check(
        name,
        missing=expected.keys() - stored.keys(),
        unexpected=extra,
        mismatched={
            key: (stored[key], shape)
            for key, shape in expected.items()
            if key in stored and stored[key] != shape
        },
    )


def _plain(key: str) -> str:
    return key.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _check(
    name: str,
    *,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Mapping[str, tuple[Any, ...]],
) -> None:
    """Raise UsageError unless all three are empty."""
    parts = []
    if missing:
        parts.append(f"{_some(missing)} missing, which would be random numbers")
    if mismatched:
        key = min(mismatched)
        stored, expected = (tuple(shape) for shape in mismatched[key])
        more = f" and {len(mismatched) - 1} more" if len(mismatched) > 1 else ""
        parts.append(f"{key}{more} of another shape ({stored} in the file, {expected} needed)")
    if unexpected:
        parts.append(f"{_some(unexpected)} in the file and not in the model")
    if parts:
        raise UsageError(
            f"the weights of {name!r} do not fit its configuration: {'; '.join(parts)}. Is a file"
            " of it missing, cut off or of another model, or was it saved from a wrapped model?"
            " Download or save it again."
        )


def _some(names: Collection[str]) -> str:
    """Return how many tensors, and the first few of their names."""
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} ({shown}{more})"


def reason_of(error: BaseException) -> str:
    """Return an error of reading in one line, with what it means where the library's words do
    not say it or point at an unsafe way out.
    """
    text = str(error).strip()
    first = " ".join(text.splitlines()[:2]) if text else type(error).__name__
    if isinstance(error, UnpicklingError) or "weights_only" in text:
        return (
            "its weights are a pickle that holds more than tensors, and such a file can run code"
            " when it is read; take the model in the safetensors format."
        )
    if "trust_remote_code" in text:
        return (
            "it needs code from its own folder, which is never run; take a model whose"
            " architecture is part of transformers."
        )
    if type(error).__name__ == "SafetensorError" or isinstance(error, EOFError):
        return f"a file of weights is damaged or cut off ({first}); download or save it again."
    if isinstance(error, KeyError | TypeError | AttributeError):
        return f"its files do not fit together ({type(error).__name__}: {first})."
    return first
