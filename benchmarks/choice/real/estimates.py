"""Errors of the estimate of wrong rows on a real model: SmolLM2-135M, the tasks and kinds of
wrong rows of this folder, by the product's own scout and estimate.

    python -m benchmarks.choice.real.estimates               run what is missing (a minute a cell)
    python -m benchmarks.choice.real.estimates --summary     the table of what was run
    python -m benchmarks.choice.real.estimates --page        the same into the document
    python -m benchmarks.choice.real.estimates --scouted 256 a longer scout, of 256 rows

A cell is a task, a kind of wrong rows, their rate and a seed: 128 rows for the scout, and 128 that
the estimate reads (fewer where a task has no more). With 256 rows the scout goes on for up to 16
steps. Each finished cell is one line of estimates.jsonl, so that a stopped run goes on. The limits
of the estimate were set by hand while looking at some tasks (`SEEN_WHILE_SET`); the others had no
part in it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...blocks import Table, write
from .noise import HELD_OUT, corrupt
from .tasks import FACTS, GSM8K, LABELS, LATER, LATER_FACTS, TASKS, TEXTS, draw

DOCUMENTS = Path(__file__).parents[3] / "docs"
RESULTS = Path(__file__).with_name("estimates.jsonl")
MODEL = "smollm2-135m"
SEEN_WHILE_SET = (
    *("mixed-sentences", "mixed-terse", "sort", "spell", "steps", "gym-family"),
    *("addition", "count-on", "upper", "gym-chain-sum", "shop"),
    *("gym-reordering", "gsm8k"),  # for the limits KNOWN_WRITES, _TOKENS and _SHARE alone
    *LABELS,  # for the prompt that a row is put behind
    "gym-word-sequence-reversal",  # for STUMBLE
    *FACTS,  # for LEAST_TOKENS and KNOWN_HALFWAY
)
SCOUTED, LONGER = 128, 256
"""Rows for the scout."""
_MEASURED = 128
_KINDS = (
    *(("none", 0.0), ("other_row", 0.4), ("slip", 0.2), ("other_row", 0.1)),
    *(("wrong_format", 0.2), ("missing", 0.2), ("one_sided", 0.4)),
    *(("refusal", 0.2), ("echo", 0.2), ("garbled", 0.2), ("twice", 0.2)),
)
_FIRST = ("upper", "addition", "mixed-terse", "gym-words", "gym-arithmetic", "count-on")


def cells() -> Iterator[tuple[str, str, float, int]]:
    """(task, kind, rate, seed), the most telling first."""
    order = (*_FIRST, *(name for name in TASKS if name not in _FIRST))
    for kinds in (_KINDS[:2], _KINDS[2:3], _KINDS[3:]):
        for task in order:
            if task == "gsm8k" and GSM8K not in os.environ:
                continue
            yield from ((task, *kind, 0) for kind in kinds if kind in _kinds_of(task))


def _kinds_of(task: str) -> tuple[tuple[str, float], ...]:
    if task in LATER:
        return _KINDS[:1]
    if task in FACTS or task in LATER_FACTS:
        return _KINDS[:2]
    return _KINDS[:3] if task in TEXTS else _KINDS


def encoded_rows(
    tokenizer: Any, task: str, kind: str, rate: float, seed: int, number: int, clean: int = 0
) -> tuple[list[Any], list[bool], list[Any]]:
    """Draw a cell's rows as tokens: (rows with their share of wrong ones, which are wrong, further
    rows that are all right).
    """
    from probtune.data.encoding import encode
    from probtune.data.prompts import PromptSpec
    from probtune.data.rows import rows_from

    rows = draw(TASKS[task], number + clean, seed)
    if len(rows) < number + clean:
        raise ValueError(f"{task} has {len(rows)} distinct rows, asked for {number + clean}.")
    rows, right = rows[:number], rows[number:]
    wrong = [False] * len(rows)
    if rate:
        rows, wrong = corrupt(rows, kind=kind, rate=rate, seed=seed)
    prompt = PromptSpec("chatml", None, "")
    data = [{"prompt": prompt.render(r.prompt), "completion": r.response} for r in (*rows, *right)]
    examples = rows_from(((f"row {i}", row) for i, row in enumerate(data)), source=task).examples
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    encoded = encode(examples, tokenizer, max_length=512, end=end, begins=prompt.begins).rows
    return list(encoded[: len(rows)]), wrong, list(encoded[len(rows) :])


def run(
    model: Any,
    tokenizer: Any,
    cell: tuple[str, str, float, int],
    *,
    scouted: int = SCOUTED,
) -> dict[str, Any]:
    """One cell: the scout, and what is estimated of the rows that it has not seen."""
    from probtune.probe.scout import scout
    from probtune.probe.warmed import noise_after

    started = time.process_time()
    task, seed = cell[0], cell[-1]
    number = len(draw(TASKS[task], scouted + _MEASURED, seed))
    encoded, wrong, _ = encoded_rows(tokenizer, *cell, number)
    report = scout(model, encoded[:scouted], encoded[scouted:], seed=seed)
    noise = noise_after(report, tokenizer)
    table = report.spread.table
    truth = np.array(wrong[scouted:])
    return {
        **dict(zip(("task", "kind", "rate", "seed"), cell, strict=True)),
        "scouted": scouted,
        "true": float(truth.mean()),
        "estimate": noise.share.value,
        "low": noise.share.low,
        "high": noise.share.high,
        "known": bool(noise.known),
        "writes": noise.writes,
        "power": noise.power,
        "usual_tokens": noise.usual_tokens,
        "unmoved": noise.unmoved,
        "halfway": noise.halfway,
        "cut_short": float(noise.cut_short.mean()),
        "repeated": noise.repeated,
        "auc": _auc(noise.excess, truth),
        "precision": float(truth[noise.suspicious].mean()) if noise.suspicious.any() else None,
        "mean_p": float(np.exp(table.logp).mean()),
        "steps": report.steps,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def _auc(scores: np.ndarray, wrong: np.ndarray) -> float | None:
    """Probability that a wrong row has the larger score."""
    from scipy.stats import mannwhitneyu

    if wrong.all() or not wrong.any():
        return None
    u = mannwhitneyu(scores[wrong], scores[~wrong]).statistic
    return float(u / (wrong.sum() * (~wrong).sum()))


def read(scouted: int = SCOUTED) -> list[dict[str, Any]]:
    """The finished cells with so many rows for the scout."""
    if not RESULTS.is_file():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()][1:]
    return [line for line in lines if line["scouted"] == scouted]


def page(lines: list[dict[str, Any]]) -> Table:
    """The cells as a table for the document, tasks with no part in the limits last."""
    header = [
        "task",
        "wrong rows",
        "share",
        "estimate [95 %]",
        "known",
        "writes",
        "AUC",
        "precision",
    ]
    rows = []
    for r in sorted(lines, key=lambda r: (r["task"] not in SEEN_WHILE_SET, r["task"], r["true"])):
        ranking = ("-" if r[name] is None else f"{r[name]:.2f}" for name in ("auc", "precision"))
        rows.append(
            [
                r["task"] if r["task"] in SEEN_WHILE_SET else f"**{r['task']}**",
                _named(r["kind"]),
                f"{r['true']:.2f}",
                f"{r['estimate']:.2f} [{r['low']:.2f}, {r['high']:.2f}]",
                "yes" if r["known"] else "no",
                f"{r['writes']:.2f}",
                *ranking,
            ]
        )
    return header, rows


def by_kind(lines: list[dict[str, Any]]) -> Table:
    """For each kind of wrong rows: how far off the estimate is where it claims to know, in points,
    and how well it ranks the rows. Tasks that came later and facts stand apart.
    """
    header = ["wrong rows", "cells", "known", "estimate minus share", "off by", "worst"]
    header += ["AUC", "least AUC", "precision"]
    rows = []
    for kind, rate, of in (
        *((*_KINDS[0], of) for of in ("", "later tasks")),
        *((*kind, "") for kind in _KINDS[1:]),
        *((*kind, of) for of in ("facts", "**later facts**") for kind in _KINDS[:2]),
        *((*kind, "**texts**") for kind in _KINDS[:3]),
    ):
        part = [r for r in lines if (r["kind"], r["rate"], _group(r["task"])) == (kind, rate, of)]
        claims = [r for r in part if r["known"]]
        if not part:
            continue
        errors = errors_of(claims)
        auc, precision = (
            [r[name] for r in claims if rate and r[name] is not None]
            for name in ("auc", "precision")
        )
        rows.append(
            [
                ", ".join(filter(None, (_named(kind), f"{rate:.0%}" if rate else "", of))),
                *(str(len(part)), str(len(claims)), f"{errors.mean():+.1f}" if claims else "-"),
                *(off_by(errors) if claims else ("-", "-")),
                *((f"{np.mean(auc):.2f}", f"{min(auc):.2f}") if auc else ("-", "-")),
                f"{np.mean(precision):.2f}" if precision else "-",
            ]
        )
    return header, rows


def _group(task: str) -> str:
    """The tasks that stand apart in the table by kinds; bold are those without a part in limits."""
    apart = {
        "later tasks": LATER,
        "facts": FACTS,
        "**later facts**": LATER_FACTS,
        "**texts**": TEXTS,
    }
    return next((name for name, tasks in apart.items() if task in tasks), "")


def errors_of(claims: list[dict[str, Any]]) -> np.ndarray:
    """Estimate minus share of each cell, in points."""
    return 100 * np.array([r["estimate"] - r["true"] for r in claims])


def off_by(errors: np.ndarray) -> tuple[str, str]:
    """Return (mean size, the largest error) for a table."""
    sizes = np.abs(errors)
    return f"{sizes.mean():.1f}", f"{errors[sizes.argmax()]:+.1f}"


def _named(kind: str) -> str:
    return f"**{kind}**" if kind in HELD_OUT else kind


def summary(lines: list[dict[str, Any]]) -> str:
    """The cells as a table, and their averages."""
    text = ["task                kind          rate  estimate  known  writes   AUC  precision"]
    for r in lines:
        auc = "  -  " if r["auc"] is None else f"{r['auc']:5.2f}"
        precision = "-" if r["precision"] is None else f"{r['precision']:.2f}"
        text.append(
            f"{r['task']:19} {r['kind']:12} {r['true']:5.2f}  {r['estimate']:8.2f}"
            f"  {'yes' if r['known'] else 'no':5}  {r['writes']:6.2f} {auc}  {precision}"
        )
    estimated = [r for r in lines if r["known"]]
    for name, part in (
        ("all tasks", estimated),
        (
            "tasks with no part in the limits",
            [r for r in estimated if r["task"] not in SEEN_WHILE_SET],
        ),
    ):
        clean = [r["estimate"] for r in part if r["rate"] == 0]
        errors = [abs(r["estimate"] - r["true"]) for r in part if r["rate"] > 0]
        aucs = [r["auc"] for r in part if r["auc"] is not None]
        if clean and errors:
            text.append(
                f"{name}, where known: clean {np.mean(clean):.3f} on average, at most"
                f" {max(clean):.3f} ({len(clean)} cells); else off by {np.mean(errors):.3f}"
                f" ({len(errors)} cells), AUC {np.mean(aucs):.3f}, least {min(aucs):.3f}"
            )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.estimates")
    parser.add_argument("--summary", action="store_true", help="print the table, run nothing")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N cells")
    parser.add_argument("--task", action="append", choices=TASKS, help="only this task; may repeat")
    parser.add_argument("--page", action="store_true", help="write the table into docs/ and stop")
    parser.add_argument(
        "--scouted", type=int, choices=(SCOUTED, LONGER), default=SCOUTED, help="rows for the scout"
    )
    options = parser.parse_args()
    if options.page:
        write(DOCUMENTS / "choice-bench.md", "estimates", page(read()))
        write(DOCUMENTS / "choosing-an-objective.md", "estimates-by-kind", by_kind(read()))
        write(DOCUMENTS / "choice-bench.md", "estimates-longer", page(read(LONGER)))
        return
    if not options.summary:
        from probtune.models.loading import load_model, load_tokenizer
        from probtune.records import environment

        if not RESULTS.is_file():
            RESULTS.write_text(json.dumps({"environment": environment()}) + "\n", encoding="utf-8")
        done = {(r["task"], r["kind"], r["rate"], r["seed"]) for r in read(options.scouted)}
        tasks = options.task or TASKS
        todo = [c for c in cells() if c not in done and c[0] in tasks][: options.limit]
        model, tokenizer = load_model(MODEL, device="cpu"), load_tokenizer(MODEL)
        for cell in todo:
            line = run(model, tokenizer, cell, scouted=options.scouted)
            with RESULTS.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            print(
                f"{line['task']} {line['kind']} {line['rate']}: {line['estimate']:.2f}", flush=True
            )
    print(summary(read(options.scouted)))


if __name__ == "__main__":
    main()
