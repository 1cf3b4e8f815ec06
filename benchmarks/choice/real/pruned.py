"""The estimate of wrong rows on another model: SmolLM2-135M without one of its 30 layers.

    python -m benchmarks.choice.real.pruned               run what is missing (two minutes a cell)
    python -m benchmarks.choice.real.pruned --influence   how much each layer changes its input
    python -m benchmarks.choice.real.pruned --summary     the table of what was run
    python -m benchmarks.choice.real.pruned --page        the same into the document

Every limit of the estimate was set on one model. No other language model fits into an extra, so
this one is made from it: the layer is left out whose output is most like its input, and nothing is
trained after it. It knows less and is surprised by other tokens; no limit was changed for it.

Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024,
https://arxiv.org/abs/2403.03853: the influence of a layer is 1 - cos(input, output), on average
over tokens.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...blocks import Table, aligned, write
from . import estimates
from .tasks import FACTS
from .trainings import DOCUMENTS, MODEL, cell_of, read, run_missing

__all__ = ["cells", "influence", "page", "run", "without"]

RESULTS = Path(__file__).with_name("pruned.jsonl")
LAYER = 13
"""The layer that is left out, from 0: the one with the least influence."""
TASKS = ("upper", "mixed-sentences", "count-on", "sort", "shop", "steps")
KINDS = (("none", 0.0), ("other_row", 0.4), ("missing", 0.2), ("slip", 0.2), ("garbled", 0.2))


def cells() -> Iterator[tuple[str, str, float, int]]:
    """(task, kind, rate, seed)."""
    yield from ((task, kind, rate, 0) for kind, rate in KINDS for task in TASKS)
    yield from ((task, *KINDS[0], 0) for task in FACTS)


def without(model: Any, layer: int) -> Any:
    """Leave a layer out of a model, which is changed."""
    body = model.base_model
    layers: list[Any] = [x for i, x in enumerate(body.layers) if i != layer]
    for i, each in enumerate(layers):
        each.self_attn.layer_idx = i
    body.layers = torch.nn.ModuleList(layers)
    model.config.num_hidden_layers = len(layers)
    return model


@torch.no_grad()
def influence(model: Any, tokenizer: Any) -> np.ndarray:
    """Return the influence of each layer over clean rows of a task, (layers,)."""
    rows, _, _ = estimates.encoded_rows(tokenizer, "mixed-sentences", "none", 0.0, 0, 16)
    of_rows = []
    for row in rows:
        ids = torch.from_numpy(row.input_ids).long()[None]
        states = model.base_model(ids, use_cache=False, output_hidden_states=True).hidden_states
        pairs = zip(states[:-1], states[1:], strict=True)
        of_rows.append([1 - torch.cosine_similarity(a, b, -1).mean().item() for a, b in pairs])
    return np.mean(of_rows, axis=0)


def run(model: Any, tokenizer: Any, cell: tuple[str, str, float, int]) -> dict[str, Any]:
    """One cell of the whole model's tasks, by a copy without the layer."""
    return estimates.run(without(copy.deepcopy(model), LAYER), tokenizer, cell)


def page(lines: list[dict[str, Any]], whole: list[dict[str, Any]]) -> Table:
    """By kind: both models on the same cells, each where it claims to know.

    Args:
        whole: the cells of the whole model.
    """
    of_whole = {cell_of(r): r for r in whole}
    rows = []
    for kind, rate, facts in (*((*kind, False) for kind in KINDS), (*KINDS[0], True)):
        part = [r for r in lines if r["kind"] == kind and (r["task"] in FACTS) is facts]
        both = [of_whole[cell_of(r)] for r in part if cell_of(r) in of_whole]
        if part:
            named = f"{kind}, {rate:.0%}" if rate else kind + ", facts" * facts
            rows.append([named, str(len(part)), *_errors(part), str(len(both)), *_errors(both)])
    header = ["wrong rows", "cells", "known", "off by", "worst", "least AUC"]
    return [*header, "cells, whole model", *header[2:]], rows


def _errors(lines: list[dict[str, Any]]) -> tuple[str, str, str, str]:
    """(cells that are known, and of these: points off, the largest error, the least AUC)."""
    claims = [r for r in lines if r["known"]]
    if not claims:
        return "0", "-", "-", "-"
    aucs = [r["auc"] for r in claims if r["auc"] is not None]
    least = f"{min(aucs):.2f}" if aucs else "-"
    return str(len(claims)), *estimates.off_by(estimates.errors_of(claims)), least


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.pruned")
    parser.add_argument("--influence", action="store_true", help="how much each layer changes")
    parser.add_argument("--summary", action="store_true", help="print the table, run nothing")
    parser.add_argument("--page", action="store_true", help="write the table into docs/ and stop")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N cells")
    options = parser.parse_args()
    if options.influence:
        from probtune.models.loading import load_model, load_tokenizer

        model, tokenizer = load_model(MODEL, device="cpu"), load_tokenizer(MODEL)
        for layer, changes in enumerate(influence(model, tokenizer)):
            print(f"{layer:2}  {changes:.4f}")
        return
    if not (options.page or options.summary):
        run_missing(RESULTS, cells(), limit=options.limit, by=run)
    table = page(read(RESULTS), estimates.read())
    if options.page:
        write(DOCUMENTS / "choice-bench.md", "estimates-pruned", table)
        return
    print(aligned(table))


if __name__ == "__main__":
    main()
