"""One optimizer step of each integration is ours, and an engine that trains NLL instead is stopped.

The engines are stubs with their recorded hooks (engine_stubs.py), or the packages themselves under
`make integrations`.
"""

import importlib.util
import inspect
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import helpers
import pytest
import torch
from engine_stubs import REAL, engine

import probtune
from probtune.errors import ObjectiveError, TrainingError, UsageError
from probtune.integrations import token_loss
from probtune.integrations.proof import Proof, logits_sums
from probtune.objectives import objective

OBJECTIVES = ("p", "power(10)", "above(0.2, nll())")
RATE = 0.05


def sure_model():
    """A word model that is sure of some targets: thresholds keep some of them and drop others."""
    model = helpers.word_causal_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(60)
    return model


ROWS = helpers.encoded_rows(8, masked=(2,))
"""Rows of different lengths, one of them without a supervised token."""

ENDED = [{name: [*ids, 16] for name, ids in row.items()} for row in ROWS]
"""The same with an end token, which is special."""
AUTO = "anneal(nll(), nll_on_special(p()), 0.5, 0.5)"
"""NLL in the first of two steps, as `auto` writes it."""


def padded(rows):
    length = max(len(row["labels"]) for row in rows)
    ids = torch.full((len(rows), length), helpers.WORDS.index("<pad>"))
    labels, attention = torch.full_like(ids, -100), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        n = len(row["labels"])
        ids[i, :n], labels[i, :n] = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        attention[i, :n] = 1
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


def shifted(labels):
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)


def descend(model):
    """A step of plain gradient descent, after which the gradients are gone."""
    with torch.no_grad():
        for x in model.parameters():
            x -= RATE * x.grad
    model.zero_grad()


def number(x):
    return float(x.detach()) if isinstance(x, torch.Tensor) else float(x)


def tokens_of(rows):
    return sum(sum(label != -100 for label in row["labels"][1:]) for row in rows)


def after_a_step(model, loss_of_part, parts):
    """Parameters after one step of plain gradient descent on the sum of the parts' losses."""
    for part in parts:
        loss_of_part(model, part).backward()
    with torch.no_grad():
        return {name: x - RATE * x.grad for name, x in model.named_parameters()}


def ours(text):
    """The step of `probtune.loss` on all rows at once."""
    batch = padded(ROWS)
    labels = batch.pop("labels")
    return after_a_step(
        sure_model(), lambda model, b: probtune.loss(model(**b).logits, labels, text), [batch]
    )


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    start = sure_model().state_dict()
    assert any(not x.equal(start[name]) for name, x in actual.items())


def two_steps():
    """Parameters after NLL on all rows, and then p but for the end token."""
    batch = padded(ENDED)
    labels = batch.pop("labels")
    steps = (("nll", None), ("nll_on_special(p())", {"special": labels == 16}))

    def of_step(model, step):
        text, signals = steps[step]
        return probtune.loss(model(**batch).logits, labels, text, signals=signals)

    return taken_twice(of_step)


def taken_twice(loss_of_step, after_step=lambda returned: None):
    """Parameters after two steps; `loss_of_step(model, step)` is the loss of all rows."""
    model = sure_model()
    for step in range(2):
        loss = loss_of_step(model, step)
        loss.backward()
        after_step(number(loss))
        descend(model)
    return {name: x.detach() for name, x in model.named_parameters()}


def trainer_step(
    folder, kind, prepare, *, batch=2, options=None, rows=ROWS, steps=1, tokenizer=True, **others
):
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=batch, max_steps=steps, learning_rate=RATE,
        gradient_accumulation_steps=len(ROWS) // batch, optim="sgd", max_grad_norm=1e9,
        lr_scheduler_type="constant", use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, logging_steps=1, **(options or {}),
    )  # fmt: skip
    words, model = helpers.word_tokenizer(), sure_model()
    trainer = (kind or Trainer)(
        model=model, args=arguments, train_dataset=rows, processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words), **others,
    )  # fmt: skip
    if not tokenizer:
        trainer.processing_class = None
    prepare(trainer)
    trainer.train()
    return {name: x.detach().clone() for name, x in model.named_parameters()}, trainer


