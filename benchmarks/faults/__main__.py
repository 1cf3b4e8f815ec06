"""Make seeded faults and print the counts; exit status 1 if anything was not as promised.

python -m benchmarks.faults [--count 200] [--first 0]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    started = time.monotonic()
    prepare()
    from .cases import Bench
    from .runs import save_model, write_rows

    with tempfile.TemporaryDirectory(prefix="probtune-faults-") as name:
        folder = Path(name)
        save_model(folder / "base")
        bench = Bench(folder, folder / "base", write_rows(folder / "rows.jsonl", 30))
        bench.warm_up()
        print(f"warm after {time.monotonic() - started:.0f} s", flush=True)
        seeds = range(options.first, options.first + options.count)
        halves = [seeds[0::2], seeds[1::2]]
        child = os.fork()
        mine = halves[child == 0]
        lines = []
        if child == 0:
            bench.folder = folder / "second"
            bench.folder.mkdir()
        for seed in mine:
            v = bench.strike(seed)
            lines.append("\t".join([str(seed), v.command, v.kind, v.fault, v.wrong or ""]))
            lines[-1] = " ".join(lines[-1].split("\n"))
            if v.wrong:  # at once
                print(f"seed {seed}: {v.command}, {v.fault}: {v.wrong}", flush=True)
        if child == 0:
            (folder / "second.txt").write_text("\n".join(lines))
            os._exit(0)
        os.waitpid(child, 0)
        lines += (folder / "second.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line]
    failed = Counter(row[2] for row in rows if row[4])
    print(f"{len(rows)} faults in {time.monotonic() - started:.0f} s")
    for kind, count in sorted(Counter(row[2] for row in rows).items()):
        print(f"{kind:22s} {count:4d} faults, {count - failed[kind]:4d} as promised")
    for command, count in sorted(Counter(row[1] for row in rows).items()):
        print(f"{command:22s} {count:4d} faults")
    return 1 if failed or len(rows) != options.count else 0


def prepare() -> None:
    """Import what the commands import, so that a forked process starts at once."""
    import datasets
    import peft  # noqa: F401
    import torch
    import trl.trainer.sft_trainer  # noqa: F401

    import probtune.commands.tuning
    import probtune.paper.corpora
    import probtune.pipeline
    import probtune.training  # noqa: F401
    from probtune.terminal import quiet_libraries

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    quiet_libraries()


if __name__ == "__main__":
    sys.exit(main())
