"""A sweep: its runs, the rate of each objective, and what is said of the result."""

import json
import shlex

import helpers
import numpy as np
import pytest

import probtune.pipeline
from probtune.cli import main
from probtune.errors import UsageError
from probtune.pipeline import sweep
from probtune.records import read_record
from probtune.reports.sweep import sweep_sentences
from probtune.settings import TuneSettings

TRAIN = "--max-steps 3 --batch-size 4 --gradient-accumulation 1 --heldout 12 --max-new-tokens 3"


def arguments(word_model, tmp_path, extra=""):
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    command = f"sweep {word_model} {data} --out {tmp_path / 'out'} {TRAIN} {extra}"
    return shlex.split(command)


@pytest.fixture(scope="module")
def finished(word_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    words = arguments(
        word_model, folder, "--objectives nll,p --learning-rates 1e-3,5e-2 --seeds 0,1"
    )
    assert main(words) == 0
    return words, folder / "out"


def test_every_rate_and_seed_is_a_run_and_the_rest_is_not_seen_by_the_choice(finished):
    _, folder = finished
    record = read_record(folder / "sweep.json", "sweep")
    runs = {
        (rate, seed): read_record(folder / f"lr-{rate:g}-seed-{seed}" / "record.json", "tune")
        for rate in (1e-3, 5e-2)
        for seed in (0, 1)
    }
    assert record["reference"] == "nll()" and record["reported_rows"] == 6
    metric = record["metric"]
    for result in record["results"]:
        halves = {}
        for (rate, seed), run in runs.items():
            (items,) = (
                r["heldout"]["items"] for r in run["runs"] if r["name"] == result["objective"]
            )
            of_row = {
                "token_accuracy": np.divide(items["top1"], items["tokens"]),
                "exact_match": np.asarray(items["exact"], dtype=float),
            }[metric]
            halves[rate, seed] = (of_row[::2].mean(), of_row[1::2].mean())
        chosen = {
            rate: np.mean([halves[rate, seed][0] for seed in (0, 1)]) for rate in (1e-3, 5e-2)
        }
        assert result["learning_rate"] == max(chosen, key=chosen.get)
        reported = [halves[result["learning_rate"], seed][1] for seed in (0, 1)]
        assert result["by_seed"] == pytest.approx(reported)
        assert result["score"]["value"] == pytest.approx(np.mean(reported))
    page = (folder / "report.html").read_text()
    assert "minus nll() [95 %]" in page and "Student's t over seeds" in page


def test_what_is_finished_is_not_done_again(finished, monkeypatch, capsys):
    words, folder = finished
    monkeypatch.setattr(probtune.pipeline, "tune", lambda *a, **k: pytest.fail("it ran again"))
    assert main(words) == 0
    assert "4 runs (2 learning rates, 2 seeds) of 2 objectives each, 4 finished" in (
        capsys.readouterr().err
    )
    assert main([*words, "--commands"]) == 0 and capsys.readouterr().out == ""
    # A run of another model under the same name is no part of this sweep.
    path = folder / "lr-0.001-seed-0" / "record.json"
    record = json.loads(path.read_text())
    before = path.read_text()
    record["settings"]["max_length"] = 17
    path.write_text(json.dumps(record))
    assert main(words) == 1 and "other settings (max_length)" in capsys.readouterr().err
    path.write_text(before)


def test_report_makes_the_page_of_a_sweep_again(finished):
    _, folder = finished
    page = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == page


def test_another_scheduler_gets_the_commands(word_model, tmp_path, capsys):
    words = arguments(word_model, tmp_path, "--objectives 'nll,power(0.5)' --seeds 3")
    assert main([*words, "--learning-rates", "1e-5,1e-4", "--commands"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["probtune", "tune"]] * 2
    assert all(line[line.index("--compare") + 1] == "power(0.5)" for line in lines)
    assert [line[line.index("--learning-rate") + 1] for line in lines] == ["1e-05", "0.0001"]
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_fixes_what_is_swept_is_refused(word_model, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("objective: p\n")
    words = arguments(word_model, tmp_path, f"--config {tmp_path / 'run.yaml'} --commands")
    assert main(words) == 2
    assert "which a sweep varies; name it by --objectives" in capsys.readouterr().err


def test_slurm_gets_one_job_a_run(word_model, tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(
        "probtune.pipeline.launch.launch_slurm",
        lambda waves, options, logs, terminal: submitted.append((waves, options)),
    )
    words = arguments(
        word_model, tmp_path, "--seeds 0,1 --learning-rates 1e-4 --slurm partition=gpu"
    )
    assert main(words) == 1  # the runs were not done, so there is nothing to gather
    ((waves, options),) = submitted
    assert len(waves) == 1 and len(waves[0]) == 2 and options["partition"] == "gpu"
    assert waves[0][0].command[1:4] == ("-m", "probtune", "tune")


@pytest.mark.parametrize(
    ("objectives", "rates", "word"),
    [
        (["auto", "nll"], [1e-4], "choose anew"),
        (["nll", "nll()"], [1e-4], "twice"),
        (["nll"], [1e-4], "two objectives"),
        (["nll", "p"], [1e-4, 1e-4], "twice"),
        (["nll", "p"], [], "empty"),
        (["nll", "p"], [-1e-4], "positive"),
    ],
)
def test_a_sweep_that_compares_nothing_is_refused(objectives, rates, word, tmp_path):
    with pytest.raises(UsageError, match=word):
        sweep.runs_of(TuneSettings("m", "d"), objectives, rates, [0], tmp_path)


def test_words_agree_with_the_interval():
    def result(name, value, difference=None, edge=None):
        estimate = {"value": value, "low": value - 0.1, "high": value + 0.1}
        return {
            "objective": name, "learning_rate": 1e-4, "edge": edge, "score": estimate,
            "difference": difference,
        }  # fmt: skip

    def said(seeds, *results):
        return sweep_sentences(
            {"results": results, "reference": "nll()", "metric": "exact_match", "seeds": seeds}
        )

    ahead = {"value": 0.1, "low": 0.02, "high": 0.18}
    level = {"value": 0.1, "low": -0.02, "high": 0.22}
    nll = result("nll()", 0.5)
    assert said([0, 1, 2], nll, result("p()", 0.6, ahead))[0].startswith("Use p(): +10.0 points")
    assert said([0, 1, 2], nll, result("p()", 0.6, level))[0].startswith("Undecided: p()")
    assert said([0, 1, 2], nll, result("p()", 0.4, level)) == [
        "Use nll(): no other objective has a larger exact match."
    ]
    assert "One seed" in said([0], nll, result("p()", 0.6, ahead))[1]
    assert "may lie above 0.0001" in said([0, 1, 2], result("nll()", 0.5, edge="largest"))[-1]


def test_seeds_on_the_same_rows_are_crossed_with_them():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=40)
    a = [rows + 0.1 + 0.01 * rng.normal(size=40) for _ in range(4)]
    b = [rows + 0.01 * rng.normal(size=40) for _ in range(4)]
    for shared in (True, False):
        estimate = sweep._difference(a, b, shared)
        assert estimate.value == pytest.approx(0.1, abs=0.01) and estimate.low > 0.05
    assert sweep._difference(a[:1], b[:1], False).n == 40