# --- the pure function ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*OBJECTIVES, "nll()", "eaft()", "deft()"])
def test_token_loss_is_the_loss_of_the_logits(text):
    torch.manual_seed(0)
    logits = (3 * torch.randn(4, 7, 11)).requires_grad_()
    labels = torch.randint(0, 11, (4, 7))
    labels[0, :5], labels[2] = -100, -100
    logs = logits.log_softmax(-1)
    mask = labels != -100
    signals = {"entropy": -(logs.exp() * logs).sum(-1), "collision": logs.exp().square().sum(-1)}
    needed = {name: signals[name] for name in objective(text).needs}
    logp = logs.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    logp = torch.where(mask, logp, -torch.inf)  # anything may stand outside of the mask
    by_tokens = token_loss(text, logp, mask, 9, needed)
    by_logits = probtune.loss(logits, labels, text, num_items_in_batch=9, shift=False)
    torch.testing.assert_close(by_tokens, by_logits)
    gradients = [
        torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (by_tokens, by_logits)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_token_loss_of_no_tokens_is_0():
    logp = torch.tensor([-torch.inf, -1.0], requires_grad=True)
    loss = token_loss("power(0.5)", logp, torch.zeros(2), 0)
    loss.backward()
    assert number(loss) == 0 and logp.grad is not None and not logp.grad.any()


def test_token_loss_refuses_what_log_p_cannot_give():
    logp = torch.zeros(3)
    with pytest.raises(ObjectiveError, match="needs entropy"):
        token_loss("eaft()", logp, logp)
    with pytest.raises(ObjectiveError, match="ProbTuneTrainer"):
        token_loss("label_smoothing(0.1)", logp, logp)
    with pytest.raises(ValueError, match="shape of logprobs"):
        token_loss("p", logp, torch.zeros(2))


# --- equality: one step is ours ------------------------------------------------------------------


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_the_transformers_trainer(text, tmp_path):
    from probtune.integrations.transformers_trainer import use_objective

    expected = ours(text)
    actual, trainer = trainer_step(tmp_path, None, lambda t: use_objective(t, text))
    same(actual, expected)
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    batch = padded(ROWS)
    labels = batch.pop("labels")
    logits = sure_model()(**batch).logits
    assert entry["nll"] == pytest.approx(number(probtune.loss(logits, labels, "nll")), rel=1e-4)
    mean_p = 1 - number(probtune.loss(logits, labels, "p"))
    assert entry["mean_p"] == pytest.approx(mean_p, rel=1e-4)
    assert entry["loss"] == pytest.approx(number(probtune.loss(logits, labels, text)), rel=1e-3)
    assert 0 <= entry["low_weight_share"] <= 1 and entry["entropy"] > 0
    assert 0 <= entry["mean_token_accuracy"] <= 1


def test_labels_that_are_shifted_already(tmp_path):
    """They are the targets, whatever the labels beside them are."""
    from probtune.integrations.transformers_trainer import use_objective

    def prepare(trainer):
        use_objective(trainer, "power(10)")
        collate = trainer.data_collator

        def shifting(rows):
            batch = collate(rows)
            labels = batch["labels"]
            shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
            others = torch.where(labels == -100, labels, 0)
            return {**batch, "shift_labels": shifted, "labels": others}

        trainer.data_collator = shifting

    actual, _ = trainer_step(tmp_path, None, prepare)
    same(actual, ours("power(10)"))


def test_signals_of_the_loss_of_logits():
    """They are shifted with the labels, and ignored tokens may hold anything."""
    batch = padded(ENDED)
    labels = batch.pop("labels")
    logits = sure_model()(**batch).logits.detach().requires_grad_()
    special = labels == 16
    whole = probtune.loss(logits, labels, "nll_on_special(p())", signals={"special": special})
    ends = probtune.loss(
        logits, torch.where(special, labels, -100), "nll", num_items_in_batch=tokens_of(ENDED)
    )
    others = torch.where(special, -100, labels)
    rest = probtune.loss(logits, others, "p", num_items_in_batch=tokens_of(ENDED))
    torch.testing.assert_close(whole, ends + rest)
    parts = [torch.autograd.grad(x, logits)[0] for x in (whole, ends + rest)]
    torch.testing.assert_close(*parts)
    anything = special | (labels == -100)
    assert probtune.loss(
        logits, labels, "nll_on_special(p())", signals={"special": anything}
    ).equal(whole)
    with pytest.raises(ObjectiveError, match="special"):
        probtune.loss(logits, labels, "nll_on_special(p())")
    with pytest.raises(ValueError, match="the signal 'special' must be"):
        probtune.loss(logits, labels, "p", signals={"special": special[:, 1:]})


def test_what_auto_writes_in_the_transformers_trainer(tmp_path):
    """NLL in the first step, p but for the end token in the second; the log follows."""
    from probtune.integrations.transformers_trainer import use_objective

    actual, trainer = trainer_step(
        tmp_path, None, lambda t: use_objective(t, AUTO), rows=ENDED, steps=2
    )
    same(actual, two_steps())
    first, second = (e for e in trainer.state.log_history if "loss" in e)
    assert first["loss"] == pytest.approx(first["nll"], rel=1e-3) and not first["low_weight_share"]
    assert 0 < second["low_weight_share"] < 1 and second["loss"] < second["nll"]


def test_what_auto_writes_in_the_other_trainers(tmp_path):
    from transformers import Trainer

    from probtune.integrations.llamafactory import patch

    with engine("swift") as swift:
        swift.register(AUTO)
        from swift.loss import loss_map

        def of_swift(trainer):
            options = SimpleNamespace(enable_dft_loss=False, use_liger_kernel=False)
            trainer.compute_loss_func = loss_map[swift.NAME](options, trainer)
            trainer._loss_shifts_labels = True

        same(trainer_step(tmp_path / "s", None, of_swift, rows=ENDED, steps=2)[0], two_steps())
    with engine("axolotl") as axolotl:
        cfg = {"probtune_objective": AUTO}
        axolotl.Plugin().register(cfg)

        def of_axolotl(trainer):
            axolotl.Plugin().post_trainer_create(cfg, trainer)

        same(trainer_step(tmp_path / "a", None, of_axolotl, rows=ENDED, steps=2)[0], two_steps())

    class CustomSeq2SeqTrainer(Trainer):
        def __init__(self, finetuning_args, **kwargs):
            super().__init__(**kwargs)

    patch(CustomSeq2SeqTrainer, AUTO)
    own = {"finetuning_args": SimpleNamespace(), "rows": ENDED, "steps": 2}
    same(trainer_step(tmp_path / "l", CustomSeq2SeqTrainer, lambda t: None, **own)[0], two_steps())


def test_special_tokens_need_a_tokenizer(tmp_path):
    from probtune.integrations.transformers_trainer import use_objective

    with pytest.raises(ObjectiveError, match="give it as processing_class="):
        trainer_step(tmp_path, None, lambda t: use_objective(t, AUTO), tokenizer=False)
    with pytest.raises(ObjectiveError, match="a batch's logits, progress, special;"):
        trainer_step(tmp_path, None, lambda t: use_objective(t, "psft()"))


@pytest.mark.parametrize("text", [*OBJECTIVES, "eaft()"])
def test_a_step_of_trl_with_the_mixin(text, tmp_path):
    actual, entry = mixed_steps(tmp_path, text)
    same(actual, ours(text))
    assert {"nll", "mean_p", "low_weight_share", "num_tokens"} <= entry.keys()


def test_what_auto_writes_in_trl_with_the_mixin(tmp_path):
    actual, entry = mixed_steps(tmp_path, AUTO, rows=ENDED, steps=2)
    same(actual, two_steps())
    assert entry["loss"] == pytest.approx(entry["nll"], rel=1e-3)


def mixed_steps(folder, text, *, rows=ROWS, steps=1):
    """Parameters after steps of a subclass with the mixin, and its first log entry."""
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from probtune.integrations.trl_trainer import ObjectiveMixin

    class Mixed(ObjectiveMixin, SFTTrainer):
        objective = text

    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq

    arguments = SFTConfig(
        str(folder), per_device_train_batch_size=2, max_steps=steps, learning_rate=RATE,
        gradient_accumulation_steps=4, optim="sgd", max_grad_norm=1e9, use_cpu=True, bf16=False,
        lr_scheduler_type="constant", report_to="none", save_strategy="no", disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True}, logging_steps=1,
        activation_checkpointing=False,
    )  # fmt: skip
    model, tokenizer = sure_model(), helpers.word_tokenizer()
    trainer = Mixed(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer, data_collator=DataCollatorForSeq2Seq(tokenizer),
    )  # fmt: skip
    trainer.train()
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    return {n: x.detach() for n, x in model.named_parameters()}, entry


