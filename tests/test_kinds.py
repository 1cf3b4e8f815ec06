"""Models that do not predict the next token are refused at every door, by the same rule."""

import json

import helpers
import pytest
from datasets import Dataset
from test_integrations import sure_model
from test_integrations_settings import BERT, OTHERS, TRAINERS, WORDS
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    MBartConfig,
    MBartForCausalLM,
    MBartForConditionalGeneration,
)

import probtune
from probtune.cli import main
from probtune.errors import UsageError
from probtune.models.kinds import check_decoder, check_decoder_folder
from probtune.models.loading import load_model
from probtune.training import ProbTuneConfig, ProbTuneTrainer

SMALL = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
LLAMA = LlamaConfig(**WORDS, **SMALL)
MBART = MBartConfig(
    **WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
)  # fmt: skip


def gemma(both_sides):
    sides = {"use_bidirectional_attention": both_sides, "num_key_value_heads": 1, "head_dim": 8}
    return Gemma3ForCausalLM(Gemma3TextConfig(**WORDS, **SMALL, **sides))


MODELS = {name: make for name, (make, _) in OTHERS.items()} | {
    "encoder-decoder with a mask": lambda: MBartForConditionalGeneration(MBART),
    "encoder as a decoder": lambda: BertLMHeadModel(BertConfig(**BERT)),
    "both sides": lambda: gemma(True),
    "classifying decoder": lambda: LlamaForSequenceClassification(LLAMA),
}
SAID = {
    "encoder-decoder": r"got .*T5ForConditionalGeneration\)?, an encoder-decoder",
    "masked": r"got .*BertForMaskedLM\)?, a masked language model.* reads the target itself",
    "classifying": r"got .*BertForSequenceClassification\)?, a classifier",
    "encoder-decoder with a mask": r"MBartForConditionalGeneration\)?, an encoder-decoder",
    "encoder as a decoder": r"BertLMHeadModel\)?, a masked .*does not say is_decoder",
    "both sides": r"Gemma3ForCausalLM\)?, which attends to both sides .*use_bidirectional",
    "classifying decoder": r"LlamaForSequenceClassification\)?, a classifier",
}
WAY_OUT = r".*Take a causal model.*shift=False"


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_trainers_refuse_it_at_once(trainer, kind, tmp_path):
    """transformers and TRL had trained a BERT on targets that it reads, and the decoder of an
    encoder-decoder without an encoder's text.
    """
    with pytest.raises(UsageError, match=SAID[kind] + WAY_OUT):
        TRAINERS[trainer](MODELS[kind](), tmp_path)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_backbone_is_refused(trainer, tmp_path):
    with pytest.raises(UsageError, match="got LlamaModel, a model without an output layer"):
        TRAINERS[trainer](LlamaModel(LLAMA), tmp_path)


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    """(a folder without a single weight, what is said of it)"""
    path = tmp_path / "model"
    MODELS[request.param]().config.save_pretrained(path)
    name = type(MODELS[request.param]()).__name__
    content = json.loads((path / "config.json").read_text()) | {"architectures": [name]}
    (path / "config.json").write_text(json.dumps(content))
    helpers.word_tokenizer().save_pretrained(path)
    return str(path), SAID[request.param] + WAY_OUT


def test_commands_refuse_it_before_they_read_rows_or_weights(folder, tmp_path, capsys):
    model, said = folder
    for command in (
        ["probe"], ["tune"], ["train"], ["tune", "--dry-run", "here"], ["probe", "--warmup"],
    ):  # fmt: skip
        out = [] if "--dry-run" in command or command[0] == "probe" else ["--out", f"{tmp_path}/x"]
        status = main([command[0], model, str(tmp_path / "none.jsonl"), *command[1:], *out])
        message = " ".join(capsys.readouterr().err.split())
        assert status == 2
        with pytest.raises(UsageError, match=said):
            raise UsageError(message)
    assert not (tmp_path / "x").exists()


def test_programs_refuse_it_before_they_read_weights(folder, tmp_path):
    model, said = folder
    rows = Dataset.from_list(helpers.sums(4))
    config = ProbTuneConfig(str(tmp_path), objective="p", use_cpu=True, report_to="none")
    for door in (
        lambda: check_decoder_folder(model),
        lambda: probtune.probe(model, rows),
        lambda: ProbTuneTrainer(model, config, train_dataset=rows),
        lambda: TRAINERS["trl"](model, tmp_path),
    ):
        with pytest.raises(UsageError, match=said):
            door()


def test_a_loaded_model_is_looked_at_as_well(tmp_path):
    """Its folder may name another class: a BERT is read as a causal model without a word."""
    BertLMHeadModel(BertConfig(**BERT)).save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)).__name__ == "BertLMHeadModel"
    with pytest.raises(UsageError, match="does not say is_decoder"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "make",
    [
        sure_model,
        helpers.word_causal_model,
        lambda: gemma(False),
        lambda: MBartForCausalLM(MBART),
        lambda: BertLMHeadModel(BertConfig(**BERT, is_decoder=True)),
    ],
)
def test_decoders_pass(make, tmp_path):
    model = make()
    check_decoder(model)
    model.save_pretrained(tmp_path)
    check_decoder_folder(str(tmp_path))


def test_a_decoder_with_adapters_passes_and_an_encoder_does_not():
    from peft import LoraConfig, get_peft_model

    def adapted(model):
        return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))

    check_decoder(adapted(sure_model()))
    with pytest.raises(UsageError, match="a masked language model"):
        check_decoder(adapted(MODELS["masked"]()))
