"""What two ranks compute beside one; run under torchrun by tests/test_kernels_ranks.py.

Every check is an assertion on each rank; the first rank says that all have passed.
"""

import conftest  # noqa: F401  (environment before torch)
import helpers
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from probtune.head import HeadCall, add_objective_head
from probtune.kernels import VocabParallel, linear_objective, linear_target_statistics, torch_rows
from probtune.objectives import objective, p

VOCABULARY, CUT = 37, 20
TEXTS = (
    "nll", "power(10)", "above(0.2, nll)", "eaft(1, 3)", "entropy_bonus(0.2, p())",
)  # fmt: skip


def vocabulary_is_split() -> None:
    """Slices of 20 and 17 tokens, in blocks that do not divide the rows."""
    torch_rows._CPU_BYTES = 4 * 19 * 5
    rank = dist.get_rank()
    mine = slice(0, CUT) if rank == 0 else slice(CUT, VOCABULARY)
    parallel = VocabParallel(mine.start, VOCABULARY)
    for text in TEXTS:
        for options in (dict(), dict(softcap=4.0, logit_scale=1.3, z_loss=0.05)):
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
            found = linear_objective(
                hidden, parts[0], labels, objective(text), bias=parts[1], parallel=parallel,
                **options,
            )  # fmt: skip
            of_mine = torch.autograd.grad(-2.0 * found.loss, (hidden, *parts))
            torch.testing.assert_close(found, expected)
            wanted = (of_all[0], of_all[1][mine], of_all[2][mine])
            torch.testing.assert_close(of_mine, wanted)
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
    kept = {name: getattr(dist, name) for name in calls}

    def counted(name):
        def call(*args, **kwargs):
            calls[name] += 1
            return kept[name](*args, **kwargs)

        return call

    for name in calls:
        setattr(dist, name, counted(name))
    try:
        hidden = torch.zeros(20, 3, requires_grad=True)
        weight = torch.randn(18, 3, requires_grad=True)
        labels = torch.zeros(20, dtype=torch.int64)
        linear_objective_loss_of(hidden, weight, labels)
    finally:
        for name, call in kept.items():
            setattr(dist, name, call)
    assert calls["all_reduce"] == 1 and calls["all_gather"] == 10, calls  # 2 rows a block


def linear_objective_loss_of(hidden, weight, labels) -> None:
    parallel = VocabParallel(18 * dist.get_rank(), 36)
    linear_objective(hidden, weight, labels, p(), parallel=parallel).loss.backward()


def sharded(tied: bool, head_apart: bool) -> None:
    """FSDP2 by hand: gradients of two ranks on half the batch each, and of one on all of it."""
    rank, f = dist.get_rank(), objective("power(0.5)")
    torch.manual_seed(1)
    ids = torch.randint(0, len(helpers.WORDS) - 2, (4, 9))
    labels = ids.clone()
    labels[1] = -100
    labels[0, :4] = -100
    count = (labels[:, 1:] != -100).sum()
    whole = helpers.word_causal_model(tie_word_embeddings=tied)
    add_objective_head(whole)
    whole(input_ids=ids, labels=labels, objective_head=HeadCall(f, count)).loss.backward()
    model = helpers.word_causal_model(tie_word_embeddings=tied)
    add_objective_head(model)
    for layer in model.model.layers:
        fully_shard(layer)
    if head_apart:
        fully_shard(model.lm_head)
    fully_shard(model)
    mine = slice(2 * rank, 2 * rank + 2)
    call = HeadCall(f, count / 2)  # FSDP divides by the number of ranks
    model(input_ids=ids[mine], labels=labels[mine], objective_head=call).loss.backward()
    for (name, expected), found in zip(whole.named_parameters(), model.parameters(), strict=True):
        assert isinstance(found.grad, DTensor), name
        torch.testing.assert_close(
            found.grad.full_tensor(), expected.grad, msg=lambda m, name=name: f"{name}: {m}"
        )


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        vocabulary_is_split()
        counts_collectives()
        sharded(tied=False, head_apart=False)
        sharded(tied=True, head_apart=False)
        sharded(tied=False, head_apart=True)
        dist.barrier()
        if dist.get_rank() == 0:
            print("passed")
    finally:
        dist.destroy_process_group()
