"""The programs in examples/: each runs as it stands, offline, and is short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import example

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "tiny_model")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> tuple[str, str]:
    """MODEL and DATA: a tiny model and rows of sums."""
    folder = tmp_path_factory.mktemp("examples")
    with example("tiny_model") as tiny_model:
        tiny_model.save_sums(folder / "sums.jsonl")
        tiny_model.save_sums(folder / "turns.jsonl", turns=True)
        tiny_model.save_tiny_model(
            folder / "sums.jsonl", folder / "model", hidden=64, vocabulary=384
        )
    return str(folder / "model"), str(folder / "sums.jsonl")


def test_own_loop_learns_and_does_not_depend_on_the_split(tiny):
    with example("own_loop") as program:
        losses = program.main(*tiny, steps=12)
        assert losses[-1] < 0.9 * losses[0]
        assert program.main(*tiny, steps=3, micro_batches=8) == pytest.approx(losses[:3], rel=1e-4)


def test_transformers_trainer_learns(tiny):
    with example("transformers_trainer") as program:
        losses = program.main(*tiny, steps=12)
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


def test_the_loss_by_hand_trains_as_the_ready_one(tiny):
    with example("transformers_trainer") as ready, example("loss_by_hand") as by_hand:
        losses = by_hand.main(*tiny, loss=by_hand.by_hand, steps=6)
        assert losses == pytest.approx(ready.main(*tiny, steps=6), rel=1e-4)


def test_lora_on_messages_learns(tiny):
    model, data = tiny
    with example("lora") as program:
        entries = program.main(model, data.replace("sums", "turns"), steps=12)
    assert entries[-1]["nll"] < entries[0]["nll"] and entries[-1]["loss"] < entries[0]["loss"]


def test_own_objective_learns(tiny):
    with example("own_objective") as program:
        entries = program.main(*tiny, steps=12)
    assert entries[-1]["loss"] < entries[0]["loss"]
    assert entries[-1]["mean_p"] > entries[0]["mean_p"]


def test_a_random_model_knows_nothing_of_the_rows(tiny):
    with example("probe_rows") as program:
        measured = program.main(*tiny)
    assert measured.mean_p.value < 0.02 and str(measured.suggestion.objective) == "nll()"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_short(name):
    """At most 25 lines of code, imports and the docstrings not counted."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    lines = set()
    for node in ast.walk(tree):
        documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not documents:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                end = node.body[0].lineno if hasattr(node, "body") else node.end_lineno + 1
                lines |= set(range(node.lineno, max(end, node.lineno + 1)))
    assert len(lines) <= 25, f"{name}: {len(lines)} lines"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_runs_from_the_command_line(name):
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    line = {"probe_rows": "nll()", "own_objective": "square(): loss"}.get(name, "power(0.5):")
    assert line in process.stdout
