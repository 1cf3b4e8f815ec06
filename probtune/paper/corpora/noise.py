"""Label noise on multiple choices: a known share of the answers is replaced by another option, and
the changed rows are marked.

    uniform    each of the other options is equally likely
    next       the option after it, the first after the last: the noise of a permuted label map

The share is exact: int(rate x rows) rows are drawn without replacement, by the standard library's
`random.Random(seed).sample` as in the paper's code, so that its seed changes the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...errors import UsageError
from .base import Noise

__all__ = ["KINDS", "corrupt", "read_noise"]

KINDS = ("uniform", "next")


def corrupt(
    answers: Sequence[str],  # letter of each row
    options: Sequence[Sequence[str]],  # letters of each row
    noise: Noise,
    *,
    seed: int,
) -> dict[int, str]:
    """Return row -> new letter for the rows that change.

    >>> answers, options = ["A"] * 10, [("A", "B", "C", "D")] * 10
    >>> changed = corrupt(answers, options, Noise(0.3, "next"), seed=42)
    >>> len(changed), set(changed.values())
    (3, {'B'})
    """
    generator = random.Random(seed)
    changed = {}
    for row in sorted(generator.sample(range(len(answers)), int(len(answers) * noise.rate))):
        letters = list(options[row])
        if noise.kind == "next":
            changed[row] = letters[(letters.index(answers[row]) + 1) % len(letters)]
        else:
            changed[row] = generator.choice([x for x in letters if x != answers[row]])
    return changed


def read_noise(texts: Sequence[str], *, rate: float) -> Noise:
    """Parse `("0.3", "next")` into Noise(0.3, "next"); the defaults are `rate` and uniform.

    Raises:
        UsageError: a part is neither a rate in [0, 1] nor a kind.
    """
    kind = KINDS[0]
    for text in texts:
        if text in KINDS:
            kind = text
            continue
        try:
            rate = float(text)
        except ValueError:
            raise UsageError(
                f"label noise is a rate and one of {', '.join(KINDS)}, got {text!r}."
            ) from None
        if not 0 <= rate <= 1:
            raise UsageError(f"a label noise rate lies in [0, 1], got {text}.")
    return Noise(rate, kind)
