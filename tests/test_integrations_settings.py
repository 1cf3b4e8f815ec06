"""Settings of other trainers beside an objective: they leave it as it is, or are refused.

Models of other kinds, a balancing loss of experts, a batch that did not fit, several evaluations.
"""

import helpers
import pytest
import torch
from datasets import Dataset
from test_integrations import RATE, ROWS, number, padded, sure_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForSeq2Seq,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

import probtune
from probtune.errors import UsageError
from probtune.integrations.transformers_trainer import use_objective
from probtune.integrations.trl_trainer import ObjectiveMixin
from probtune.training import ProbTuneConfig, ProbTuneTrainer

OPTIONS = dict(
    per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=2, learning_rate=RATE,
    optim="sgd", max_grad_norm=1e9, lr_scheduler_type="constant", use_cpu=True, report_to="none",
    save_strategy="no", disable_tqdm=True, logging_steps=1,
)  # fmt: skip
WORDS = dict(vocab_size=len(helpers.WORDS), pad_token_id=helpers.WORDS.index("<pad>"))
BERT = dict(**WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
PLAIN = {"dataset_kwargs": {"skip_prepare_dataset": True}, "activation_checkpointing": False}


def of_transformers(model, folder, *, rows=ROWS, function=False, **options):
    arguments = TrainingArguments(str(folder), **{**OPTIONS, **options})
    words = helpers.word_tokenizer()
    parts = dict(
        train_dataset=Dataset.from_list(rows), processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words, model=model),
    )  # fmt: skip
    if function:
        loss = probtune.compute_loss_func("power(0.5)")
        return Trainer(model, arguments, compute_loss_func=loss, **parts)
    trainer = Trainer(model, arguments, **parts)
    use_objective(trainer, "power(0.5)")
    return trainer


def of_trl(model, folder, *, text="power(0.5)", **options):
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class Mixed(ObjectiveMixin, SFTTrainer):
        objective = text

    words = helpers.word_tokenizer()
    return Mixed(
        model, SFTConfig(str(folder), bf16=False, **PLAIN, **{**OPTIONS, **options}),
        train_dataset=Dataset.from_list(ROWS), processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words),
    )  # fmt: skip


def of_probtune(model, folder, *, text="power(0.5)", **options):
    words = helpers.word_tokenizer()
    config = ProbTuneConfig(
        str(folder), objective=text, max_length=None, **PLAIN, **{**OPTIONS, **options}
    )
    return ProbTuneTrainer(
        model, config, train_dataset=Dataset.from_list(ROWS), processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words),
    )  # fmt: skip


TRAINERS = {"transformers": of_transformers, "trl": of_trl, "probtune": of_probtune}


def weights(trainer):
    return {name: x.detach().clone() for name, x in trainer.model.named_parameters()}


# --- models of other kinds -----------------------------------------------------------------------


