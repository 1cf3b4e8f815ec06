"""The language-model head fused with a probability objective.

`linear_target_logprobs` is `log_softmax(hidden @ weight.T)[range(N), labels]` without the logits,
`linear_objective_loss` is the objective's mean over it, and `loss` the same of logits that are
stored anyway. The kernels never see an objective's formula: they meet it in one number per token,
the logit gradient W_f(p), because the gradient of every objective with respect to the logits is

    dz_y = -W_f(p)        dz_v = W_f(p) * exp(z_v) / sum of exp(z_u) over u != y        (v != y).

Implementations (`impl=`):
    "reference"  plain PyTorch with full logits, float32 or wider: the definition, for tests and
                 small vocabularies
    "chunked"    a block of tokens at a time, gradients formed in the forward pass; any device
    "triton"     the same with one Triton kernel for the statistics of a block and one for its
                 gradients, between the vendor's matmuls
    "epilogue"   the same with the statistics in the first matmul's own kernel; meant for small
                 hidden sizes, and not measured yet
    "auto"       "triton" on a GPU where Triton is installed and the objective needs no more than p,
                 entropy and collision probability; "chunked" elsewhere
"""

from .checks import IGNORE_INDEX
from .head import Head, Impl
from .linear import (
    HeadResult,
    TargetStatistics,
    head_objective,
    head_statistics,
    linear_objective,
    linear_objective_loss,
    linear_target_logprobs,
    linear_target_statistics,
)
from .logits import compute_loss_func, loss
from .parallel import VocabParallel
from .tokens import KERNEL_SIGNALS

__all__ = [
    "IGNORE_INDEX",
    "KERNEL_SIGNALS",
    "Head",
    "HeadResult",
    "Impl",
    "TargetStatistics",
    "VocabParallel",
    "compute_loss_func",
    "head_objective",
    "head_statistics",
    "linear_objective",
    "linear_objective_loss",
    "linear_target_logprobs",
    "linear_target_statistics",
    "loss",
]
