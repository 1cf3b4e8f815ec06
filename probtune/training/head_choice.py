"""Choice of the fused head: ours wherever it serves model and objective, TRL's elsewhere.

Nothing is trained by a head that would leave a part of the model out: TRL's reads `lm_head.weight`,
so an adapter on the output layer would never be trained, and is refused with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from trl.trainer import sft_trainer

from ..errors import UsageError
from ..kernels import KERNEL_SIGNALS
from ..models.adapters import is_adapted, without_adapters
from ..models.head import why_not
from ..objectives import Objective
from .trl_head import TRL_SIGNALS

__all__ = [
    "HeadChoice",
    "adapters_on_the_head",
    "check_two_pass",
    "choose_head",
    "refuse_untrained_adapter",
]


class HeadChoice(NamedTuple):
    """Head that computes the loss."""

    name: str
    """`probtune` or `trl`."""
    reason: str | None
    """Reason why ours does not serve the model, where `auto` took TRL's."""


def choose_head(wish: str, objective: Objective, model: Any) -> HeadChoice:
    """Return the head for a model, with or without PEFT's adapters, for `ProbTuneConfig.head`.

    Raises:
        UsageError: the head that is left does not compute the objective, or would not train an
            adapter on the output layer.
    """
    missing = (objective.distribution_needs - TRL_SIGNALS) | objective.terms
    base = without_adapters(model)
    reason = why_not(base)
    chosen = wish
    if wish == "auto":
        chosen = "probtune" if reason is None or missing else "trl"
    if chosen == "trl" and missing:
        raise UsageError(
            f"{objective} needs {', '.join(sorted(missing))}, which TRL's head does not compute;"
            " set head='auto'."
        )
    if chosen == "trl" and _adapted(base):
        raise _untrained("head='trl' was asked for" if reason is None else reason)
    if chosen == "probtune" and reason is not None:
        raise UsageError(
            f"{objective} cannot be fused with this model: {reason}; "
            + ("choose another objective." if missing else "set head='trl'.")
        )
    return HeadChoice(chosen, reason if wish == "auto" and chosen == "trl" else None)


def check_two_pass(choice: HeadChoice, objective: Objective) -> None:
    """Refuse `head_two_pass` where it cannot be had.

    Raises:
        UsageError: with the reason.
    """
    whole = (objective.distribution_needs | objective.terms) - KERNEL_SIGNALS
    reason = None
    if choice.name == "trl":
        reason = "TRL's head computes the loss, and has no such choice"
    elif whole:
        reason = f"{objective} needs {', '.join(sorted(whole))}, hence the whole distribution"
    if reason is not None:
        raise UsageError(f"head_two_pass cannot be used: {reason}; leave it out.")


def refuse_untrained_adapter(wish: str, model: Any, peft_config: Any) -> None:
    """Refuse an adapter on the output layer that no head would train, as soon as it can be seen:
    of a model that is named only, before it is loaded.

    Raises:
        UsageError: there is one; with the reason.
    """
    reason = None
    if peft_config is not None:
        if not _targets_head(peft_config, model):
            return
        reason = _why_not_config(peft_config)
    elif isinstance(model, str) or not is_adapted(model):
        return
    elif _adapted(model.get_base_model()):
        reason = why_not(model.get_base_model())
    else:
        return
    if wish == "trl":
        reason = "head='trl' was asked for"
    if reason is not None:
        raise _untrained(reason)


@contextmanager
def adapters_on_the_head() -> Iterator[None]:
    """Let `SFTTrainer` accept an adapter on the output layer while it is made: it refuses one,
    since TRL's head would not train it, and ours does. `choose_head` judges afterwards.
    """
    module: Any = sft_trainer
    original = getattr(module, "BaseTunerLayer", None)
    if original is None:
        yield
        return
    # The check is the one place where that module uses this name.
    module.BaseTunerLayer = _NoLayer
    try:
        yield
    finally:
        module.BaseTunerLayer = original


class _NoLayer:
    """Class that no layer is an instance of."""


def _untrained(reason: str) -> UsageError:
    return UsageError(
        "the adapter on the output layer would not be trained: TRL's head reads the layer's own"
        f" weight, and ours cannot be used: {reason}. Take the layer out of target_modules (or into"
        " modules_to_save), or use plain LoRA with head='auto'."
    )


def _adapted(base: Any) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(base.get_output_embeddings(), BaseTunerLayer)


def _targets_head(peft_config: Any, model: Any) -> bool:
    """True if an adapter will be on the output layer; of a model that is not loaded yet, on one
    called `lm_head`.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    if not getattr(peft_config, "target_modules", None):
        return False
    names = ["lm_head"]
    if not isinstance(model, str):
        layer = model.get_output_embeddings()
        names = [name for name, module in model.named_modules() if module is layer]
    return any(bool(check_target_module_exists(peft_config, name)) for name in names)


def _why_not_config(peft_config: Any) -> str | None:
    kind = getattr(peft_config.peft_type, "value", peft_config.peft_type)
    if kind != "LORA":
        return f"it would be {kind}, not LoRA"
    if peft_config.use_dora:
        return "it would be DoRA, no plain LoRA (use_dora=False)"
    if getattr(peft_config, "lora_bias", False):
        return "it would have a bias (lora_bias=False)"
    return None
