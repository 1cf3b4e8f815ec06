"""Which implementation serves the inputs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Set
from typing import Any, Literal, get_args

import torch

from .linear import LinearHead
from .torch_rows import TorchRows

__all__ = ["Impl", "rows_for", "why_not_triton"]

Impl = Literal["reference", "chunked", "triton", "epilogue", "auto"]


def rows_for(impl: Impl, linear: LinearHead, whole: bool, terms: Set[str] = frozenset()) -> Any:
    """The class that works on a block of rows; None for the reference.

    Args:
        whole: whether the objective needs a block's whole distribution.
        terms: what it has a gradient through, besides p.

    Raises:
        ValueError: there is no such implementation, or it does not serve the inputs.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(get_args(Impl))}, got {impl!r}.")
    if linear.parallel is not None and (impl == "reference" or whole):
        raise ValueError(
            "a vocabulary split over ranks serves what needs no more than p, entropy and collision"
            " probability, and impl='auto', 'chunked' or 'triton'; gather the weight for the rest."
        )
    if impl == "auto":
        impl = (
            "triton" if linear.hidden.is_cuda and not why_not_triton(linear, whole) else "chunked"
        )
    if impl == "reference":
        return None
    if impl == "chunked":
        return TorchRows
    if reason := why_not_triton(linear, whole):
        raise ValueError(f"impl={impl!r} cannot be used: {reason}; use impl='auto'.")
    if impl == "triton":
        from .triton_rows import TritonRows

        return TritonRows
    from .triton_epilogue import EpilogueRows, why_not

    if reason := why_not(linear, terms):
        raise ValueError(f"impl='epilogue' cannot be used: {reason}; use impl='auto'.")
    return EpilogueRows


def why_not_triton(linear: LinearHead, whole: bool) -> str | None:
    """The reason why the Triton kernels do not serve the inputs, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'probtune[triton]')"
    if linear.hidden.dtype == torch.float64:
        return "its kernels compute in float32, and the inputs are float64"
    if whole:
        return "the objective needs more of the distribution than entropy and collision probability"
    if not linear.hidden.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the inputs are on {linear.hidden.device.type}, not on a GPU"
    return None
