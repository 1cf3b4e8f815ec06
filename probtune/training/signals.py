"""Signals of a batch that are no columns of the data and do not come from the logits: one function
for each, by its name in `objectives.SIGNALS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.chat import added_tokens
from ..objectives import SIGNALS, Objective, Signals, kind_of, unbound
from .passes import OLD, STEP, sequence_means, targets

__all__ = ["refuse_unfixed", "signals_of"]


class _Batch(NamedTuple):
    """A batch, and all that its signals are computed from."""

    trainer: Any
    model: Any
    inputs: Mapping[str, Any]
    extras: dict[str, Any]
    """Columns of the data and log-probabilities measured before the step, by their keys."""
    labels: Tensor
    """(B, T - 1), shifted."""
    columns: Signals
    in_step: bool
    """True if the log-probabilities of its optimizer step were measured; in evaluation the batch
    stands for a step.
    """


def signals_of(
    trainer: Any, needs: Set[str], model: Any, inputs: Mapping[str, Any], extras: dict[str, Any]
) -> Signals:
    """Return what an objective needs besides the distribution; values per token have the shape of
    the shifted labels.

    Args:
        needs: the names of its signals.
        extras: columns of the data and log-probabilities measured before the step, by their keys.
    """
    labels = targets(inputs)
    columns = Signals(
        {
            signal: extras[column][:, 1:].to(labels.device)
            for signal, column in trainer.columns.items()
        }
    )
    in_step = extras[STEP] is not None
    batch = _Batch(trainer, model, inputs, extras, labels, columns, in_step)
    computed = {n: _COMPUTED[kind_of(n)](batch, n) for n in needs if kind_of(n) in _COMPUTED}
    return Signals({**columns, **computed})


def refuse_unfixed(objective: Objective) -> None:
    """Raise ObjectiveError for a cut-off that a run fixes before its trainer is made."""
    for name in sorted(objective.needs):
        if SIGNALS[kind_of(name)].source == "run":
            raise unbound(objective, name)


def _special(batch: _Batch, name: str) -> Tensor:
    trainer, labels = batch.trainer, batch.labels
    if trainer._special is None or trainer._special.device != labels.device:
        ids = list(added_tokens(trainer._tokenizer))
        trainer._special = torch.tensor(ids, dtype=labels.dtype, device=labels.device)
    return torch.isin(labels, trainer._special)


def _old(batch: _Batch, name: str) -> Tensor:
    old = batch.extras[OLD]
    return batch.trainer._passes.measure(batch.model, batch.inputs) if old is None else old


def _step(batch: _Batch, name: str) -> Any:
    if batch.in_step:
        return batch.trainer._passes.statistics
    _step_logprobs(batch)
    return batch.trainer._passes.statistics_of([{**batch.inputs, **batch.extras}])


def _step_logprobs(batch: _Batch) -> Tensor:
    """Return the log-probabilities at the step's start."""
    if batch.extras[STEP] is None:
        batch.extras[STEP] = batch.trainer._passes.measure(batch.model, batch.inputs)
    return batch.extras[STEP]


def _sequence_gain(batch: _Batch, name: str) -> Tensor:
    gain = _step_logprobs(batch) - batch.columns["reference"]
    means, _, sequence = sequence_means(gain, batch.labels != -100, batch.inputs)
    return means[sequence]


def _excess_cut(batch: _Batch, name: str) -> Tensor:
    return batch.trainer._cuts[name].to(batch.labels.device)


def _progress(batch: _Batch, name: str) -> float:
    return batch.trainer._progress()


_COMPUTED: dict[str, Callable[[_Batch, str], Any]] = {
    "special": _special,
    "old": _old,
    "step": _step,
    "sequence_gain": _sequence_gain,
    "excess_cut": _excess_cut,
    "progress": _progress,
}
