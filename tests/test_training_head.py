"""The trainer's choice of a head, its training, and its proof on its device."""

import inspect
import logging

import helpers
import pytest
import torch
from datasets import Dataset
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from test_training import MASKED, CheckpointClock, StopAt, config, logs, trainer
from trl.trainer import sft_trainer

from probtune.errors import UsageError
from probtune.kernels import linear_objective
from probtune.objectives import objective
from probtune.training import ProbTuneTrainer, selfcheck
from probtune.training import trainer as trainer_module
from probtune.training.selfcheck import TOLERANCE, check_head, head_errors

CPU = torch.device("cpu")
F = objective("power(0.5)")
# PEFT saves the layer under an adapter on the head, and says so.
saves_the_head = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")


def lora(**changes):
    return LoraConfig(**{"r": 2, "target_modules": ["q_proj", "lm_head"], **changes})


# --- the choice ----------------------------------------------------------------------------------


def test_auto_is_ours_and_trls_where_ours_does_not_serve(tmp_path, caplog):
    training = trainer(tmp_path)
    assert (training.head, training.head_reason) == ("probtune", None)
    training = trainer(tmp_path, head="trl")
    assert (training.head, training.head_reason) == ("trl", None)
    assert not caplog.records
    model = helpers.word_causal_model()
    model.lm_head = OwnLinear(model.lm_head.weight)
    with caplog.at_level(logging.WARNING):
        training = trainer(tmp_path, model=model)
    assert training.head == "trl" and training.head_reason in caplog.text
    assert training.head_reason == "its output layer is a OwnLinear, not a plain linear layer"
    for changes, said in (
        (dict(head="probtune"), "set head='trl'"),
        (dict(objective="gem(0.5)"), "choose another objective"),
    ):
        with pytest.raises(UsageError, match=said):
            trainer(tmp_path, model=model, **changes)


def test_two_passes_train_alike(tmp_path):
    result = []
    for two_pass in (False, True):
        one = trainer(tmp_path, objective="above(0.01, p())", head_two_pass=two_pass)
        one.train()
        result.append(torch.cat([x.detach().flatten() for x in one.model.parameters()]))
    torch.testing.assert_close(*result)
    for changes, said in (
        (dict(head="trl"), "TRL's head computes the loss"),
        (dict(objective="gem(0.5)"), "hence the whole distribution"),
    ):
        with pytest.raises(UsageError, match=said):
            trainer(tmp_path, head_two_pass=True, **changes)


