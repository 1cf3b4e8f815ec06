"""The part of a page that its script shows: items with their answers, and packed tokens unpacked.

The page carries it as JSON under gzip and base64: small, and no text of a record can be markup.
Every text stands once. A page of several runs has the room of one: `MOST_CHARACTERS` and
`MOST_ROWS` are for all of them, so that ten runs of 1,000 items stay below 5 MB. Standard library
only.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..texts import visible
from .tokens import GRID, OFFSET, pick, unpack

__all__ = [
    "MOST_CHARACTERS",
    "MOST_ROWS",
    "Texts",
    "encoded",
    "evaluated_items",
    "items_of",
    "number_of_sets",
    "token_sets",
]

MOST_CHARACTERS = 5_000_000
"""Characters of all texts of a page, about half as many bytes; long texts are cut in the middle."""
_FEWEST_CHARACTERS = 200
"""Characters that every text keeps."""
MOST_ROWS = 1200
"""Rows with their tokens in all sets of a page."""
_FEWEST_ROWS = 20


class Texts:
    """Texts of a page, each once, with control characters written out."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    @property
    def longest(self) -> int | None:
        """The characters that a text keeps where all together are too many; None where none is
        cut.
        """
        lengths = sorted(map(len, self._index))
        left = MOST_CHARACTERS
        for number, length in zip(range(len(lengths), 0, -1), lengths, strict=True):
            if length * number > left:
                return max(left // number, _FEWEST_CHARACTERS)
            left -= length
        return None

    def index(self, text: str | None) -> int | None:
        """Return the index of a text; None has none."""
        return None if text is None else self._index.setdefault(text, len(self._index))

    def all(self) -> list[str]:
        """Return the texts in their order, cut in the middle to `longest`."""
        most = self.longest
        return [visible(_shortened(text, most)) for text in self._index]


def encoded(parts: Sequence[Mapping[str, Any]], texts: Texts) -> str:
    """Return the content of a page, as its script decodes it; the same content gives the same
    text.
    """
    content = {
        "grid": [float(f"{p:.4g}") for p in GRID],
        "texts": texts.all(),
        "parts": list(parts),
    }
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(data.encode(errors="replace"), 6, mtime=0)).decode()


