"""A record of a reproduction -> what its template needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...numbers import signed
from ...reports.report import Maker

__all__ = ["MAKERS"]


def _part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the title, and how many of the paper's numbers agree."""
    cells = record["cells"]
    trials = [cell for cell in cells if cell.get("trial")]
    if trials:
        return {
            "link": f"Trial of {', '.join(cell['cell'] for cell in trials)}",
            "headline": "",
            "counts": " ".join(_said_of(cell) for cell in trials),
        }
    verdicts = Counter(
        row["verdict"]["word"]
        for cell in cells
        for row in (*cell["objectives"], *cell["rows"])
        if row["verdict"]
    )
    counts = ", ".join(f"{verdicts[word]} {said}" for word, said in _SAID.items())
    names = cells[0]["cell"] if len(cells) == 1 else f"{len(cells)} cells"
    return {
        "link": f"Reproduction of {names}",
        "headline": "",
        "counts": f"Of {sum(verdicts.values())} numbers of the paper: {counts}.",
    }


def _said_of(cell: Mapping[str, Any]) -> str:
    """Say which objective a trial prefers."""
    if not cell["objectives"]:
        return f"{cell['title']}: p() and nll() are not both evaluated."
    said = []
    for row in cell["objectives"]:
        ours = row["ours"]
        low, high = ours["low"], ours["high"]
        word = "neither is ahead"
        if low is None and ours["value"] == 0:
            said.append(
                f"every answer has the same grade with p() and with nll(), so these questions tell"
                f" nothing apart ({row['protocol']})"
            )
            continue
        if low is not None and high is not None and not low <= 0 <= high:
            word = "p() is ahead" if low > 0 else "nll() is ahead"
        variant = f"{row['variant']}: " if row["variant"] else ""
        said.append(f"{variant}{word}, p() - nll() is {signed(ours, 2)} points ({row['protocol']})")
    return f"{cell['title']}: {'; '.join(said)}."


_SAID = {"agrees": "agree", "differs": "differ", "cannot tell": "cannot be told"}


MAKERS = {"reproduction": Maker(_part, "reproduction.html", "paper/reports")}
"""Kind of record -> its maker."""
