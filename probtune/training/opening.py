"""A model that the trainer is given by name, read whole as everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from trl.trainer import sft_trainer

from ..models.kinds import check_decoder
from ..models.weights import read_whole

__all__ = ["whole_models"]


@contextmanager
def whole_models() -> Iterator[None]:
    """Let `SFTTrainer`, while it is made, refuse a model whose weights do not fit: left alone it
    trains random numbers in the place of tensors that are missing.
    """
    module: Any = sft_trainer
    original = module.create_model_from_path

    def create(source: str, architecture: Any = None, **options: Any) -> Any:
        return original(source, _Whole(architecture), **options)

    module.create_model_from_path = create
    try:
        yield
    finally:
        module.create_model_from_path = original


class _Whole:
    """Stands for a model class where TRL calls its `from_pretrained`."""

    def __init__(self, architecture: Any):
        self._architecture = architecture

    def from_pretrained(self, source: str, **options: Any) -> Any:
        trusted = options.pop("trust_remote_code", False)
        if trusted:  # in a program of the user's own, who has read that code
            options["trust_remote_code"] = True
        architecture = self._architecture
        if architecture is None and not trusted:
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
            architecture = getattr(transformers, (config.architectures or [""])[0], None)
        model = read_whole(source, source, architecture=architecture, **options)
        check_decoder(model)
        return model
