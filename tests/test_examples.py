"""The programs in examples/: each runs as it stands, offline, and learns."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_own_loop_learns_and_does_not_depend_on_the_split():
    example = module("own_loop")
    losses = example.main(steps=12)
    assert losses[-1] < 0.9 * losses[0]
    assert example.main(steps=3, micro_batches=8) == pytest.approx(losses[:3], rel=1e-4)


def test_transformers_trainer_learns(tmp_path):
    losses = module("transformers_trainer").main(str(tmp_path), steps=12)
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_loop", "transformers_trainer"])
def test_runs_from_the_command_line(name):
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "power(0.5):" in done.stdout
