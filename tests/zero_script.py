"""DeepSpeed ZeRO-3 on two ranks beside one process without it; run under torchrun by
tests/test_training_sharded.py.

Every check is an assertion on each rank; the first rank says that all have passed.
"""

import os
import warnings

os.environ["DS_ACCELERATOR"] = "cpu"

import conftest  # noqa: F401  (environment before torch)
import deepspeed
import helpers
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from train_script import ZERO3

from probtune.models.head import HeadCall, add_objective_head
from probtune.objectives import REFERENCE_SIGNALS, objective

ENGINE = {**ZERO3, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2}


def model_and_owner(kind: str, tied: bool):
    """(model, the part that has the head)"""
    model = helpers.word_causal_model(tie_word_embeddings=tied)
    if kind != "plain":
        saved = {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}
        lora = {"target_modules": ["q_proj", "lm_head"]}
        model = get_peft_model(model, LoraConfig(r=2, **(lora if kind == "lora" else saved)))
        torch.manual_seed(2)
        for name, x in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(x)
    inner = model if kind == "plain" else model.get_base_model()
    add_objective_head(inner)
    return model, inner


def equals_one_process(kind: str, text: str, *, tied: bool = False) -> None:
    """Losses, gradients and weights over three steps of two micro-batches, with an evaluation in
    between.
    """
    rank, f = dist.get_rank(), objective(text)
    torch.manual_seed(1)
    ids = torch.randint(0, len(helpers.WORDS) - 2, (8, 9))
    labels = ids.clone()
    labels[1], labels[0, :4] = -100, -100
    count = (labels[:, 1:] != -100).sum()
    whole, _ = model_and_owner(kind, tied)
    optimizer = torch.optim.SGD([x for x in whole.parameters() if x.requires_grad], 0.5)
    model, inner = model_and_owner(kind, tied)
    config = {"model": model, "config": ENGINE}
    trained = [x for x in model.parameters() if x.requires_grad]
    engine, *_ = deepspeed.initialize(optimizer=torch.optim.SGD(trained, 0.5), **config)
    assert tuple(inner.model.embed_tokens.weight.shape) == (0,)
    shapes = []
    forward = inner.model.forward  # the backbone: before the head
    inner.model.forward = lambda *a, **k: (shapes.append(_head_shape(inner)), forward(*a, **k))[1]

    def loss(of, rows, normalizer):
        reference = None
        if REFERENCE_SIGNALS & f.kinds:
            with torch.no_grad(), (of.module if of is engine else of).disable_adapter():
                out = of(input_ids=ids[rows], labels=labels[rows], objective_head=HeadCall(None))
            reference = out.hidden, None, None
        call = HeadCall(f, normalizer, reference=reference)
        return of(input_ids=ids[rows], labels=labels[rows], objective_head=call).loss

    for step in range(3):
        optimizer.zero_grad()
        loss(whole, slice(0, 8), count).backward()
        for half in range(2):
            start = 2 * rank + 4 * half
            # Ranks are averaged, and so are the engine's micro-batches.
            of_mine = loss(engine, slice(start, start + 2), count / 4)
            assert tied or _head_shape(inner) == (0,)  # gathered by its own module, and let go
            engine.backward(of_mine)
            if half:
                for (name, a), b in zip(whole.named_parameters(), model.parameters(), strict=True):
                    if a.requires_grad:
                        gradient = deepspeed.utils.safe_get_full_grad(b)
                        _same(gradient, a.grad, f"{kind} {text}, step {step}, {name}")
            engine.step()
        optimizer.step()
        with torch.no_grad():
            a, b = (loss(x, slice(0, 8), count) for x in (engine, whole))
        torch.testing.assert_close(a, b)
    if not tied:  # the embeddings gather a tied one first
        assert set(shapes) == {(0,)} and len(shapes) > 6, shapes
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        for (name, a), b in zip(whole.named_parameters(), model.parameters(), strict=True):
            _same(b, a, name)
    engine.destroy()


def _head_shape(inner) -> tuple[int, ...]:
    layer = inner.get_output_embeddings()
    return tuple(next(layer.parameters()).shape)


def _same(actual, expected, name: str) -> None:
    torch.testing.assert_close(actual, expected, msg=lambda m: f"{name}: {m}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    deepspeed.logger.setLevel("ERROR")
    dist.init_process_group("gloo")
    try:
        equals_one_process("plain", "power(0.5)")
        equals_one_process("plain", "power(0.5)", tied=True)
        equals_one_process("lora", "kl_anchor(0.05, dft())")
        equals_one_process("saved", "power(0.5)")
        dist.barrier()
        if dist.get_rank() == 0:
            print("passed")
    finally:
        dist.destroy_process_group()
