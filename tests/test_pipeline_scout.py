"""`--objective auto`: the scout before the choice, and nothing of it in the training."""

from dataclasses import replace

import helpers
import pytest
import torch
from test_pipeline import QUIET, settings

from probtune import Probe, pipeline, probe
from probtune.errors import UsageError
from probtune.models.loading import load_model
from probtune.pipeline import probing
from probtune.probe import after_scout, warmed
from probtune.records import read_record
from probtune.texts import slug


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return helpers.write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", helpers.sums(80))


def weights(folder):
    model = load_model(str(folder / "model"))
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.fixture()
def takes_power(monkeypatch):
    """A scout that sees wrong rows."""

    def choose(noise, *, metric, **knows):
        return after_scout.Choice(after_scout.TAKEN[metric].wrong, "it looks wrong", "nll()", None)

    monkeypatch.setattr(warmed, "after_scout", choose)


def test_the_training_is_that_of_the_objective_named_outright(
    word_model, rows, tmp_path, takes_power
):
    auto = settings(word_model, rows, tmp_path / "auto", objective="auto", max_steps=4)
    record = pipeline.tune(auto, QUIET)
    chosen = record["choice"]["objective"]
    # The word model expects neither the end token nor the others: NLL goes first, for half of so
    # few steps, and special tokens keep it.
    assert chosen == "anneal(nll(), nll_on_special(power(0.5)), 0.5, 0.5)"
    assert "learn to stop" in record["choice"]["reason"]
    named = settings(word_model, rows, tmp_path / "named", objective=chosen, max_steps=4)
    other = pipeline.tune(named, QUIET)
    assert other["scout"] is None and not (named.folder / "scout.json").exists()
    folder = slug(chosen)
    assert torch.equal(weights(auto.folder / folder), weights(named.folder / folder))
    for run, same in zip(record["runs"], other["runs"], strict=True):
        assert run["name"] == same["name"]
        for part in ("metrics", "items"):
            assert run["heldout"][part] == same["heldout"][part]
    losses = [[e["loss"] for e in r["runs"][1]["train"]["log"]] for r in (record, other)]
    assert losses[0] == losses[1]


def test_the_record_keeps_both_probes(word_model, rows, tmp_path):
    chosen = settings(word_model, rows, tmp_path / "out", objective="auto", max_steps=2)
    record = pipeline.tune(chosen, QUIET)
    scouted = record["scout"]
    assert scouted["scout"]["steps"] >= 2 and scouted["scout"]["looks"][0]["mean_p"] > 0
    train_rows = record["data"]["train"]["rows"]
    assert scouted["noise"]["rows"] == scouted["probe"]["examples"] < train_rows
    assert scouted["noise"]["known"] is False  # a random model knows nothing
    assert record["choice"]["objective"] == "nll()"
    assert record["choice"]["reason"] == scouted["probe"]["suggestion"]["reason"]
    assert record["probe"]["examples"] <= train_rows
    assert "After a scout" in (chosen.folder / "report.html").read_text()


