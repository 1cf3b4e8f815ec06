"""Proof of the head before it trains, on its device and on its model.

Drivers, cards and compilers differ, and a wrong kernel would train silently wrong: `check_head`
puts a small fixed problem through the head as training calls it, and through the definition in
float64 on a CPU, on the same numbers. And a fused head knows from the configuration what a model
does around its output layer; `check_model` finds what the configuration does not tell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from ..kernels import IGNORE_INDEX, Impl, linear_objective
from ..models.head import HeadCall
from ..objectives import Objective, nll

__all__ = ["TOLERANCE", "HeadErrors", "check_head", "check_model", "head_errors"]

TOLERANCE = 0.02
"""Largest relative error of loss and gradients that rounding explains.

bfloat16 inputs have exact logits, whose gradients are rounded once, by at most 2^-8 each, and so
are the results: 0.4 % each at most, about 0.3 % together in the norm. float32 inputs may be rounded
to TF32's 2^-11 on their way into a matmul, which moves logits of this size by 1e-3, and the weights
of p^10 by 1 %. A wrong kernel is off by more: one block of the vocabulary, one token out of 91, or
one factor.
"""

_ROWS, _HIDDEN, _VOCABULARY = 96, 64, 1031
_TOKENS = 12
_SMOOTH = {"entropy", "collision", "uniform", "sharpened"}


class HeadErrors(NamedTuple):
    """Relative errors against the definition in float64; of gradients in the Euclidean norm."""

    loss: float
    hidden: float
    weight: float
    others: float
    """Error in the weight's rows of tokens that are no target, where the softmax alone counts."""


def check_head(objective: Objective, device: torch.device, dtype: torch.dtype) -> HeadErrors:
    """Return the head's errors on a device, in the dtype of training; milliseconds besides
    compilation.

    Args:
        objective: what is trained; NLL stands for one that needs columns of the data, a reference,
            or ranks, which rounding decides.

    Raises:
        UsageError: they are larger than rounding explains, or the head does not run there; the
            message has the numbers, or the reason.
    """
    way_out = (
        "Train with head='trl' (--training head=trl), and please report it with the versions of"
        f" torch ({torch.__version__}), Triton and the driver."
    )
    try:
        errors = head_errors(objective, device, dtype)
    except Exception as error:  # whatever a compiler or driver makes of it
        raise UsageError(
            f"the fused head does not run on this {device.type} device with {dtype}:"
            f" {type(error).__name__}: {error}. {way_out}"
        ) from error
    # Not a number is no proof either.
    if not all(error <= TOLERANCE for error in errors):
        shown = ", ".join(f"{name} {error:.2g}" for name, error in errors._asdict().items())
        raise UsageError(
            f"the fused head is wrong on this {device.type} device with {dtype}: relative errors"
            f" of a small problem against float64 are {shown}, and rounding explains"
            f" {TOLERANCE:g}. {way_out}"
        )
    return errors


