"""Releases of each engine that the integrations were tested with."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import NamedTuple

from ..errors import UsageError

__all__ = ["TESTED", "Tested", "check_version"]

_LOGGER = logging.getLogger(__name__)


class Tested(NamedTuple):
    """A range of releases."""

    package: str
    first: str
    last: str


TESTED = {
    "transformers": Tested("transformers", "5.24", "5.24"),
    "trl": Tested("trl", "1.16", "1.16"),
    "verl": Tested("verl", "0.9", "0.9"),
    "torchtitan": Tested("torchtitan", "0.3", "0.3"),
    "axolotl": Tested("axolotl", "0.19", "0.21"),
    "swift": Tested("ms-swift", "4.6", "4.6"),
    "tinker": Tested("tinker", "0.38", "0.38"),
    "automodel": Tested("nemo-automodel", "0.7", "0.7"),
    "unsloth": Tested("unsloth", "2026.10", "2026.10"),
    "llamafactory": Tested("llamafactory", "0.9", "0.9"),
    "lightning": Tested("pytorch-lightning", "2.6", "2.6"),
}
"""Engine -> the releases whose hooks `make integrations` has seen."""


def check_version(engine: str) -> str | None:
    """Return the installed release of an engine; warn if it lies outside of the tested range.

    Raises:
        UsageError: the engine is not installed.
    """
    package, first, last = TESTED[engine]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(
            f"{package} is not installed in this environment; install it there, and probtune beside"
            " it."
        ) from None
    if not _numbers(first) <= _numbers(version)[:2] <= _numbers(last):
        _LOGGER.warning(
            "%s %s is outside of the releases that were tested, %s to %s; the first step proves the"
            " loss, as always.", package, version, first, last,
        )  # fmt: skip
    return version


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts[:2] if part.isdigit())
