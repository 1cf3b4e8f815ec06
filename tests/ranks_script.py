"""Two ranks beside one; run under torchrun by tests/test_kernels_ranks.py.

Every check is an assertion on each rank; the first rank says that all have passed.
"""

import conftest  # noqa: F401  (environment before torch)
import helpers
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers.distributed.parallel_utils import ALL_PARALLEL_STYLES

from probtune.kernels import (
    VocabParallel,
    linear_objective,
    linear_target_statistics,
    slices,
    torch_rows,
)
from probtune.models import head
from probtune.models.head import HeadCall, add_objective_head
from probtune.objectives import objective, p

VOCABULARY, CUT = 37, 20
OPTIONS = dict(softcap=4.0, logit_scale=1.3, z_loss=0.05)
CASES = [(dict(), False), (OPTIONS, False), (OPTIONS, True)]
"""Options of the head, and True for two passes."""
TEXTS = (
    "nll", "power(10)", "above(0.2, nll)", "eaft(1, 3)", "entropy_bonus(0.2, p())",
)  # fmt: skip


def vocabulary_is_split() -> None:
    """Slices of 20 and 17 tokens, in blocks that do not divide the rows, nor the tokens."""
    torch_rows._CPU_BYTES = slices._CPU_BYTES = 4 * 19 * 5
    rank = dist.get_rank()
    mine = slice(0, CUT) if rank == 0 else slice(CUT, VOCABULARY)
    parallel = VocabParallel(mine.start, VOCABULARY)
    for text in TEXTS:
        for options, two_pass in CASES:
            torch.manual_seed(0)
            hidden = torch.randn(23, 7, dtype=torch.float64, requires_grad=True)
            weight = (2 * torch.randn(VOCABULARY, 7)).double().requires_grad_()
            bias = torch.randn(VOCABULARY, dtype=torch.float64, requires_grad=True)
            labels = torch.randint(0, VOCABULARY, (23,))
            labels[[0, 9]] = -100
            leaves = (hidden, weight, bias)
            expected = linear_objective(
                hidden, weight, labels, objective(text), bias=bias, impl="reference", **options
            )
            of_all = torch.autograd.grad(-2.0 * expected.loss, leaves)
            parts = [x.detach()[mine].requires_grad_() for x in (weight, bias)]
            result = linear_objective(
                hidden, parts[0], labels, objective(text), bias=parts[1], parallel=parallel,
                two_pass=two_pass, **options,
            )  # fmt: skip
            of_mine = torch.autograd.grad(-2.0 * result.loss, (hidden, *parts))
            torch.testing.assert_close(result, expected)
            reference = (of_all[0], of_all[1][mine], of_all[2][mine])
            torch.testing.assert_close(of_mine, reference)
    upstream = torch.randn(2, 23, dtype=torch.float64)
    results = []
    for w, kwargs in ((weight, {}), (parts[0], {"parallel": parallel})):
        out = linear_target_statistics(hidden, w, labels, **kwargs)
        total = (out.logp * upstream[0] + out.entropy * upstream[1]).sum()
        results.append((*out, *torch.autograd.grad(total, (hidden, w))))
    results[0] = (*results[0][:-1], results[0][-1][mine])
    torch.testing.assert_close(results[1], results[0])


def counts_collectives() -> None:
    """One per block of rows, and one for the gradient of the hidden states."""
    torch_rows._CPU_BYTES = 4 * 19 * 5
    calls = {"all_gather": 0, "all_reduce": 0}
    original = {name: getattr(dist, name) for name in calls}

    def counted(name):
        def call(*args, **kwargs):
            calls[name] += 1
            return original[name](*args, **kwargs)

        return call

    for name in calls:
        setattr(dist, name, counted(name))
    try:
        hidden = torch.zeros(20, 3, requires_grad=True)
        weight = torch.randn(18, 3, requires_grad=True)
        labels = torch.zeros(20, dtype=torch.int64)
        linear_objective_loss_of(hidden, weight, labels)
    finally:
        for name, call in original.items():
            setattr(dist, name, call)
    assert calls["all_reduce"] == 1 and calls["all_gather"] == 10, calls  # 2 rows a block


def linear_objective_loss_of(hidden, weight, labels) -> None:
    parallel = VocabParallel(18 * dist.get_rank(), 36)
    linear_objective(hidden, weight, labels, p(), parallel=parallel).loss.backward()


def model_and_owner(tied: bool, lora: bool):
    """(model, the part that has the head)"""
    model = helpers.word_causal_model(tie_word_embeddings=tied)
    if lora:
        config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
        torch.manual_seed(2)
        model = get_peft_model(model, config)
    inner = model.get_base_model() if lora else model
    add_objective_head(inner)
    return model, inner


def batch():
    torch.manual_seed(1)
    ids = torch.randint(0, len(helpers.WORDS) - 2, (4, 9))
    labels = ids.clone()
    labels[1] = -100
    labels[0, :4] = -100
    return ids, labels, (labels[:, 1:] != -100).sum()


