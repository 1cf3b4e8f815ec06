"""A model that loads is what training is for: saved whole, however it was spread over ranks.

Left alone, transformers saves nothing under accelerate's default for FSDP2, shards of states, and
files for a script of DeepSpeed's own under ZeRO-3; neither folder loads.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..files import WRITING, finish_folder, remove_leftovers
from .checkpoints import telling_write_errors

__all__ = ["forget_sharding", "gather_when_saved", "save_whole"]


def gather_when_saved(trainer: Any) -> None:
    """Before training: have ZeRO-3 gather the weights when they are saved, on the first rank's
    host, whose memory must hold them.
    """
    if not trainer.is_deepspeed_enabled:
        return
    zero = trainer.accelerator.state.deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
    if zero.get("stage") == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True


def save_whole(
    trainer: Any, folder: Path, *, generation: Any = None, card: str | None = None
) -> None:
    """Save the model, or with PEFT the adapter, as `from_pretrained` loads it, whole and with a
    manifest; by all ranks.

    Args:
        generation: settings of generation, which are written beside an adapter; with a whole model
            they are saved anyway.
        card: text of the model's card, its README.md.

    Raises:
        TrainingError: no weights were written.
        ProbtuneError: the folder cannot be written.
    """
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    beside = folder.parent / WRITING / folder.name
    wait, first = trainer.accelerator.wait_for_everyone, trainer.is_world_process_zero()
    try:
        with telling_write_errors(folder):
            if first:
                shutil.rmtree(beside, ignore_errors=True)
                beside.parent.mkdir(parents=True, exist_ok=True)
            wait()
            trainer.save_model(str(beside))
            wait()
            if first:
                if generation is not None and (beside / "adapter_config.json").is_file():
                    generation.save_pretrained(str(beside))
                _check_weights(beside, folder)
                if card is not None:
                    (beside / "README.md").write_text(card, encoding="utf-8")
                finish_folder(beside, folder)
            wait()
    except BaseException:
        if first:
            remove_leftovers(folder.parent)
        raise


def _check_weights(beside: Path, folder: Path) -> None:
    if not any(beside.glob("*.safetensors")):
        raise TrainingError(
            f"{folder} got no weights that load, although training is done: the way in which the"
            " model is spread over ranks was not seen. The checkpoints are kept; give the same"
            " command with FSDP's FULL_STATE_DICT, or ZeRO-3's"
            " stage3_gather_16bit_weights_on_model_save, to save from the last one."
        )


def forget_sharding() -> None:
    """After training: let models be read whole again. As long as a configuration of ZeRO-3 lives,
    transformers scatters every model that it reads; the next trainer names its own.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
