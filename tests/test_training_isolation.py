"""Rows without padding between them: which models keep them apart, and how others are refused."""

import helpers
import pytest
import torch
import transformers
from test_training import logs, trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from probtune.errors import UsageError
from probtune.training import reads_boundaries

VOCABULARY, END, PAD = len(helpers.WORDS), *(helpers.WORDS.index(x) for x in ("<eos>", "<pad>"))
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None}
JOINED = {"padding_free": True, "max_length": None}
PACKED = {"packing": True, "max_length": 64, "dataset_kwargs": None}


def model(family, attention=None, **options):
    """A tiny model with random weights and without dropout."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**TOKENS, **options)
    kind = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
    result = getattr(transformers, kind)(config)
    if attention is not None:
        result.set_attn_implementation(attention)
    return result.eval()


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
GPT2 |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
GEMMA2 = {**LLAMA, "head_dim": 8, "sliding_window": 4}
APART = [
    ("Llama", LLAMA, "sdpa"),
    ("Llama", LLAMA, "eager"),
    ("Qwen2", LLAMA, "sdpa"),
    ("GPT2", GPT2, "sdpa"),
    ("Gemma2", GEMMA2, "eager"),
]
SEEING = [
    ("Bloom", {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
    ("Mpt", {"d_model": 16, "n_layers": 2, "n_heads": 2}),
    ("Mamba", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
]


def pair(collator):
    rows = [r for r in helpers.encoded_rows(12) if len(r["input_ids"]) > 3][:3]
    batch = collator(rows)
    batch.pop("labels")
    return rows, batch


@pytest.mark.parametrize(("family", "options", "attention"), APART)
def test_joined_rows_have_the_logits_that_they_have_alone(family, options, attention):
    tiny = model(family, attention, **options)
    rows, batch = pair(DataCollatorForLanguageModeling(PAD, padding_free=True))
    with torch.no_grad():
        joined = tiny(**batch, use_cache=False).logits[0]
        alone = [tiny(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in rows]
        one_row = tiny(input_ids=batch["input_ids"]).logits[0]
    torch.testing.assert_close(joined, torch.cat(alone), rtol=1e-5, atol=1e-5)
    assert (one_row - joined).abs().max() > 1e-4  # a row that sees the others is told apart


@pytest.mark.parametrize("layout", [JOINED, PACKED])
@pytest.mark.parametrize(("family", "options"), SEEING)
def test_a_model_whose_rows_see_each_other_is_refused(family, options, layout, tmp_path):
    training = trainer(tmp_path, model=model(family, **options), objective="p", **layout)
    with pytest.raises(UsageError, match="see each other in"):
        training.train()
    assert training.state.global_step == 0


def test_measured_rows_are_padded(tmp_path):
    """The last batch of several ranks is filled with rows that must not count twice."""
    training = trainer(tmp_path, objective="p", per_device_eval_batch_size=4, **JOINED)
    batch = next(iter(training.get_eval_dataloader()))
    assert len(batch["input_ids"]) == 4 and "attention_mask" in batch
    joined = next(iter(training.get_train_dataloader()))
    assert len(joined["input_ids"]) == 1
    padded = trainer(tmp_path, objective="p")
    assert training.evaluate()["eval_nll"] == pytest.approx(padded.evaluate()["eval_nll"], rel=1e-6)


def test_columns_join_with_their_rows(tmp_path):
    rows = [{**r, "quality": 0.5 + i / 16} for i, r in enumerate(helpers.encoded_rows(8))]
    first = []
    for layout in ({}, JOINED):
        training = trainer(tmp_path, rows=rows, objective="weighted(p(), 'quality')", **layout)
        training.train()
        first.append(logs(training)[0]["loss"])
    assert first[1] == pytest.approx(first[0], rel=1e-5)


@pytest.mark.parametrize(
    ("attention", "flash"),
    [
        ("sdpa", False),
        ("eager", False),
        ("flash_attention_2", True),
        ("kernels-community/flash-attn2", True),
        ("kernels-community/vllm-flash-attn3", True),
    ],
)
def test_flash_attentions_read_boundaries(attention, flash):
    tiny = helpers.word_causal_model()
    tiny.config._attn_implementation_internal = attention
    assert reads_boundaries(tiny) is flash
