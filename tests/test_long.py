"""Long runs: memory and open files stay flat over ten thousand steps and over gigabytes of rows."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
import test_training as plain
from transformers import TrainerCallback

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


class Watch(TrainerCallback):
    """Resident memory (MiB) and open files, every 500 steps."""

    def __init__(self):
        self.memory, self.files = [], []

    def on_step_end(self, args, state, control, **options):
        if state.global_step % 500 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * resource.getpagesize() / 2**20)
            self.files.append(len(os.listdir("/proc/self/fd")))


def test_ten_thousand_steps_in_flat_memory_with_as_many_open_files(tmp_path):
    watch = Watch()
    training = plain.trainer(
        tmp_path,
        rows=helpers.encoded_rows(64),
        objective="p",
        max_steps=10_000,
        per_device_train_batch_size=2,
        logging_steps=10,
        save_strategy="steps",
        save_steps=1000,
        save_total_limit=2,
        callbacks=[watch],
    )
    training.train()
    assert training.state.global_step == 10_000
    # The log of 1,000 entries takes its few MiB; a tensor kept a step would take hundreds.
    assert max(watch.memory[2:]) - watch.memory[2] < 40, watch.memory
    assert max(watch.files) == watch.files[2], watch.files


def test_two_gigabytes_of_rows_in_bounded_memory(tmp_path):
    """4,000 rows of 500 kB, of which 64 tokens each are kept."""
    program = (
        "import json, resource, sys\n"
        "from probtune.data.encoding import encode\n"
        "from probtune.data.rows import read_rows\n"
        "sys.path.insert(0, 'tests')\n"
        "import helpers\n"
        "rows = read_rows(sys.argv[1])\n"
        "tokens = encode(rows.examples, helpers.word_tokenizer(), max_length=64)\n"
        "peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF,"
        " resource.RUSAGE_CHILDREN)]\n"
        "print(json.dumps([len(tokens.rows), *peaks]))\n"
    )
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        answer = "4 3 " * 125_000
        for number in range(4000):
            file.write(json.dumps({"prompt": f"{number % 9} 3 say", "completion": answer}) + "\n")
    assert path.stat().st_size > 2e9
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, peak, of_a_worker = json.loads(done.stdout)
    assert number == 4000 and peak < 1200 and of_a_worker < 1200, (peak, of_a_worker)