def items_of(record: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """Return the held-out items of a tune record: question, reference, and the answer of each
    model, whether it is right, and its mean log p.
    """
    runs = record["runs"]
    columns = [run["heldout"]["items"] for run in runs]
    items = []
    for i, item in enumerate(record["data"]["items"]):
        items.append(
            {
                "w": str(item["where"]),
                "q": texts.index(str(item["prompt"])),
                "r": texts.index(str(item["reference"])),
                "a": [texts.index(_at(column, "prediction", i)) for column in columns],
                "ok": [_right(column, i) for column in columns],
                "s": [_mean_logp(column, i) for column in columns],
            }
        )
    names = [run["name"] for run in runs]
    return {"title": "", "models": names, "first": 0, "items": items}


def evaluated_items(record: Mapping[str, Any], texts: Texts) -> list[dict[str, Any]]:
    """Return the questions of an evaluation or a comparison, a list for each benchmark."""
    lists = []
    for one in record.get("items") or []:
        columns = one["columns"]
        none = [None] * len(one["ids"])
        questions, right = one.get("questions") or none, one.get("references") or none
        items = [
            {
                "w": str(question),
                "q": texts.index(questions[i]),
                "r": texts.index(right[i]),
                "a": [texts.index(_answer(column, i)) for column in columns],
                "ok": [int(column["scores"][i] >= 1) for column in columns],
            }
            for i, question in enumerate(one["ids"])
        ]
        names = [column["name"] for column in columns]
        lists.append({"title": str(one["title"]), "models": names, "first": 0, "items": items})
    return lists


def _answer(column: Mapping[str, Any], i: int) -> str:
    """Return the end of an answer, with the short answer that was read in it."""
    short = column["answers"][i]
    read = "no answer could be read" if short is None else f"read as: {short}"
    return f"{column['texts'][i]}\n\n[{read}]"


def number_of_sets(record: Mapping[str, Any]) -> int:
    """Return the number of sets of rows whose tokens a record holds."""
    return sum(1 for _, packed in _packed_sets(record) if packed and packed["rows"])


def token_sets(record: Mapping[str, Any], of_page: int = 1) -> list[dict[str, Any]]:
    """Return the sets of rows whose tokens a tune or a probe record holds.

    Args:
        of_page: number of sets that share a page; with more than six each has fewer rows: half of
            them the most surprising ones under its first model, the others random.
    """
    weights = record.get("weights") or {
        "nll()": [1.0] * len(GRID),
        "p()": [round(p, 4) for p in GRID],
        "power(0.5)": [round(math.sqrt(p), 4) for p in GRID],
    }
    most = max(MOST_ROWS // max(of_page, 1), _FEWEST_ROWS)
    sets = []
    for name, packed in _packed_sets(record):
        if packed:
            content = unpack(packed)
            of_rows = len(content["rows"])
            content = _visible(_thinned(content, most))
            if content["rows"]:
                if name == "held-out rows":
                    _add_prompts(content["rows"], record)
                sets.append({"name": name, "weights": weights, "of": of_rows, **content})
    return sets


def _packed_sets(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    if record["kind"] not in ("tune", "probe"):
        return []
    probe = record if record["kind"] == "probe" else record["probe"]
    return [
        ("held-out rows", record.get("tokens_of_rows") if record["kind"] == "tune" else None),
        ("training rows after the scout", (record.get("scout") or {}).get("tokens_of_rows")),
        ("training rows, base model", probe.get("tokens_of_rows")),
    ]


def _thinned(content: dict[str, Any], most: int) -> dict[str, Any]:
    """Return unpacked tokens with this many rows at most, and the part of the vocabulary that they
    need.
    """
    if len(content["rows"]) <= most:
        return content
    first = next(iter(content["models"].values()))
    surprise = [
        -sum(math.log(GRID[ord(code) - OFFSET]) for code in entry["p"]) / max(len(entry["p"]), 1)
        for entry in first
    ]
    indices = pick(surprise, most)
    needed: dict[int, int] = {}

    def index(old: int) -> int:
        return needed.setdefault(old, len(needed))

    rows = [
        {**row, "t": [index(t) for t in row["t"]]} for row in _at_indices(content["rows"], indices)
    ]
    models = {}
    for name, entries in content["models"].items():
        models[name] = [
            {
                **entry,
                **(
                    {"a": {at: [[index(t) for t in ids], p] for at, (ids, p) in entry["a"].items()}}
                    if "a" in entry
                    else {}
                ),
            }
            for entry in _at_indices(entries, indices)
        ]
    return {
        "vocabulary": _at_indices(content["vocabulary"], needed),
        "rows": rows,
        "models": models,
    }


def _at_indices(values: Sequence[Any], indices: Iterable[int]) -> list[Any]:
    return [values[i] for i in indices]


def _add_prompts(rows: Sequence[dict[str, Any]], record: Mapping[str, Any]) -> None:
    items = record["data"]["items"]
    for row in rows:
        row["prompt"] = visible(str(items[row["i"]]["prompt"]))[-300:]


def _at(column: Mapping[str, Any], name: str, i: int) -> str | None:
    values = column.get(name)
    return None if values is None or values[i] is None else str(values[i])


def _right(column: Mapping[str, Any], i: int) -> int | None:
    exact = column.get("exact")
    return None if exact is None or exact[i] is None else int(exact[i])


def _mean_logp(column: Mapping[str, Any], i: int) -> float | None:
    return round(-column["nll"][i] / max(column["tokens"][i], 1), 3)


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [_visible(item) for item in value]
    if isinstance(value, dict):
        return {visible(key): _visible(item) for key, item in value.items()}
    return value


def _shortened(text: str, most: int | None) -> str:
    """Return the two ends of a text that is too long."""
    if most is None or len(text) <= most:
        return text
    half = (most - 7) // 2
    return f"{text[:half]} [...] {text[-half:]}"
