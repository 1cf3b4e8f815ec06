"""The identity of a model's files: hashes by which a run sees that its base model was replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import hash_file
from .adapters import base_of
from .packaged import model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["changed_file", "model_identity", "tokenizer_identity"]

_READ = (".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt")
"""Endings of the files of a folder that loading a model reads."""


def model_identity(name: str) -> dict[str, str]:
    """Return the hashes of the files of a model, and of its base if it is an adapter; of a hub id,
    the commit that is in the cache.

    A file is read again only if its size or its time has changed since this process read it.
    """
    base = base_of(name)
    hashes = _hashes(name, "")
    if base is not None:
        hashes |= _hashes(base, "base/")
    return hashes


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return hashes of what a tokenizer does: its rules and vocabulary, and its chat template."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    special = repr(sorted(tokenizer.special_tokens_map.items()))
    return {
        "tokenizer": _digest(rules + special),
        "chat template": _digest(repr(tokenizer.chat_template)),
    }


def changed_file(recorded: Mapping[str, str], current: Mapping[str, str]) -> str | None:
    """Return the first file whose hash is another one, or that only one of the two has."""
    for name in sorted({*recorded, *current}):
        if recorded.get(name) != current.get(name):
            return name
    return None


def _hashes(name: str, prefix: str) -> dict[str, str]:
    folder = Path(model_folder(name)).expanduser()
    if not folder.is_dir():
        return {f"{prefix}commit": _commit(name)}
    return {
        f"{prefix}{path.name}": _hash(str(path), *_state(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _READ
    }


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=4096)
def _hash(path: str, size: int, modified: int, inode: int) -> str:
    return hash_file(Path(path))


def _commit(name: str) -> str:
    """Return the commit of a hub id in the cache; the hub names files by their contents."""
    from transformers.utils.hub import cached_file

    path = cached_file(name, "config.json", _raise_exceptions_for_missing_entries=False)
    return "none" if path is None else Path(path).parent.name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
