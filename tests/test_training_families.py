"""The head on tiny models of every family that changes its logits in a way of its own, against the
model's own logits and against TRL's fused head."""

import pytest
import torch
import transformers as T
from trl.trainer.utils import add_fused_lm_head

from probtune.errors import UsageError
from probtune.models.head import HeadCall, add_objective_head, why_not
from probtune.objectives import objective
from probtune.training.selfcheck import check_model

F = objective("power(0.5)")
SHAPE = dict(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2)
QWEN_VISION = dict(
    depth=1, embed_dim=16, hidden_size=16, num_heads=2, patch_size=4, spatial_merge_size=1,
)  # fmt: skip
CLIP = dict(
    hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8,
    patch_size=4,
)  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
MAMBA = dict(
    mamba_d_ssm=16, mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=1, mamba_d_state=8,
    mamba_chunk_size=8,
)  # fmt: skip
LATENT = dict(q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=8)


def plain(name, **changes):
    """`changes` to the configuration of a family whose classes are called after it."""
    config = getattr(T, f"{name}Config")(**{**SHAPE, **changes})
    return getattr(T, f"{name}ForCausalLM")(config)


def qwen2_vl():
    text = dict(**SHAPE, rope_parameters=ROPE)
    config = T.Qwen2VLConfig(text_config=text, vision_config=QWEN_VISION)
    return T.Qwen2VLForConditionalGeneration(config)


def llava():
    config = T.LlavaConfig(
        text_config=T.LlamaConfig(**SHAPE),
        vision_config=T.CLIPVisionConfig(**CLIP),
        image_token_id=39,
    )
    return T.LlavaForConditionalGeneration(config)


def mpt():
    config = T.MptConfig(
        d_model=16, n_heads=2, n_layers=2, expansion_ratio=2, max_seq_len=64, vocab_size=40
    )
    assert config.logit_scale is None
    return T.MptForCausalLM(config)


def gpt2():
    sizes = dict(n_embd=16, n_layer=2, n_head=2, n_positions=64)
    return T.GPT2LMHeadModel(T.GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes))


FAMILIES = {
    "Llama": lambda: plain("Llama"),
    "Llama tied": lambda: plain("Llama", tie_word_embeddings=True),
    "Qwen3": lambda: plain("Qwen3", head_dim=8),
    "Phi, bias": lambda: plain("Phi", num_key_value_heads=2),
    "GPT-2": gpt2,
    "MPT, a scale of None": mpt,
    "Gemma2, softcap": lambda: plain(
        "Gemma2", head_dim=8, final_logit_softcapping=3.0, query_pre_attn_scalar=8
    ),
    "Cohere, logit_scale": lambda: plain("Cohere", logit_scale=0.3),
    "FalconH1, lm_head_multiplier": lambda: plain("FalconH1", lm_head_multiplier=1.7, **MAMBA),
    "Granite, logits_scaling": lambda: plain("Granite", logits_scaling=3.0),
    "MiniCPM3, logits_scaling": lambda: plain(
        "MiniCPM3", num_key_value_heads=2, dim_model_base=4, **LATENT
    ),
    "HyperCLOVAX, the other sense": lambda: plain("HyperCLOVAX", logits_scaling=3.0),
    "Mixtral, experts": lambda: plain("Mixtral", **EXPERTS),
    "GptOss, experts": lambda: plain(
        "GptOss", head_dim=8, layer_types=["full_attention"] * 2, **EXPERTS
    ),
    "Qwen3Moe, experts": lambda: plain(
        "Qwen3Moe",
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        decoder_sparse_step=1,
    ),  # fmt: skip
    "GraniteMoe, experts and a scale": lambda: plain("GraniteMoe", logits_scaling=3.0, **EXPERTS),
    "Qwen2-VL": qwen2_vl,
    "Llava": llava,
}
NOT_BY_TRL = {"GraniteMoe, experts and a scale"}
"""Whose number of experts TRL does not find."""


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_equal_those_of_the_models_own_logits(name):
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    with torch.no_grad():  # so that scales and caps matter
        for x in model.get_output_embeddings().parameters():
            x.copy_(0.5 * torch.randn(x.shape))
    assert why_not(model) is None
    ids = torch.randint(3, 38, (2, 8))
    labels = ids.clone()
    labels[0, :3] = -100
    shifted, leaves = labels[:, 1:], [x for x in model.parameters() if x.requires_grad]
    own = model(input_ids=ids).logits[:, :-1].float().log_softmax(2)
    own = own.gather(2, shifted.clamp(min=0)[..., None])[..., 0]
    mask = shifted != -100
    expected = F.value(own[mask]).mean()
    of_own = torch.autograd.grad(expected, leaves, allow_unused=True)
    assert own[mask].std() > 0.3
    add_fused_lm_head(model)
    add_objective_head(model)
    experts = hasattr(model.config.get_text_config(), "output_router_logits")
    inputs = {
        "input_ids": ids,
        "labels": labels,
        **({"output_router_logits": True} if experts else {}),
    }
    actual = model(**inputs, objective_head=HeadCall(F))
    torch.testing.assert_close(actual.loss, expected)
    of_ours = torch.autograd.grad(actual.loss, leaves, allow_unused=True)
    for a, b in zip(of_ours, of_own, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    if experts:
        own_loss = model(input_ids=ids, output_router_logits=True).aux_loss
        torch.testing.assert_close(actual.aux_loss, own_loss)
    if name not in NOT_BY_TRL:
        of_trl = model(**inputs, fused_lm_head=True)
        torch.testing.assert_close(actual.tokens.log_probs, of_trl.log_probs)
        if experts:
            torch.testing.assert_close(actual.aux_loss, of_trl.aux_loss)
    check_model(model, "probtune", torch.float32)


def test_a_family_whose_configuration_does_not_tell_is_refused():
    """ModernBERT's decoder has a dense layer between its backbone and its output layer."""
    torch.manual_seed(0)
    sizes = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
    config = T.ModernBertDecoderConfig(**sizes, cls_token_id=3, sep_token_id=4)
    model = T.ModernBertDecoderForCausalLM(config)
    with torch.no_grad():
        model.decoder.weight.mul_(30)
    add_fused_lm_head(model)
    assert why_not(model) is None
    add_objective_head(model)
    for head in ("probtune", "trl"):
        with pytest.raises(UsageError, match="no fused head .* of ModernBertDecoderForCausalLM"):
            check_model(model, head, torch.float32)