def nested(tensors):
    return torch.nested.nested_tensor(tensors, layout=torch.jagged)


def verl_batch(rows, count):
    return {
        "input_ids": nested([torch.tensor(r["input_ids"]) for r in rows]),
        "loss_mask": nested([torch.tensor([int(x != -100) for x in r["labels"]]) for r in rows]),
        "batch_num_tokens": count,
        "dp_size": 1,
    }


def verl_logprobs(model, rows):
    """Nested log-probabilities as verl's engines return them: at each token that of the next."""
    parts = []
    for row in rows:
        ids = torch.tensor(row["input_ids"])
        logs = model(ids[None]).logits[0].log_softmax(-1)
        parts.append(logs.gather(-1, ids.roll(-1)[:, None]).squeeze(-1))
    return torch.nested.as_nested_tensor(parts, layout=torch.jagged)


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_verl(text):
    from probtune.integrations.verl import ObjectiveLoss

    loss, count = ObjectiveLoss(text), tokens_of(ROWS)

    def of_part(model, rows):
        output = {"log_probs": verl_logprobs(model, rows)}
        return loss(config=None, model_output=output, data=verl_batch(rows, count))[0]

    same(after_a_step(sure_model(), of_part, [ROWS[:3], ROWS[3:]]), ours(text))


@pytest.mark.parametrize("text", [*OBJECTIVES, "eaft()"])
def test_a_step_of_torchtitan(text):
    batch = padded(ROWS)
    labels = shifted(batch.pop("labels"))
    with engine("torchtitan") as titan:
        loss = titan.ObjectiveLoss.Config(objective=text).build(compile_config=None)
        trainer = titan_trainer(loss)
        titan.prove(trainer)

        def of_chunk(model, where):
            logits = model(**batch).logits[:, where]
            return loss(logits, labels[:, where], torch.tensor(float(tokens_of(ROWS))))[0]

        chunks = [slice(0, 4), slice(4, None)]
        same(after_a_step(sure_model(), of_chunk, chunks), ours(text))
        returned = probtune.loss(sure_model()(**batch).logits, labels, text, shift=False)
        trainer.metrics_processor.log(1, number(returned))
        assert loss.ledger.proof.proven


def titan_trainer(loss):
    """A torchtitan trainer in the first of two steps, as far as `prove` asks; its tokenizer is one
    of tokenizers.
    """
    return SimpleNamespace(
        loss_fn=SimpleNamespace(loss_fn=loss), step=1, train_step=lambda data: None,
        config=SimpleNamespace(training=SimpleNamespace(steps=2)),
        tokenizer=SimpleNamespace(tokenizer=helpers.word_tokenizer().backend_tokenizer),
        parallel_dims=SimpleNamespace(get_optional_mesh=lambda name: None),
        metrics_processor=SimpleNamespace(log=lambda step, loss: None),
    )  # fmt: skip


def test_what_auto_writes_trains_in_torchtitan():
    """NLL, then p but for the end token; NLL proves nothing, and an unlogged step is forgotten."""
    batch = padded(ENDED)
    labels = shifted(batch.pop("labels"))
    with engine("torchtitan") as titan:
        loss = titan.ObjectiveLoss.Config(objective=AUTO).build(compile_config=None)
        with pytest.raises(ObjectiveError, match="knows of no trainer.*prove"):
            loss(sure_model()(**batch).logits, labels, torch.tensor(1.0))
        trainer = titan_trainer(loss)
        titan.prove(trainer)

        def of_step(model, step):
            trainer.step = step + 1
            loss(model(**batch).logits, labels, torch.tensor(1.0))  # a step before, not logged
            trainer.train_step(None)
            return loss(model(**batch).logits, labels, torch.tensor(float(tokens_of(ENDED))))[0]

        seen = []

        def after(returned):
            trainer.metrics_processor.log(trainer.step, returned)
            seen.append(loss.ledger.proof.proven)

        same(taken_twice(of_step, after), two_steps())
        assert seen == [False, True]


def test_what_auto_writes_trains_in_automodel():
    batch = padded(ENDED)
    labels = shifted(batch.pop("labels"))
    with engine("automodel") as automodel:
        loss = automodel.ObjectiveLoss(objective=AUTO)
        with pytest.raises(ObjectiveError, match="knows of no trainer.*prove"):
            loss(sure_model()(**batch).logits, labels)
        returned = []
        recipe = SimpleNamespace(
            loss_fn=loss, step_scheduler=SimpleNamespace(step=0, max_steps=2),
            tokenizer=helpers.word_tokenizer(), _dp_allreduce=lambda sums, include_cp: sums,
            _run_train_optim_step=lambda: {"loss": returned[-1]},
        )  # fmt: skip
        automodel.prove(recipe)

        def of_step(model, step):
            recipe.step_scheduler.step = step
            return loss(model(**batch).logits, labels, num_label_tokens=tokens_of(ENDED))

        seen = []

        def after(of_engine):
            returned.append(of_engine)
            recipe._run_train_optim_step()
            seen.append(loss.ledger.proof.proven)

        same(taken_twice(of_step, after), two_steps())
        assert seen == [False, True]


