"""The part of a page that its script shows: items with their answers, and packed tokens unpacked.

The page carries it as JSON under gzip and base64: small, and no text of a record can be markup.
Every text stands once. Standard library only.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..texts import visible
from .tokens import GRID, unpack

__all__ = ["Texts", "encoded", "evaluated_items", "items_of", "token_sets"]


class Texts:
    """Texts of a page, each once, with control characters written out."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def index(self, text: str | None) -> int | None:
        """Return the index of a text; None has none."""
        return None if text is None else self._index.setdefault(text, len(self._index))

    def all(self) -> list[str]:
        """Return the texts in their order."""
        return [visible(text) for text in self._index]


def encoded(parts: Sequence[Mapping[str, Any]], texts: Texts) -> str:
    """Return the content of a page, as its script decodes it; the same content gives the same
    text.
    """
    content = {
        "grid": [float(f"{p:.4g}") for p in GRID],
        "texts": texts.all(),
        "parts": list(parts),
    }
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(data.encode(), 6, mtime=0)).decode()


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
        items = [
            {
                "w": str(question),
                "q": None,
                "r": None,
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


def token_sets(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sets of rows whose tokens a tune or a probe record holds."""
    probe = record if record["kind"] == "probe" else record["probe"]
    weights = record.get("weights") or {
        "nll()": [1.0] * len(GRID),
        "p()": [round(p, 4) for p in GRID],
        "power(0.5)": [round(math.sqrt(p), 4) for p in GRID],
    }
    named = [
        ("held-out rows", record.get("tokens_of_rows") if record["kind"] == "tune" else None),
        ("training rows after the scout", (record.get("scout") or {}).get("tokens_of_rows")),
        ("training rows, base model", probe.get("tokens_of_rows")),
    ]
    sets = []
    for name, packed in named:
        if packed:
            content = _visible(unpack(packed))
            if content["rows"]:
                if name == "held-out rows":
                    _add_prompts(content["rows"], record)
                sets.append({"name": name, "weights": weights, **content})
    return sets


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
