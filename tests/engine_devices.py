"""Engines that expect an accelerator, on this machine's processor.

What is replaced has to do with devices alone: their names, memory and process groups.
"""

import contextlib
import functools
from types import SimpleNamespace

import torch


def _nothing(*arguments, **options):
    return None


def _zero(*arguments, **options):
    return 0


_DEVICE = SimpleNamespace(
    set_device=_nothing, current_device=_zero, device_count=lambda: 1, is_available=lambda: False,
    empty_cache=_nothing, synchronize=_nothing, reset_peak_memory_stats=_nothing,
    memory_allocated=_zero, memory_reserved=_zero, max_memory_allocated=_zero,
    max_memory_reserved=_zero, mem_get_info=lambda *a: (1 << 30, 1 << 30),
    get_device_name=lambda *a: "cpu",
)  # fmt: skip


def _answering(answer):
    return lambda self, *arguments, **options: answer


@functools.cache
def verl_on_cpu():
    """Give verl a platform, through its plug-in point; before anything of verl is imported.

    Its FSDP engine names the devices that it was tried with, so it is registered for this one too.
    """
    from verl.plugin.platform import platform_manager
    from verl.plugin.platform.platform_base import PlatformBase

    answers = {
        "is_available": True, "current_device": "cpu", "device_count": 1,
        "is_ipc_supported": False,
        "communication_backend_name": "gloo", "visible_devices_envvar": "CUDA_VISIBLE_DEVICES",
        "ray_resource_name": "CPU", "ray_noset_envvars": [], "get_device_capability": (None, None),
        "nvtx_range": contextlib.nullcontext(),
    }  # fmt: skip
    values = {"device_name": "cpu", "vendor_name": "none", "device_module": _DEVICE}
    methods = {name: _answering(answers.get(name)) for name in PlatformBase.__abstractmethods__}
    methods |= {name: property(_answering(value)) for name, value in values.items()}
    platform_manager.set_platform(type("Platform", (PlatformBase,), methods)())

    from verl.utils import distributed
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    # Its own names cpu and the device, which are one here.
    distributed.initialize_global_process_group = lambda: torch.distributed.init_process_group(
        "gloo"
    )
    register = EngineRegistry.register(
        model_type="language_model", backend=["fsdp", "fsdp2"], device=["cpu"]
    )
    register(FSDPEngineWithLMHead)


@functools.cache
def torchtitan_on_cpu():
    """Let torchtitan take the processor for its device; before anything of it is imported."""
    torch._utils._get_available_device_type = lambda: "cpu"
    from torchtitan.components import metrics
    from torchtitan.distributed import utils

    nothing = metrics.DeviceMemStats(*[0] * len(metrics.DeviceMemStats._fields))
    metrics.build_device_memory_monitor = lambda: SimpleNamespace(
        device_name="cpu", get_peak_stats=lambda: nothing, reset_peak_stats=_nothing
    )
    utils.set_pg_timeouts = _nothing  # a barrier of numbered devices


@functools.cache
def automodel_on_cpu():
    """Let NeMo Automodel's recipe take the processor for `torch.device("cuda", ...)`."""
    cpu = torch.device("cpu")
    for name in ("reset_peak_memory_stats", "empty_cache", "synchronize"):
        setattr(torch.cuda, name, _nothing)
    torch.cuda.max_memory_allocated, torch.cuda.current_device = _zero, lambda: cpu
    from nemo_automodel._transformers import auto_model
    from nemo_automodel.recipes.llm import train_ft

    class Torch:
        def __getattr__(self, name):
            return getattr(torch, name)

        def device(self, *arguments):
            return cpu

    train_ft.torch = auto_model.torch = Torch()