def test_special_tokens_in_automodel_need_a_tokenizer():
    with engine("automodel") as automodel:
        recipe = SimpleNamespace(loss_fn=automodel.ObjectiveLoss(objective=AUTO), tokenizer=None)
        with pytest.raises(ObjectiveError, match=r"no tokenizer; give it as dataset\.tokenizer"):
            automodel.prove(recipe)


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_automodel(text):
    with engine("automodel") as automodel:
        loss = automodel.ObjectiveLoss(objective=text)

        def of_part(model, rows):
            batch = padded(rows)
            labels = shifted(batch.pop("labels"))
            return loss(model(**batch).logits, labels, num_label_tokens=tokens_of(ROWS))

        same(after_a_step(sure_model(), of_part, [ROWS[:5], ROWS[5:]]), ours(text))


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_swift(text, tmp_path):

    with engine("swift") as swift:
        swift.register(text)
        from swift.loss import loss_map

        def prepare(trainer):
            options = SimpleNamespace(enable_dft_loss=False, use_liger_kernel=False)
            trainer.compute_loss_func = loss_map[swift.NAME](options, trainer)

        same(trainer_step(tmp_path, None, prepare)[0], ours(text))


def test_the_scale_of_swift_weighs_tokens():
    with engine("swift") as swift:
        from swift.loss.base import BaseLoss

        options = SimpleNamespace(enable_dft_loss=False, use_liger_kernel=False)
        owner = SimpleNamespace(training_step=None, processing_class=None)
        loss = swift.objective_loss(objective("p"), BaseLoss)(options, owner)
    batch = padded(ROWS)
    labels = batch.pop("labels")
    outputs = sure_model()(**batch)
    ones = loss(outputs, labels, loss_scale=torch.ones(labels.numel()))
    torch.testing.assert_close(ones, probtune.loss(outputs.logits, labels, "p"))
    first = torch.zeros(labels.shape)
    first[0] = 2.0
    only = loss(outputs, labels, loss_scale=first, num_items_in_batch=4)
    by_hand = probtune.loss(outputs.logits[:1], labels[:1], "p", num_items_in_batch=4)
    torch.testing.assert_close(only, 2 * by_hand)


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_axolotl(text, tmp_path):
    with engine("axolotl") as axolotl:
        plugin = axolotl.Plugin()
        cfg = {"probtune_objective": text}
        plugin.register(cfg)
        assert plugin.get_input_args() == "probtune.integrations.axolotl.Arguments"
        assert axolotl.Arguments(**cfg).probtune_objective == text
        actual, _ = trainer_step(tmp_path, None, lambda t: plugin.post_trainer_create(cfg, t))
    same(actual, ours(text))


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_llamafactory(text, tmp_path):
    """Its trainer, as far as the launcher touches it: a subclass that takes its own options first
    and renames the tokenizer."""
    from transformers import Trainer

    from probtune.integrations.llamafactory import patch

    class CustomSeq2SeqTrainer(Trainer):
        def __init__(self, finetuning_args, processor, model_args=None, **kwargs):
            super().__init__(**kwargs)

    patch(CustomSeq2SeqTrainer, text)
    options = {"finetuning_args": SimpleNamespace(), "processor": None}
    actual, _ = trainer_step(tmp_path, CustomSeq2SeqTrainer, lambda t: None, **options)
    same(actual, ours(text))


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_unsloth(text, tmp_path, monkeypatch):
    monkeypatch.delenv("UNSLOTH_RETURN_LOGITS", raising=False)
    with engine("unsloth") as unsloth:
        actual, _ = trainer_step(tmp_path, None, lambda t: unsloth.use_objective(t, text))
    same(actual, ours(text))


class Served:
    """A training client that computes `cross_entropy` with weights, here and at once."""

    def __init__(self, *, uses_weights=True):
        self.model, self.uses_weights = sure_model(), uses_weights

    def logprobs(self, data):
        for datum in data:
            ids, targets = datum.model_input, datum.loss_fn_inputs["target_tokens"]
            logs = self.model(ids[None]).logits[0].log_softmax(-1)
            yield logs.gather(-1, targets[:, None]).squeeze(-1)

    def forward(self, data, loss_fn, loss_fn_config=None):
        outputs = [{"logprobs": x.detach()} for x in self.logprobs(data)]
        return SimpleNamespace(result=lambda: SimpleNamespace(loss_fn_outputs=outputs))

    def forward_backward(self, data, loss_fn, loss_fn_config=None):
        total = sum(
            -(x * (d.loss_fn_inputs["weights"] if self.uses_weights else 1)).sum()
            for x, d in zip(self.logprobs(data), data, strict=True)
        )
        total.backward()
        output = SimpleNamespace(metrics={"loss:sum": number(total)})
        return SimpleNamespace(result=lambda: output)


class Datum:
    def __init__(self, *, model_input, loss_fn_inputs):
        self.model_input, self.loss_fn_inputs = model_input, loss_fn_inputs


def served_data(rows=ROWS):
    data = []
    for row in rows:
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        inputs = {"target_tokens": ids[1:], "weights": (labels[1:] != -100).float()}
        data.append(Datum(model_input=ids[:-1], loss_fn_inputs=inputs))
    return data


@pytest.mark.parametrize("text", OBJECTIVES)
def test_a_step_of_tinker(text):
    from probtune.integrations.tinker import custom_loss, objective_step

    client = Served()
    step = objective_step(client, served_data(), text)
    assert step.tokens == tokens_of(ROWS)
    with torch.no_grad():
        actual = {n: x - RATE * x.grad for n, x in client.model.named_parameters()}
    same(actual, ours(text))
    data = served_data()
    logprobs = [x.detach().requires_grad_() for x in client.logprobs(data)]
    loss, metrics = custom_loss(text)(data, logprobs)
    assert number(loss) == pytest.approx(step.loss, rel=1e-5)
    assert metrics["tokens"] == step.tokens


