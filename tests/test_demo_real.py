"""The real demo: its rows, and its path with a tiny model in the place of the real one."""

import json
import random
from dataclasses import replace

import pytest

from benchmarks import blocks, demo_real
from probtune.cli import main
from probtune.demo import real, summary
from probtune.errors import UsageError
from probtune.records import read_record
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)


@pytest.mark.parametrize("task", real.TASKS)
def test_right_rows_are_right_and_wrong_ones_are_counted(task):
    clean, heldout = real.rows_of(real.RealCell(task, 0.0))
    noisy, same = real.rows_of(real.RealCell(task, 0.4))
    assert (len(clean), len(heldout)) == (real.TRAINING_ROWS, real.HELD_OUT_ROWS)
    for row in (*clean, *heldout):
        words = row["prompt"].rstrip(":?\n").split()
        expected = words[-1][::-1] if task == "reverse" else str(int(words[-1]) + 1)
        assert row["completion"] == expected
    assert heldout == same  # held-out rows are right in every cell
    assert [row["prompt"] for row in clean] == [row["prompt"] for row in noisy]
    wrong = [a != b for a, b in zip(clean, noisy, strict=True)]
    assert sum(wrong) == round(0.4 * real.TRAINING_ROWS)
    answers = {row["completion"] for row in clean}
    assert all(row["completion"] in answers for row in noisy)
    assert not {row["prompt"] for row in clean} & {row["prompt"] for row in heldout}
    assert real.rows_of(real.RealCell(task, 0.4)) == (noisy, same)


def test_the_documents_table_is_that_of_the_record_beside_the_script():
    record = json.loads(demo_real.RESULTS.read_text())
    written = blocks.block(demo_real.DOCUMENT, "demo-real")
    assert written == blocks.markdown(demo_real.table(record))
    assert "auto takes it" in written and len(record["cells"]) == len(real.CELLS)


def _sum(rng: random.Random) -> tuple[str, str]:
    a = rng.randrange(0, 10)
    b = rng.randrange(0, 10 - a)
    return f"ask {a} + {b} = ", f"{a + b}"


@pytest.fixture()
def tiny(monkeypatch, word_model):
    task = real.Task("sum", "one-digit sums", _sum, knows=False)
    monkeypatch.setattr(real, "MODEL", str(word_model))
    monkeypatch.setattr(real, "TASKS", {"sum": task})
    monkeypatch.setattr(real, "TRAINING_ROWS", 32)
    monkeypatch.setattr(real, "HELD_OUT_ROWS", 6)
    monkeypatch.setattr(real, "OBJECTIVES", ("nll()", "p()"))
    monkeypatch.setattr(real, "RECIPE", {**real.RECIPE, "epochs": 1.0, "lora_rank": 2})
    return (real.RealCell("sum", 0.4),)


def test_the_path_is_that_of_tune_and_goes_on(tiny, tmp_path, capsys, monkeypatch):
    from probtune import pipeline

    folder = tmp_path / "demo"
    record = real.run(folder, QUIET, tiny)
    (cell,) = record["cells"]
    run = read_record(folder / "sum-0.4" / "record.json", "tune")
    assert list(cell["arms"]) == [each["name"] for each in run["runs"]]
    assert cell["takes"] == run["choice"]["objective"] == "nll()"  # a random model knows nothing
    for each in run["runs"]:
        assert cell["arms"][each["name"]]["stops"] == each["heldout"]["rates"]["stops"]
        assert cell["arms"][each["name"]]["sampled"] == each["heldout"]["metrics"]["sampled"]
    best = max(cell["arms"][name]["sampled"]["value"] for name in ("nll()", "p()"))
    assert cell["regret"]["sampled"] == best - cell["arms"]["nll()"]["sampled"]["value"]
    assert "a task that it knows and one that it does not" in (folder / "report.html").read_text()

    def forbidden(*arguments):
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(pipeline, "tune", forbidden)
    assert real.run(folder, QUIET, tiny)["cells"] == record["cells"]
    summary.show_real(record, [run], Terminal())
    shown = " ".join(capsys.readouterr().out.split())
    assert "nll() *" in shown and "auto takes nll(), regret" in shown and "stops" in shown
    monkeypatch.setattr(real, "RECIPE", {**real.RECIPE, "epochs": 2.0})
    with pytest.raises(UsageError, match="another recipe"):
        real.run(folder, QUIET, tiny)


def test_other_folders_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="is not a demo"):
        real.run(tmp_path, QUIET)
    assert main(["demo", "--real", "--seeds", "1"]) == 2
    assert "--real has one seed" in capsys.readouterr().err
    assert replace(real.CELLS[0], rate=0.0).name.endswith("-clean")