class OwnLinear(torch.nn.Module):
    """A linear layer that is no `torch.nn.Linear`."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.bias = weight, None

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight)


# --- LoRA on the head ----------------------------------------------------------------------------


def by_hand(model, rows):
    """Loss of the whole batch from full logits."""
    total, count = 0.0, 0
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        where = (labels != -100).nonzero().squeeze(1)
        logp = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
        total = total + F.value(logp[where, labels[where]]).sum()
        count += len(where)
    return total / count


@saves_the_head
@pytest.mark.parametrize("target", ["config", "model", "name"])
def test_two_steps_of_lora_on_the_head_equal_those_by_hand(target, tmp_path, word_model):
    rows = helpers.encoded_rows(8, masked=MASKED)
    base, options = helpers.word_causal_model(), {"peft_config": lora()}
    if target == "model":
        base, options = get_peft_model(base, lora()), {}
    elif target == "name":
        base = str(word_model)
    training = trainer(tmp_path, model=base, rows=rows, objective=str(F), **options)
    assert training.head == "probtune"
    hand = get_peft_model(helpers.word_causal_model(), lora())
    hand.load_state_dict(training.model.state_dict())
    before = training.evaluate()["eval_loss"]
    assert before == pytest.approx(by_hand(hand, rows).item(), rel=1e-5)
    training.train()
    optimizer = torch.optim.SGD([x for x in hand.parameters() if x.requires_grad], 0.5)
    for step in logs(training):
        optimizer.zero_grad()
        loss = by_hand(hand, rows)
        loss.backward()
        assert step["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        optimizer.step()
    assert len(logs(training)) == 2
    for (name, x), y in zip(training.model.named_parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    moved = dict(training.model.named_parameters())[
        "base_model.model.lm_head.lora_B.default.weight"
    ]
    assert moved.abs().sum() > 0
    after = training.evaluate()["eval_loss"]
    training.save_model()
    loaded = PeftModel.from_pretrained(helpers.word_causal_model(), tmp_path)
    assert after == pytest.approx(by_hand(loaded, rows).item(), rel=1e-5) != before


@saves_the_head
def test_lora_on_the_head_resumed_equals_uninterrupted(tmp_path):
    common = dict(objective="p", max_steps=4, per_device_train_batch_size=4, optim="adamw_torch")
    common["learning_rate"] = 1e-2
    whole = trainer(tmp_path / "whole", peft_config=lora(), **common)
    whole.train()
    clock = CheckpointClock(minutes=1e9)
    options = {"callbacks": [clock, StopAt(clock, 2)], **common}
    trainer(tmp_path / "part", peft_config=lora(), **options).train()
    second = trainer(tmp_path / "part", peft_config=lora(), **common)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 4
    for (name, x), y in zip(whole.model.named_parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(x, y, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "changes, peft_config, said",
    [
        (dict(head="trl"), lora(), "head='trl' was asked for"),
        ({}, lora(use_dora=True), "DoRA, no plain LoRA"),
        ({}, lora(lora_bias=True), "would have a bias"),
        ({}, IA3Config(target_modules=["lm_head"], feedforward_modules=[]), "IA3, not LoRA"),
    ],
)
@pytest.mark.parametrize("target", ["config", "name"])
def test_an_adapter_that_no_head_would_train_is_refused_at_once(
    target, changes, peft_config, said, tmp_path, monkeypatch
):
    """Before a named model is loaded, and before data are prepared."""
    monkeypatch.setattr(sft_trainer, "create_model_from_path", lambda *a, **k: pytest.fail())
    monkeypatch.setattr(ProbTuneTrainer, "_prepare_dataset", lambda *a, **k: pytest.fail())
    model = helpers.word_causal_model() if target == "config" else "some/model"
    changes = {**changes, "dataset_kwargs": None, "peft_config": peft_config}
    with pytest.raises(UsageError, match=f"output layer would not be trained.*{said}"):
        trainer(tmp_path, model=model, **changes)


@pytest.mark.parametrize("changes", [dict(use_dora=True), dict(head="trl")])
def test_an_adapted_model_whose_adapter_no_head_would_train_is_refused(changes, tmp_path):
    options = {"head": changes.pop("head")} if "head" in changes else {}
    model = get_peft_model(helpers.word_causal_model(), lora(**changes))
    with pytest.raises(UsageError, match="output layer would not be trained"):
        trainer(tmp_path, model=model, **options)


def test_a_config_by_position_is_refused_too(tmp_path):
    """Seen late, in the model that TRL has made."""
    rows = Dataset.from_list(helpers.encoded_rows(4))
    names = list(inspect.signature(sft_trainer.SFTTrainer.__init__).parameters)[3:]
    settings = {
        "train_dataset": rows,
        "processing_class": helpers.word_tokenizer(),
        "peft_config": lora(use_dora=True),
    }
    others = [settings.get(n, (None, None) if n == "optimizers" else None) for n in names]
    with pytest.raises(UsageError, match="output layer would not be trained.*no plain LoRA"):
        ProbTuneTrainer(helpers.word_causal_model(), config(tmp_path), *others)


def test_trl_uses_the_name_that_is_changed_for_one_check_only():
    """`adapters_on_the_head` changes it while the constructor runs."""
    source = inspect.getsource(sft_trainer)
    assert source.count("BaseTunerLayer") == 2
    assert "isinstance(model.get_output_embeddings(), BaseTunerLayer)" in source


# --- the proof -----------------------------------------------------------------------------------

PROVEN = ("nll", "p", "power(10)", "above(0.2, nll)", "deft()", "power(-0.5)")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_head_proves_itself_on_a_cpu(dtype):
    """With room below what rounding explains: 2^-8 for bfloat16, 2^-11 for float16."""
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    for text in PROVEN:
        errors = check_head(objective(text), CPU, dtype)
        assert max(errors) < rounding < TOLERANCE / 4, (text, errors)
        assert errors.loss < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernels_prove_themselves_interpreted(dtype):
    assert max(head_errors(objective("p"), CPU, dtype, "triton")) < TOLERANCE / 4


def test_the_problem_has_targets_of_every_kind():
    hidden, weight, labels = selfcheck._problem(torch.float32)
    p_of_labels = linear_objective(
        hidden, weight, labels, F, impl="reference"
    ).statistics.logp.exp()
    p = p_of_labels[labels != -100]
    assert len(p) == 91 and p.min() < 1e-6 and p.max() > 0.99
    assert ((p > 0.05) & (p < 0.95)).sum() > 10
    assert {0, 1023, 1024, 1030} <= set(labels.tolist())


def broken(how):
    """The head with one fault; the definition beside it is left alone."""

    def function(hidden, weight, labels, f, **options):
        if options.get("impl") == "reference":
            return linear_objective(hidden, weight, labels, f, **options)
        if how == "a block of the vocabulary is left out":
            inside = torch.where(labels < 1024, labels, -100)
            return linear_objective(hidden, weight[:1024], inside, f, **options)
        if how == "a token is left out":
            labels = labels.clone()
            labels[int((labels != -100).nonzero()[17])] = -100
        if how == "a factor":
            options["logit_scale"] = 1.05
        if how == "the tail has no gradient":
            weight = torch.cat([weight[:1024], weight[1024:].detach()])
        out = linear_objective(hidden, weight, labels, f, **options)
        return out._replace(loss=out.loss * torch.nan) if how == "not a number" else out

    return function


@pytest.mark.parametrize(
    "how",
    [
        "a block of the vocabulary is left out",
        "a token is left out",
        "a factor",
        "the tail has no gradient",
        "not a number",
    ],
)
def test_a_broken_head_is_caught(how, monkeypatch):
    monkeypatch.setattr(selfcheck, "linear_objective", broken(how))
    with pytest.raises(UsageError, match=r"wrong on this cpu device.*relative errors.*head='trl'"):
        check_head(objective("nll"), CPU, torch.bfloat16)


def test_a_head_that_does_not_run_is_told_with_the_way_out(monkeypatch):
    def failing(*arguments, impl, **options):
        if impl == "reference":
            return linear_objective(*arguments, impl=impl, **options)
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(selfcheck, "linear_objective", failing)
    with pytest.raises(UsageError, match="does not run on this cpu .*no kernel image.*head=trl"):
        check_head(objective("nll"), CPU, torch.bfloat16)


def test_the_trainer_asks_for_the_proof_off_the_cpu(tmp_path, monkeypatch):
    trainer(tmp_path)  # on a CPU nothing is asked
    requests = []
    monkeypatch.setattr(trainer_module, "TRUSTED_DEVICES", ())
    monkeypatch.setattr(trainer_module, "check_head", lambda *arguments: requests.append(arguments))
    trainer(tmp_path, objective="anneal(nll(), p(), 0, 0.5)", bf16=True)
    trainer(tmp_path, model=helpers.word_causal_model().half())
    trainer(tmp_path, head="trl")
    first, second = requests  # TRL's head is TRL's business
    assert first == (objective("anneal(nll(), p(), 0, 0.5)").at(0.0), CPU, torch.bfloat16)
    assert second[2] == torch.float16
    monkeypatch.undo()
    monkeypatch.setattr(trainer_module, "TRUSTED_DEVICES", ())
    monkeypatch.setattr(selfcheck, "linear_objective", broken("a factor"))
    with pytest.raises(UsageError, match="wrong on this cpu device"):
        trainer(tmp_path)


@pytest.mark.parametrize("head", ["probtune", "trl"])
def test_a_model_that_does_more_to_its_logits_than_it_tells_is_refused(head, tmp_path):
    """A model that both heads would train silently as another one."""

    def changed(change):
        model = helpers.word_causal_model()
        forward = model.forward

        def own(*arguments, **options):
            out = forward(*arguments, **options)
            out.logits = change(out.logits)
            return out

        model.forward = own
        return model

    for change, said in (
        (lambda z: z * 0.5 + 2 * z.mean(), "differ by up to"),
        (lambda z: z[..., :-2], "16 logits, and its output layer 18 rows"),
    ):
        model = changed(change)
        model.lm_head.weight.data.mul_(30)
        with pytest.raises(UsageError, match=f"LlamaForCausalLM: .*{said}"):
            trainer(tmp_path, model=model, head=head)
    for changes in ({}, {"bf16": True}):
        model = changed(lambda z: z)
        model.lm_head.weight.data.mul_(30)
        model.train()
        assert trainer(tmp_path, model=model, head=head, **changes).model.training
    # Half-precision weights: logits up to 60 are rounded to 1/4.
    model = helpers.word_causal_model().bfloat16()
    model.lm_head.weight.data.mul_(300)
    assert 30 < model(input_ids=torch.arange(9)[None]).logits.abs().max() < 120
    assert trainer(tmp_path, model=model, head=head).head == head
