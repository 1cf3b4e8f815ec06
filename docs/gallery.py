"""Make the reports of the gallery: those of the demo, and of the demo on a real model.

    python docs/gallery.py [--real]

They are written to docs/_extra/gallery/, which `make docs` copies beside the pages. Runs that are
there are kept. The real model (--real) needs the extra `probtune[smollm2]` and a quarter of an
hour.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from probtune.cli import main as probtune

DOCS = Path(__file__).parent
FOLDER, RUNS = DOCS / "_extra" / "gallery", DOCS / "_build" / "runs"


def main(arguments: list[str] | None = None) -> int:
    """Run the demos and copy their reports; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--real", action="store_true", help="also the demo on a real model")
    options = parser.parse_args(arguments)
    demos = [("demo", ["--fast"])] + ([("demo-real", ["--real"])] if options.real else [])
    for name, more in demos:
        run = RUNS / name
        status = probtune(["demo", *more, "--out", str(run)])
        if status:
            return status
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "report.html", FOLDER / f"{name}.html")
        for report in sorted(run.glob("*/report.html")) + sorted(run.glob("*/*/report.html")):
            cell = "-".join(report.parent.relative_to(run).parts)
            shutil.copy(report, FOLDER / f"{name}-{cell}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