def encoder_decoder():
    sizes = dict(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    config = T5Config(**WORDS, **sizes, decoder_start_token_id=WORDS["pad_token_id"])
    return T5ForConditionalGeneration(config)


OTHERS = {
    "encoder-decoder": (encoder_decoder, "Seq2SeqLMOutput"),
    "masked": (lambda: BertForMaskedLM(BertConfig(**BERT)), "MaskedLMOutput"),
    "classifying": (
        lambda: BertForSequenceClassification(BertConfig(**BERT)),
        r"SequenceClassifierOutput with labels \(2,\)",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_labels_that_are_not_the_next_token_are_refused(kind, tmp_path):
    """Each label would be trained one token early, and that of the first token not at all. A bare
    `compute_loss_func` sees it in the outputs; the others in the model (test_kinds.py).
    """
    make, said = OTHERS[kind]
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in ROWS]
    trainer = of_transformers(make(), tmp_path, rows=rows, function=True)
    if kind == "classifying":
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: {**collate(rows), "labels": torch.tensor([0, 1])}
    start = weights(trainer)
    with pytest.raises(UsageError, match=said):
        trainer.train()
    torch.testing.assert_close(weights(trainer), start, rtol=0, atol=0)


# --- experts -------------------------------------------------------------------------------------


def experts(balanced=False):
    torch.manual_seed(0)
    config = MixtralConfig(
        **WORDS, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, bos_token_id=None,
        eos_token_id=helpers.WORDS.index("<eos>"), output_router_logits=balanced,
    )  # fmt: skip
    return MixtralForCausalLM(config)


@pytest.mark.parametrize("function", [False, True])
def test_a_balancing_loss_that_would_be_lost_is_refused(function, tmp_path):
    trainer = of_transformers(experts(balanced=True), tmp_path, function=function)
    with pytest.raises(UsageError, match="output_router_logits = False .*ProbTuneTrainer"):
        trainer.train()
    of_transformers(experts(), tmp_path, function=function).train()


def test_a_balancing_loss_is_trained_beside_the_objective_by_trl(tmp_path):
    """The proof knows of it, however large it is; two steps equal ours and those by hand."""
    trainers = [
        make(experts(), tmp_path / name, router_aux_loss_coef=0.5)
        for name, make in (("trl", of_trl), ("probtune", of_probtune))
    ]
    start = weights(trainers[0])
    for trainer in trainers:
        trainer.train()
    torch.testing.assert_close(*(weights(t) for t in trainers), rtol=1e-5, atol=1e-5)
    router = next(name for name in start if "gate" in name and "experts" not in name)
    alone = of_trl(experts(), tmp_path / "alone", router_aux_loss_coef=0.0)
    alone.train()
    assert not torch.allclose(weights(alone)[router], weights(trainers[0])[router], atol=1e-4)


# --- a batch that did not fit --------------------------------------------------------------------


def full_at(call):
    """A model that runs out of memory once, in its n-th forward pass with gradients."""
    model, calls = sure_model(), []

    def fill(module, arguments):
        if torch.is_grad_enabled():
            calls.append(1)
            if len(calls) == call:
                raise RuntimeError("CUDA out of memory.")

    model.model.register_forward_pre_hook(fill)
    return model


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_step_that_did_not_fit_is_forgotten(kind, tmp_path):
    """It was among its micro-batches; auto_find_batch_size begins anew with fewer rows."""
    options = dict(gradient_accumulation_steps=2, per_device_train_batch_size=4)
    trainer = TRAINERS[kind](full_at(2), tmp_path, auto_find_batch_size=True, **options)
    trainer.train()
    smaller = trainer._train_batch_size
    assert smaller < 4
    options["per_device_train_batch_size"] = smaller
    once = TRAINERS[kind](sure_model(), tmp_path, **options)
    once.train()
    torch.testing.assert_close(weights(trainer), weights(once), rtol=0, atol=0)


def test_kept_tokens_of_a_step_that_did_not_fit_do_not_count(tmp_path):
    options = dict(
        text="above(0.05, nll())", normalizer="kept", gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
    )  # fmt: skip
    trainer = of_probtune(full_at(2), tmp_path, auto_find_batch_size=True, **options)
    trainer.train()
    options["per_device_train_batch_size"] = trainer._train_batch_size
    once = of_probtune(sure_model(), tmp_path, **options)
    once.train()
    torch.testing.assert_close(weights(trainer), weights(once), rtol=0, atol=0)
    losses, nlls = (
        [[e[name] for e in t.state.log_history if "loss" in e] for t in (trainer, once)]
        for name in ("grad_norm", "nll")
    )
    assert losses[0] == losses[1] and nlls[0] == nlls[1]


# --- evaluation ----------------------------------------------------------------------------------


def nll_of(model, rows):
    batch = padded(rows)
    labels = batch.pop("labels")
    with torch.no_grad():
        return number(probtune.loss(model.eval()(**batch).logits, labels, "nll"))


@pytest.mark.parametrize("kind", ["trl", "probtune"])
def test_each_evaluation_has_numbers_of_its_own(kind, tmp_path):
    """They have the name of their dataset, and nothing of a prediction between them."""
    trainer = TRAINERS[kind](sure_model(), tmp_path, per_device_eval_batch_size=2)
    parts = {"a": ROWS[:3], "b": ROWS[3:]}
    expected = {name: nll_of(trainer.model, rows) for name, rows in parts.items()}
    datasets = {name: Dataset.from_list(rows) for name, rows in parts.items()}
    assert abs(expected["a"] - expected["b"]) > 0.1
    metrics = trainer.evaluate(datasets)
    for name, nll in expected.items():
        assert metrics[f"eval_{name}_nll"] == pytest.approx(nll, rel=1e-4)
        assert f"eval_{name}_loss" in metrics
    assert "eval_nll" not in metrics
    assert trainer.predict(datasets["b"]).metrics["test_nll"] == pytest.approx(
        expected["b"], rel=1e-4
    )
    assert trainer.evaluate(datasets["a"])["eval_nll"] == pytest.approx(expected["a"], rel=1e-4)


def test_the_best_checkpoint_has_the_lowest_nll(tmp_path):
    options = dict(eval_strategy="steps", save_strategy="steps", load_best_model_at_end=True)
    for metric in ("nll", "eval_nll", "eval_heldout_nll"):
        config = ProbTuneConfig(str(tmp_path), metric_for_best_model=metric, **options)
        assert config.greater_is_better is False
    other = ProbTuneConfig(str(tmp_path), metric_for_best_model="mean_p", **options)
    assert other.greater_is_better is True
    with pytest.raises(UsageError, match="the greatest nll is the worst"):
        of_trl(sure_model(), tmp_path, metric_for_best_model="nll")
