"""A record of a reproduction -> what its template needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...reports.report import Maker

__all__ = ["MAKERS"]


def _part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the title, and how many of the paper's numbers agree."""
    cells = record["cells"]
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


_SAID = {"agrees": "agree", "differs": "differ", "cannot tell": "cannot be told"}


MAKERS = {"reproduction": Maker(_part, "reproduction.html", "paper/reports")}
"""Kind of record -> its maker."""
