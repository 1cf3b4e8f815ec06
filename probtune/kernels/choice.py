"""Choice of the implementation that serves the inputs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Set
from typing import get_args

import torch
from torch import Tensor

from .engine import Engine
from .head import Head, Impl
from .torch_rows import TorchEngine

__all__ = ["automatic_engine", "engine_for", "why_not_triton"]


def engine_for(head: Head, *, whole: bool, terms: Set[str] = frozenset()) -> type[Engine] | None:
    """Return the engine that `head.impl` names; None for the reference.

    Args:
        head: on hidden states (N, D).
        whole: True if the objective needs a block's whole distribution.
        terms: the statistics besides p through which it has a gradient.

    Raises:
        ValueError: there is no such implementation, or it does not serve the inputs.
    """
    impl = head.impl
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(get_args(Impl))}, got {impl!r}.")
    if head.parallel is not None and (impl == "reference" or whole):
        raise ValueError(
            "a vocabulary split over ranks serves what needs no more than p, entropy and collision"
            " probability, and impl='auto', 'chunked' or 'triton'; gather the weight for the rest."
        )
    if impl == "auto":
        return automatic_engine(head.hidden, whole=whole)
    if impl == "reference":
        return None
    if impl == "chunked":
        return TorchEngine
    if reason := why_not_triton(head.hidden, whole=whole):
        raise ValueError(f"impl={impl!r} cannot be used: {reason}; use impl='auto'.")
    if impl == "triton":
        from .triton_rows import TritonEngine

        return TritonEngine
    from .triton_epilogue import EpilogueEngine, why_not

    if reason := why_not(head, terms):
        raise ValueError(f"impl='epilogue' cannot be used: {reason}; use impl='auto'.")
    return EpilogueEngine


def automatic_engine(inputs: Tensor, *, whole: bool) -> type[Engine]:
    """Return Triton's engine on a GPU where it serves the inputs, and PyTorch's elsewhere."""
    if not inputs.is_cuda or why_not_triton(inputs, whole=whole):
        return TorchEngine
    from .triton_rows import TritonEngine

    return TritonEngine


def why_not_triton(inputs: Tensor, *, whole: bool) -> str | None:
    """Return the reason why the Triton kernels do not serve the inputs, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install -e '.[triton]')"
    if inputs.dtype == torch.float64:
        return "its kernels compute in float32, and the inputs are float64"
    if whole:
        return "the objective needs more of the distribution than entropy and collision probability"
    if not inputs.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the inputs are on {inputs.device.type}, not on a GPU"
    return None
