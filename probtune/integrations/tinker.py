"""Tinker, and Tencent's TCRL, whose interface is the same: a served `cross_entropy` with weights.

    step = objective_step(client, data, "power(0.5)")
    client.optim_step(...)

An objective trains like NLL with each token weighted by w(p), so a forward pass gives p, and a
`cross_entropy` pass with w(p) has the objective's gradient, exactly. `custom_loss` is the same
through `forward_backward_custom`. For `anneal(...)` and `nll_on_special(...)` hand over the share
of the steps that is done and the tokenizer:

    objective_step(client, data, objective, progress=step / steps, tokenizer=tokenizer)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ObjectiveError, TrainingError
from ..objectives import Objective
from .loss import logprobs_objective, token_loss, token_weights
from .proof import TOLERANCE
from .running import OFFERED, Running

__all__ = ["Step", "custom_loss", "objective_step", "weights"]


class Step(NamedTuple):
    """A forward and backward pass with an objective."""

    loss: float
    """The objective's mean over the tokens."""
    mean_p: float
    tokens: int
    output: Any
    """The engine's own."""


def weights(
    objective: Objective | str,
    logprobs: Sequence[Tensor],
    masks: Sequence[Tensor],
    signals: Sequence[Mapping[str, Tensor]] | None = None,
) -> list[Tensor]:
    """Return for each datum the weights of a `cross_entropy` whose gradient is that of the
    objective's mean over all tokens.

    Args:
        logprobs: of the targets, one tensor for each datum.
        masks: 1 where the target counts; the weights of plain fine-tuning.
        signals: for each datum, what the objective needs besides p.
    """
    count = max(sum(float((mask != 0).sum()) for mask in masks), 1.0)
    return [
        token_weights(objective, logp, mask, of_datum) / count
        for logp, mask, of_datum in zip(logprobs, masks, signals or [{}] * len(masks), strict=True)
    ]


def custom_loss(
    objective: Objective | str, *, progress: float | None = None, tokenizer: Any = None
) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    """Return a function for `forward_backward_custom(data, function)`. Arguments and errors as
    `objective_step`.
    """
    now, special = _in_force(objective, progress, tokenizer)

    def function(data: Sequence[Any], logprobs: Sequence[Tensor]) -> tuple[Tensor, dict[str, Any]]:
        masks = [_tensor(datum.loss_fn_inputs["weights"]) for datum in data]
        count = max(sum(float((mask != 0).sum()) for mask in masks), 1.0)
        parts = [
            token_loss(now, logp, mask, count, of_datum)
            for logp, mask, of_datum in zip(logprobs, masks, special(data), strict=True)
        ]
        loss = torch.stack(parts).sum()
        return loss, {"objective": float(loss.detach()), "tokens": count}

    return function


def objective_step(
    client: Any,
    data: Sequence[Any],
    objective: Objective | str,
    *,
    progress: float | None = None,
    tokenizer: Any = None,
) -> Step:
    """Run one forward pass for p, and one forward and backward pass with w(p).

    Args:
        client: a training client.
        data: datums as for `cross_entropy`, with `target_tokens` and `weights` of 0 and 1.
        progress: share of the optimizer steps that is done, in [0, 1]; needed by objectives that
            change over training.
        tokenizer: needed by objectives that treat special tokens apart.

    Raises:
        ObjectiveError: the objective needs progress or a tokenizer, or more than p.
        TrainingError: the served pass did not use the weights.
    """
    now, special = _in_force(objective, progress, tokenizer)
    masks, signals = [_tensor(datum.loss_fn_inputs["weights"]) for datum in data], special(data)
    forward = client.forward(data, "cross_entropy").result()
    logprobs = [_tensor(output["logprobs"]) for output in forward.loss_fn_outputs]
    of_tokens = weights(now, logprobs, masks, signals)
    output = client.forward_backward(
        [_with_weights(datum, w) for datum, w in zip(data, of_tokens, strict=True)],
        "cross_entropy",
    ).result()
    pairs = list(zip(logprobs, of_tokens, strict=True))
    _check_used(output, float(sum(-(logp * w).sum() for logp, w in pairs)), now)
    loss = sum(
        float(token_loss(now, logp, mask, 1.0, of_datum))
        for logp, mask, of_datum in zip(logprobs, masks, signals, strict=True)
    )
    chosen = torch.cat([logp[mask != 0] for logp, mask in zip(logprobs, masks, strict=True)])
    return Step(loss / max(len(chosen), 1), float(chosen.exp().mean()), len(chosen), output)


def _in_force(
    objective: Objective | str, progress: float | None, tokenizer: Any
) -> tuple[Objective, Callable[[Sequence[Any]], list[dict[str, Tensor]]]]:
    """Return the objective in force, and what tells its signals for each datum."""
    f = logprobs_objective(objective, OFFERED)
    if "progress" in f.kinds and progress is None:
        raise ObjectiveError(
            f"{f} changes over training: give progress=, the share of the steps that is done."
        )
    running = Running(
        f,
        progress=lambda: progress or 0.0,
        tokenizer=lambda: tokenizer,
        tokenizer_as="tokenizer=",
    )
    running.check()
    now = running.objective_now()

    def special(data: Sequence[Any]) -> list[dict[str, Tensor]]:
        targets = (_tensor(datum.loss_fn_inputs["target_tokens"]) for datum in data)
        return [running.signals(now, tokens) for tokens in targets]

    return now, special


def _check_used(output: Any, expected: float, objective: Objective | str) -> None:
    """Compare the sum that the engine reports with that of the weights that were sent."""
    returned = (getattr(output, "metrics", None) or {}).get("loss:sum")
    if returned is not None and abs(returned - expected) > TOLERANCE * max(abs(expected), 1e-6):
        raise TrainingError(
            f"the served cross_entropy is {returned:.6g}, and with the weights of {objective} it"
            f" would be {expected:.6g}: the engine did not use them."
        )


def _tensor(data: Any) -> Tensor:
    """Return a tensor of what the engine hands over: a `TensorData`, an array or numbers."""
    if isinstance(data, Tensor):
        return data
    convert = getattr(data, "to_torch", None)
    return convert() if convert is not None else torch.as_tensor(data)


def _with_weights(datum: Any, of_tokens: Tensor) -> Any:
    inputs = dict(datum.loss_fn_inputs)
    inputs["weights"] = of_tokens
    return type(datum)(model_input=datum.model_input, loss_fn_inputs=inputs)
