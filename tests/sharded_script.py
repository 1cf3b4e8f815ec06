"""`probtune` with the arguments of its command line, also with FSDP 2, tensor and context
parallelism on a CPU; says on stdout how the weights were spread. Started by
tests/test_pipeline_sharded.py with `accelerate launch`.
"""

import os
import sys

import conftest  # noqa: F401  (environment before torch)
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from train_script import cp_on_a_cpu, fsdp2_on_a_cpu, tp_on_a_cpu

from probtune import cli, training
from probtune.pipeline import fine_tuning
from probtune.training import requests


def spread(trainer) -> str:
    """Return the spread of a trainer's weights over its processes."""
    if trainer.is_deepspeed_enabled:
        return f"ZeRO-{trainer.accelerator.state.deepspeed_plugin.zero_stage}"
    spread = [x for x in trainer.model.parameters() if isinstance(x, DTensor)]
    return ", ".join(sorted({f"{x.device_mesh.size()} as {x.placements}" for x in spread}))


def save_whole(trainer, *arguments, **options):
    if trainer.is_world_process_zero():
        print("spread:", spread(trainer) or "not at all", flush=True)
    return original(trainer, *arguments, **options)


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        fsdp2_on_a_cpu()
        fine_tuning.check_fsdp = lambda settings: None
    for kind, on_a_cpu in (("TP", tp_on_a_cpu), ("CP", cp_on_a_cpu)):
        if os.environ.get(f"PARALLELISM_CONFIG_{kind}_SIZE", "1") != "1":
            on_a_cpu()
            requests._refuse_on_a_cpu = lambda config, parallelism: None
    original, training.save_whole = training.save_whole, save_whole
    status = cli.main()
    if dist.is_initialized() and status == 0:
        # gloo's threads may let go of a tensor while the interpreter ends, which aborts it.
        sys.stdout.flush()
        os._exit(0)
    sys.exit(status)
