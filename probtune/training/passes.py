"""Forward passes besides the one that trains: for the log-probabilities of a whole optimizer step
before its first micro-batch, and of the model as it was some steps ago.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..objectives import Signals, StepStatistics, nll
from .columns import BETTER, GROUP, sequence_of_token

__all__ = ["OLD", "STEP", "Passes", "sequence_means", "targets"]

STEP, OLD = "step_logprobs", "old_logprobs"
"""Keys under which a batch carries the measured log-probabilities."""


class Passes:
    """Additional passes of one trainer."""

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._block: list[dict[str, Any]] = []
        self._block_of: Any = None
        self._measured: list[Tensor] = []
        self.statistics: StepStatistics | None = None
        """Statistics of the optimizer step that is trained."""

    def before_step(self, batches: Sequence[dict[str, Any]], needs: Set[str]) -> None:
        """Measure the log-probabilities of the step that the objective in force needs."""
        if {"step", "sequence_gain"} & needs:
            for batch in batches:
                batch[STEP] = self.measure(self._trainer.model_wrapped, batch)
        if "step" in needs:
            self.statistics = self.statistics_of(batches)

    def from_block(self, epoch_iterator: Iterator[Any], number: int) -> list[dict[str, Any]]:
        """Return the next micro-batches of the block whose old log-probabilities were measured at
        once."""
        if self._block_of is not epoch_iterator:
            self._block, self._block_of = [], epoch_iterator
            for batch, logp in zip(
                islice(epoch_iterator, len(self._measured)), self._measured, strict=True
            ):
                self._block.append({**batch, OLD: logp})
            self._measured = []
        size = self._trainer.args.refresh_steps * self._trainer.args.gradient_accumulation_steps
        while len(self._block) < number:
            fresh = list(islice(epoch_iterator, size))
            if not fresh:
                break
            for batch in fresh:
                batch[OLD] = self.measure(self._trainer.model_wrapped, batch)
            self._block += fresh
        batches, self._block = self._block[:number], self._block[number:]
        return batches

    def remaining(self) -> list[Tensor]:
        """Return the old log-probabilities of the block's micro-batches that are still to come."""
        return [batch[OLD] for batch in self._block]

    def restore(self, measured: list[Tensor]) -> None:
        """Take what `remaining` returned, for the next micro-batches."""
        self._measured = measured

    @contextmanager
    def as_it_is(self, model: Any) -> Iterator[None]:
        """Run the model without gradients and dropout, in the precision of training."""
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self._trainer.compute_loss_context_manager():
                yield
        finally:
            model.train(was_training)

    def measure(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """Return the current log-probabilities of a batch, (B, T - 1)."""
        extras = (*self._trainer.columns.values(), GROUP, STEP, OLD)
        inputs = self._trainer._prepare_inputs({k: v for k, v in batch.items() if k not in extras})
        with self.as_it_is(model):
            out = self._trainer.forward(model, inputs, nll(), None, Signals())
        return out.tokens.log_probs.detach().float()

    def statistics_of(self, batches: Sequence[Mapping[str, Any]]) -> StepStatistics:
        """Return the statistics of `batches` and of those of the other ranks."""
        tokens, sequences, better = [], [], []
        for batch in batches:
            logp = batch[STEP]
            mask = targets(batch).to(logp.device) != -100
            tokens.append(logp[mask])
            means, counts, _ = sequence_means(-logp, mask, batch)
            sequences.append(means[counts > 0])
            if "better" in self._trainer.columns:
                better.append(batch[BETTER][:, 1:].to(logp.device)[mask])
        logp, nll_of, of_better = (
            self._gather(torch.cat(x)) if x else None for x in (tokens, sequences, better)
        )
        assert logp is not None and nll_of is not None
        if not len(logp):  # nothing is trained in this step, so any number will do
            logp = nll_of = logp.new_zeros(1)
            of_better = None if of_better is None else logp
        return StepStatistics(logp, nll_of, of_better)

    def _gather(self, values: Tensor) -> Tensor:
        """Gather one-dimensional values of all ranks, each with a length of its own."""
        if self._trainer.accelerator.num_processes == 1:
            return values
        padded = self._trainer.accelerator.pad_across_processes(
            values, dim=0, pad_index=float("nan")
        )
        gathered = self._trainer.accelerator.gather(padded)
        return gathered[~gathered.isnan()]


def targets(inputs: Mapping[str, Any]) -> Tensor:
    """Return the shifted labels, (B, T - 1)."""
    shifted = inputs.get("shift_labels")
    return inputs["labels"][:, 1:] if shifted is None else shifted


def sequence_means(
    values: Tensor, mask: Tensor, inputs: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (mean per sequence over supervised tokens, their number, sequence of each token)."""
    sequence = sequence_of_token(inputs, mask.shape).to(values.device)
    number = int(sequence.max()) + 1
    chosen = sequence[mask]
    counts = torch.bincount(chosen, minlength=number)
    sums = torch.bincount(chosen, weights=values[mask].double(), minlength=number)
    return (sums / counts.clamp(min=1)).float(), counts, sequence