@torch.no_grad()
def check_model(model: Any, head: str, dtype: torch.dtype) -> None:
    """Compare the log-probabilities of a few tokens by the fused head with those of the model's own
    logits; one short forward pass each.

    Args:
        model: without PEFT's wrapper, with its parameters whole and in place.
        head: `probtune` or `trl`.
        dtype: in which the logits may have been rounded: that of the weights, or autocast's.

    Raises:
        UsageError: they differ by more than rounding explains, or the model leaves out a part of
            its output layer.
    """
    first = model.get_input_embeddings().weight
    # Apart from each other: neighbours in a vocabulary may well follow each other in a text.
    ids = (10 + 37 * torch.arange(_TOKENS, device=first.device)) % first.shape[0]
    batch = {"input_ids": ids[None]}
    was_training = model.training
    model.eval()
    try:
        logits = model(**batch).logits[0, :-1].float()
        if head == "trl":
            log_probs = model(**batch, labels=ids[None], fused_lm_head=True).log_probs
        else:
            out = model(**batch, labels=ids[None], objective_head=HeadCall(nll()))
            log_probs = out.tokens.log_probs
    finally:
        model.train(was_training)
    last = model.get_output_embeddings().weight
    reason = None
    if logits.shape[1] != last.shape[0]:
        reason = f"it has {logits.shape[1]} logits, and its output layer {last.shape[0]} rows"
    elif bool(logits.isfinite().all()):  # if not, training says so, with the row
        own = logits.log_softmax(1).gather(1, ids[1:, None].to(logits.device)).squeeze(1)
        error = (log_probs[0].to(own.device) - own).abs()
        # The model's own logits are rounded, and so are those of TRL's head.
        rounding = 2 * torch.finfo(dtype).eps * float(logits.abs().max())
        if not bool((error <= TOLERANCE * (1 + own.abs()) + rounding).all()):
            reason = (
                f"log-probabilities of {_TOKENS} tokens differ by up to {float(error.max()):.2g}"
            )
    if reason is not None:
        raise UsageError(
            f"no fused head computes the logits of {type(model).__name__}: {reason}. It does"
            " something around its output layer that its configuration does not tell; please"
            " report it."
        )


def head_errors(
    objective: Objective, device: torch.device, dtype: torch.dtype, impl: Impl = "auto"
) -> HeadErrors:
    """Return the errors that `check_head` judges."""
    if not objective.kinds <= _SMOOTH:
        objective = nll()
    hidden, weight, labels = _problem(dtype)
    exact = linear_objective(hidden.double(), weight.double(), labels, nll(), impl="reference")
    p = exact.statistics.logp.exp()
    for q in objective.thresholds:
        # Rounding decides the side of a token that is near.
        labels[(p - q).abs() < 0.05 * q] = IGNORE_INDEX
    others = torch.ones(_VOCABULARY, dtype=torch.bool)
    others[labels[labels != IGNORE_INDEX]] = False

    def measured(where: torch.device, of: torch.dtype, impl: Impl) -> list[Tensor]:
        h, w = (x.to(where, of).requires_grad_() for x in (hidden, weight))
        # A sum, since float16 would lose small gradients divided by the rows.
        out = linear_objective(h, w, labels.to(where), objective, num_items_in_batch=1.0, impl=impl)
        parts = (out.loss, *torch.autograd.grad(out.loss, (h, w)))
        loss, of_hidden, of_weight = (x.detach().cpu().double() for x in parts)
        return [loss, of_hidden, of_weight, of_weight[others]]

    expected = measured(torch.device("cpu"), torch.float64, "reference")
    pairs = zip(measured(device, dtype, impl), expected, strict=True)
    return HeadErrors(*(_relative(a, b) for a, b in pairs))


def _problem(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, weight and labels, rounded to `dtype`.

    The logits have standard deviation 2, the targets come from the whole range of p and from both
    ends of the vocabulary, and some rows have none.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(_ROWS, _HIDDEN, generator=generator).to(dtype)
    weight = (2 / _HIDDEN**0.5 * torch.randn(_VOCABULARY, _HIDDEN, generator=generator)).to(dtype)
    labels = torch.randint(0, _VOCABULARY, (_ROWS,), generator=generator)
    labels[:4] = torch.tensor([0, 1023, 1024, _VOCABULARY - 1])
    # A third of the targets likely, up to p near 1.
    sure = torch.arange(4, _ROWS, 3)
    push = torch.linspace(0.2, 1.6, len(sure)).unsqueeze(1)
    hidden[sure] += (push * weight[labels[sure]].float() * 2).to(dtype)
    labels[5::20] = IGNORE_INDEX
    return hidden, weight, labels


def _relative(x: Tensor, expected: Tensor) -> float:
    norm = float(expected.norm())
    error = float((x - expected).norm())
    return error / norm if norm else error
