"""The head of a model: with LoRA on it, and what is refused."""

import helpers
import pytest
import torch
from peft import LoraConfig, get_peft_model

from probtune.errors import UsageError
from probtune.models.head import HeadCall, add_objective_head
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
    result = model(input_ids=ids, labels=labels, objective_head=HeadCall(F)).loss
    shifted = labels[:, 1:]
    logp = model(input_ids=ids).logits[:, :-1].log_softmax(2)
    logp = logp.gather(2, shifted.clamp(min=0)[..., None])[..., 0]
    return result, F.value(logp[shifted != -100]).mean()


def test_lora_on_the_head_is_trained():
    model = adapted()
    add_objective_head(model.get_base_model())
    actual, expected = losses(model)
    torch.testing.assert_close(actual, expected)
    trained = [(n, x) for n, x in model.named_parameters() if x.requires_grad]
    assert any("lm_head" in name for name, _ in trained)
    leaves = [x for _, x in trained]
    torch.testing.assert_close(
        torch.autograd.grad(actual, leaves), torch.autograd.grad(expected, leaves)
    )
    with model.disable_adapter():
        plain, by_logits = losses(model)
    torch.testing.assert_close(plain, by_logits)
    assert abs(float(plain.detach() - actual.detach())) > 1e-3
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


def test_a_head_trained_whole_beside_lora():
    """PEFT's `modules_to_save`; without adapters the head is the one before training."""
    model = adapted(target_modules=["q_proj"], modules_to_save=["lm_head"])
    add_objective_head(model.get_base_model())
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight.mul_(2.0)
    actual, expected = losses(model)
    torch.testing.assert_close(actual, expected)
    leaves = [x for x in model.parameters() if x.requires_grad]
    torch.testing.assert_close(
        torch.autograd.grad(actual, leaves), torch.autograd.grad(expected, leaves)
    )
    with model.disable_adapter():
        plain, by_logits = losses(model)
    torch.testing.assert_close(plain, by_logits)
    assert abs(float(plain.detach() - actual.detach())) > 1e-4


def test_some_tokens_trained_in_a_tied_head():
    """PEFT's `trainable_token_indices`, whose head is the embeddings with some rows replaced."""
    base = helpers.word_causal_model(tie_word_embeddings=True)
    options = {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}
    model = get_peft_model(base, LoraConfig(r=2, **options))
    add_objective_head(model.get_base_model())
    leaves = [x for n, x in model.named_parameters() if "trainable_tokens_delta" in n]
    with torch.no_grad():
        leaves[0].mul_(3.0)
    actual, expected = losses(model)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, leaves[:1]), torch.autograd.grad(expected, leaves[:1])
    )


@pytest.mark.parametrize("kind", ["lora", "saved"])
def test_the_base_is_the_reference_of_an_adapter(kind):
    """Two hidden states and one head: the divergence by hand, with and without the adapter."""
    changes = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    model = adapted(**(changes if kind == "saved" else {}))
    if kind == "saved":
        with torch.no_grad():
            model.base_model.model.lm_head.modules_to_save["default"].weight.mul_(2.0)
    add_objective_head(model.get_base_model())
    ids, labels = batch()
    with torch.no_grad(), model.disable_adapter():
        before = model(input_ids=ids, labels=labels, objective_head=HeadCall(None))
        reference = model(input_ids=ids).logits[:, :-1].log_softmax(2)
    assert before.loss is None
    mask, logp = labels[:, 1:] != -100, model(input_ids=ids).logits[:, :-1].log_softmax(2)
    divergence = (reference.exp() * (reference - logp)).sum(2)[mask].mean()
    result = []
    for text in ("kl_anchor(0.5, p())", "p()"):
        call = HeadCall(objective(text), reference=(before.hidden, None, None))
        result.append(model(input_ids=ids, labels=labels, objective_head=call).loss)
    torch.testing.assert_close(result[0] - result[1], 0.5 * divergence)


