"""Sum of an objective over tokens whose log-probabilities an engine hands over."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from ..errors import ObjectiveError
from ..kernels.checks import check_signals_shapes
from ..objectives import REFERENCE_SIGNALS, Objective, Signals
from ..objectives import objective as read_objective

__all__ = [
    "bound_objective",
    "logits_objective",
    "logprobs_objective",
    "token_loss",
    "token_weights",
]


def token_loss(
    objective: Objective | str,
    logprobs: Tensor,  # any shape, <= 0
    mask: Tensor,  # the shape of logprobs
    count: float | Tensor | None = None,
    signals: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the sum of f(p) over the tokens of `mask`, divided by `count`.

    Equals `probtune.loss` of the logits that the log-probabilities come from; its gradient with
    respect to `logprobs` is -w(p) / count at the tokens of the mask and 0 elsewhere.

    Args:
        objective: the function to minimise, or its text.
        logprobs: log-probabilities of the targets. Outside of the mask they may hold anything.
        mask: True, or not 0, where the target counts.
        count: the denominator; default: the tokens of the mask. Under accumulation or data
            parallelism give the tokens of the whole optimizer step.
        signals: what the objective needs besides p (`entropy`, `progress`, ...), held fixed: a
            tensor in the shape of `logprobs`, or a number.

    Returns:
        A scalar in float32 or wider. Of no tokens it is 0, with gradients of 0.

    Raises:
        ObjectiveError: a signal is missing, or the objective's gradient does not follow from log p.
        ValueError: shapes do not fit.

    Example:
        >>> logprobs = torch.tensor([0.25, 0.5, 0.1]).log()
        >>> token_loss("p", logprobs, torch.tensor([True, True, False]))
        tensor(0.6250)
    """
    f = bound_objective(objective, logprobs, signals)
    if mask.shape != logprobs.shape:
        raise ValueError(
            f"mask must have the shape of logprobs, {tuple(logprobs.shape)}, got"
            f" {tuple(mask.shape)}."
        )
    mask = mask != 0
    # Before the objective: a log-probability of -inf or NaN outside of the mask has no gradient.
    value = f.value(torch.where(mask, logprobs, 0.0))
    total = torch.where(mask, value, 0.0).sum()
    number = torch.as_tensor(mask.sum() if count is None else count, device=total.device)
    return total / torch.where(number > 0, number, 1)


def token_weights(
    objective: Objective | str,
    logprobs: Tensor,  # any shape, <= 0
    mask: Tensor,  # the shape of logprobs
    signals: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return w(p) at the tokens of the mask and 0 elsewhere: weights under which a cross-entropy
    has the gradient of the objective.
    """
    f = bound_objective(objective, logprobs, signals)
    mask = mask != 0
    with torch.no_grad():
        return torch.where(mask, f.token_weight(torch.where(mask, logprobs, 0.0)), 0.0)


def bound_objective(
    objective: Objective | str, logprobs: Tensor, signals: Mapping[str, Any] | None = None
) -> Objective:
    """Return the objective with its signals.

    Raises:
        ObjectiveError: a signal is missing, or the gradient does not follow from log p.
    """
    f = read_objective(objective)
    if f.terms:
        raise ObjectiveError(
            f"{f} has a gradient through {', '.join(sorted(f.terms))} besides that through p, which"
            " log-probabilities alone cannot give; train it with ProbTuneTrainer."
        )
    provided = Signals(signals or {})
    missing = sorted(f.needs - provided.keys())
    if missing:
        raise ObjectiveError(
            f"{f} needs {', '.join(missing)}, which this engine does not hand over; give it as"
            " signals={...}, or train with ProbTuneTrainer, which provides it."
        )
    check_signals_shapes(provided, logprobs)
    return f.bind(Signals({name: _fixed(value) for name, value in provided.items()}))


def logprobs_objective(objective: Objective | str, offered: Set[str] = frozenset()) -> Objective:
    """Return the objective, if it follows from the log-probabilities of a batch and the signals
    that an engine offers besides.

    Raises:
        ObjectiveError: it needs more than that, or its gradient does not follow from log p.
    """
    f, empty = read_objective(objective), torch.empty(0)
    values = {name: 0.0 if name == "progress" else empty for name in f.needs & offered}
    bound_objective(f, empty, values)
    return f


def logits_objective(objective: Objective | str, offered: Set[str] = frozenset()) -> Objective:
    """Return the objective, if it follows from the logits of a batch and the signals that an engine
    offers besides.

    Raises:
        ObjectiveError: it needs columns of the data, the step, or another model.
    """
    f = read_objective(objective)
    others = sorted(f.needs - f.distribution_needs - offered)
    if others or REFERENCE_SIGNALS & f.kinds:
        besides = f", {', '.join(sorted(offered))}" if offered else " alone"
        raise ObjectiveError(
            f"{f} needs {', '.join(others or sorted(f.needs))}, and this engine hands over a"
            f" batch's logits{besides}; train it with ProbTuneTrainer, or choose an objective of p."
        )
    return f


def _fixed(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
