import json
import math
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import helpers
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from train_script import train
from transformers import TrainerCallback

from probtune.errors import DataError, TrainingError, UsageError
from probtune.objectives import objective
from probtune.training import (
    CHECKPOINTING,
    CheckpointClock,
    ProbTuneConfig,
    ProbTuneTrainer,
)
from probtune.training.frozen import frozen_copy

MASKED = (1, 4, 5, 9)


def config(out, **changes):
    return ProbTuneConfig(
        **{
            "output_dir": str(out),
            "per_device_train_batch_size": 8,
            "max_steps": 2,
            "learning_rate": 0.5,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 1e9,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            CHECKPOINTING: False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            **changes,
        }
    )


def trainer(out, *, rows=None, model=None, **changes):
    options = {k: changes.pop(k) for k in ("peft_config", "callbacks") if k in changes}
    rows = rows if rows is not None else helpers.encoded_rows(16, masked=MASKED)
    return ProbTuneTrainer(
        model if model is not None else helpers.word_causal_model(),
        config(out, **changes),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        processing_class=helpers.word_tokenizer(),
        **options,
    )


def logs(training):
    return [entry for entry in training.state.log_history if "grad_norm" in entry]


def weights(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def by_hand(rows, f, *, over_kept=False):
    """Loss, gradient and token statistics of one step, from the full logits in float64."""
    model = helpers.word_causal_model().double()
    total, count, stats = 0.0, 0, []
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        where = (labels != -100).nonzero().squeeze(1)
        if not len(where):
            continue
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        logp = logits.log_softmax(-1)[where, labels[where]]
        total = total + f.value(logp).sum()
        count += int(f.keeps(logp).sum()) if over_kept else len(where)
        stats.append(logp.detach())
    loss = total / count
    loss.backward()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
    return loss.item(), norm, torch.cat(stats)


# --- the loss is the objective, whatever the split -----------------------------------------------


@pytest.mark.parametrize("text", ["nll", "p", "power(0.5)", "log1m", "dft", "above(0.06, nll)"])
def test_first_step_equals_the_objective_by_hand(text, tmp_path):
    rows = helpers.encoded_rows(8, masked=MASKED)
    training = trainer(tmp_path, rows=rows, objective=text, max_steps=1)
    training.train()
    loss, norm, logp = by_hand(rows, objective(text))
    step = logs(training)[0]
    assert step["loss"] == pytest.approx(loss, rel=1e-4)
    assert step["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert step["nll"] == pytest.approx(-float(logp.mean()), rel=1e-5)
    assert step["mean_p"] == pytest.approx(float(logp.exp().mean()), rel=1e-5)
    low = objective(text).token_weight(logp) < 0.01
    assert step["low_weight_share"] == pytest.approx(float(low.double().mean()))
    assert 0 <= step["mean_token_accuracy"] <= 1 and 0 < step["entropy"] <= math.log(
        len(helpers.WORDS)
    )


@pytest.mark.parametrize(
    "text, normalizer",
    [("p", "supervised"), ("above(0.06, nll)", "kept"), ("nll_on_special(deft())", "supervised")],
)
def test_loss_and_gradient_do_not_depend_on_the_accumulation(text, normalizer, tmp_path):
    """8x1 = 4x2 = 1x8, with rows that are fully masked: whole micro-batches of 1x8 are."""
    results = []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        training = trainer(
            tmp_path,
            objective=text,
            normalizer=normalizer,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
        )
        training.train()
        results.append((logs(training), weights(training.model)))
    for steps, end in results[1:]:
        torch.testing.assert_close(end, results[0][1], rtol=1e-5, atol=1e-7)
        for step, first in zip(steps, results[0][0], strict=True):
            for name in ("loss", "grad_norm", "nll", "mean_p", "entropy", "low_weight_share"):
                assert step[name] == pytest.approx(first[name], rel=1e-4), name
    assert len(results[0][0]) == 2


def test_kept_divides_by_the_kept_tokens_of_the_step(tmp_path):
    rows = helpers.encoded_rows(8, masked=MASKED)
    f = objective("above(0.06, nll)")
    training = trainer(
        tmp_path,
        rows=rows,
        objective=str(f),
        normalizer="kept",
        max_steps=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
    )
    training.train()
    loss, norm, _ = by_hand(rows, f, over_kept=True)
    assert logs(training)[0]["loss"] == pytest.approx(loss, rel=1e-4)
    assert logs(training)[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert loss != pytest.approx(by_hand(rows, f)[0], rel=0.1)  # the two do differ


def test_per_batch_and_sum_count_as_the_papers_code(tmp_path):
    """Four micro-batches of two rows, one of them fully masked: the gradient is the sum, or the
    mean, of the micro-batches' own, each divided by its own (kept) tokens.
    """
    rows = helpers.encoded_rows(8, masked=MASKED)
    f = objective("above(0.06, nll)")
    for normalizer in ("supervised_per_batch", "kept_per_batch"):
        parts = []
        for start in range(0, 8, 2):
            part = rows[start : start + 2]
            if any(label != -100 for row in part for label in row["labels"]):
                parts.append(by_hand(part, f, over_kept=normalizer == "kept_per_batch")[0])
        assert len(parts) == 3
        for accumulation, factor in (("mean", 0.25), ("sum", 1.0)):
            training = trainer(
                tmp_path,
                rows=rows,
                objective=str(f),
                normalizer=normalizer,
                accumulation=accumulation,
                max_steps=1,
                per_device_train_batch_size=2,
                gradient_accumulation_steps=4,
                shuffle_dataset=False,
                train_sampling_strategy="sequential",
            )
            training.train()
            assert logs(training)[0]["loss"] == pytest.approx(factor * sum(parts), rel=1e-4)


def test_sum_is_the_step_times_its_micro_batches(tmp_path):
    norms = []
    for accumulation in ("mean", "sum"):
        training = trainer(
            tmp_path,
            objective="p",
            accumulation=accumulation,
            max_steps=1,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
        )
        training.train()
        norms.append(logs(training)[0]["grad_norm"])
    assert norms[1] == pytest.approx(4 * norms[0], rel=1e-5)


def on_two_ranks(out, *arguments):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(folder / "train_script.py"), str(out), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.distributed
def test_two_ranks_equal_one(tmp_path):
    """Losses, gradient norms, logged statistics, evaluation and weights after three steps, with
    ranks and micro-batches that hold no supervised token; for both normalizers, and for what looks
    at a whole step, at a measured reference and at columns of the data."""
    coupled = "mix(0.5, step_top(0.5, nll()), on_reference(weighted(p(), 'quality')))"
    cases = ("above(0.06, nll)", "kept", coupled, "kept")
    twos = on_two_ranks(tmp_path / "2", 8, *cases)
    ones = [train(str(tmp_path / "1"), 8, *cases[i : i + 2]) for i in (0, 2)]
    assert len(ones) == len(twos) == 2 and len(ones[0]["steps"]) == 3
    for one, two in zip(ones, twos, strict=True):
        for a, b in zip(one["steps"], two["steps"], strict=True):
            assert a == pytest.approx(b, rel=1e-4)
        if one is ones[0]:  # in evaluation the batch stands for the step
            assert one["eval"] == pytest.approx(two["eval"], rel=1e-5)
        assert one["weights"] == pytest.approx(two["weights"], rel=1e-6)


def test_evaluation_is_per_token_whatever_the_batch(tmp_path):
    """transformers takes the mean of batch means, and a masked row for a loss of 0."""
    result = []
    for batch in (1, 3, 16):
        one = trainer(tmp_path, objective="p", per_device_eval_batch_size=batch)
        result.append(one.evaluate())
    loss, _, logp = by_hand(helpers.encoded_rows(16, masked=MASKED), objective("p"))
    for metrics in result:
        assert metrics["eval_loss"] == pytest.approx(loss, rel=1e-5)
        assert metrics["eval_nll"] == pytest.approx(-float(logp.mean()), rel=1e-5)
        assert {"eval_mean_p", "eval_entropy", "eval_mean_token_accuracy"} <= set(metrics)


def test_same_gradient_same_training(tmp_path):
    """dft and p have the same gradient, so they must give the same model."""
    ends = []
    for text in ("p", "dft", "power(1)"):
        one = trainer(tmp_path, objective=text)
        one.train()
        ends.append(weights(one.model))
    torch.testing.assert_close(ends[1], ends[0])
    torch.testing.assert_close(ends[2], ends[0])


# --- what TRL does still works -------------------------------------------------------------------


def test_packing_equals_padding(tmp_path):
    """Packed documents neither see each other nor lose a target; the first token of a document is
    no target in either."""
    rows = [row for row in helpers.encoded_rows(8) if len(row["input_ids"]) > 2]
    common = dict(objective="p", max_steps=1)
    padded = trainer(tmp_path, rows=rows, **common)
    packed = trainer(
        tmp_path, rows=rows, packing=True, max_length=32, dataset_kwargs=None, **common
    )
    assert len(packed.train_dataset) < len(rows)
    for one in (padded, packed):
        one.train()
    a, b = logs(padded)[0], logs(packed)[0]
    for name in ("loss", "grad_norm", "nll", "mean_p"):
        assert a[name] == pytest.approx(b[name], rel=1e-4), name


def grouped(rows):
    """Rows of two groups, and one of none."""
    return [{**row, "group_of_row": 0 if i == 0 else 1 + i % 2} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"packing": True, "max_length": 32, "dataset_kwargs": None},
        {"objective": "weighted(p(), 'quality')"},
    ],
    ids=["padded", "packed", "with a column"],
)
def test_groups_of_rows_are_measured_alone(tmp_path, changes):
    rows = [row for row in helpers.encoded_rows(8) if len(row["input_ids"]) > 2]
    rows = [{**row, "quality": 1.0} for row in rows]
    common = dict(objective="p", max_steps=1) | changes
    training = trainer(tmp_path, rows=grouped(rows), groups=["odd", "even"], **common)
    training.train()
    for number, name in enumerate(training.args.groups, start=1):
        mine = [row for row in grouped(rows) if row["group_of_row"] == number]
        *_, logp = by_hand(mine, objective("nll"))
        measured = training.by_group[name]
        assert measured["tokens"] == len(logp)
        assert measured["nll"] == pytest.approx(-float(logp.mean()), rel=1e-4)
        assert measured["mean_p"] == pytest.approx(float(logp.exp().mean()), rel=1e-4)


def test_a_resumed_training_measures_the_groups_of_all_steps(tmp_path):
    common = dict(max_steps=6, groups=["odd", "even"], logging_steps=6, logging_first_step=False)
    rows = grouped(helpers.encoded_rows(16, masked=MASKED))
    whole = trainer(tmp_path / "whole", rows=rows, **common)
    whole.train()
    clock = CheckpointClock(minutes=1e9)
    trainer(tmp_path / "part", rows=rows, callbacks=[clock, StopAt(clock, 3)], **common).train()
    second = trainer(tmp_path / "part", rows=rows, **common)
    second.train(resume_from_checkpoint=True)
    assert second.by_group.keys() == whole.by_group.keys() == {"odd", "even"}
    for name, numbers in whole.by_group.items():
        assert second.by_group[name] == pytest.approx(numbers, rel=1e-5)


def test_lora_trains_the_adapter_alone(tmp_path):
    model = helpers.word_causal_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = trainer(
        tmp_path,
        model=model,
        objective="p",
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    training.train()
    after = dict(training.model.get_base_model().named_parameters())
    moved = [n for n, p in training.model.named_parameters() if "lora_B" in n and p.abs().sum() > 0]
    assert moved
    for name, p in before.items():
        candidates = [q for n, q in after.items() if n.replace(".base_layer", "") == name]
        assert torch.equal(candidates[0], p), name
    assert logs(training)[0]["grad_norm"] > 0


def test_bfloat16_is_close(tmp_path):
    exact, half = (trainer(tmp_path, objective="p", bf16=b, max_steps=1) for b in (False, True))
    for one in (exact, half):
        one.train()
    assert logs(half)[0]["loss"] == pytest.approx(logs(exact)[0]["loss"], rel=1e-2)
    assert logs(half)[0]["grad_norm"] == pytest.approx(logs(exact)[0]["grad_norm"], rel=5e-2)


def test_raw_conversations_through_trl(tmp_path):
    """The data preparation is TRL's: chat template, assistant tokens only."""
    template = (
        "{% for m in messages %}{{ m.role }} {% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }} <eos>{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}"
    )
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"ask {a} + 1"},
                {"role": "assistant", "content": f"{a + 1}"},
            ]
        }
        for a in range(8)
    ]
    training = ProbTuneTrainer(
        helpers.word_causal_model(),
        config(tmp_path, objective="p", dataset_kwargs=None, assistant_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=helpers.word_tokenizer(template),
    )
    labels = training.train_dataset[3]["labels"]
    assert [helpers.WORDS[x] for x in labels if x != -100] == ["4", "<eos>"]
    training.train()


def test_resumed_training_equals_uninterrupted(tmp_path):
    common = dict(
        objective="p",
        max_steps=6,
        optim="adamw_torch",
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=4,
    )
    whole = trainer(tmp_path / "whole", **common)
    whole.train()
    clock = CheckpointClock(minutes=1e9)

    first = trainer(tmp_path / "part", callbacks=[clock, StopAt(clock, 3)], **common)
    first.train()
    assert first.state.global_step == 3 and clock.stopping
    second = trainer(tmp_path / "part", **common)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 6
    torch.testing.assert_close(weights(second.model), weights(whole.model))
    assert logs(second)[-1]["loss"] == pytest.approx(logs(whole)[-1]["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "nll"}, r"has the objective p\(\), and this has the objective nll\(\)"),
        ({"normalizer": "kept"}, "has the normalizer supervised"),
        ({"accumulation": "sum"}, "accumulation mean"),
        ({"per_device_train_batch_size": 4}, "8 rows a step .*, and this has 4 rows a step"),
        ({"rows": helpers.encoded_rows(12)}, "16 rows of data, and this has 12"),
        ({"rows": helpers.encoded_rows(16, seed=1)}, "other rows of data"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(changes, said, tmp_path):
    common = {"objective": "p", "save_strategy": "steps", "save_steps": 1}
    trainer(tmp_path, **common, max_steps=1).train()
    other = trainer(tmp_path, **{**common, "max_steps": 2, **changes})
    with pytest.raises(UsageError, match=said):
        other.train(resume_from_checkpoint=True)
    changed = {"learning_rate": 0.1, "gradient_accumulation_steps": 2}
    same = trainer(tmp_path, **common, max_steps=2, per_device_train_batch_size=4, **changed)
    same.train(resume_from_checkpoint=True)
    assert same.state.global_step == 2


def test_a_block_of_old_states_goes_on_with_as_many_processes(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1}
    for text, refused in (("p", False), ("psft(0.05)", True)):
        out = tmp_path / text
        trainer(out, objective=text, max_steps=1, **options).train()
        path = out / "checkpoint-1" / "training.json"
        path.write_text(path.read_text().replace('"processes": 1', '"processes": 2'))
        resumed = trainer(out, objective=text, max_steps=2, **options)
        (path.parent / "manifest.json").unlink()  # it has another file now
        with pytest.raises(UsageError, match="2 processes") if refused else nullcontext():
            resumed.train(resume_from_checkpoint=str(path.parent))


@pytest.mark.parametrize("text", ["kl_anchor(0.5, dft())", "on_reference(p())"])
def test_split_layers_have_no_reference_without_files(text, tmp_path, monkeypatch):
    """A copy of them is loaded as they were; nor are they measured."""
    monkeypatch.setattr(ProbTuneTrainer, "get_tp_size", lambda self: 2)
    with pytest.raises(UsageError, match="sharded|this model was not loaded from any"):
        trainer(tmp_path, objective=text)


def test_signals_reach_the_objective(tmp_path):
    """The first step's gradient by hand, from full logits."""
    rows = helpers.encoded_rows(16, masked=MASKED)
    end = helpers.word_tokenizer().eos_token_id
    for row in rows[:12]:  # some with an end token, some without
        row["input_ids"] = [*row["input_ids"], end]
        row["labels"] = [*row["labels"], -100 if row["labels"][-1] == -100 else end]
    text = "nll_on_special(floor(0.01, eaft(1, 2)))"
    training = trainer(tmp_path, rows=rows, objective=text, max_steps=1)
    before = weights(training.model).clone()
    seen, step = [], training.compute_loss
    training.compute_loss = lambda model, inputs, **options: (
        seen.extend(inputs["input_ids"].tolist()),
        step(model, inputs, **options),
    )[1]
    training.train()
    special = set(helpers.word_tokenizer().all_special_ids)
    model = helpers.word_causal_model().double()
    total, count, kinds = 0.0, 0, set()
    for text in seen:
        row = next(r for r in rows if text[: len(r["input_ids"])] == list(r["input_ids"]))
        labels = torch.tensor(row["labels"][1:])
        where = (labels != -100).nonzero().squeeze(1)
        if not len(where):
            continue
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1][where]
        logp = logits.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum(-1).detach()
        is_special = torch.tensor([int(token) in special for token in labels[where]])
        kinds |= set(is_special.tolist())
        weight = torch.where(is_special, 1.0, (entropy / 2).clamp(min=0.01))
        total = total - (weight * logp[torch.arange(len(where)), labels[where]]).sum()
        count += len(where)
    loss = total / count
    loss.backward()
    assert kinds == {True, False}
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(
        before - weights(training.model), 0.5 * gradient, rtol=1e-4, atol=1e-6
    )
    assert logs(training)[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_the_collision_probability_reaches_the_objective(lora, tmp_path):
    """deft's value by hand, from full logits."""
    options = {"peft_config": LoraConfig(r=2, target_modules="all-linear")} if lora else {}
    training = trainer(tmp_path, objective="deft()", max_steps=1, **options)
    loss = training.evaluate()["eval_loss"]
    total, count = 0.0, 0
    model = helpers.word_causal_model().double()
    for row in helpers.encoded_rows(16, masked=MASKED):
        labels = torch.tensor(row["labels"][1:])
        where = (labels != -100).nonzero().squeeze(1)
        if not len(where):
            continue
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1][where]
        logp = logits.log_softmax(-1)
        collision = logp.exp().square().sum(-1)
        of_target = logp[torch.arange(len(where)), labels[where]]
        total += float(((1 - (collision * of_target).exp()) / collision).sum())
        count += len(where)
    assert loss == pytest.approx(total / count, rel=1e-5)
    training.train()
    assert math.isfinite(logs(training)[0]["grad_norm"]) and logs(training)[0]["grad_norm"] > 0


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_schedule_trains_each_step_with_its_objective(interrupted, tmp_path):
    """Against a trainer whose objective is set by hand before each step; also when resumed."""
    common = dict(max_steps=4, learning_rate=0.1)

    class ByHand(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            texts = ["nll()", "mix(0.5, nll(), p())", "p()", "p()"]
            hand.objective = objective(texts[state.global_step])

    hand = trainer(tmp_path / "hand", callbacks=[ByHand()], **common)
    hand.train()
    text = "anneal(nll(), p(), 0, 0.5)"
    if interrupted:
        clock = CheckpointClock(minutes=1e9)
        callbacks = [clock, StopAt(clock, 1)]
        trainer(tmp_path / "a", objective=text, callbacks=callbacks, **common).train()
    training = trainer(tmp_path / "a", objective=text, **common)
    training.train(resume_from_checkpoint=interrupted)
    torch.testing.assert_close(weights(training.model), weights(hand.model), rtol=1e-6, atol=1e-8)
    assert [entry["anneal"] for entry in logs(training)] == [0.5, 1.0, 1.0, 1.0]
    assert "anneal" not in logs(hand)[0]
    evaluated = training.evaluate()["eval_loss"]
    assert evaluated == pytest.approx(1 - training.evaluate()["eval_mean_p"], rel=1e-5)


class StopAt(TrainerCallback):
    """Interrupts like a signal does, during a step."""

    def __init__(self, clock, step):
        self.clock, self.step = clock, step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            self.clock.stop_after_save()


def test_checkpoint_clock_writes_when_the_time_has_passed(tmp_path):
    training = trainer(tmp_path / "a", callbacks=[CheckpointClock(minutes=0)], max_steps=3)
    training.train()
    names = sorted(p.name for p in (tmp_path / "a").iterdir() if p.name.startswith("checkpoint"))
    assert names == ["checkpoint-1", "checkpoint-2"]  # none at the end: the model is saved itself
    training = trainer(tmp_path / "b", callbacks=[CheckpointClock(minutes=60)], max_steps=3)
    training.train()
    assert not list(tmp_path.glob("b/checkpoint*"))


# --- what cannot honour the objective raises -----------------------------------------------------


def test_text_is_normalised_and_written_to_checkpoints(tmp_path):
    assert config(tmp_path, objective="power(alpha=.5)").objective == "power(0.5)"
    assert json.loads(config(tmp_path, objective="p").to_json_string())["objective"] == "p()"


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(objective="nil"), "did you mean 'nll'"),
        (dict(normalizer="mean"), "one of supervised, kept"),
        (dict(loss_type="dft"), "write objective='dft\\(\\)'"),
        (dict(label_smoothing_factor=0.1), "would replace the objective"),
    ],
)
def test_refused_settings(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        config(tmp_path, **changes)


def test_columns_in_which_nothing_can_be_trained_on_are_named(tmp_path):
    rows = Dataset.from_list([{"question": "2 + 2?", "answer": "4"}])
    with pytest.raises(
        DataError, match="columns 'answer', 'question', and the trainer reads 'text'"
    ):
        ProbTuneTrainer("./none", config(tmp_path, dataset_kwargs=None), train_dataset=rows)


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            dict(is_fsdp_enabled=True),
            "version 1 of FSDP does not allow; train LoRA .* use FSDP2",
        ),
        (dict(get_tp_size=lambda: 2), "loads from its files: .*nowhere: no such folder"),
    ],
)
def test_a_frozen_copy_that_cannot_be_had_is_refused(changes, said, tmp_path):
    plugins = {"fsdp_plugin": SimpleNamespace(fsdp_version=1)}
    alone = {"is_deepspeed_enabled": False, "is_fsdp_enabled": False, "get_tp_size": lambda: 1}
    model = helpers.word_causal_model()
    model.name_or_path = str(tmp_path / "nowhere")
    owner = SimpleNamespace(
        objective="kl_anchor(0.5, dft())",
        model=model,
        accelerator=SimpleNamespace(state=SimpleNamespace(**plugins)),
        **{**alone, **changes},
    )
    with pytest.raises(UsageError, match=said):
        frozen_copy(owner)


