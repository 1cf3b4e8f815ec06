"""The way that p went: the target tokens of the viewed held-out rows before and after a training.

NLL of held-out rows may rise while answers become better: an objective that does not insist on
improbable tokens lets them fall. The tables show it: bins of p before and after, and the change of
NLL split into tokens that rose and tokens that fell. Standard library only.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ..texts import token_kind
from .tokens import GRID, OFFSET, unpack

__all__ = ["BINS", "movement"]

BINS = ("< 0.01", "0.01-0.1", "0.1-0.5", "0.5-0.9", "> 0.9")
_EDGES = (0.01, 0.1, 0.5, 0.9)
# Of every p that a record can hold.
_BIN = [bisect_right(_EDGES, p) for p in GRID]
_LOG = [math.log(p) for p in GRID]


def movement(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each trained model, `name`, the number of `tokens`, the shares `moves` (bins
    before x bins after, of all tokens) and `kinds`: for all tokens and by kind of token the mean p
    before and after, and the change of mean NLL by tokens that `rose` and by those that `fell`.

    Empty where the record holds no tokens of the rows.
    """
    packed = record.get("tokens_of_rows")
    if not packed:
        return []
    content = unpack(packed)
    base = content["models"].get("base")
    if base is None:
        return []
    kind_of = [_kind(text) for text in content["vocabulary"]]
    kinds = [kind_of[index] for row in content["rows"] for index in row["t"]]
    before = _codes(base)
    parts = []
    for name, entries in content["models"].items():
        if name != "base":
            parts.append({"name": name, **_of_model(before, _codes(entries), kinds)})
    return parts


def _of_model(before: Sequence[int], after: Sequence[int], kinds: Sequence[str]) -> dict[str, Any]:
    number = max(len(before), 1)
    moves = [[0.0] * len(BINS) for _ in BINS]
    sums: dict[str, list[float]] = {}
    for a, b, kind in zip(before, after, kinds, strict=True):
        moves[_BIN[a]][_BIN[b]] += 1 / number
        rise = _LOG[a] - _LOG[b]  # of the NLL
        for name in ("all", kind):
            row = sums.setdefault(name, [0.0] * 6)
            row[0] += 1
            row[1] += GRID[a]
            row[2] += GRID[b]
            row[3 if rise <= 0 else 4] += rise
            row[5] += b < a
    return {
        "tokens": len(before),
        "moves": moves,
        "kinds": [
            {
                "name": name,
                "tokens": int(n),
                "before": p / n,
                "after": q / n,
                "rose": rose / n,
                "fell": fell / n,
                "share_fell": falling / n,
            }
            for name, (n, p, q, rose, fell, falling) in sorted(
                sums.items(), key=lambda item: (item[0] != "all", -item[1][0])
            )
        ],
    }


def _codes(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    return [ord(code) - OFFSET for entry in entries for code in entry["p"]]


def _kind(text: str) -> str:
    if re.fullmatch(r"<[^<>\s]+>|\[[A-Z]+\]", text):
        return "special"
    return token_kind(text)
