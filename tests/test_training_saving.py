"""Training leaves a model that loads; tests/test_training_sharded.py shows it on ranks that share
it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from probtune.errors import TrainingError
from probtune.training import gather_when_saved, save_whole

GATHER = "stage3_gather_16bit_weights_on_model_save"


def stand_in(files, **plugins):
    def save_model(folder):
        Path(folder).mkdir()
        for name in files:
            (Path(folder) / name).touch()

    return SimpleNamespace(
        is_fsdp_enabled="fsdp_plugin" in plugins,
        is_deepspeed_enabled="deepspeed_plugin" in plugins,
        is_world_process_zero=lambda: True,
        accelerator=SimpleNamespace(
            state=SimpleNamespace(**plugins), wait_for_everyone=lambda: None
        ),
        save_model=save_model,
    )


def test_a_folder_without_weights_is_told_and_not_called_a_model(tmp_path):
    save_whole(stand_in(["model-00001-of-00002.safetensors"]), tmp_path / "whole")
    save_whole(stand_in(["adapter_model.safetensors"]), tmp_path / "adapter")
    with pytest.raises(TrainingError, match="got no weights that load.*checkpoints are kept"):
        save_whole(stand_in(["config.json", "zero_to_fp32.py"]), tmp_path / "shards")


def test_ranks_are_asked_for_the_whole(tmp_path):
    requests = []
    plugin = SimpleNamespace(set_state_dict_type=requests.append)
    save_whole(stand_in(["model.safetensors"], fsdp_plugin=plugin), tmp_path / "model")
    assert requests == ["FULL_STATE_DICT"]
    for stage, gathers in ((3, True), (2, None)):
        zero = {"stage": stage}
        plugin = SimpleNamespace(deepspeed_config={"zero_optimization": zero})
        gather_when_saved(stand_in([], deepspeed_plugin=plugin))
        assert zero.get(GATHER) is gathers
    gather_when_saved(stand_in([]))
