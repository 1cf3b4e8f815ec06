"""The head of a model: with LoRA on it, and what is refused."""

import helpers
import pytest
import torch
from peft import LoraConfig, get_peft_model

from probtune.errors import UsageError
from probtune.head import HeadCall, add_objective_head
from probtune.objectives import objective

F = objective("power(0.5)")


def adapted(**changes):
    options = {"r": 2, "target_modules": ["lm_head", "q_proj"], "lora_dropout": 0.0, **changes}
    model = get_peft_model(
        helpers.word_causal_model(tie_word_embeddings=False), LoraConfig(**options)
    )
    torch.manual_seed(2)
    for name, x in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(x)
    return model


def batch():
    torch.manual_seed(1)
    ids = torch.randint(0, len(helpers.WORDS) - 2, (3, 9))
    labels = ids.clone()
    labels[1, :5] = -100
    return ids, labels


def losses(model):
    """(by the fused head, from the model's own logits)"""
    ids, labels = batch()
    found = model(input_ids=ids, labels=labels, objective_head=HeadCall(F)).loss
    shifted = labels[:, 1:]
    logp = model(input_ids=ids).logits[:, :-1].log_softmax(2)
    logp = logp.gather(2, shifted.clamp(min=0)[..., None])[..., 0]
    return found, F.value(logp[shifted != -100]).mean()


def test_lora_on_the_head_is_trained():
    model = adapted()
    add_objective_head(model.get_base_model())
    found, expected = losses(model)
    torch.testing.assert_close(found, expected)
    trained = [(n, x) for n, x in model.named_parameters() if x.requires_grad]
    assert any("lm_head" in name for name, _ in trained)
    leaves = [x for _, x in trained]
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)
    )
    with model.disable_adapter():
        plain, by_logits = losses(model)
    torch.testing.assert_close(plain, by_logits)
    assert abs(float(plain.detach() - found.detach())) > 1e-3
    model.merge_adapter()
    torch.testing.assert_close(*losses(model))


def test_two_adapters_side_by_side():
    model = adapted()
    model.add_adapter("other", LoraConfig(r=3, target_modules=["lm_head"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    add_objective_head(model.get_base_model())
    torch.testing.assert_close(*losses(model))


@pytest.mark.parametrize(
    "changes, said",
    [(dict(use_dora=True), "no plain LoRA"), (dict(lora_bias=True), "has a bias")],
)
def test_other_adapters_on_the_head_are_refused(changes, said):
    base = helpers.word_causal_model(tie_word_embeddings=False)
    base.lm_head.bias = torch.nn.Parameter(torch.zeros(base.lm_head.weight.shape[0]))
    options = {"r": 2, "target_modules": ["lm_head"], **changes}
    model = get_peft_model(base, LoraConfig(**options))
    with pytest.raises(UsageError, match=said):
        add_objective_head(model.get_base_model())


def test_experts_are_balanced_as_by_trls_head(tmp_path):
    """A mixture of experts with its balancing loss trains alike with both heads."""
    from test_training import trainer
    from transformers import MixtralConfig, MixtralForCausalLM

    found = {}
    for head in ("probtune", "trl"):
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=len(helpers.word_tokenizer()), hidden_size=16, intermediate_size=16,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            num_local_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.5,
        )  # fmt: skip
        model = MixtralForCausalLM(config)
        one = trainer(tmp_path, model=model, head=head, objective="p", router_aux_loss_coef=0.5)
        one.train()
        assert one.head == head
        found[head] = [step for step in one.state.log_history if "aux_loss" in step]
    assert len(found["trl"]) == 2
    for ours, theirs in zip(found["probtune"], found["trl"], strict=True):
        for name in ("loss", "aux_loss", "grad_norm", "nll"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
