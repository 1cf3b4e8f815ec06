"""The table of `make demo-real` in docs/choosing-an-objective.md, from a finished demo's record.

python -m benchmarks.demo_real [DIR]      default: runs/demo-real; copies its record beside this
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.blocks import Table, write
from probtune.numbers import interval
from probtune.records import read_record

DOCUMENT = Path(__file__).parents[1] / "docs" / "choosing-an-objective.md"
RESULTS = Path(__file__).with_suffix(".json")


def table(record: dict[str, Any]) -> Table:
    """One row for each model of each cell."""
    header = [
        "task",
        "wrong rows",
        "look wrong",
        "model",
        "greedy [95 %]",
        "sampled [95 %]",
        "stops",
    ]
    rows = []
    for cell in record["cells"]:
        familiar = "known" if cell["knows"] else "not known"
        looks = cell["looks_wrong"]
        first = [f"{cell['task']} ({familiar})", f"{cell['rate']:.0%}"]
        first.append("cannot be told" if looks is None else f"{looks['value']:.0%}")
        for name, arm in cell["arms"].items():
            taken = " (auto takes it)" if name == cell["takes"] else ""
            numbers = [interval(arm[x], spec=".2f", share=True) for x in ("exact_match", "sampled")]
            rows.append([*first, f"`{name}`{taken}", *numbers, f"{arm['stops']['value']:.2f}"])
            first = ["", "", ""]
    return header, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/demo-real"))
    record = read_record(parser.parse_args().folder / "record.json", "demo-real")
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    write(DOCUMENT, "demo-real", table(record))
    minutes = sum(cell["timing"]["cpu_seconds"] for cell in record["cells"]) / 60
    print(f"{minutes:.0f} minutes of CPU")


if __name__ == "__main__":
    main()
