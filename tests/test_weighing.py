"""Training rows weighed by two scouts: who judges whom, and what the training makes of it."""

import helpers
import numpy as np
import pytest
import torch
from test_pipeline import QUIET, settings
from test_pipeline_scout import weights

from probtune import pipeline
from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.models.loading import load_model, load_tokenizer
from probtune.objectives import objective
from probtune.pipeline.weighing import in_words, weights_of_rows
from probtune.probe import warmed, weighing
from probtune.probe.after_scout import WEIGHED
from probtune.probe.choosing import Choice
from probtune.probe.noise import Noise
from probtune.records import read_record
from probtune.statistics import wilson
from probtune.texts import slug
from probtune.training import ProbTuneConfig, ProbTuneTrainer


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return helpers.write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", helpers.sums(80))


@pytest.fixture(scope="module")
def material(word_model):
    tokenizer = load_tokenizer(str(word_model))
    examples = rows_from(
        ((f"row {i}", row) for i, row in enumerate(helpers.sums(70))), source="sums"
    ).examples
    encoded = list(encode(examples, tokenizer, max_length=64).rows)
    return load_model(str(word_model), device="cpu"), tokenizer, encoded


def noise_with(suspicious):
    return Noise(
        wilson(suspicious.astype(float)),
        True,
        0.5,
        excess=np.where(suspicious, 2.0, 0.0),
        suspicious=suspicious,
        cut_short=np.zeros(len(suspicious), bool),
        echoes=np.zeros(len(suspicious), bool),
    )


