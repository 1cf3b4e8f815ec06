"""Training sets by name, and the text that names one with its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType

from ...errors import UsageError
from . import figlet, instruction, languages, magicoder, medical, numina, openbookqa
from .base import Corpus
from .noise import read_noise

__all__ = ["CORPORA", "DOMAINS", "corpus", "slug"]

CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        training_set.name: training_set
        for module in (numina, medical, figlet, instruction, magicoder, languages, openbookqa)
        for training_set in module.CORPORA
    }
)
"""Name -> training set, in the order of the paper's domains."""

DOMAINS = tuple(dict.fromkeys(training_set.domain for training_set in CORPORA.values()))

_TEXT = re.compile(r"(?:(?P<domain>[\w-]+)/)?(?P<name>[\w-]+)(?:\((?P<options>[^()]*)\))?")


def corpus(text: str) -> Corpus:
    """Return the training set that a text names: `numina-67k`, `math/numina-67k`,
    `openbookqa-noisy(0.1)`, `openbookqa-noisy(0.5, next)`.

    >>> corpus("knowledge/openbookqa-noisy(0.1)").noise
    Noise(rate=0.1, kind='uniform')

    Raises:
        UsageError: no training set has this name (the message holds similar names), or it takes no
            options.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or match["name"] not in CORPORA:
        name = match["name"] if match else text
        close = get_close_matches(name, CORPORA, n=3, cutoff=0.4)
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"there is no corpus {text!r}.{meant} All: probtune prepare --list.")
    entry = CORPORA[match["name"]]
    if match["domain"] and match["domain"] != entry.domain:
        raise UsageError(
            f"{entry.name} belongs to {entry.domain}, not to {match['domain']}: write"
            f" {entry.domain}/{entry.name} or {entry.name}."
        )
    options = [part.strip() for part in (match["options"] or "").split(",") if part.strip()]
    if not options:
        return entry
    if entry.noise is None:
        raise UsageError(f"{entry.name} has no options, got ({match['options']}).")
    return replace(entry, noise=read_noise(options, rate=entry.noise.rate))


def slug(chosen: Corpus) -> str:
    """Return a corpus as a folder name.

    >>> slug(corpus("openbookqa-noisy(0.5, next)"))
    'openbookqa-noisy_0.5_next'
    """
    if chosen.noise is None:
        return chosen.name
    return f"{chosen.name}_{chosen.noise.rate:g}_{chosen.noise.kind}"
