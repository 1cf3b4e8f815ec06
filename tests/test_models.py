import helpers
import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GraniteConfig,
    GraniteForCausalLM,
)

from probtune.data.encoding import Encoded
from probtune.errors import TrainingError, UsageError
from probtune.models import loading as models
from probtune.models.generation import generate
from probtune.models.loading import load_model, load_tokenizer, token_table

V = len(helpers.WORDS)


def rows(n=7, seed=0):
    return [
        Encoded(
            f"row {i}",
            np.array(r["input_ids"]),
            np.array(r["labels"]),
            np.array(r["input_ids"][:2]),
            "",
            False,
            False,
            None,
        )
        for i, r in enumerate(helpers.encoded_rows(n, seed=seed))
    ]


def small(**changes):
    return {
        "vocab_size": V,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        **changes,
    }


MODELS = {
    "llama": lambda: helpers.word_causal_model(),
    "gemma2, softcap": lambda: Gemma2ForCausalLM(
        Gemma2Config(**small(head_dim=8, final_logit_softcapping=0.5))
    ),
    "cohere, scale": lambda: CohereForCausalLM(CohereConfig(**small(logit_scale=0.3))),
    "granite, divisor": lambda: GraniteForCausalLM(GraniteConfig(**small(logits_scaling=4.0))),
    "bert, a head of its own": lambda: BertLMHeadModel(
        BertConfig(
            vocab_size=V,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            is_decoder=True,
            hidden_dropout_prob=0.0,
        )
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_table_equals_the_models_own_logits_row_by_row(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)  # away from uniform
    table = token_table(model, rows(), batch_tokens=40)
    start = 0
    for index, row in enumerate(rows()):
        ids = torch.tensor(row.input_ids)[None]
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        targets = torch.tensor(row.labels[1:])
        where = (targets != -100).nonzero().squeeze(1)
        expected = log_probs[where, targets[where]].numpy()
        part = slice(start, start + len(where))
        start += len(where)
        assert (table.example[part] == index).all()
        assert (table.position[part] == np.arange(len(where))).all()
        assert (table.token[part] == targets[where].numpy()).all()
        np.testing.assert_allclose(table.logp[part], expected, rtol=1e-4, atol=1e-5)
        entropy = -(log_probs.exp() * log_probs).sum(-1)[where].numpy()
        np.testing.assert_allclose(table.entropy[part], entropy, rtol=1e-4, atol=1e-5)
        assert (
            table.is_top1[part] == (log_probs[where].argmax(-1) == targets[where]).numpy()
        ).all()
    assert start == table.logp.size


def test_which_models_go_through_the_fused_head():
    def choice(name):
        torch.manual_seed(0)
        return models._choose_measure(MODELS[name]().eval(), rows()[0])

    assert choice("gemma2, softcap") is models._from_head
    assert choice("granite, divisor") is models._from_head
    assert choice("bert, a head of its own") is models._from_logits


def test_a_head_that_configurations_do_not_describe_is_found_out():
    """An unknown change of the logits must not be measured as if it were not there."""
    model = helpers.word_causal_model().eval()
    forward = model.forward

    def doubled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = 40 * out.logits
        return out

    model.forward = doubled
    assert models._choose_measure(model, rows()[0]) is models._from_logits


def test_batches_do_not_change_the_numbers_and_progress_adds_up():
    model = helpers.word_causal_model()
    seen = []
    one = token_table(model, rows(20), batch_tokens=1, progress=seen.append)
    many = token_table(model, rows(20), batch_tokens=10_000)
    assert sum(seen) == 20 and len(seen) == 20
    np.testing.assert_allclose(one.logp, many.logp, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one.example, many.example)
    assert one.counts.sum() == one.logp.size
    assert one.per_example(one.logp)[3] == pytest.approx(one.logp[one.example == 3].sum())
    assert model.training  # as it was before


def test_nan_weights_are_named():
    model = helpers.word_causal_model()
    model.lm_head.weight.data[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="not finite on row"):
        token_table(model, rows())


def test_generation_sets_stored_settings_aside():
    """A model's generation_config leaks into generate() otherwise: repetition penalties change
    greedy answers, sampling changes them at random."""
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    for parameter in model.parameters():
        parameter.data.mul_(6)
    prompts = [row.input_ids[: 2 + i % 3] for i, row in enumerate(rows(12))]
    plain = generate(model, tokenizer, prompts, max_new_tokens=8)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, top_k=2
    )
    stored = model.generation_config
    assert generate(model, tokenizer, prompts, max_new_tokens=8) == plain
    assert model.generation_config is stored and model.training


def test_generation_is_greedy_and_independent_of_the_batch():
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    for parameter in model.parameters():
        parameter.data.mul_(6)
    prompts = [row.input_ids[: 2 + i % 3] for i, row in enumerate(rows(9))]
    together = generate(model, tokenizer, prompts, max_new_tokens=6)
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=6)[0] for prompt in prompts]
    assert together == alone
    ids = list(prompts[0])
    end = tokenizer.eos_token_id
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == end:
            break
    assert tokenizer.decode(ids[len(prompts[0]) :], skip_special_tokens=True) == together[0]


def test_generation_stops_where_training_taught_it():
    model, tokenizer = helpers.word_causal_model(), helpers.word_tokenizer()
    (text,) = generate(model, tokenizer, [[1, 2]], max_new_tokens=8)
    first = tokenizer.convert_tokens_to_ids(text.split()[0])
    (stopped,) = generate(model, tokenizer, [[1, 2]], max_new_tokens=8, stop=[first])
    assert len(stopped.split()) <= 1 < len(text.split())


def test_loading(word_model):
    model = load_model(str(word_model))
    assert model.dtype == torch.float32
    assert load_model(str(word_model), dtype="auto").dtype == torch.float32
    assert models.context_length(str(word_model)) == (64, V)
    assert load_tokenizer(str(word_model)).eos_token == "<eos>"


@pytest.mark.parametrize("load", [load_model, load_tokenizer, models.context_length])
def test_models_that_do_not_exist(load, tmp_path):
    with pytest.raises(UsageError, match="no such folder; give a folder with a model, or a hub id"):
        load("./none")
    with pytest.raises(UsageError, match="of 'no-such/model', which is no folder here, so it was"):
        load("no-such/model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="the folder has no config.json, so it holds no model"):
        load(str(tmp_path / "empty"))
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(UsageError, match="rows.jsonl is a file; give the folder of a model"):
        load(str(tmp_path / "rows.jsonl"))
