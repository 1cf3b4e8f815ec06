"""The heads that benchmarks/gpu.py measures: ours, and those of other libraries where installed.

Each entry prepares a function that computes the loss of an objective, or None when it computes NLL
alone and another was asked for. Written for liger-kernel 0.8.5, quack-kernels 0.6.5 and
cut-cross-entropy 25.1.1; what an older one does not know is left at its default.
"""

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

from head import trl as trl_nll

Step = Callable[[], Any]


def ours(impl: str, **options: Any) -> Callable[..., Step]:
    def prepare(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step:
        from probtune import linear_objective_loss

        return lambda: linear_objective_loss(x, w, y, f, softcap=softcap, impl=impl, **options)

    return prepare


def naive(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step:
    """Logits in the inputs' dtype, the objective in float32."""
    import torch
    import torch.nn.functional as F

    count = (y != -100).sum()

    def step() -> Any:
        logits = x @ w.t()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        if nll_only(f):
            return F.cross_entropy(logits.float(), y)
        nll = F.cross_entropy(logits.float(), y, reduction="none")
        return torch.where(y != -100, f.value(-nll), 0.0).sum() / count

    return step


def compiled(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    import torch

    return torch.compile(naive(x, w, y, f, softcap)) if nll_only(f) else None


def native(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    """torch's own, in chunks of 4096 tokens."""
    import torch
    import torch.nn.functional as F

    if softcap is not None:
        return None
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=4096)
    return per_token(
        f, y, lambda reduction: F.linear_cross_entropy(
            x, w, y, ignore_index=-100, reduction=reduction, options=options
        ),
    )  # fmt: skip


def liger(chunk: int, accum_dtype: str | None = None) -> Callable[..., Step | None]:
    """Liger's linear cross-entropy with chunks of so many tokens, which sums dW in the weight's
    dtype unless told otherwise.
    """

    def prepare(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
        import torch
        from liger_kernel.ops import LigerFusedLinearCrossEntropyFunction as Function

        if not nll_only(f):
            return None
        # Its chunk is a power of two of at least tokens / ceil(vocabulary / (constant hidden)).
        constant = -(-w.shape[0] * chunk // (x.shape[0] * x.shape[1]))
        options = {"ignore_index": -100, "reduction": "mean", "softcap": softcap}
        options |= {"chunk_mem_const": max(1, constant)}
        options |= {"accum_dtype": accum_dtype and getattr(torch, accum_dtype)}
        arguments = [
            options.get(name, parameter.default)
            for name, parameter in list(inspect.signature(Function.forward).parameters.items())[4:]
        ]
        return lambda: Function.apply(x, w, y, *arguments)[0]

    return prepare


def liger_scaled(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    """Liger's fused scaled cross-entropy, per token."""
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import (
        LigerFusedLinearScaledCrossEntropyFunction as Function,
    )

    if softcap is not None:
        return None
    count = (y != -100).sum()

    def step() -> Any:
        nll = Function.apply(x, w, y, 1.0, -100, 1, False)
        nll = nll[0] if isinstance(nll, tuple) else nll
        return f.value(-nll)[y != -100].sum() / count

    return step


def quack(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    if softcap is not None or not nll_only(f):
        return None
    return lambda: chunked_linear_cross_entropy(x, w, y, chunk_size=4096, ignore_index=-100)


def cce(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    from cut_cross_entropy import linear_cross_entropy

    return per_token(
        f, y, lambda reduction: linear_cross_entropy(
            x, w, y, ignore_index=-100, softcap=softcap, reduction=reduction, impl="cce"
        ),
    )  # fmt: skip


def trl(x: Any, w: Any, y: Any, f: Any, softcap: float | None) -> Step | None:
    return trl_nll(x, w, y) if nll_only(f) and softcap is None else None


def nll_only(f: Any) -> bool:
    return repr(f) == "nll()"


def per_token(f: Any, y: Any, nll: Callable[[str], Any]) -> Step:
    """The mean of NLL, or the objective of its values per token."""
    if nll_only(f):
        return lambda: nll("mean")
    count = (y != -100).sum()
    return lambda: f.value(-nll("none").float())[y != -100].sum() / count


PEERS: dict[str, tuple[str, str | None, Callable[..., Step | None]]] = {
    "ours": ("ours, Triton rows", "triton", ours("triton")),
    "ours-lean": ("ours, in two passes", "triton", ours("triton", two_pass=True)),
    "liger": ("Liger, chunk 4096", "liger_kernel", liger(4096)),
    "liger-2048": ("Liger, chunk 2048", "liger_kernel", liger(2048)),
    "liger-float32": ("Liger, dW in float32", "liger_kernel", liger(4096, "float32")),
    "quack": ("QuACK, chunk 4096", "quack", quack),
    "liger-scaled": ("Liger, scaled CE", "liger_kernel", liger_scaled),
    "cce": ("CCE", "cut_cross_entropy", cce),
    "torch": ("torch linear_cross_entropy, chunk 4096", None, native),
    "trl": ("TRL's fused head", "trl", trl),
    "naive": ("plain logits", None, naive),
    "compiled": ("plain logits, compiled", None, compiled),
    "ours-epilogue": ("ours, statistics in the matmul", "triton", ours("epilogue")),
    "ours-chunked": ("ours, PyTorch alone", None, ours("chunked")),
}
"""Name -> (in the table, the module it needs, how to prepare it)."""


def missing(peer: str) -> str | None:
    """Why a peer cannot be measured here, or None."""
    module = PEERS[peer][1]
    if module is not None and importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    if peer == "torch":
        import torch

        if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
            return f"torch {torch.__version__} has none"
    return None
