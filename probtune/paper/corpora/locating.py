"""Folders of prepared training sets, and the settings' name for one: `corpus:numina-67k`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...models.packaged import cache
from ...terminal import Terminal
from .preparing import prepare, request
from .table import corpus, slug

__all__ = ["default_folder", "locate", "resolve"]

_PREFIX = "corpus:"


def default_folder(requested: Mapping[str, Any]) -> Path:
    """Return the folder of a request in the cache; equal requests share it, others never do."""
    key = hashlib.sha256(json.dumps(requested, sort_keys=True).encode()).hexdigest()[:10]
    return cache("corpora") / f"{requested['corpus']}-{key}"


def resolve(
    name: str,
    *,
    terminal: Terminal,
    seed: int | None = None,
    tokenizer: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> Path:
    """Return the prepared rows of a training set; prepare them first if necessary.

    Args:
        name: such as `numina-67k` or `openbookqa-noisy(0.3)`.
        seed: seed of subset, order and label noise. None: the corpus's own, which is the paper's if
            it has one. Pass a run's seed only if the data is to change with it.
        tokenizer: one or several that measure the length, if the corpus bounds it.

    Raises:
        UsageError: no training set has this name.
        DataError: it cannot be prepared; see `probtune.paper.corpora.prepare`.
    """
    chosen = corpus(name)
    tokenizers = (tokenizer,) if isinstance(tokenizer, str) else tuple(tokenizer or ())
    requested = request(chosen, tokenizers=tokenizers, seed=seed, limit=limit)
    manifest = prepare(
        chosen,
        out=default_folder(requested),
        tokenizers=tokenizers,
        seed=seed,
        limit=limit,
        terminal=terminal,
    )
    terminal.say(f"{slug(chosen)}: {manifest.rows} rows, {manifest.path}")
    return manifest.path


def locate(
    text: str,
    *,
    terminal: Terminal,
    seed: int | None = None,
    tokenizer: str | Sequence[str] | None = None,
) -> Path | None:
    """Return the rows that `corpus:NAME` stands for; None if the text names no corpus."""
    if not text.startswith(_PREFIX):
        return None
    return resolve(text.removeprefix(_PREFIX), terminal=terminal, seed=seed, tokenizer=tokenizer)