def test_every_row_is_judged_once_by_a_scout_that_has_not_learnt_it(material, monkeypatch):
    model, tokenizer, rows = material
    number = {row.where: i for i, row in enumerate(rows)}
    learnt, judged = [], []

    def recorded(model, train, unseen, **options):
        learnt.append({row.where for row in train})
        return sent(model, train, unseen, **options)

    def every_third(model, tokenizer, part, progress):
        judged.append((len(learnt) - 1, [row.where for row in part]))
        return noise_with(np.array([number[row.where] % 3 == 0 for row in part]))

    sent = weighing.sent
    monkeypatch.setattr(weighing, "sent", recorded)
    monkeypatch.setattr(weighing, "_judged", every_third)
    monkeypatch.setattr(weighing, "_BLOCK", 16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weighed = weighing.weigh(model, tokenizer, rows, steps=1)
    assert sorted(where for _, part in judged for where in part) == sorted(number)
    for scout, part in judged:
        assert len(part) <= 16 and not learnt[scout] & set(part)
    of_third = np.arange(len(rows)) % 3 == 0
    np.testing.assert_array_equal(weighed.weights, np.where(of_third, weighing.LEAST_WEIGHT, 1.0))
    assert weighed.wrong_first() == np.flatnonzero(of_third).tolist() and weighed.certain.all()
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_where_a_scout_cannot_tell_no_row_loses_weight(material):
    model, tokenizer, rows = material  # random weights know nothing
    weighed = weighing.weigh(model, tokenizer, rows, steps=1)
    assert not weighed.certain.any() and (weighed.weights == 1.0).all()
    again = weighing.weigh(model, tokenizer, rows, steps=1)
    np.testing.assert_array_equal(weighed.excess, again.excess)


@pytest.fixture()
def sees(monkeypatch):
    """Scouts that find every fourth row of what they judge wrong; returns how often they judged."""
    calls = []

    def judged(model, tokenizer, part, progress):
        calls.append(len(part))
        return noise_with(np.arange(len(part)) % 4 == 0)

    monkeypatch.setattr(weighing, "_judged", judged)
    return calls


def test_rows_that_look_wrong_train_less(word_model, rows, tmp_path, sees):
    chosen = settings(word_model, rows, tmp_path / "out", objective="inliers(p())", max_steps=4)
    record = pipeline.tune(chosen, QUIET)
    of_rows = record["row_weights"]
    assert of_rows["rows"] == record["data"]["train"]["rows"] == sum(sees)
    assert len(of_rows["wrong"]) == round(of_rows["share"]["value"] * of_rows["rows"]) > 10
    assert not (chosen.folder / "reference.arrow").exists()  # the base model's p has no part in it
    even = settings(word_model, rows, tmp_path / "even", objective="p()", max_steps=4)
    pipeline.tune(even, QUIET)
    trained = weights(chosen.folder / slug("inliers(p())"))
    assert not torch.equal(trained, weights(even.folder / "p"))
    assert "training rows look wrong" in (chosen.folder / "report.html").read_text()


def test_what_is_weighed_is_not_weighed_again(word_model, rows, tmp_path, monkeypatch, sees):
    chosen = settings(word_model, rows, tmp_path / "out", objective="inliers(nll())", max_steps=2)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.run, "train_stage", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.tune(chosen, QUIET)
    judged = list(sees)
    record = pipeline.tune(chosen, QUIET)
    assert sees == judged
    assert record["row_weights"] == read_record(chosen.folder / "weights.json", "weights")


@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_auto_weighs_as_the_objective_named_outright(
    decoding, word_model, rows, tmp_path, monkeypatch, sees
):
    def choose(noise, *, metric, **knows):
        return Choice(WEIGHED[metric], "they look wrong", "nll()", None)

    monkeypatch.setattr(warmed, "after_scout", choose)
    common = {"max_steps": 4, "decoding": decoding}
    auto = settings(word_model, rows, tmp_path / "auto", objective="auto", **common)
    record = pipeline.tune(auto, QUIET)
    taken = record["choice"]["objective"]
    if decoding == "greedy":
        assert taken == "inliers(nll())"  # nothing goes first, nothing keeps NLL
    else:
        assert taken.startswith("inliers(") and "power(0.3)" in taken
    named = settings(word_model, rows, tmp_path / "named", objective=taken, **common)
    weighed = pipeline.tune(named, QUIET)["row_weights"]
    assert record["row_weights"]["wrong"] == weighed["wrong"] != []
    trained = [weights(chosen.folder / slug(taken)) for chosen in (auto, named)]
    assert torch.equal(*trained)


def test_held_out_rows_weigh_one(word_model, rows, tmp_path, sees):
    chosen = settings(
        *(word_model, rows, tmp_path / "out"),
        **{"objective": "inliers(nll())", "max_steps": 2, "eval_steps": 1},
    )
    (_, run) = pipeline.tune(chosen, QUIET)["runs"]
    assert [entry["step"] for entry in run["train"]["heldout_log"]] == [1, 2]
    last = run["train"]["heldout_log"][-1]
    assert last["nll"] == pytest.approx(run["heldout"]["metrics"]["nll"]["value"], rel=0.2)


def test_without_scouts_the_base_model_weighs(word_model, rows, tmp_path, sees):
    chosen = settings(
        *(word_model, rows, tmp_path / "out"),
        **{"objective": "inliers(nll())", "max_steps": 2, "scout_steps": 0},
    )
    record = pipeline.tune(chosen, QUIET)
    assert record["row_weights"] is None and not sees
    assert (chosen.folder / "reference.arrow").is_file()


def test_a_column_of_weights_needs_no_base_model(word_model, material, tmp_path):
    _, tokenizer, encoded = material
    from datasets import Dataset

    def trained(column):
        data = [
            {"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in encoded
        ]
        for row, weight in zip(data, column or [], strict=False):
            row["sequence_weight"] = weight
        trainer = ProbTuneTrainer(
            load_model(str(word_model), device="cpu"),
            ProbTuneConfig(
                str(tmp_path),
                objective=objective("inliers(nll())" if column else "nll()"),
                **{"max_steps": 2, "per_device_train_batch_size": 8, "report_to": "none"},
                **{"dataset_kwargs": {"skip_prepare_dataset": True}, "save_strategy": "no"},
                use_cpu=True,
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer, torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    trainer, ones = trained([1.0] * len(encoded))
    assert trainer.columns == {"sequence_weight": "sequence_weight"}
    assert "reference_logprobs" not in trainer.train_dataset.column_names
    assert torch.equal(ones, trained(None)[1])
    assert not torch.equal(ones, trained([0.05, 1.0] * (len(encoded) // 2))[1])


def test_weights_in_words():
    record = {"rows": 4, "known": 1.0, "wrong": [{"row": 2}], "weight": 0.05}
    assert weights_of_rows(record) == [1.0, 1.0, 0.05, 1.0] and weights_of_rows(None) is None
    assert in_words(record) == "1 of 4 training rows look wrong and weigh 0.05."
    assert "Of 50% of the rows it could not be told." in in_words({**record, "known": 0.5})
    assert "inliers(f) is f" in in_words({**record, "known": 0.0, "wrong": []})
