"""Trains a tiny model and prints its numbers as JSON; run alone or under torchrun by the tests.

python train_script.py OUT ROWS_PER_STEP OBJECTIVE NORMALIZER [OBJECTIVE NORMALIZER ...]
    [--zero3 | --zero2 | --fsdp2 | --tp | --cp] [--bf16] [--lora] [--padding_free] [--checkpointing]
    [--steps N] [--model FOLDER] [--pad_to_multiple_of N]

The model of the n-th objective is saved in OUT/n/model.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

import conftest  # noqa: F401  (environment before torch)
import helpers
import torch
from accelerate import ParallelismConfig
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor

from probtune.training import (
    CHECKPOINTING,
    ProbTuneConfig,
    ProbTuneTrainer,
    gather_when_saved,
    save_whole,
)

ZERO3 = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    # Everything is scattered, and let go as early as DeepSpeed can.
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_max_live_parameters": 0,
        "stage3_prefetch_bucket_size": 0,
    },
}

ZERO2 = {**ZERO3, "zero_optimization": {"stage": 2}}
FSDP2 = {"fsdp_version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}


FLAGS = ("zero3", "zero2", "fsdp2", "tp", "cp", "bf16", "lora", "padding_free", "checkpointing")


def fsdp2_on_a_cpu() -> None:
    """accelerate takes FSDP on accelerators alone, and trains without it elsewhere; torch does
    not mind.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType
    from torch.distributed.fsdp import CPUOffloadPolicy

    original = AcceleratorState.__init__

    def with_fsdp(self, *arguments, fsdp_plugin=None, **options):
        original(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
        plugin = fsdp_plugin or vars(self).get("fsdp_plugin")
        if plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin
            if plugin.cpu_offload:
                # Pinned memory is for copies to an accelerator.
                plugin.cpu_offload = CPUOffloadPolicy(pin_memory=False)
        if fsdp_plugin is not None and self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = with_fsdp

    # Gathered tensors are waited for by the copy from the accelerator, which a CPU has not.
    gathered_dict = Accelerator.get_state_dict

    def waited(self, *arguments, **options):
        weights = gathered_dict(self, *arguments, **options)
        return {
            name: x.wait() if isinstance(x, AsyncCollectiveTensor) else x
            for name, x in weights.items()
        }

    Accelerator.get_state_dict = waited


def tp_on_a_cpu() -> None:
    """accelerate takes tensor parallelism on accelerators alone."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    original = AcceleratorState.__init__

    def with_tp(self, *arguments, **options):
        original(self, *arguments, **options)
        self.distributed_type = DistributedType.MULTI_GPU

    AcceleratorState.__init__ = with_tp


def cp_on_a_cpu() -> None:
    """torch has ring attention for the kernels of accelerators; a CPU's own kernel fits into it."""
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor.experimental._context_parallel import _attention as ring

    forward_of = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward_of = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    def on_ranks(ring_of):
        def handler(op, arguments, options):
            names = (argument.name for argument in op._schema.arguments)
            whole = {**dict(zip(names, arguments, strict=False)), **options}
            mesh = whole["query"].device_mesh
            local = {k: x.to_local() if isinstance(x, DTensor) else x for k, x in whole.items()}
            results = ring_of(mesh.get_group(), 2, **local)
            return tuple(DTensor.from_local(x, mesh, [Shard(2)]) for x in results)

        return handler

    def forward(group, dim, **options):
        return ring._templated_ring_attention(group, dim, forward_of, **options)

    def backward(group, dim, **options):
        return ring._templated_ring_attention_backward(
            group, dim, backward_of.default, grad_out_name="grad_out", **options
        )

    ring.custom_ops[forward_of.default] = on_ranks(forward)
    ring.custom_ops[backward_of.default] = on_ranks(backward)


def split(folder):
    """The model of a folder, its layers split over the processes."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, tp_plan="auto")
    assert isinstance(model.lm_head.weight, DTensor)
    return model


def saved(folder: Path, lora: bool) -> list[float]:
    """The sums of what was trained, from the file that a user loads."""
    tensors = load_file(folder / f"{'adapter_' if lora else ''}model.safetensors")
    tied, head = tensors.get("model.embed_tokens.weight"), tensors.get("lm_head.weight")
    if tied is not None and head is not None and tied.equal(head):
        del tensors["lm_head.weight"]  # FSDP2 saves a tied head beside its embedding
    return sums(x for name, x in tensors.items() if not lora or "lora_" in name)


def sums(parameters) -> list[float]:
    flat = torch.cat([p.detach().double().flatten() for p in parameters])
    return [float(flat.sum()), float(flat.abs().sum())]


def train(
    out: str,
    rows_per_step: int,
    objective: str,
    normalizer: str,
    *,
    zero3: bool = False,
    fsdp2: bool = False,
    zero2: bool = False,
    tp: bool = False,
    cp: bool = False,
    bf16: bool = False,
    lora: bool = False,
    padding_free: bool = False,
    checkpointing: bool = False,
    steps: int = 3,
    model: str | None = None,
    pad_to_multiple_of: int | None = None,
) -> dict | None:
    ranks = 1 if tp or cp else int(os.environ.get("WORLD_SIZE", "1"))
    config = ProbTuneConfig(
        out,
        objective=objective,
        normalizer=normalizer,
        per_device_train_batch_size=rows_per_step // ranks // 2,
        gradient_accumulation_steps=2,
        per_device_eval_batch_size=2,
        max_steps=steps,
        learning_rate=0.5,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=1e9,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=bf16,
        **{CHECKPOINTING: checkpointing},
        padding_free=padding_free,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        deepspeed=ZERO3 if zero3 else ZERO2 if zero2 else None,
        **({"fsdp": "full_shard auto_wrap", "fsdp_config": FSDP2} if fsdp2 or cp else {}),
        **({"parallelism_config": ParallelismConfig(cp_size=2)} if cp else {}),
        pad_to_multiple_of=pad_to_multiple_of,
    )
    data = helpers.encoded_rows(24, masked=(1, 4, 5, 9, 10, 11))
    rows = Dataset.from_list([{**row, "quality": 0.5 + i / 24} for i, row in enumerate(data)])
    trainer = ProbTuneTrainer(
        split(model) if tp else helpers.word_causal_model() if model is None else model,
        config,
        train_dataset=rows,
        eval_dataset=rows.select(range(11)),  # does not divide into the ranks' batches
        processing_class=helpers.word_tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj", "lm_head"]) if lora else None,
    )
    gather_when_saved(trainer)
    trainer.train()
    save_whole(trainer, Path(out) / "model")
    metrics = trainer.evaluate()
    with gathered(trainer.model, zero3):
        trained = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
        # The last norm and the head stay gathered after an evaluation.
        assert not fsdp2 or any(isinstance(p, DTensor) for p in trained)
        trained = [p.full_tensor() if isinstance(p, DTensor) else p for p in trained]
        weights = sums(trained)
    if not trainer.is_world_process_zero():
        return None
    assert trainer.head == "probtune"
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    names = ("loss", "grad_norm", "nll", "mean_p", "entropy", "low_weight_share", "num_tokens")
    return {
        "steps": [{name: step[name] for name in names} for step in steps],
        "eval": {k: v for k, v in metrics.items() if k in ("eval_loss", "eval_nll")},
        "weights": weights,
        "saved": saved(Path(out) / "model", lora),
    }


def gathered(model, zero3: bool):
    if not zero3:
        return contextlib.nullcontext()
    import deepspeed

    parameters = list(model.parameters())
    assert all(p.numel() == 0 for p in parameters)
    return deepspeed.zero.GatheredParameters(parameters)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("rows_per_step", type=int)
    parser.add_argument("pairs", nargs="+")
    for flag in FLAGS:
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--pad_to_multiple_of", type=int)
    parsed = parser.parse_args()
    valued = ("steps", "model", "pad_to_multiple_of")
    options = {name: getattr(parsed, name) for name in (*FLAGS, *valued)}
    if parsed.fsdp2 or parsed.cp:
        fsdp2_on_a_cpu()
    if parsed.cp:
        cp_on_a_cpu()
    if parsed.tp:
        tp_on_a_cpu()
        torch.distributed.init_process_group("gloo")
    reports = [
        train(f"{parsed.out}/{number}", parsed.rows_per_step, objective, normalizer, **options)
        for number, (objective, normalizer) in enumerate(
            zip(parsed.pairs[::2], parsed.pairs[1::2], strict=True)
        )
    ]
    if reports[0] is not None:
        print(json.dumps(reports))
    if torch.distributed.is_initialized():
        # gloo's threads may let go of a tensor while the interpreter ends, which aborts it.
        sys.stdout.flush()
        os._exit(0)
