"""A model that loads is what training is for: saved whole, however it was spread over ranks.

Left alone, transformers saves nothing under accelerate's default for FSDP2, shards of states, and
files for a script of DeepSpeed's own under ZeRO-3; neither folder loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import TrainingError

__all__ = ["gather_when_saved", "save_whole"]


def gather_when_saved(trainer: Any) -> None:
    """Before training: have ZeRO-3 gather the weights when they are saved, on the first rank's
    host, whose memory must hold them.
    """
    if not trainer.is_deepspeed_enabled:
        return
    zero = trainer.accelerator.state.deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
    if zero.get("stage") == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True


def save_whole(trainer: Any, folder: Path) -> None:
    """Save the model, or with PEFT the adapter, as `from_pretrained` loads it; by all ranks.

    Raises:
        TrainingError: no weights were written.
    """
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero() and not any(folder.glob("*.safetensors")):
        raise TrainingError(
            f"{folder} got no weights that load, although training is done: the way in which the"
            " model is spread over ranks was not seen. The checkpoints are kept; give the same"
            " command with FSDP's FULL_STATE_DICT, or ZeRO-3's"
            " stage3_gather_16bit_weights_on_model_save, to save from the last one."
        )
