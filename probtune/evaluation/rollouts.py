"""Rollouts: answers that a model draws to the prompts of training rows, at temperature 1, in a file
that an interrupted command goes on from.

    FILE.answers.jsonl    a header with the model, the prompts and the settings, then one line for
                          every answer: {"row", "sample", "text", "ended"}

Answers are drawn in blocks of rows, one sample of each at a time. A block's draws depend on its
seed and its prompts alone, so that a command that was interrupted, or that asks for more samples
later, gives the same answers as one that was not. Prompts are the tokens that training gives the
model before the (last) response.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.tokens import Encoded
from ..errors import DataError, UsageError
from ..files import write_pieces
from ..records import digest
from ..terminal import Terminal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Rollout", "answers_path", "draw_rollouts"]

_ROWS = 32
"""Rows of a block."""


@dataclass(frozen=True)
class Rollout:
    """One answer of the model."""

    row: int
    """Index of the row, from 0."""
    sample: int
    """0 to k - 1."""
    text: str
    """Without special tokens."""
    ended: bool
    """False if it reached the limit of tokens."""


def answers_path(out: Path) -> Path:
    """Return the file of the answers behind a file of rows.

    >>> answers_path(Path("runs/weighted.jsonl")).name
    'weighted.answers.jsonl'
    """
    return out.with_name(f"{out.stem}.answers.jsonl")


def draw_rollouts(
    rows: Sequence[Encoded],
    path: Path,
    *,
    model: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    identity: Mapping[str, Any],
    samples: int,
    max_new_tokens: int,
    seed: int,
    terminal: Terminal,
) -> list[list[Rollout]]:
    """Return `samples` answers to each row's prompt, drawn or from the file.

    Args:
        model: loads the model; called only if answers are missing.
        identity: what the answers depend on besides, the model's files for one.

    Raises:
        UsageError: the file holds answers to other prompts, of another model or other settings.
        DataError: the file is damaged before its end.
    """
    header = {
        "kind": "rollouts",
        "schema": 1,
        **identity,
        "prompts": digest(row.prompt_ids.tolist() for row in rows),
        "rows": len(rows),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    drawn = _read(path, header)
    blocks = [range(at, min(at + _ROWS, len(rows))) for at in range(0, len(rows), _ROWS)]
    pairs = [(k, sample) for sample in range(samples) for k in range(len(blocks))]
    complete = [key for key in pairs if all((row, key[1]) in drawn for row in blocks[key[0]])]
    missing = [key for key in pairs if key not in set(complete)]
    if missing:
        _keep_whole(path, header, drawn, blocks)
        lm = model()
        ends = {row.end for row in rows if row.end is not None}
        with terminal.track("answers", samples * len(rows)) as advance:
            advance(sum(len(blocks[k]) for k, _ in complete))
            for k, sample in missing:
                new = _block(lm, tokenizer, rows, blocks[k], sample, max_new_tokens, seed, ends)
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(map(_line, new)))
                drawn |= {(rollout.row, rollout.sample): rollout for rollout in new}
                advance(len(new))
    return [[drawn[row, sample] for sample in range(samples)] for row in range(len(rows))]


def _block(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    block: range,
    sample: int,
    max_new_tokens: int,
    seed: int,
    ends: set[int],
) -> list[Rollout]:
    """Draw one answer to each row of a block."""
    from ..models.generation import continue_prompts

    state = np.random.SeedSequence([seed, block.start, sample]).generate_state(1)
    continuations = continue_prompts(
        model,
        tokenizer,
        [rows[row].prompt_ids for row in block],
        max_new_tokens=max_new_tokens,
        stop=ends,
        seed=int(state[0]),
    )
    return [
        Rollout(row, sample, one.text, one.ended)
        for row, one in zip(block, continuations, strict=True)
    ]


def _line(rollout: Rollout) -> str:
    return json.dumps(asdict(rollout), ensure_ascii=False) + "\n"


def _read(path: Path, header: Mapping[str, Any]) -> dict[tuple[int, int], Rollout]:
    """Return the answers of a file by row and sample; none if there is no file. A last line that
    was cut off is left out.
    """
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        before = json.loads(lines[0])
    except ValueError:
        before = None
    if not isinstance(before, dict) or before.get("kind") != "rollouts":
        raise DataError(f"{path} is no file of answers; move it away, or choose another --out.")
    for name in sorted({*before, *header}):
        if before.get(name) != header.get(name):
            raise UsageError(
                f"{path} holds answers with another {_WORDS.get(name, name)}; remove it, or choose"
                " another --out."
            )
    drawn = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            rollout = Rollout(**json.loads(line))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            raise DataError(
                f"{path}:{number} is no answer; was the file edited? Remove it and draw again."
            ) from None
        drawn[rollout.row, rollout.sample] = rollout
    return drawn


_WORDS = {
    "model": "model",
    "prompts": "set of prompts (rows, their order, or how they are written)",
    "rows": "number of rows",
    "max_new_tokens": "--max-new-tokens",
    "seed": "--seed",
}


def _keep_whole(
    path: Path,
    header: Mapping[str, Any],
    drawn: dict[tuple[int, int], Rollout],
    blocks: Sequence[range],
) -> None:
    """Write the header and the whole blocks, without what an interruption left of the last one."""
    samples = sorted({sample for _, sample in drawn})
    whole = [
        drawn[row, sample]
        for sample in samples
        for block in blocks
        if all((row, sample) in drawn for row in block)
        for row in block
    ]
    drawn.clear()
    drawn |= {(rollout.row, rollout.sample): rollout for rollout in whole}
    head = json.dumps(dict(header), ensure_ascii=False) + "\n"
    write_pieces(path, (head, *map(_line, whole)))
