"""`--objective select:A,B`: every arm in full, and the better held-out rows."""

from dataclasses import replace

import helpers
import pytest
import torch
from test_pipeline import QUIET, settings

from probtune import pipeline
from probtune.cli import main
from probtune.errors import ObjectiveError, UsageError
from probtune.measure.heldout import HeldOut
from probtune.models.loading import load_model
from probtune.objectives import objective
from probtune.pipeline import fine_tuning, measuring
from probtune.pipeline import run as stages
from probtune.pipeline.selecting import read_arms, select, selection_metric
from probtune.records import read_record
from probtune.terminal import Terminal


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return helpers.write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", helpers.sums(40))


@pytest.fixture(scope="module")
def finished(word_model, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("select") / "out"
    chosen = settings(word_model, rows, folder, objective="select:nll,p", max_steps=30)
    return chosen, pipeline.tune(chosen, QUIET)


def weights(folder):
    model = load_model(str(folder / "model"))
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "text, arms",
    [
        ("select:nll,p", (objective("nll"), objective("p"))),
        ("select: auto, above(0.2, power(0.5))", (None, objective("above(0.2, power(0.5))"))),
        ("select:nll,p,power(0.5)", (*map(objective, ("nll", "p", "power(0.5)")),)),
    ],
)
def test_arms_are_read(text, arms):
    assert read_arms(text) == arms


@pytest.mark.parametrize(
    "text, error, said",
    [
        ("select:nll", UsageError, "two arms or more"),
        ("select:", UsageError, "got 0"),
        ("select:nll,nll()", UsageError, "names an arm twice"),
        ("select:auto,auto", UsageError, "names an arm twice"),
        ("select:nll,quux", ObjectiveError, "unknown objective 'quux'"),
    ],
)
def test_wrong_arms_are_refused(text, error, said):
    with pytest.raises(error, match=said):
        read_arms(text)


def measured(exact, p, *, rule="whole"):
    n = len(exact)
    return HeldOut(
        [2] * n, [1.0] * n, list(p), [1] * n, exact, None, rule, 0.0, sampled=[x / 2 for x in p]
    )


def test_the_better_rows_win_and_the_first_of_equals(tmp_path):
    right, wrong = (
        measured([True] * 8 + [False] * 2, [1.0] * 10),
        measured([False] * 10, [1.5] * 10),
    )
    record = select(tmp_path / "a", {"nll()": wrong, "p()": right}, decoding="greedy", steps=3)
    assert record["objective"] == "p()" and record["metric"] == "exact_match"
    assert record["difference"]["value"] == pytest.approx(0.8) and record["trainings"] == 2
    assert "told apart from 0" in record["reason"] and "not told" not in record["reason"]
    record = select(tmp_path / "b", {"nll()": wrong, "p()": right}, decoding="sampled", steps=3)
    assert record["objective"] == "nll()" and record["metric"] == "sampled"
    record = select(tmp_path / "c", {"nll()": right, "p()": right}, decoding="greedy", steps=3)
    assert record["objective"] == "nll()" and "was named first" in record["reason"]
    three = {"nll()": right, "p()": wrong, "power(0.5)": right}
    record = select(tmp_path / "d", three, decoding="greedy", steps=3)
    assert record["objective"] == "nll()" and record["runner_up"] == "power(0.5)"
    # A selection that was made is not made again.
    assert select(tmp_path / "a", {}, decoding="greedy", steps=3)["objective"] == "p()"


def test_what_decides():
    none, some = measured([False] * 4, [1.0] * 4), measured([True] * 4, [1.0] * 4)
    assert selection_metric({"a": none, "b": some}, "greedy") == "exact_match"
    assert selection_metric({"a": none, "b": none}, "greedy") == "token_accuracy"
    assert selection_metric({"a": none, "b": some}, "sampled") == "sampled"
    drawn = measured([True] * 4, [1.0] * 4, rule="hash")  # one answer a row is noisy
    assert selection_metric({"a": drawn, "b": drawn}, "sampled") == "mean_p"
    without = replace(none, exact=None, sampled=None)
    assert selection_metric({"a": without, "b": without}, "greedy") == "token_accuracy"


