"""Target tokens for the pages: which rows are looked at under every model of a run, and what the
record keeps of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encoding import Encoded
from ..measure.heldout import HeldOut
from ..models.loading import TokenTable
from ..models.looks import Look, look
from ..objectives import Objective
from ..records import read_record, write_record
from ..reports.groups import largest_groups
from ..reports.tokens import GRID, looks_to_dict, pack, pick
from ..statistics import share

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "VIEWED_ROWS",
    "by_group",
    "heldout_tokens",
    "look_at_heldout",
    "probed_tokens",
    "tokens_under_scout",
    "weights_of",
]

VIEWED_ROWS = 200
"""Rows whose tokens a page shows at most."""
_SHOWN_CHARACTERS = 300


def look_at_heldout(
    path: Path, model: PreTrainedModel, rows: Sequence[Encoded], heldout: HeldOut, base: Path
) -> None:
    """Write what a model makes of the tokens of some held-out rows: those of the base model's
    file, where there is one, else the most surprising ones and random ones.
    """
    if base.is_file():
        indices = read_record(base, "tokens")["indices"]
    else:
        each = [
            nll / max(tokens, 1) for nll, tokens in zip(heldout.nll, heldout.tokens, strict=True)
        ]
        indices = pick(each, VIEWED_ROWS)
    looks = looks_to_dict(look(model, [rows[i] for i in indices]))
    write_record(path, "tokens", {"indices": indices, "rows": looks})


def heldout_tokens(
    files: Mapping[str, Path], rows: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any] | None:
    """Pack the files that `look_at_heldout` wrote, by the names of their models; None if one of
    them is missing, as in a run that began with an earlier version.
    """
    if not all(path.is_file() for path in files.values()):
        return None
    records = {name: read_record(path, "tokens") for name, path in files.items()}
    indices = next(iter(records.values()))["indices"]
    return pack(
        [{"i": i, "where": rows[i].where} for i in indices],
        {name: record["rows"] for name, record in records.items()},
        _text_of(tokenizer),
    )


def probed_tokens(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    table: TokenTable,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Pack the tokens of some probed rows under the base model: those with most confident
    conflicts, and random ones.
    """
    conflict = (np.exp(table.logp) < 0.1) & (table.entropy < math.log(2))
    surprise = table.per_example(conflict) - table.per_example(table.logp) / 1e3
    indices = pick((surprise / np.maximum(table.counts, 1)).tolist(), VIEWED_ROWS)
    looks = looks_to_dict(look(model, [rows[i] for i in indices]))
    chosen = [_row(rows[i], tokenizer) for i in indices]
    return pack(chosen, {"base": looks}, _text_of(tokenizer))


def tokens_under_scout(
    rows: Sequence[Encoded],
    looks: Sequence[Look],
    excess: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Pack the tokens of rows that were measured under the scout, those that look most wrong
    first.

    Args:
        looks: tokens of each row.
        excess: surprise of each row beyond the others.
    """
    order = np.argsort(-excess, kind="stable")[:VIEWED_ROWS].tolist()
    chosen_looks = looks_to_dict([looks[i] for i in order])
    chosen = [{**_row(rows[i], tokenizer), "excess": round(float(excess[i]), 2)} for i in order]
    return pack(chosen, {"after the scout": chosen_looks}, _text_of(tokenizer))


def by_group(table: TokenTable, groups: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return mean p and the share of p < 0.1 of the rows of each group, the largest group first;
    rows without a group do not count.
    """
    p = np.exp(table.logp)
    sums = {"mean_p": table.per_example(p), "below_0_1": table.per_example((p < 0.1) * 1.0)}
    entries = []
    for name, mine in largest_groups(groups):
        counts = table.counts[mine]
        estimates = {key: share(values[mine], counts) for key, values in sums.items()}
        entries.append({"name": name, "rows": len(mine), "tokens": int(counts.sum()), **estimates})
    return entries


def weights_of(objectives: Sequence[Objective]) -> dict[str, list[float]]:
    """Return the token weight of each objective on the grid of p of packed tokens, for those that
    are functions of p alone.
    """
    import torch

    logp = torch.tensor(GRID, dtype=torch.float64).log()
    return {
        str(objective): [round(float(w), 4) for w in objective.token_weight(logp)]
        for objective in objectives
        if not objective.needs
    }


def _row(row: Encoded, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    prompt = str(tokenizer.decode(row.prompt_ids))[-_SHOWN_CHARACTERS:]
    return {"where": row.where, "prompt": prompt, "response": row.response[:_SHOWN_CHARACTERS]}


def _text_of(tokenizer: PreTrainedTokenizerBase) -> Callable[[int], str]:
    def text(token: int) -> str:
        return str(tokenizer.decode([token]))

    return text