def test_a_kill_inside_the_scout_changes_nothing(word_model, rows, tmp_path, monkeypatch):
    whole = settings(word_model, rows, tmp_path / "whole", objective="auto", max_steps=2)
    expected = pipeline.tune(whole, QUIET)
    broken = settings(word_model, rows, tmp_path / "broken", objective="auto", max_steps=2)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(probing, "probe_after_scout", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.tune(broken, QUIET)
    assert not (broken.folder / "scout.json").exists()
    record = pipeline.tune(broken, QUIET)
    times = ("seconds", "written")
    for name in ("scout.json", "probe.json"):
        kind = name.removesuffix(".json")
        first, second = (read_record(run.folder / name, kind) for run in (whole, broken))
        assert {k: v for k, v in first.items() if k not in times and k != "probe"} == {
            k: v for k, v in second.items() if k not in times and k != "probe"
        }
    assert record["choice"] == expected["choice"]
    assert torch.equal(weights(whole.folder / "nll"), weights(broken.folder / "nll"))


def test_no_scout_where_it_is_not_wanted(word_model, rows, tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("a scout was sent")

    monkeypatch.setattr(probing, "probe_after_scout", forbidden)
    chosen = settings(
        word_model, rows, tmp_path / "out", objective="auto", max_steps=2, scout_steps=0
    )
    record = pipeline.tune(chosen, QUIET)
    assert record["scout"] is None
    assert record["choice"]["reason"] == record["probe"]["suggestion"]["reason"]


def test_a_single_row_is_refused_before_the_probe(word_model, tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("the base model was probed")

    monkeypatch.setattr("probtune.pipeline.run.probe_rows", forbidden)
    monkeypatch.setattr(probing, "probe_rows", forbidden)
    two = helpers.write_jsonl(tmp_path / "two.jsonl", helpers.sums(2))
    one = helpers.write_jsonl(tmp_path / "one.jsonl", helpers.sums(1))
    with pytest.raises(UsageError, match="no row to train on; give more rows, or --scout-steps 0"):
        pipeline.tune(
            settings(word_model, two, tmp_path / "out", objective="auto", heldout=1), QUIET
        )
    with pytest.raises(UsageError, match="no row to train on"):
        pipeline.probe_only(settings(word_model, one, None), QUIET, warmup=True)


def test_a_warm_up_leaves_the_probe_as_it_is(word_model, rows, monkeypatch):
    encoded = []

    def counted(examples, *arguments):
        encoded.append(len(examples))
        return encode_rows(examples, *arguments)

    encode_rows = probing.encode_rows
    monkeypatch.setattr(probing, "encode_rows", counted)
    chosen = settings(word_model, rows, None, probe_examples=7)
    cold, warm = (pipeline.probe_only(chosen, QUIET, warmup=warmup) for warmup in (False, True))
    assert encoded == [7, 80]  # a scout takes its rows from all, which are tokenized once
    scouted = warm.pop("scout")
    assert scouted["probe"]["examples"] == 7
    for record in (cold, warm):
        del record["seconds"], record["written"]
    assert cold == warm


def test_probe_warms_up(word_model, rows, tmp_path, capsys):
    from probtune.cli import main

    out = tmp_path / "probe.json"
    arguments = ["probe", str(word_model), str(rows), "--warmup", "--out", str(out)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "After a scout of" in shown and "cannot be told" in shown
    assert "The same for greedy and for sampled answers." in shown
    record = read_record(out, "probe")
    assert record["scout"]["probe"]["suggestion"]["objective"] == "nll()"
    assert main([*arguments[:-1], str(tmp_path / "other.json"), "--scout-steps", "0"]) == 2
    assert "--scout-steps" in capsys.readouterr().err


def test_a_program_gets_what_the_command_says(word_model, rows, tmp_path):
    """`probtune.probe(..., warmup=True)` and `probtune probe --warmup`: the same numbers."""
    chosen = settings(word_model, rows, None, probe_examples=7, max_steps=-1, batch_size=32)
    command = pipeline.probe_only(replace(chosen, gradient_accumulation=1), QUIET, warmup=True)
    cold, warm = (
        probe(str(word_model), str(rows), examples=7, warmup=warmup) for warmup in (False, True)
    )
    assert type(cold) is Probe and cold.mean_p == warm.mean_p
    for name in ("mean_p", "expected_rows"):
        assert getattr(warm, name)._asdict() == pytest.approx(command[name])
    program, recorded = warm.scout, command["scout"]
    assert program["scout"] == recorded["scout"] and program["noise"] == recorded["noise"]
    assert warm.suggestion.objective == recorded["probe"]["suggestion"]["objective"]
    assert warm.wrong_rows == [] and not program["noise"]["known"]
    assert "steps: it cannot be told which rows are wrong" in str(warm)
    seen = replace(warm, scout={**program, "noise": {**program["noise"], "known": True}})
    assert seen.wrong_rows == [row["where"] for row in program["noise"]["worst"]]
    assert "of 7 rows look wrong" in str(seen)


def test_the_list_says_which_rows_are_cut_short_or_echoes():
    from types import SimpleNamespace

    from probtune.commands.tuning import _show_scout

    share = {"value": 0.5, "standard_error": 0.1, "low": 0.3, "high": 0.7, "n": 4}
    worst = [
        {"where": f"rows.jsonl:{i}", "excess": 5.0 - i, "cut_short": i == 1, "echo": i == 2}
        for i in (1, 2, 3)
    ]
    scouted = {
        "scout": {"steps": 8, "rows": 128},
        "noise": {"known": True, "share": share, "worst": worst},
        "probe": {
            "mean_p": share,
            "suggestion": {"verdict": "model-strong", "objective": "nll()", "reason": ""},
        },
        "decodings": "",
    }
    lines = []
    _show_scout(scouted, SimpleNamespace(show=lambda text, wrap=True: lines.append(text)))
    assert "  rows.jsonl:1  (excess surprise 4.0, ends where it would go on)" in lines
    assert "  rows.jsonl:2  (excess surprise 3.0, repeats its question or itself)" in lines
    assert "  rows.jsonl:3  (excess surprise 2.0)" in lines
