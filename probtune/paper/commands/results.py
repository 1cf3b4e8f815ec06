"""Results of a reproduction: the judge's verdicts, tables, the record and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...numbers import interval, signed
from ...terminal import Terminal

if TYPE_CHECKING:
    from ...evaluation.grading.judge import Judge
    from ..reproduction.plan import CellPlan

__all__ = ["finish", "show_table"]


def finish(plans: Sequence[CellPlan], out: Path, terminal: Terminal, judge: Judge | None) -> None:
    from ...records import environment, write_record, write_text
    from ...reports.report import render
    from ..reports.parts import MAKERS
    from ..reproduction.judged import is_judged, judge_pairs
    from ..reproduction.tables import RULE, cell_table, check_complete

    for plan in plans:
        if judge is not None and is_judged(plan):
            judge_pairs(plan, out, judge, terminal)
    tables = [cell_table(plan, out) for plan in plans]
    check_complete(tables)
    record = write_record(
        out / "reproduction.json",
        "reproduction",
        {"cells": tables, "rule": RULE, "environment": environment()},
    )
    write_text(out / "reproduction.html", render([record], MAKERS))
    for table in record["cells"]:
        show_table(table, terminal)
    if any(table["trial"] is None for table in tables):
        terminal.show(RULE)
    terminal.show(f"record  {out / 'reproduction.json'}", wrap=False)
    terminal.show(f"report  {out / 'reproduction.html'}", wrap=False)


def show_table(table: Mapping[str, Any], terminal: Terminal) -> None:
    """Print one cell, the paper's numbers beside ours."""
    rows = []
    before = None
    for row in (*table["objectives"], *table["rows"]):
        head = " ".join(part for part in (row["variant"], row["objective"]) if part)
        head = f"{head}, {row['protocol']}" if row["protocol"] else head
        rows.append([head if head != before else "", row["what"], str(row["runs"]), *_cells(row)])
        before = head
    notes = [*table["notes"]]
    notes += [
        f"{choice['group']}: learning rate {choice['learning_rate']:g} by {choice['metric']}"
        for choice in table["choices"]
    ]
    if table["missing"]:
        notes.append(f"Not finished: {', '.join(table['missing'])}.")
    beside = ["paper", "difference [95 %]", "verdict"]
    header = ["", "", "runs", "ours [95 %]", *beside]
    if table["trial"] is not None:
        header, rows = [*header[:3], "score [95 %]"], [row[: -len(beside)] for row in rows]
    terminal.table(
        f"{table['title']} ({'; '.join(filter(None, [', '.join(table['shows']), table['mode']]))})",
        header,
        rows,
        notes=notes,
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    ours = interval(row["ours"], spec=".2f")
    if row["verdict"] is None:
        return [ours, "", "", ""]
    verdict = row["verdict"]
    difference = signed({**verdict, "value": verdict["difference"]}, 2)
    return [ours, f"{row['paper']:.2f}", difference, verdict["word"]]