def sharded(how: str, *, tied: bool = False, lora: bool = False) -> None:
    """FSDP2 by hand: gradients of two ranks on half the batch each, and of one on all of it.

    The head in the root, in a group of its own, in one with the last norm as accelerate has it, or
    each of its parts alone.
    """
    rank, f = dist.get_rank(), objective("kl_anchor(0.05, dft())" if lora else "power(0.5)")
    ids, labels, count = batch()

    def loss(model, rows, normalizer):
        reference = None
        if lora:
            with torch.no_grad(), model.disable_adapter():
                head_call = HeadCall(None)
                out = model(input_ids=ids[rows], labels=labels[rows], objective_head=head_call)
            reference = out.hidden, None, None
        call = HeadCall(f, normalizer, reference=reference)
        return model(input_ids=ids[rows], labels=labels[rows], objective_head=call).loss

    whole, _ = model_and_owner(tied, lora)
    loss(whole, slice(0, 4), count).backward()
    model, inner = model_and_owner(tied, lora)
    layer = inner.get_output_embeddings()
    for block in inner.model.layers:
        fully_shard(block)
    if how == "apart":
        fully_shard(layer)
    elif how == "tail":
        fully_shard([inner.model.norm, layer], reshard_after_forward=False)
    elif how == "parts":
        for part in (layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]):
            fully_shard(part)
    fully_shard(model)
    mine = slice(2 * rank, 2 * rank + 2)
    gathered_by_hand.clear()
    # FSDP divides by the number of ranks.
    loss(model, mine, count / 2).backward()
    assert not gathered_by_hand  # its own hooks have done it
    for (name, expected), actual in zip(whole.named_parameters(), model.parameters(), strict=True):
        if not expected.requires_grad:
            continue
        assert isinstance(actual.grad, DTensor), name
        torch.testing.assert_close(
            actual.grad.full_tensor(), expected.grad, msg=lambda m, name=name: f"{name}: {m}"
        )


gathered_by_hand: list[torch.Size] = []


def noticed(x, ranks, apply=head._Shared.apply):
    gathered_by_hand.append(x.shape)
    return apply(x, ranks)


def tensor_parallel(lora: bool) -> None:
    """transformers' plan for the head: the vocabulary in slices, every rank with all rows."""
    ids, labels, count = batch()
    mesh = init_device_mesh("cpu", (2,))
    parts = []
    for parallel in (False, True):
        model, inner = model_and_owner(False, lora)
        layer = inner.get_output_embeddings()
        layer = layer.base_layer if lora else layer
        forward = None
        if parallel:
            whole, style = layer.weight, ALL_PARALLEL_STYLES["colwise_gather_output"]
            style.shard_param(layer, "weight", mesh)
            with torch.no_grad():
                layer.weight.copy_(distribute_tensor(whole.detach(), mesh, [Shard(0)]))
            style.install_forward(layer, mesh)
            forward = layer.forward
        gathered_by_hand.clear()
        head_call = HeadCall(objective("power(0.5)"), count)
        out = model(input_ids=ids, labels=labels, objective_head=head_call)
        out.loss.backward()
        assert len(gathered_by_hand) == parallel
        assert vars(layer).get("forward") is forward
        grads = [x.grad for x in model.parameters() if x.requires_grad]
        parts.append([out.loss, *(g.full_tensor() if isinstance(g, DTensor) else g for g in grads)])
    torch.testing.assert_close(parts[1], parts[0])


def not_rounded_by_mixed_precision() -> None:
    """FSDP2 casts what goes into the root and what comes out; not what the head is told and what
    it finds.
    """
    ids, labels, _ = batch()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.bfloat16)
    f = objective("weighted(p(), 'quality')")
    (signal,) = f.needs
    quality = torch.full(labels[:, 1:].shape, 1.001)
    outs = []
    for mixed in (False, True):
        model, _ = model_and_owner(False, False)
        if mixed:
            fully_shard(model.lm_head, mp_policy=policy)
            fully_shard(model, mp_policy=policy)
        else:
            for x in model.parameters():  # not the buffers
                x.data = x.data.bfloat16()
        call = HeadCall(f, torch.tensor(1234.5), {signal: quality})
        outs.append(model(input_ids=ids, labels=labels, objective_head=call))
    plain, mixed = outs
    assert mixed.loss.dtype == torch.bfloat16 and mixed.tokens.loss.dtype == torch.float32
    for name, expected in vars(plain.tokens).items():
        torch.testing.assert_close(getattr(mixed.tokens, name), expected)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        vocabulary_is_split()
        counts_collectives()
        head._Shared.apply = noticed
        for how in ("root", "apart", "tail"):
            sharded(how)
        sharded("root", tied=True)
        for how in ("root", "apart", "parts"):
            sharded(how, lora=True)
        for lora in (False, True):
            tensor_parallel(lora)
        not_rounded_by_mixed_precision()
        dist.barrier()
        if dist.get_rank() == 0:
            print("passed")
    finally:
        dist.destroy_process_group()