def test_what_auto_writes_trains_in_tinker():
    from probtune.integrations.tinker import custom_loss, objective_step

    client, words = Served(), helpers.word_tokenizer()
    for step in range(2):
        objective_step(client, served_data(ENDED), AUTO, progress=step / 2, tokenizer=words)
        descend(client.model)
    same({n: x.detach() for n, x in client.model.named_parameters()}, two_steps())
    data = served_data(ENDED)
    logprobs = list(client.logprobs(data))
    step = objective_step(client, data, AUTO, progress=0.5, tokenizer=words)
    loss, _ = custom_loss(AUTO, progress=0.5, tokenizer=words)(data, logprobs)
    assert number(loss) == pytest.approx(step.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (AUTO, "give progress="),
        ("nll_on_special(p())", "give it as tokenizer="),
        ("eaft()", "needs entropy"),
    ],
)
def test_what_tinker_is_not_told_is_asked_for_before_a_pass(text, match):
    from probtune.integrations.tinker import objective_step

    with pytest.raises(ObjectiveError, match=match):
        objective_step(None, served_data(), text)


def test_a_served_pass_without_the_weights_is_stopped():
    from probtune.integrations.tinker import objective_step

    with pytest.raises(TrainingError, match="did not use them"):
        objective_step(Served(uses_weights=False), served_data(), "power(10)")


