"""The picture of the README, from a demo's record.

probtune demo --out runs/demo
python benchmarks/pictures.py runs/demo
"""

import argparse
from pathlib import Path

from probtune.records import read_record
from probtune.reports.figures import continuum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    record = read_record(options.demo / "record.json", "demo")
    (options.out / "continuum.svg").write_text(continuum(record["cells"]))


if __name__ == "__main__":
    main()