def test_the_modules_forward_is_restored():
    """After a loss and after an error, whatever stands around the module."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    model = helpers.word_causal_model()
    add_objective_head(model)
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, out: seen.append(out.dim()))
    ids, labels = batch()
    bad = labels.clone()
    bad[0, 3] = 10_000
    for hooked in (False, True):
        if hooked:
            add_hook_to_module(model.lm_head, ModelHook())
        attributes = dict(vars(model.lm_head))
        for targets in (labels, bad):
            call = HeadCall(F)
            if targets is bad:
                with pytest.raises(ValueError, match="outside the vocabulary"):
                    model(input_ids=ids, labels=targets, objective_head=call)
            else:
                torch.testing.assert_close(*losses(model))
            assert dict(vars(model.lm_head)) == attributes
    assert seen == [0, 3, 0, 3]  # the loss, then logits


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hooked", [False, True])
def test_compiled_with_its_model(hooked):
    """In one graph; with a break where something is done around the head's module."""
    counters = torch._dynamo.utils.counters
    model = helpers.word_causal_model()
    add_objective_head(model)
    if hooked:
        model.lm_head.register_forward_pre_hook(lambda module, inputs: None)
    ids, labels = batch()
    torch._dynamo.reset()
    counters.clear()
    losses = []
    for forward in (model, torch.compile(model, backend="aot_eager", fullgraph=not hooked)):
        model.zero_grad()
        loss = forward(input_ids=ids, labels=labels, objective_head=HeadCall(F)).loss
        loss.backward()
        losses.append([loss.detach(), *(x.grad.clone() for x in model.parameters())])
    torch.testing.assert_close(losses[1], losses[0])
    assert hooked == bool(counters["graph_break"])


def test_weights_offloaded_by_accelerate_are_there_in_time():
    from accelerate import cpu_offload

    expected = losses(helpers.word_causal_model())[1]
    model = helpers.word_causal_model()
    add_objective_head(model)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.lm_head.weight.is_meta
    ids, labels = batch()
    with torch.no_grad():
        actual = model(input_ids=ids, labels=labels, objective_head=HeadCall(F)).loss
    assert model.lm_head.weight.is_meta
    torch.testing.assert_close(actual, expected)


def test_everything_moves_to_the_heads_device(monkeypatch):
    """With a model spread by a `device_map`; there is one device here, so the call is looked at."""
    seen = {}

    def looked_at(head, labels, f, **keywords):
        seen.update(hidden=head.hidden, weight=head.weight, labels=labels, **keywords)
        raise InterruptedError

    monkeypatch.setattr("probtune.models.head.head_objective", looked_at)
    # no autocast on "meta"
    monkeypatch.setattr("probtune.models.head._one_dtype", lambda *arguments: arguments)
    model = helpers.word_causal_model()
    add_objective_head(model)
    model.lm_head.to("meta")
    ids, labels = batch()
    numbers = torch.ones(labels[:, 1:].shape)
    reference = torch.ones(3, 8, 16), torch.ones(18, 16), None
    call = HeadCall(F, torch.tensor(3.0), {"column:x": numbers}, reference)
    with pytest.raises(InterruptedError):
        model(input_ids=ids, labels=labels, objective_head=call)
    tensors = [seen[n] for n in ("hidden", "weight", "labels", "num_items_in_batch")]
    tensors += [seen["signals"]["column:x"], *seen["reference"].tensors[:2]]
    assert all(x.is_meta for x in tensors)


def test_packed_weights_are_refused():
    model = helpers.word_causal_model()
    model.lm_head.weight = torch.nn.Parameter(
        torch.zeros(18, 16, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(UsageError, match="weights are packed as uint8"):
        add_objective_head(model)


def test_a_head_replaced_later_is_refused():
    model = helpers.word_causal_model()
    add_objective_head(model)
    model.lm_head = torch.nn.Sequential(model.lm_head)
    ids, labels = batch()
    with pytest.raises(UsageError, match="has been replaced"):
        model(input_ids=ids, labels=labels, objective_head=HeadCall(F))


def test_experts_are_balanced_as_by_trls_head(tmp_path):
    """A mixture of experts with its balancing loss trains alike with both heads."""
    from test_training import trainer
    from transformers import MixtralConfig, MixtralForCausalLM

    result = {}
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
        result[head] = [step for step in one.state.log_history if "aux_loss" in step]
    assert len(result["trl"]) == 2
    for ours, theirs in zip(result["probtune"], result["trl"], strict=True):
        for name in ("loss", "aux_loss", "grad_norm", "nll"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
