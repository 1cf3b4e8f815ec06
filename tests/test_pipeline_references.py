"""`probtune tune` gives objectives what they need of the data and of other models."""

import helpers
import numpy as np
import pytest
from test_pipeline import QUIET, settings

from probtune import pipeline
from probtune.cli import main
from probtune.data.tokens import TokenRows
from probtune.errors import DataError, UsageError
from probtune.measure.answers import answer_mask
from probtune.models.store import LogprobStore
from probtune.records import read_record


@pytest.fixture()
def rows(tmp_path):
    data = [
        {**row, "completion": f"say say {row['completion']}", "quality": 0.5 + i % 2}
        for i, row in enumerate(helpers.sums(40))
    ]
    return str(helpers.write_jsonl(tmp_path / "rows.jsonl", data))


@pytest.fixture()
def better(tmp_path):
    helpers.save_word_model(tmp_path / "better", seed=7)
    return str(tmp_path / "better")


def test_every_kind_of_need_in_one_run(word_model, better, rows, tmp_path, monkeypatch):
    needy = ["weighted(nll(), 'quality')", "on_reference(p())", "token_cleaning(0.5, nll())"]
    seen = []
    built = TokenRows.dataset

    def dataset(rows, *columns):
        seen.append(built(rows, *columns))
        return seen[-1]

    monkeypatch.setattr(TokenRows, "dataset", dataset)
    options = {"answer": r"regex:(\d+)$", "max_steps": 1}
    chosen = settings(
        word_model, rows, tmp_path / "out", objective="nll_on_answer(p())", better=better,
        compare=", ".join(needy), **options,
    )  # fmt: skip
    record = pipeline.tune(chosen, QUIET)
    assert [run["name"] for run in record["runs"]] == ["base", "nll_on_answer(p())", *needy]
    assert record["probe"]["examples"] == record["data"]["train"]["rows"]  # all, for the store
    assert record["settings"]["better"] == better
    answers, weights = seen[0]["answer_mask"], seen[1]["quality"]
    assert set(weights) == {0.5, 1.5}
    tokenizer = helpers.word_tokenizer()
    for ids, mask in zip(seen[0]["input_ids"], answers, strict=True):
        text = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
        assert text.isdigit() and sum(mask) == 1
    for name in ("reference", "better"):
        assert len(LogprobStore(tmp_path / "out" / f"{name}.arrow")) == 30


def test_a_stored_reference_serves_a_run(word_model, rows, tmp_path, monkeypatch):
    store = tmp_path / "base.arrow"
    assert (
        main(["probe", str(word_model), rows, "--store", str(store), "--probe-examples", "2"]) == 0
    )
    assert len(LogprobStore(store)) == 40  # all rows, whatever the sample
    options = dict(objective="on_reference(p())", reference=str(store), max_steps=1)
    record = pipeline.tune(settings(word_model, rows, tmp_path / "out", **options), QUIET)
    assert not (tmp_path / "out" / "reference.arrow").exists()
    assert read_record(tmp_path / "out" / "record.json")["runs"] == record["runs"]


def test_refused_before_training(word_model, better, rows, tmp_path, monkeypatch):
    store = tmp_path / "base.arrow"
    assert main(["probe", str(word_model), rows, "--store", str(store)]) == 0
    other = str(helpers.write_jsonl(tmp_path / "other.jsonl", helpers.sums(40)))
    monkeypatch.setattr("probtune.pipeline.run.train_stage", None)

    def refused(match, model, data, error=UsageError, **changes):
        with pytest.raises(error, match=match):
            pipeline.tune(settings(model, data, tmp_path / "out", **changes), QUIET)
        run = tmp_path / "out" / "run.json"
        assert run.is_file() == match.startswith(("another", "compares"))  # the model was loaded
        run.unlink(missing_ok=True)

    prift = dict(objective="on_reference(p())", reference=str(store))
    refused("name it with --better", word_model, rows, objective="rho1(0.5, nll())")
    refused("no such file", word_model, rows, **{**prift, "reference": "none.arrow"})
    refused(r"stale: .*other.jsonl:\d+ is not", word_model, other, DataError, **prift)
    refused("no rule finds one", word_model, rows, objective="nll_on_answer(p())", answer="none")
    missing = r"rows.jsonl:1 has no column 'nope'; its columns are 'prompt', 'completion', 'qua"
    refused(missing, word_model, rows, DataError, objective="weighted(p(), 'nope')")
    text = "'prompt' must be a finite number"
    refused(text, word_model, rows, DataError, objective="weighted(p(), 'prompt')")
    refused("another model", better, rows, **prift)
    rho1 = dict(objective="rho1(0.5, p())", better=str(store))
    refused("compares it with a better one", word_model, rows, **rho1)


def test_negative_weights_are_refused(word_model, tmp_path):
    data = [{**row, "quality": -1.0} for row in helpers.sums(4)]
    path = str(helpers.write_jsonl(tmp_path / "rows.jsonl", data))
    chosen = settings(word_model, path, tmp_path / "out", objective="weighted(p(), 'quality')")
    with pytest.raises(DataError, match="'quality' must not be negative, got -1"):
        pipeline.tune(chosen, QUIET)


def test_the_answers_tokens_are_found():
    tokenizer = helpers.word_tokenizer()
    ids = tokenizer("ask 1 + 2 = say 3 3 <eos>")["input_ids"]
    labels = [-100] * 5 + ids[5:]
    assert np.flatnonzero(answer_mask(tokenizer, ids, labels, "3")).tolist() == [7]
    assert np.flatnonzero(answer_mask(tokenizer, ids, labels, "3 3")).tolist() == [6, 7]
    assert np.flatnonzero(answer_mask(tokenizer, ids, labels, "say")).tolist() == [5]
    for answer in ("4", None, "1 +"):  # the prompt does not count
        assert not any(answer_mask(tokenizer, ids, labels, answer))
    assert not any(answer_mask(tokenizer, ids, [-100] * len(ids), "3"))


def test_the_probe_alone_is_shown_without_a_file(word_model, rows, capsys):
    assert main(["probe", str(word_model), rows]) == 0
    shown = capsys.readouterr().out
    assert "mean p [95 %]" in shown and "model-weak" in shown
