"""`--objective auto` where the probe cannot decide: the race."""

import helpers
import pytest
from test_pipeline import QUIET, settings

from probtune import pipeline
from probtune.models.loading import load_model
from probtune.pipeline import fine_tuning
from probtune.pipeline import race as stages
from probtune.probe import capability, choosing
from probtune.records import read_record
from probtune.reports.report import render

RACE = ("nll()", "power(0.5)")


@pytest.fixture()
def undecided(monkeypatch):
    def never_sure(features, *, metric):
        return choosing.Choice(
            "nll()", "who knows", "power(0.5)", None, undecided=True, race=RACE, race_share=0.34
        )

    monkeypatch.setattr(capability, "auto", never_sure)


def weights(folder):
    import torch

    model = load_model(str(folder / "model"))
    return torch.cat([p.flatten() for p in model.parameters()])


def test_the_best_after_the_race_trains_on(word_model, tmp_path, undecided, monkeypatch):
    data = str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))
    chosen = settings(
        word_model, data, tmp_path / "out", objective="auto", max_steps=6, scout_steps=0
    )
    scores = {"nll()": 0.25, "power(0.5)": 0.5}
    raced = []

    def racing(leg):
        """`train_stage` with `leg` in place of the race's short runs."""

        def stage(*arguments, until=None, measure=None):
            if until is None:
                return fine_tuning.train_stage(*arguments)
            return leg(*arguments, until=until, measure=measure)

        return stage

    def measured(folder, objective, *arguments, until=None, measure=None):
        score = fine_tuning.train_stage(folder, objective, *arguments, until=until, measure=measure)
        raced.append((str(objective), until))
        assert set(score) == {"token_accuracy", "mean_p"} and 0 < score["mean_p"] < 1
        assert list((folder / "checkpoints").glob("checkpoint-3"))
        return {**score, "token_accuracy": scores[str(objective)]}

    monkeypatch.setattr(stages, "train_stage", racing(measured))
    record = pipeline.tune(chosen, QUIET)
    assert raced == [("nll()", 3), ("power(0.5)", 3)]  # 0.34 of 6 steps, rounded up
    race = record["choice"]["race"]
    assert record["choice"]["objective"] == race["objective"] == "power(0.5)"
    assert "The race after 3 steps" in record["choice"]["reason"] and race["rows"] == 3
    assert [run["name"] for run in record["runs"]] == ["base", "power(0.5)"]
    assert not (tmp_path / "out" / "nll" / "checkpoints").exists()
    html = render([record])
    assert "undecided between nll() and power(0.5)" in html and "3 steps each" in html
    # Stopping on the way changes nothing: the same rows trained without a stop end the same.
    assert record["runs"][1]["train"]["steps"] == 6
    again = settings(
        word_model, data, tmp_path / "again", objective="auto", max_steps=6, scout_steps=0
    )
    monkeypatch.setattr(
        stages,
        "train_stage",
        racing(lambda *a, **k: {"token_accuracy": scores[str(a[1])], "mean_p": 0.5}),
    )
    pipeline.tune(again, QUIET)
    import torch

    ends = [weights(tmp_path / out / "power_0.5") for out in ("out", "again")]
    torch.testing.assert_close(*ends)
    # Everything is there: nothing is raced or trained again.
    monkeypatch.setattr(stages, "train_stage", racing(None))
    assert pipeline.tune(chosen, QUIET)["choice"] == record["choice"]
    assert read_record(tmp_path / "out" / "race.json")["objective"] == "power(0.5)"
