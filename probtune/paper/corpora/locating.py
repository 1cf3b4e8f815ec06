"""Where prepared training sets are kept, and the settings' way to name one: `corpus:numina-67k`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...terminal import Terminal
from .preparing import prepare, request
from .table import corpus, slug

__all__ = ["cache", "default_folder", "locate", "resolve"]

_PREFIX = "corpus:"


def cache() -> Path:
    """The folder that prepared sets go to unless another is named: `probtune/corpora` in
    XDG_CACHE_HOME, or in ~/.cache.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "probtune" / "corpora"


def default_folder(wanted: Mapping[str, Any]) -> Path:
    """The folder of a request in the cache: equal requests share it, others never do."""
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:10]
    return cache() / f"{wanted['corpus']}-{key}"


def resolve(
    name: str,
    *,
    terminal: Terminal,
    seed: int | None = None,
    tokenizer: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> Path:
    """The prepared rows of a training set, made first if they are not there.

    Args:
        name: as `numina-67k` or `openbookqa-noisy(0.3)`.
        seed: of subset, order and label noise. None: the corpus's own, the paper's where it has
            one; a run's own seed should not be given here unless the data is to change with it.
        tokenizer: one or several that bound the length, where the corpus has a bound.

    Raises:
        UsageError: there is no such training set.
        DataError: it cannot be prepared; see `probtune.paper.corpora.prepare`.
    """
    found = corpus(name)
    tokenizers = (tokenizer,) if isinstance(tokenizer, str) else tuple(tokenizer or ())
    wanted = request(found, tokenizers=tokenizers, seed=seed, limit=limit)
    manifest = prepare(
        found,
        out=default_folder(wanted),
        tokenizers=tokenizers,
        seed=seed,
        limit=limit,
        terminal=terminal,
    )
    terminal.say(f"{slug(found)}: {manifest.rows} rows, {manifest.path}")
    return manifest.path


def locate(
    text: str,
    *,
    terminal: Terminal,
    seed: int | None = None,
    tokenizer: str | Sequence[str] | None = None,
) -> Path | None:
    """The rows that `corpus:NAME` stands for; None when the text is no name of a corpus."""
    if not text.startswith(_PREFIX):
        return None
    return resolve(text.removeprefix(_PREFIX), terminal=terminal, seed=seed, tokenizer=tokenizer)