@pytest.mark.skipif(
    "lightning" not in REAL, reason="pytorch-lightning is not installed; make integrations"
)
@pytest.mark.parametrize("text", OBJECTIVES)
@pytest.mark.filterwarnings("ignore")
def test_a_step_of_lightning(text):
    from pytorch_lightning import Trainer

    from probtune.integrations.lightning import ObjectiveModule

    class Descent(ObjectiveModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    model = sure_model()
    batches = [padded(ROWS[:5]), padded(ROWS[5:])]
    trainer = Trainer(
        max_steps=1, accumulate_grad_batches=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Descent(model, text)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    same({n: x.detach() for n, x in model.named_parameters()}, ours(text))
    assert module.proof.proven and {"nll", "mean_p"} <= trainer.callback_metrics.keys()


@pytest.mark.skipif(
    "lightning" not in REAL, reason="pytorch-lightning is not installed; make integrations"
)
@pytest.mark.filterwarnings("ignore")
def test_what_auto_writes_trains_in_lightning():
    """NLL in the first of two steps, then p but for the end token."""
    from pytorch_lightning import Trainer

    from probtune.integrations.lightning import ObjectiveModule

    class Descent(ObjectiveModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    model = sure_model()
    batches = [padded(ENDED[:5]), padded(ENDED[5:])] * 2
    trainer = Trainer(
        max_steps=2, accumulate_grad_batches=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Descent(model, AUTO, tokenizer=helpers.word_tokenizer())
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    same({n: x.detach() for n, x in model.named_parameters()}, two_steps())
    assert module.proof.proven
    with pytest.raises(ObjectiveError, match="give it as tokenizer="):
        ObjectiveModule(model, AUTO)


@pytest.mark.skipif(
    "lightning" not in REAL, reason="pytorch-lightning is not installed; make integrations"
)
@pytest.mark.filterwarnings("ignore")
def test_a_step_that_lightning_scales_is_stopped():
    """A strategy that multiplies the loss: what is propagated is compared, not what we return."""
    from pytorch_lightning import Trainer

    from probtune.integrations.lightning import ObjectiveModule

    class Doubled(ObjectiveModule):
        def backward(self, loss, *arguments, **options):
            super().backward(2 * loss, *arguments, **options)

    batches = [padded(ROWS[:5]), padded(ROWS[5:])]
    trainer = Trainer(
        max_steps=1, accumulate_grad_batches=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="Lightning trains .* times 2"):
        trainer.fit(
            Doubled(sure_model(), "power(10)"),
            torch.utils.data.DataLoader(batches, batch_size=None),
        )


def on_ranks(ranks, *arguments):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={ranks}", str(folder / "engine_ranks_script.py")]
    environment = {**os.environ, "PYTHONPATH": f"{folder.parent}:{folder}"}
    return subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", [*OBJECTIVES[:-1], pytest.param(OBJECTIVES[-1], marks=pytest.mark.distributed)]
)
def test_two_ranks_step_as_one(text, tmp_path):
    one, two = (on_ranks(ranks, tmp_path / str(ranks), text) for ranks in (1, 2))
    assert one.returncode == two.returncode == 0, two.stderr[-3000:]
    alone, both = (json.loads(done.stdout.splitlines()[-1]) for done in (one, two))
    for kind, sums in alone.items():
        assert both[kind] == pytest.approx(sums, rel=1e-5), kind


@pytest.mark.slow
@pytest.mark.parametrize("way", [pytest.param("fsdp2", marks=pytest.mark.distributed), "cp"])
def test_a_scattered_model_steps_as_one_process(way, tmp_path):
    """Twice: the proof, on the first step, must leave no old weights behind."""
    one = on_ranks(1, tmp_path / "1", "p()")
    two = on_ranks(2, tmp_path / "2", "p()", way)
    assert one.returncode == two.returncode == 0, two.stderr[-3000:]
    alone, both = (json.loads(done.stdout.splitlines()[-1]) for done in (one, two))
    for kind, sums in alone.items():
        assert both[kind] == pytest.approx(sums[:4], rel=1e-6), kind


@pytest.mark.slow
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_deepspeed_steps_as_one_process(way, tmp_path):
    """The proof, by a pass that gathers the head as a module, had broken TRL's head under ZeRO-3:
    no gradient could be added.
    """
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DEEPSPEED IS NOT INSTALLED (pip install deepspeed): ZeRO has not been run")
    test_a_scattered_model_steps_as_one_process(way, tmp_path)


@pytest.mark.slow
def test_ranks_that_divide_by_their_own_tokens_are_no_other_loss(tmp_path):
    """With average_tokens_across_devices off a token of a rank with few of them weighs more."""
    done = on_ranks(2, tmp_path, "power(0.1)", "means")
    assert done.returncode == 0, done.stderr[-3000:]
    sums = json.loads(done.stdout.splitlines()[-1])
    for kind in ("transformers", "trl"):
        assert sums[kind][:2] == pytest.approx(sums["by hand"], rel=1e-6), kind
    as_one = json.loads(on_ranks(1, tmp_path, "power(0.1)").stdout.splitlines()[-1])
    assert sums["by hand"] != pytest.approx(as_one["transformers"][:2], rel=1e-6)


@pytest.mark.slow
def test_a_head_whose_gradient_trl_would_not_sum_is_refused(tmp_path):
    done = on_ranks(2, tmp_path, "p()", "saved")
    assert done.returncode != 0
    assert "TRL's head would not sum the gradient of this model's output layer" in done.stderr


@pytest.mark.slow
@pytest.mark.distributed
def test_nll_on_two_ranks_is_stopped(tmp_path):
    done = on_ranks(2, tmp_path, "power(10)", "nll")
    assert done.returncode != 0 and "trains NLL and not power(10" in done.stderr


# --- the proof: five engines that train NLL silently ---------------------------------------------


def nll_step(folder, compute_loss, **options):
    """A step of a trainer that has our objective and takes another loss."""
    from probtune.integrations.transformers_trainer import use_objective

    def prepare(trainer):
        use_objective(trainer, "power(10)", engine="the engine")
        trainer.compute_loss = lambda model, inputs, **others: compute_loss(
            trainer, model, inputs, others["num_items_in_batch"]
        )

    return trainer_step(folder, None, prepare, **options)


def test_ulysses_takes_the_models_own_loss(tmp_path):
    """transformers returns `deepspeed_sp_compute_loss` before it looks at compute_loss_func."""

    def compute_loss(trainer, model, inputs, count):
        return model(**inputs, num_items_in_batch=count).loss

    with pytest.raises(TrainingError, match=r"the engine trains NLL and not power\(10"):
        nll_step(tmp_path, compute_loss)


def test_nll_after_the_switch_is_stopped(tmp_path):
    """`anneal(nll(), ...)` begins with NLL, where nothing can be told: the proof waits."""
    from probtune.integrations.transformers_trainer import use_objective

    seen = []

    def prepare(trainer):
        use_objective(trainer, AUTO, engine="the engine")

        def compute_loss(model, inputs, num_items_in_batch=None, **others):
            seen.append(trainer.state.global_step)
            return model(**inputs, num_items_in_batch=num_items_in_batch).loss

        trainer.compute_loss = compute_loss

    with pytest.raises(TrainingError, match="trains NLL and not anneal"):
        trainer_step(tmp_path, None, prepare, rows=ENDED, steps=2)
    assert seen == [0] * 4 + [1] * 4


def test_unsloth_takes_the_fused_loss_by_the_functions_name(tmp_path):
    """Its compiled forward asks for the name of the loss function, and calls none of that name."""

    def ForCausalLMLoss(logits, labels, vocab_size, num_items_in_batch=None, **others):
        raise AssertionError("never called")

    def compute_loss(trainer, model, inputs, count):
        model.loss_function = ForCausalLMLoss
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        if model.loss_function.__name__.endswith("ForCausalLMLoss"):
            return probtune.loss(logits, labels, "nll", num_items_in_batch=count)
        return model.loss_function(logits, labels, 18, num_items_in_batch=count)

    with pytest.raises(TrainingError, match="trains NLL"):
        nll_step(tmp_path, compute_loss)


def test_fused_heads_leave_no_logits(tmp_path):
    """Liger and cut cross-entropy: a forward that returns the loss alone, with labels."""

    def compute_loss(trainer, model, inputs, count):
        labels = inputs.pop("labels")
        hidden = model.model(**inputs).last_hidden_state
        return probtune.linear_objective_loss(
            hidden, model.lm_head.weight, labels, "nll", shift=True, num_items_in_batch=count
        )

    with pytest.raises(TrainingError, match="trains NLL.*use_liger_kernel"):
        nll_step(tmp_path, compute_loss)


def test_automodel_downgrades_a_loss(caplog):
    """A model without `logits_to_keep` gets MaskedCrossEntropy in place of any other class."""
    with engine("automodel") as automodel:
        from nemo_automodel.components.loss.masked_ce import MaskedCrossEntropy

        def downgraded(loss_fn):
            return loss_fn if isinstance(loss_fn, MaskedCrossEntropy) else MaskedCrossEntropy()

        ours = downgraded(automodel.ObjectiveLoss(objective="p"))
        assert isinstance(ours, automodel.ObjectiveLoss)
        with pytest.raises(TrainingError, match="which is NLL"):
            automodel.prove(SimpleNamespace(loss_fn=downgraded(torch.nn.CrossEntropyLoss())))
        logits, labels = 3 * torch.randn(1, 6, 9), torch.randint(0, 9, (1, 6))
        recipe = SimpleNamespace(
            loss_fn=ours, tokenizer=None, _dp_allreduce=lambda sums, include_cp: sums,
            _run_train_optim_step=lambda: {"loss": number(ours(logits, labels)) / 6},
        )  # fmt: skip
        automodel.prove(recipe)
        recipe._run_train_optim_step()
        assert ours.ledger.proof.proven
        nll = number(probtune.loss(logits, labels, "nll", shift=False))
        late = automodel.ObjectiveLoss(objective="p")
        recipe = SimpleNamespace(
            loss_fn=late, tokenizer=None, _dp_allreduce=lambda sums, include_cp: sums,
            _run_train_optim_step=lambda: {"loss": nll},
        )  # fmt: skip
        automodel.prove(recipe)
        with pytest.raises(TrainingError, match="never asked for the loss"):
            recipe._run_train_optim_step()


def test_megatron_reads_no_loss_type(monkeypatch):
    from probtune.integrations.llamafactory import refuse
    from probtune.integrations.swift import register

    monkeypatch.setattr(sys, "argv", ["/env/bin/megatron", "sft"])
    with pytest.raises(UsageError, match="would train NLL"):
        register("p")
    monkeypatch.setenv("USE_MCA", "1")
    with pytest.raises(UsageError, match="use_mca"):
        refuse({}, "p")

    class BaseMegatronTrainer:
        pass

    with engine("swift") as swift:
        from swift.loss.base import BaseLoss

        with pytest.raises(UsageError, match="Megatron would train NLL"):
            swift.objective_loss(objective("p"), BaseLoss)(None, BaseMegatronTrainer())


class VerlEngine:
    """An engine of verl, as far as the proof touches it."""

    def __init__(self, loss_function=None):
        self.model, self.replaced = sure_model(), loss_function

    def is_mp_src_rank_with_outputs(self):
        return True

    def get_data_parallel_group(self):
        return None

    def get_data_parallel_size(self):
        return 1

    def train_batch(self, data, loss_function):
        function = self.replaced or loss_function
        losses = []
        for rows in data:
            output = {"log_probs": verl_logprobs(self.model, rows)}
            batch = verl_batch(rows, tokens_of(ROWS))
            losses.append(number(function(model_output=output, data=batch, dp_group=None)[0]))
        return {"loss": losses, "metrics": {}}


def verl_trainer(engine_of_verl):
    client = SimpleNamespace(engine=engine_of_verl, loss_fn=None)
    client.set_loss_fn = lambda loss_fn: setattr(client, "loss_fn", loss_fn)
    return SimpleNamespace(training_client=client)


def test_verl_proves_itself():
    with engine("verl") as verl:
        trainer = verl_trainer(VerlEngine())
        loss = verl.use_objective(trainer, "power(10)")
        client = trainer.training_client
        client.engine.train_batch([ROWS[:3], ROWS[3:]], client.loss_fn)
        assert loss.ledger.proof.proven

        def sft_loss(model_output, data, dp_group):
            logprobs = model_output["log_probs"].values()
            mask = data["loss_mask"].values().roll(-1)
            return -(logprobs * mask).sum() / data["batch_num_tokens"], {}

        trainer = verl_trainer(VerlEngine(sft_loss))
        verl.use_objective(trainer, "power(10)")
        with pytest.raises(TrainingError, match="verl never asked for the loss"):
            trainer.training_client.engine.train_batch([ROWS], None)


def test_what_auto_writes_in_verl():
    class Stepping(VerlEngine):
        def train_batch(self, data, loss_function):
            losses = []
            self.model.zero_grad()
            for rows in data:
                output = {"log_probs": verl_logprobs(self.model, rows)}
                batch = verl_batch(rows, tokens_of(ENDED))
                losses.append(loss_function(model_output=output, data=batch, dp_group=None)[0])
                losses[-1].backward()
            with torch.no_grad():
                for x in self.model.parameters():
                    x -= RATE * x.grad
            return {"loss": [number(x) for x in losses], "metrics": {}}

    with engine("verl") as verl:
        trainer = verl_trainer(Stepping())
        trainer.total_training_steps, trainer.resume_global_step = 2, 0
        trainer.model_config = SimpleNamespace(tokenizer=helpers.word_tokenizer())
        loss = verl.use_objective(trainer, AUTO)
        client = trainer.training_client
        for proven in (False, True):
            client.engine.train_batch([ENDED[:3], ENDED[3:]], client.loss_fn)
            assert loss.ledger.proof.proven == proven
        same({n: x.detach() for n, x in client.engine.model.named_parameters()}, two_steps())
        trainer = verl_trainer(VerlEngine())
        trainer.total_training_steps, trainer.resume_global_step = 2, 1
        assert str(verl.use_objective(trainer, AUTO).running.objective_now()) != "nll()"
        with pytest.raises(ObjectiveError, match="hand over"):
            verl.ObjectiveLoss(AUTO)


def test_a_loss_that_is_a_mean_of_means_is_stopped(tmp_path):
    """The objective itself, but each micro-batch divided by its own tokens and never by four."""

    def compute_loss(trainer, model, inputs, count):
        labels = inputs.pop("labels")
        return probtune.loss(model(**inputs).logits, labels, "power(10)")

    with pytest.raises(TrainingError, match=r"times 4|neither"):
        nll_step(tmp_path, compute_loss)


def test_the_proof_judges():
    torch.manual_seed(0)
    logits, labels = 4 * torch.randn(2, 8, 12), torch.randint(0, 12, (2, 8))
    f = objective("p")
    sums = logits_sums(f, logits, labels)
    mean, tokens = sums[0] / sums[2], int(sums[2])
    assert tokens == 14

    def proof(**options):
        return Proof(f, engine="it", way_out="Do that.", **options)

    right = proof()
    right.add(mean, sums)
    assert right.finish()
    halves = proof()
    halves.add(mean / 2, sums)
    halves.add(mean / 2, (0.0, 0.0, 0.0))
    assert halves.finish()
    for factor in (2.0, 0.25):
        wrong = proof()
        wrong.add(mean * factor, sums)
        with pytest.raises(TrainingError, match=f"times {factor:g}.*Do that"):
            wrong.finish()
    wrong = proof()
    wrong.add(1.37 * mean, sums)
    with pytest.raises(TrainingError, match="neither p"):
        wrong.finish()
    empty = proof()
    empty.add(0.0, (0.0, 0.0, 0.0))
    assert not empty.finish()  # a step without tokens proves nothing
    # Two ranks whose gradients are averaged, and added.
    for ranks, share in (("mean", 1.0), ("sum", 0.5)):
        spread = proof(ranks=ranks)
        spread.add(share * mean, [x / 2 for x in sums])
        assert spread.finish(lambda x: 2 * x, 2)
    assert Proof("nll", engine="it").proven


def test_a_batch_on_which_nll_looks_the_same_proves_nothing(caplog):
    logits = torch.zeros(1, 3, 4)
    logits[..., 1] = 12.0  # p near 1: every objective with w(1) = 1 looks like NLL
    sums = logits_sums(objective("p"), logits, torch.ones(1, 3, dtype=torch.int64))
    proof = Proof("p", engine="it")
    for _ in range(20):
        proof.add(sums[0] / sums[2], sums)
        with caplog.at_level(logging.WARNING):
            proof.finish()
    assert proof.proven and "not proven" in caplog.text


# --- stubs, and what the packages have -----------------------------------------------------------


RECORDED = json.loads((Path(__file__).parent / "engine_hooks.json").read_text())


@pytest.mark.parametrize(
    "name, path, function",
    [
        ("torchtitan", "torchtitan.components.loss", "BaseLoss.__call__"),
        ("torchtitan", "torchtitan.components.loss", "BaseLoss._maybe_compile"),
        ("torchtitan", "torchtitan.components.loss", "compute_logprobs"),
        ("automodel", "nemo_automodel.components.loss.masked_ce", "MaskedCrossEntropy.__init__"),
        ("automodel", "nemo_automodel.components.loss.masked_ce", "MaskedCrossEntropy.forward"),
        ("swift", "swift.loss.base", "BaseLoss.__init__"),
        ("swift", "swift.loss.base", "BaseLoss.__call__"),
        ("axolotl", "axolotl.integrations.base", "BasePlugin.register"),
        ("axolotl", "axolotl.integrations.base", "BasePlugin.post_trainer_create"),
    ],
)
def test_stubs_have_the_recorded_hooks(name, path, function):
    if name in REAL:
        pytest.skip("the package itself is tested")
    with engine(name):
        owner = importlib.import_module(path)
        for part in function.split("."):
            owner = getattr(owner, part)
        stub = [n.lstrip("*") for n in inspect.signature(owner).parameters]
    hooks = RECORDED[name]["hooks"]
    names = hooks[f"{path.replace('.', '/')}.py: {function}"]
    assert stub == [n.lstrip("*") for n in names if n != "*"]


def test_what_replaces_a_function_has_its_parameters():
    """An override with another signature breaks at the engine's call, not here."""
    from probtune.integrations import verl

    def names(function):
        return [n for n in inspect.signature(function).parameters if n != "self"]

    hooks = {h.split(": ")[1]: p for e in RECORDED.values() for h, p in e["hooks"].items()}
    assert names(verl.ObjectiveLoss.__call__) == hooks["sft_loss"]
    assert hooks["BaseEngine.train_batch"] == ["self", "data", "loss_function"]
    assert hooks["TrainingWorker.set_loss_fn"] == ["self", "loss_fn"]
    with engine("automodel") as automodel:
        expected = hooks["MaskedCrossEntropy.forward"]
        assert ["self", *names(automodel.ObjectiveLoss.forward)] == expected
    assert hooks["run_exp"] == ["args", "callbacks"]
    assert hooks["CustomSeq2SeqTrainer.__init__"][:2] == ["self", "finetuning_args"]
    assert hooks["MetricsProcessor.log"][:3] == ["self", "step", "global_avg_loss"]
    for step in ("forward", "forward_backward"):
        assert hooks[f"TrainingClient.{step}"][:3] == ["self", "data", "loss_fn"]


def test_every_tested_engine_is_recorded():
    from probtune.integrations.versions import TESTED

    assert TESTED.keys() == RECORDED.keys()
    for name, (package, first, last) in TESTED.items():
        entry = RECORDED[name]
        assert entry["package"] == package and None not in entry["hooks"].values()
        release = [int(part) for part in entry["version"].split(".")[:2]]
        low, high = ([int(x) for x in text.split(".")] for text in (first, last))
        assert low <= release <= high, f"{package}: the recorded release is not in the range"


def test_the_documents_have_the_record():
    """With which releases and Pythons each engine was tested."""
    from benchmarks.engine_hooks import PAGE, matrix

    assert all(entry["tested"] for entry in RECORDED.values())
    assert matrix(RECORDED) in PAGE.read_text()


# --- bad input -----------------------------------------------------------------------------------


def test_a_trainer_with_another_loss_is_refused(tmp_path):
    from probtune.integrations.transformers_trainer import use_objective

    def twice(trainer):
        use_objective(trainer, "p")
        use_objective(trainer, "p")

    with pytest.raises(UsageError, match="compute_loss_func already"):
        trainer_step(tmp_path, None, twice)
    with pytest.raises(UsageError, match="label_smoothing_factor"):
        smoothing = {"label_smoothing_factor": 0.1}
        trainer_step(tmp_path, None, lambda t: use_objective(t, "p"), options=smoothing)

    def ulysses(trainer):
        trainer.accelerator.state.parallelism_config = SimpleNamespace(sp_enabled=True)
        try:
            use_objective(trainer, "p")
        finally:
            trainer.accelerator.state.parallelism_config = None

    with pytest.raises(UsageError, match="sequence parallelism"):
        trainer_step(tmp_path, None, ulysses)


def test_axolotl_refuses_other_losses():
    with engine("axolotl") as axolotl:
        plugin = axolotl.Plugin()
        with pytest.raises(UsageError, match="probtune_objective: power"):
            plugin.register({})
        for key in ("use_eaft", "cut_cross_entropy", "liger_fused_linear_cross_entropy"):
            with pytest.raises(UsageError, match=key):
                plugin.register({"probtune_objective": "p", key: True})
        with pytest.raises(ObjectiveError):
            plugin.register({"probtune_objective": "pwoer(2)"})
        with pytest.raises(ObjectiveError, match="ProbTuneTrainer"):
            plugin.register({"probtune_objective": "step_top(0.5, nll())"})


def test_llamafactory_refuses_other_losses():
    from probtune.integrations.llamafactory import main, refuse

    for name in ("use_dft_loss", "use_eaft_loss", "use_asft_loss", "use_hyper_parallel"):
        with pytest.raises(UsageError, match=name):
            refuse({name: True}, "p")
    with pytest.raises(UsageError, match="name objective and configuration"):
        main(["train.yaml"])
    from probtune.integrations.verl import main as verl_main

    with pytest.raises(UsageError, match="name the objective first"):
        verl_main(["data.train_files=x"])


def test_versions_outside_the_tested_range_are_said(monkeypatch, caplog):
    import importlib.metadata

    from probtune.integrations.versions import check_version

    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.11.3")
    with caplog.at_level(logging.WARNING):
        assert check_version("verl") == "0.11.3"
    assert "outside of the releases that were tested, 0.9 to 0.9" in caplog.text

    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UsageError, match="verl is not installed"):
        check_version("verl")


def test_importing_the_package_loads_no_engine():
    code = (
        "import sys; import probtune.integrations;"
        "print({'trl', 'transformers', 'verl', 'swift'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
