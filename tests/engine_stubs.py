"""Engines that are not installed, as far as an integration touches them: the names and parameters
that `benchmarks/engine_hooks.py` has recorded in tests/engine_hooks.json, with bodies of our own.

`engine(name)` gives the package itself where `PROBTUNE_ENGINES` names it (`make integrations`).
"""

import importlib
import importlib.machinery
import importlib.metadata
import os
import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F

REAL = set(filter(None, os.environ.get("PROBTUNE_ENGINES", "").split(",")))
"""Engines whose own packages are tested; benchmarks/integrations.sh says which."""


def _torchtitan():
    class BaseLoss:
        @dataclass(kw_only=True, slots=True)
        class Config:
            def build(self, *, compile_config=None):
                return self.owner(self, compile_config=compile_config)

        def __init_subclass__(cls, **options):
            super().__init_subclass__(**options)
            cls.Config.owner = cls

        def _maybe_compile(self, compile_config):
            pass

        def __call__(self, pred, labels, global_valid_tokens=None, **kwargs):
            loss = self.fn(pred, labels)
            return loss if global_valid_tokens is None else loss / global_valid_tokens, {}

    def compute_logprobs(logits, labels, *, return_entropy=False):
        logits = logits.float()
        logprobs = -F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        if not return_entropy:
            return logprobs
        logs = logits.detach().log_softmax(-1)
        return logprobs, -(logs.exp() * logs).sum(-1)

    return {
        "torchtitan.components.loss": {
            "BaseLoss": BaseLoss, "IGNORE_INDEX": -100, "compute_logprobs": compute_logprobs,
        }
    }  # fmt: skip


def _axolotl():
    class BasePlugin:
        def register(self, cfg):
            pass

        def get_input_args(self):
            pass

        def post_trainer_create(self, cfg, trainer):
            pass

    return {"axolotl.integrations.base": {"BasePlugin": BasePlugin}}


def _automodel():
    class MaskedCrossEntropy(torch.nn.Module):
        def __init__(self, fp32_upcast=True, ignore_index=-100, reduction="sum"):
            super().__init__()
            self.ignore_index = ignore_index

        def forward(self, logits, labels, mask=None, num_label_tokens=None, loss_weights=None):
            loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
            return loss if num_label_tokens is None else loss / num_label_tokens

    return {"nemo_automodel.components.loss.masked_ce": {"MaskedCrossEntropy": MaskedCrossEntropy}}


def _swift():
    class BaseLoss:
        def __init__(self, args, trainer):
            self.args, self.trainer = args, trainer
            names = [cls.__name__ for cls in type(trainer).__mro__]
            self.is_megatron = "BaseMegatronTrainer" in names

        def __call__(self, outputs, labels, *, num_items_in_batch=None, loss_scale=None, **kwargs):
            raise NotImplementedError

    return {"swift.loss": {"loss_map": {}}, "swift.loss.base": {"BaseLoss": BaseLoss}}


PARTS = {
    "torchtitan": _torchtitan,
    "axolotl": _axolotl,
    "automodel": _automodel,
    "swift": _swift,
}
VERSIONS = {
    "torchtitan": "0.3.0", "axolotl": "0.21.0", "nemo-automodel": "0.7.0", "ms-swift": "4.6.0",
    "verl": "0.9.1", "unsloth": "2026.10.9", "llamafactory": "0.9.5", "tinker": "0.38.0",
}  # fmt: skip


@contextmanager
def engine(name):
    """The integration of an engine, over the engine itself or its stub."""
    if name in REAL:
        yield importlib.import_module(f"probtune.integrations.{name}")
        return
    modules = {}
    for path, members in PARTS.get(name, dict)().items():
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            of = ".".join(parts[:depth])
            modules.setdefault(of, types.ModuleType(of))
            modules[of].__spec__ = importlib.machinery.ModuleSpec(of, None)
        vars(modules[path]).update(members)
    original, version = {n: sys.modules.get(n) for n in modules}, importlib.metadata.version
    own = f"probtune.integrations.{name}"
    before = sys.modules.pop(own, None)
    try:
        sys.modules.update(modules)
        importlib.metadata.version = lambda package: VERSIONS.get(package) or version(package)
        yield importlib.import_module(own)
    finally:
        importlib.metadata.version = version
        for n, module in original.items():
            if module is None:
                del sys.modules[n]
            else:
                sys.modules[n] = module
        sys.modules.pop(own, None)
        if before is not None:
            sys.modules[own] = before