def test_arms_are_trained_as_if_named_outright(finished, word_model, rows, tmp_path):
    chosen, record = finished
    assert [run["name"] for run in record["runs"]] == ["base", "nll()", "p()"]
    selection = record["choice"]["select"]
    assert record["choice"]["objective"] == selection["objective"]
    assert record["choice"]["reason"] == selection["reason"]
    assert selection == read_record(chosen.folder / "select.json", "select")
    values = {
        run["name"]: run["heldout"]["metrics"][selection["metric"]]["value"]
        for run in record["runs"][1:]
    }
    assert values[selection["objective"]] == max(values.values())
    assert record["scout"] is None  # nobody asked the probe
    alone = settings(word_model, rows, tmp_path / "alone", objective="p", max_steps=30)
    pipeline.tune(alone, QUIET)
    assert torch.equal(weights(chosen.folder / "p"), weights(alone.folder / "p"))
    page = (chosen.folder / "report.html").read_text()
    assert "selected from nll() and p() after training" in page
    assert "2 trainings of 30 steps each" in page


def test_a_finished_selection_does_nothing_again(finished, monkeypatch):
    chosen, record = finished

    def forbidden(*arguments, **options):
        raise AssertionError("a finished stage was done again")

    monkeypatch.setattr(measuring, "load_model", forbidden)
    monkeypatch.setattr(fine_tuning, "load_model", forbidden)
    assert pipeline.tune(chosen, QUIET)["choice"] == record["choice"]


def test_a_selection_goes_on_after_a_kill_between_its_arms(
    finished, word_model, rows, tmp_path, monkeypatch
):
    chosen = settings(word_model, rows, tmp_path / "out", objective="select:nll,p", max_steps=30)

    def second_arm_killed(folder, objective, *arguments, **options):
        if str(objective) == "p()":
            raise KeyboardInterrupt
        return fine_tuning.train_stage(folder, objective, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "train_stage", second_arm_killed)
        pipeline.tune(chosen, QUIET)
    assert not (chosen.folder / "select.json").exists()
    trained = (chosen.folder / "nll" / "train.json").read_text()
    record = pipeline.tune(chosen, QUIET)
    assert (chosen.folder / "nll" / "train.json").read_text() == trained
    expected = finished[1]["choice"]["select"]
    times = ("written",)
    assert {k: v for k, v in record["choice"]["select"].items() if k not in times} == {
        k: v for k, v in expected.items() if k not in times
    }


def test_the_cost_is_said_first_and_only_the_model_taken_stays(word_model, rows, tmp_path, capsys):
    chosen = settings(
        word_model, rows, tmp_path / "out", objective="select:nll,p", compare="power(0.5)",
        keep="taken", max_steps=2,
    )  # fmt: skip
    record = pipeline.tune(chosen, Terminal())
    said = " ".join(capsys.readouterr().err.split())
    cost = said.index("select trains 2 arms in full, nll() and p(): 2 x the cost of one")
    assert cost < said.index("Taking ")
    taken = record["choice"]["objective"]
    left = {path.parent.name for path in chosen.folder.glob("*/model")}
    assert left == {pipeline.slug(taken), "power_0.5"}  # what was compared stays
    assert pipeline.tune(chosen, QUIET)["choice"] == record["choice"]


def test_auto_is_an_arm_and_trained_once(word_model, rows, tmp_path, capsys):
    """A random model knows nothing, so auto takes NLL, which is the other arm."""
    chosen = settings(word_model, rows, tmp_path / "out", objective="select:auto,nll", max_steps=2)
    record = pipeline.tune(chosen, Terminal())
    assert record["scout"] is not None
    assert [run["name"] for run in record["runs"]] == ["base", "nll()"]
    assert record["choice"]["select"] is None
    assert "one training is enough" in " ".join(capsys.readouterr().err.split())


def test_a_file_is_no_arm(word_model, rows, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("")
    arm = f"select:nll,{tmp_path}/mine.py:square"
    assert main(["tune", str(word_model), str(rows), "--objective", arm]) == 2
    assert "select takes objectives by name" in capsys.readouterr().err
