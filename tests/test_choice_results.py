"""The committed table gives the committed rule, summary and document."""

import json

import numpy as np
import pytest

from benchmarks.blocks import block, markdown
from benchmarks.choice import regret, summary, table
from benchmarks.choice.__main__ import main
from benchmarks.choice.page import DOCUMENT
from probtune.files import hash_file
from probtune.probe.choosing import read_rule


@pytest.fixture(scope="module")
def grid():
    return table.load()


def test_the_rule_was_fitted_on_this_table(grid):
    source = read_rule()["source"]
    assert source["table"] == hash_file(table.RESULTS)
    assert source["development cells"] == grid.where("development").size
    assert table.RESULTS.stat().st_size < 3_000_000


@pytest.mark.parametrize("name", ("overview", "phase_greedy", "noise", "rule", "choosers_greedy"))
def test_tables_of_the_page_are_what_the_committed_results_say(name, grid):
    assert block(DOCUMENT, name) == markdown(summary.TABLES[name][1](grid))


def test_every_table_of_the_page_is_filled():
    for name in summary.TABLES:
        assert block(DOCUMENT, name).count("\n") >= 2, name


def test_the_table_is_whole(grid):
    shape = grid.scores["accuracy"].shape
    assert shape == (len(grid.cells), 3, 16, 3) and len(grid.cells) >= 120
    assert np.isfinite(grid.scores["accuracy"]).all()
    assert {c["split"] for c in grid.cells} == {
        *("development", "family", "kind", "both", "confirmation"),
    }
    assert {f["noise_known"] for c in grid.features for f in c} == {0.0, 1.0}
    assert grid.metadata["environments"][0]["versions"]["torch"]


def test_regret_of_the_best_is_naively_zero_and_luck_is_taken_out():
    rng = np.random.default_rng(0)
    equal = 0.5 + 0.05 * rng.standard_normal((400, 3, 10))  # no objective is better
    choice = np.zeros((400, 3), int)
    assert regret.naive_regret(equal, choice).mean() > 3.0
    assert abs(regret.crossed_regret(equal, choice).mean()) < 0.5
    clear = np.zeros((4, 3, 2))
    clear[..., 1] = 0.1
    assert regret.naive_regret(clear, choice[:4]) == pytest.approx([10.0] * 4)
    assert regret.crossed_regret(clear, choice[:4]) == pytest.approx([10.0] * 4)
    assert regret.naive_regret(clear, choice[:4] + 1) == pytest.approx([0.0] * 4)


def test_intervals_cover_the_mean_and_widen_with_families_that_differ():
    x = np.repeat([0.0, 1.0, 2.0, 3.0], 10)
    mean, low, high = regret.resampled(x, np.repeat(list("abcd"), 10))
    assert low < mean == 1.5 < high
    _, alone_low, alone_high = regret.resampled(x, np.array(list("a") * 40))
    assert high - low > alone_high - alone_low


def test_a_table_written_is_read_back(tmp_path):
    shards = []
    for seed in (0, 1):
        rows = [
            {"objective": o, "learning_rate": lr, **dict.fromkeys(table._SCORES, 0.5)}
            for o in ("nll()", "p()")
            for lr in (1e-3, 1e-2)
        ]
        rows[1]["race_0.1_p"] = 0.25
        record = dict.fromkeys(table._OF_RUN, 1.0)
        record |= {"family": "chain", "level": 0.3, "kind": "slips", "rate": 0.1, "seed": seed}
        record |= {"budget": "long", "rows": rows, "environment": {"python": "3"}, "steps": 10}
        n = 16
        arrays = {
            "logp": np.full(n, -0.5),
            "entropy": np.ones(n),
            "is_top1": np.ones(n, bool),
            "token": np.arange(n),
            "example": np.arange(n) // 4,
            "position": np.arange(n) % 4,
            "corrupted": np.array([True, False, False, False]),
        }
        shards.append((record, arrays))
    shards.append(({**record, "failed": "too weak"}, {}))
    path = tmp_path / "t.parquet"
    table.save(path, *table.build(shards))
    content = table.load(path)
    assert content.cells == [
        {
            "family": "chain",
            "level": 0.3,
            "kind": "slips",
            "rate": 0.1,
            "budget": "long",
            "split": "development",
        }
    ]
    assert content.scores["race_0.1_p"][0, :, 0, 1] == pytest.approx([0.25, 0.25])
    assert content.run["true_noise"] == pytest.approx(np.full((1, 2), 0.25))
    assert content.metadata["failed"][0]["failed"] == "too weak"
    assert json.dumps(content.metadata)


def test_a_table_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["--summary", "--table", str(tmp_path / "no.parquet")]) == 2
    assert "is not there; run the bench" in capsys.readouterr().err
    assert main(["--width", "20", "--limit", "0"]) == 2
    assert "width must be a multiple of 16, got 20" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "--family mine.py:poems" in said and "Ctrl-C is safe" in said
