"""The target tokens of a few rows under several models, packed for a record: at most 1,000 bytes a
row, which is what a page can carry for 200 rows.

A number is one character: `chr(256 + code)`. Codes, with their steps: p by its logit (0.094, so p
is right to 5 %), the rank by its logarithm (exact to 20), the entropy in 0.05 nats. The whole is
JSON under xz and base64, a fifth less than under zlib, as earlier records have it.
Alternatives are kept for the most surprising tokens of each row, as many as fit. Standard library
only.
"""

from __future__ import annotations

import base64
import json
import lzma
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "BYTES_A_ROW",
    "GRID",
    "OFFSET",
    "code_entropy",
    "code_p",
    "code_rank",
    "coded",
    "looks_to_dict",
    "pack",
    "pick",
    "unpack",
]

BYTES_A_ROW = 1000
"""Bytes of a packed row at most, on average over the rows."""
_MOST_LOGIT, _CODES = 12.0, 254
OFFSET = 256
_MORE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Tokens of a row with alternatives."""
_CODING = "xz"
_SHORTER = (1024, 512, 256, 128, 64)


def code_p(logp: float) -> int:
    """Return the code of a probability, from its logarithm.

    >>> code_p(math.log(0.5)), code_p(0.0), code_p(-100.0)
    (127, 254, 0)
    """
    rest = -math.expm1(min(logp, -1e-12))
    logit = max(-_MOST_LOGIT, min(_MOST_LOGIT, logp - math.log(rest)))
    return round((logit + _MOST_LOGIT) / (2 * _MOST_LOGIT) * _CODES)


GRID = [
    1 / (1 + math.exp(_MOST_LOGIT - 2 * _MOST_LOGIT * code / _CODES)) for code in range(_CODES + 1)
]
"""Code -> p."""


def code_rank(rank: int) -> int:
    """Return the code of a rank."""
    return min(_CODES, round(16 * math.log2(max(rank, 1))))


def code_entropy(entropy: float) -> int:
    """Return the code of an entropy in nats."""
    return min(_CODES, round(20 * max(entropy, 0.0)))


def looks_to_dict(looks: Sequence[Any]) -> list[dict[str, Any]]:
    """Return looks at rows (`probtune.models.looks`) for a record: codes, and alternatives by
    their ids.
    """
    return [
        {
            "token": look.token.tolist(),
            "p": coded(map(code_p, look.logp.tolist())),
            "h": coded(map(code_entropy, look.entropy.tolist())),
            "r": coded(map(code_rank, look.rank.tolist())),
            **_alternatives(look),
        }
        for look in looks
    ]


_MOST_ALTERNATIVES = 64
"""Tokens of a row whose alternatives are kept at most, before a record thins them."""


def _alternatives(look: Any) -> dict[str, Any]:
    """Return the most probable tokens at the most surprising targets: index -> ids, codes of p."""
    surprising = sorted(range(len(look.logp)), key=lambda i: look.logp[i])[:_MOST_ALTERNATIVES]
    return {
        "top": {
            str(i): [look.top[i].tolist(), coded(map(code_p, look.top_logp[i].tolist()))]
            for i in sorted(surprising)
        }
    }


def pick(surprise: Sequence[float], number: int, *, seed: int = 0) -> list[int]:
    """Return the indices of the rows to look at: all where they are few; else the most surprising
    for a half, and random ones.

    >>> {1, 3} <= set(pick([0.1, 9.0, 0.2, 8.0, 0.3], 4)), len(pick(range(10), 4))
    (True, 4)
    """
    import random

    if len(surprise) <= number:
        return list(range(len(surprise)))
    order = sorted(range(len(surprise)), key=lambda i: -surprise[i])
    rest = order[number // 2 :]
    drawn = random.Random(seed).sample(rest, number - number // 2)
    return sorted([*order[: number // 2], *drawn])


def pack(
    rows: Sequence[Mapping[str, Any]],
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    text_of: Callable[[int], str],
) -> dict[str, Any]:
    """Pack rows and what models make of them.

    Args:
        rows: what each row is: `where`, and what else is to be kept of it.
        models: name -> one of `looks_to_dict` for each row.
        text_of: token id -> its text.
    """
    first = next(iter(models.values()))
    budget = BYTES_A_ROW * max(len(rows), 1)

    def packed(longest: int, most: int) -> dict[str, Any]:
        content = _content(rows, models, first, text_of, most, longest)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        data = base64.b64encode(_compressed(text.encode())).decode()
        shape = {"rows": len(rows), "longest": longest, "alternatives": most}
        return {**shape, "coding": _CODING, "data": data}

    best = packed(_SHORTER[0], 0)
    for longest in _SHORTER[1:]:
        if len(best["data"]) <= budget:
            break
        best = packed(longest, 0)
    for most in _MORE:
        more = packed(best["longest"], most)
        if len(more["data"]) > budget:
            break
        best = more
    return best


def _compressed(content: bytes) -> bytes:
    """Return xz with a dictionary as large as the content: preset 9 alone would set up 64 MiB."""
    size = max(4096, len(content))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size}]
    return lzma.compress(content, filters=filters)


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was packed: `vocabulary` (texts), `rows` (each with `t`, indices into it), and
    `models` (each a list of `p`, `h`, `r` and `a`, alternatives by the token's index).
    """
    if packed.get("coding") == _CODING:
        return json.loads(lzma.decompress(base64.b64decode(packed["data"])))
    return json.loads(zlib.decompress(base64.b64decode(packed["data"])))


def _content(
    rows: Sequence[Mapping[str, Any]],
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    first: Sequence[Mapping[str, Any]],
    text_of: Callable[[int], str],
    most: int,
    longest: int,
) -> dict[str, Any]:
    vocabulary: dict[int, int] = {}

    def index(token: int) -> int:
        return vocabulary.setdefault(token, len(vocabulary))

    packed_rows = [
        {**row, "t": [index(token) for token in look["token"][:longest]]}
        | ({"cut": len(look["token"]) - longest} if len(look["token"]) > longest else {})
        for row, look in zip(rows, first, strict=True)
    ]
    packed_models = {}
    for name, looks in models.items():
        packed_models[name] = []
        for look in looks:
            entry = {key: look[key][:longest] for key in ("p", "h", "r") if key in look}
            surprising = [at for at in look.get("top", {}) if int(at) < len(entry["p"])]
            surprising = sorted(surprising, key=lambda at: entry["p"][int(at)])[:most]
            if surprising:
                entry["a"] = {
                    at: [[index(token) for token in look["top"][at][0]], look["top"][at][1]]
                    for at in surprising
                }
            packed_models[name].append(entry)
    texts = [text_of(token) for token in vocabulary]
    return {"vocabulary": texts, "rows": packed_rows, "models": packed_models}


def coded(codes: Iterable[int]) -> str:
    """Return codes as a text, a character each."""
    return "".join(chr(OFFSET + code) for code in codes)