def test_an_open_quantile_is_refused_before_training(tmp_path):
    with pytest.raises(UsageError, match="`probtune tune` fixes it"):
        trainer(tmp_path, objective="floor(0.1, top(0.5, nll()))")


def test_a_trl_whose_head_needs_a_gpu_is_refused_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr("probtune.training.config._TRL", (1, 15))
    with pytest.raises(UsageError, match="TRL 1.15 .* on GPUs only; install trl>=1.16"):
        config(tmp_path, head="trl")
    assert config(tmp_path).head == "auto"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="of a machine without one")
def test_without_an_accelerator_no_flag_is_needed(tmp_path):
    plain = ProbTuneConfig(str(tmp_path), objective="p")
    assert plain.use_cpu and plain.bf16 is False and plain.device.type == "cpu"
    assert ProbTuneConfig(str(tmp_path), bf16=True).bf16  # autocast, as asked for


def test_refused_arguments(tmp_path):
    from trl import SFTConfig

    rows = Dataset.from_list(helpers.encoded_rows(2))
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    off = {"gradient_checkpointing": None, CHECKPOINTING: False}
    plain = SFTConfig(str(tmp_path), bf16=False, use_cpu=True, **off)
    with pytest.raises(UsageError, match="must be a ProbTuneConfig"):
        ProbTuneTrainer(model, plain, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(UsageError, match="would replace the objective"):
        ProbTuneTrainer(
            model,
            config(tmp_path),
            train_dataset=rows,
            processing_class=tokenizer,
            compute_loss_func=lambda *a, **k: None,
        )
    with pytest.raises(UsageError, match="'kept' cannot be used.*average_tokens_across_devices"):
        trainer(tmp_path, normalizer="kept", average_tokens_across_devices=False)


def test_a_step_without_any_supervised_token_changes_nothing(tmp_path):
    training = trainer(
        tmp_path, rows=helpers.encoded_rows(8, masked=range(8)), objective="p", max_steps=1
    )
    before = weights(training.model)
    training.train()
    assert torch.equal(weights(training.model), before)
    assert logs(training)[0]["loss"] == 0.0 and "nll" not in logs(training)[0]


# --- decay and warm-up as in the paper's code -----------------------------------------------------


@pytest.mark.parametrize("decayed", ["matrices", "all"])
def test_norms_decay_only_where_all_weights_do(tmp_path, decayed):
    """Without a supervised token a step is decay alone: AdamW takes lr * decay of every weight."""
    training = trainer(
        tmp_path,
        rows=helpers.encoded_rows(8, masked=range(8)),
        optim="adamw_torch",
        max_steps=1,
        learning_rate=0.1,
        weight_decay=0.5,
        weight_decay_on=decayed,
    )
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    training.train()
    norms = [name for name in before if "norm" in name]
    assert norms and len(norms) < len(before)
    for name, p in training.model.named_parameters():
        still = name in norms and decayed == "matrices"
        torch.testing.assert_close(p.detach(), before[name] * (1.0 if still else 1 - 0.1 * 0.5))


@pytest.mark.parametrize(("rounding", "steps"), [("up", 3), ("down", 2)])
def test_a_warm_up_is_rounded_as_said(tmp_path, rounding, steps):
    """A tenth of 25 steps, then a cosine: transformers takes 3, the paper's code 2."""
    training = trainer(
        tmp_path,
        rows=helpers.encoded_rows(25, masked=MASKED),
        per_device_train_batch_size=1,
        max_steps=25,
        warmup_steps=0.1,
        warmup_rounding=rounding,
        lr_scheduler_type="cosine",
        learning_rate=1e-3,
    )
    training.train()
    rates = [entry["learning_rate"] for entry in logs(training)]
    expected = [
        1e-3 * step / steps
        if step < steps
        else 5e-4 * (1 + math.cos(math.pi * (step - steps) / (25 - steps)))
        for step in range(25)
    ]
    assert rates == pytest.approx(expected, rel=1e-9)


def test_a_wrong_decay_or_rounding_is_refused(tmp_path):
    with pytest.raises(UsageError, match="weight_decay_on must be one of matrices, all"):
        config(tmp_path, weight_decay_on="norms")
    with pytest.raises(UsageError, match="warmup_rounding must be one of up, down"):
        config(tmp_path, warmup_rounding="nearest")


# --- divergence ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path):
    model = helpers.word_causal_model()
    poisoned = helpers.WORDS.index("say")
    rows = helpers.encoded_rows(32)
    for row in rows:
        row["input_ids"] = [1 if x == poisoned else x for x in row["input_ids"]]
        row["labels"] = [1 if x == poisoned else x for x in row["labels"]]
    rows[21]["input_ids"][1] = poisoned  # third step, second micro-batch, second of its rows
    model.model.embed_tokens.weight.data[poisoned] = torch.nan
    training = trainer(
        tmp_path,
        model=model,
        rows=rows,
        objective="p",
        max_steps=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=0.0,
        callbacks=[CheckpointClock(minutes=0)],
        train_sampling_strategy="sequential",
    )
    with pytest.raises(TrainingError) as error:
        training.train()
    said = str(error.value)
    assert "the loss is nan at step 3, micro-batch 2 of 2, row 2 (starting" in said
    assert str(tmp_path / "checkpoint-2") in said


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path):
    training = trainer(tmp_path, objective="p")
    training.model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(training.model)
    with pytest.raises(TrainingError, match="gradient is not finite at step 1"):
        training.train()
    assert torch.equal(weights(training.model), before)
