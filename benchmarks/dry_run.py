"""The peaks that `--dry-run` predicts beside those of real steps of two small models.

    python -m benchmarks.dry_run

Counted is what torch allocates on this CPU, event by event, over the second optimizer step, when
AdamW's moments exist. The data of a row are two: rows x length of the micro-batch.
"""

import copy
import sys
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from probtune.models.footprint import Shape, footprint
from probtune.models.head import HeadCall, add_objective_head
from probtune.objectives import kl_anchor, p


class Case(NamedTuple):
    """A small model and a micro-batch."""

    name: str
    hidden: int
    layers: int
    vocabulary: int
    rows: int
    length: int
    checkpointing: bool = False
    compares: bool = False


CASES = (
    Case("10 M, activations dominate", 256, 6, 8192, 8, 256),
    Case("30 M, weights dominate", 512, 6, 16384, 2, 64),
    Case("10 M, recomputed", 256, 6, 8192, 8, 256, checkpointing=True),
    Case("30 M, with a frozen copy", 512, 6, 16384, 2, 64, compares=True),
)
WITHIN = 0.15


def config_of(case: Case) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=case.hidden, intermediate_size=4 * case.hidden, num_attention_heads=8,
        num_key_value_heads=4, num_hidden_layers=case.layers, vocab_size=case.vocabulary,
        max_position_embeddings=1024, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def predicted(case: Case) -> float:
    """Return the peak that `--dry-run` says, in bytes."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(case)).train()
    shape = Shape(case.rows, case.length, checkpointing=case.checkpointing, compares=case.compares)
    return footprint(model, shape).peak


def measured(case: Case) -> float:
    """Return the most bytes that torch held during an optimizer step."""
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config_of(case)).train()
    add_objective_head(model)
    if case.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    ids = torch.randint(0, case.vocabulary, (case.rows, case.length))

    frozen: Any = copy.deepcopy(model).eval().requires_grad_(False) if case.compares else None
    objective = kl_anchor(0.05, p()) if case.compares else p()

    def step() -> None:
        inputs = {"input_ids": ids, "labels": ids, "use_cache": False}
        reference = None
        if frozen is not None:
            with torch.no_grad():
                hidden = frozen(**inputs, objective_head=HeadCall(None)).hidden
            reference = (hidden, frozen.lm_head.weight, None)
        out = model(**inputs, objective_head=HeadCall(objective, reference=reference))
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    parameters = [*model.parameters(), *(frozen.parameters() if frozen is not None else ())]
    state = sum(x.numel() * x.element_size() for x in parameters)
    state += sum(
        x.numel() * x.element_size()
        for entry in optimizer.state.values()
        for x in entry.values()
        if isinstance(x, torch.Tensor)
    )
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        step()
    total = most = 0
    results: Any = trace.profiler
    for event in results.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return state + most


def main() -> int:
    print(f"{'':32s} predicted  measured   ratio")
    wrong = 0
    for case in CASES:
        a, b = predicted(case), measured(case)
        wrong += abs(a / b - 1) > WITHIN
        print(f"{case.name:32s} {a / 1e6:6.0f} MB  {b / 1e6:6.0f} MB    {a / b:.2f}")
    print(f"{len(CASES) - wrong} of {len(CASES)} within {WITHIN:.0%}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
