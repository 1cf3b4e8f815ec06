"""The proof that an engine trains the objective: on the first real step its loss is compared with
f(p) of the same tokens, and training stops with words when it is another one.

Engines replace a loss without an error: by a fused kernel, by the name of a function, by a class
that a model does not support, or by a parallel path of their own (docs/engines.md names them). What
is compared is what the step minimised: the losses of all micro-batches and ranks against the sum of
f(p) over all their tokens, divided by the number of these tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..kernels import IGNORE_INDEX
from ..kernels import loss as logits_loss
from ..objectives import Objective, nll
from ..objectives import objective as read_objective
from .loss import token_loss
from .running import Running

__all__ = ["Ledger", "Proof", "logits_sums", "logprob_sums", "prove_trainer"]

_LOGGER = logging.getLogger(__name__)

TOLERANCE = 0.02
"""Relative difference that bfloat16 logits and their sums explain; NLL differs by more, or the step
proves nothing and the next one is taken."""

_STEPS = 20
"""Steps after which a loss that looks the same under both objectives is no longer examined."""


class Proof:
    """The comparison of an engine's loss with an objective, over the first step with tokens.

    `add` takes each micro-batch, `finish` ends an optimizer step.

    Args:
        engine: name for the messages.
        way_out: what to do where the engine takes another loss.
        ranks: the engine's gradients are the `mean` or the `sum` of those of its ranks.
    """

    def __init__(
        self, objective: Objective | str, *, engine: str, way_out: str = "", ranks: str = "mean"
    ):
        self.objective = read_objective(objective)
        self.engine, self.way_out, self.ranks = engine, way_out, ranks
        self.proven = self.objective == nll()
        self._steps = 0
        self.clear()

    def clear(self) -> None:
        """Forget the step so far."""
        self._sums: list[float] = [0.0] * 4

    def add(self, returned: float | Tensor, sums: Sequence[float]) -> None:
        """Add a micro-batch.

        Args:
            returned: the loss whose gradient the engine has taken.
            sums: of `logits_sums` or `logprob_sums`.
        """
        if isinstance(returned, Tensor):
            returned = float(returned.detach())
        micro_batch = (returned, *sums)
        self._sums = [a + b for a, b in zip(self._sums, micro_batch, strict=True)]

    def finish(self, reduce: Callable[[Tensor], Tensor] | None = None, ranks: int = 1) -> bool:
        """End an optimizer step; return True if the engine's loss is proven.

        Args:
            reduce: the sum of a tensor over all ranks; default: this process is alone.

        Raises:
            TrainingError: the engine trained NLL, or another loss, or a multiple of the objective.
        """
        sums = torch.tensor(self._sums, dtype=torch.float64)
        self.clear()
        if reduce is not None:
            sums = reduce(sums)
        returned, objective, other, tokens = sums.tolist()
        if self.proven or not tokens:
            return self.proven
        if self.ranks == "mean":
            returned /= ranks
        self._steps += 1
        self._judge(returned, objective / tokens, other / tokens, int(tokens))
        if self._steps >= _STEPS and not self.proven:
            _LOGGER.warning(
                "%s: in %d steps %s and NLL had the same loss, so that the engine's loss is not"
                " proven.",
                self.engine, _STEPS, self.objective,
            )  # fmt: skip
            self.proven = True
        return self.proven

    def _judge(self, returned: float, objective: float, other: float, tokens: int) -> None:
        if _same(returned, objective):
            # If NLL would look the same, another batch must tell.
            self.proven = not _same(other, objective)
            return
        numbers = (
            f"on the first step the engine's loss is {returned:.6g}, and over its {tokens} tokens"
            f" the mean of {self.objective} is {objective:.6g} and that of NLL {other:.6g}"
        )
        if _same(returned, other):
            raise TrainingError(
                f"{self.engine} trains NLL and not {self.objective}: {numbers}. {self.way_out}"
            )
        ratio = returned / objective if objective else 0.0
        if ratio > 0 and _near_whole(ratio):
            raise TrainingError(
                f"{self.engine} trains {self.objective} times {ratio:.4g}: {numbers}. Micro-batches"
                " or ranks are counted twice, or not at all; the learning rate would be wrong by"
                f" this factor. {self.way_out}"
            )
        raise TrainingError(
            f"{self.engine} trains neither {self.objective} nor NLL: {numbers}. {self.way_out}"
        )


def _same(x: float, y: float) -> bool:
    return abs(x - y) <= TOLERANCE * max(abs(x), abs(y), 1e-6)


def _near_whole(ratio: float) -> bool:
    """True for 2, 3, ... and for 1/2, 1/3, ..., up to the tolerance."""
    ratio = max(ratio, 1 / ratio)
    return ratio > 1.5 and abs(ratio - round(ratio)) <= TOLERANCE * ratio


@torch.no_grad()
def logits_sums(
    objective: Objective,
    logits: Tensor,
    labels: Tensor,
    *,
    shift: bool = True,
    signals: Mapping[str, Tensor] | None = None,
) -> tuple[float, float, float]:
    """Return the sums of the objective and of NLL over a batch's tokens, and their number."""
    tokens = (labels[..., 1:] if shift else labels) != IGNORE_INDEX
    options: dict[str, Any] = {"num_items_in_batch": 1.0, "shift": shift}
    of_objective = logits_loss(logits, labels, objective, signals=signals, **options)
    of_nll = logits_loss(logits, labels, nll(), **options)
    return float(of_objective), float(of_nll), float(tokens.sum())


@torch.no_grad()
def logprob_sums(
    objective: Objective, logprobs: Tensor, mask: Tensor, signals: dict[str, Any] | None = None
) -> tuple[float, float, float]:
    """Return the same sums of log-probabilities."""
    of_objective = token_loss(objective, logprobs, mask, 1.0, signals)
    of_nll = token_loss(nll(), logprobs, mask, 1.0)
    return float(of_objective), float(of_nll), float((mask != 0).sum())


class Ledger:
    """Sums of the tokens that a loss function of ours has seen, for an engine that calls it.

    The function adds each batch, and a wrapper around the engine's step calls `check` with the loss
    that the engine reports. A function that was never called has been replaced. Steps in which the
    objective in force is NLL prove nothing and are left out: `anneal(nll(), ...)` begins with them.
    """

    def __init__(self, proof: Proof):
        self.proof = proof
        self.clear()

    def clear(self) -> None:
        """Forget the step so far."""
        self._sums: list[float] | None = None
        self._nll = False

    def add(
        self,
        logprobs: Tensor,
        mask: Tensor,
        signals: dict[str, Any] | None = None,
        objective: Objective | None = None,
    ) -> None:
        """Add the tokens of a batch, until the loss is proven.

        Args:
            objective: the one in force; default: the proof's.
        """
        f = self.proof.objective if objective is None else objective
        if self._counts(f):
            self._add(logprob_sums(f, logprobs.detach(), mask, signals))

    def add_logits(
        self, logits: Tensor, labels: Tensor, objective: Objective, signals: dict[str, Tensor]
    ) -> None:
        """The same of logits, and of labels that are shifted already."""
        if self._counts(objective):
            sums = logits_sums(objective, logits.detach(), labels, shift=False, signals=signals)
            self._add(sums)

    def _counts(self, objective: Objective) -> bool:
        self._nll = objective == nll()
        return not (self.proof.proven or self._nll)

    def _add(self, sums: Sequence[float]) -> None:
        self._sums = [a + b for a, b in zip(self._sums or [0.0] * 3, sums, strict=True)]

    def check(
        self,
        returned: float,
        reduce: Callable[[Tensor], Tensor] | None = None,
        ranks: int = 1,
    ) -> bool:
        """End a step with the loss that the engine reports; arguments as `Proof.finish`.

        Raises:
            TrainingError: the engine trained another loss, or did not call the function at all.
        """
        sums, is_nll = self._sums, self._nll
        self.clear()
        if self.proof.proven or is_nll:
            return self.proof.proven
        if sums is None:
            raise TrainingError(
                f"{self.proof.engine} never asked for the loss of {self.proof.objective} on its"
                f" first step: it trains another one, NLL most likely. {self.proof.way_out}"
            )
        self.proof.add(returned, sums)
        return self.proof.finish(reduce, ranks)


def prove_trainer(
    trainer: Any,
    running: Running,
    *,
    engine: str,
    way_out: str,
    besides: Callable[[], float | Tensor] = lambda: 0.0,
    measured: Callable[[Any, dict[str, Any]], tuple[float, float, float]] | None = None,
) -> Proof:
    """Let a `transformers.Trainer`, or what inherits from it, prove its loss on the first step in
    which the objective is not NLL.

    Until it has, each micro-batch goes through the model without labels before it is trained, under
    the same random numbers (dropout), so that no loss of the model is involved. It costs a forward
    pass with full logits for a step.

    Args:
        besides: returns the part of the last micro-batch's loss that is not the objective's.
        measured: returns the sums of a micro-batch, of (model, inputs); default: `logits_sums`, by
            a forward pass without labels.

    Raises (from `trainer.train`):
        TrainingError: the loss is another one.
    """
    proof = Proof(running.objective, engine=engine, way_out=way_out)
    trained = trainer.training_step

    def training_step(
        model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None, **others: Any
    ) -> Tensor:
        if running.objective_now() == nll():  # which proves nothing: `anneal(nll(), ...)` begins
            return trained(model, inputs, num_items_in_batch, **others)
        model.train()
        try:
            if measured is None:
                sums = _sums_of_batch(trainer, model, inputs, proof, running)
            else:
                sums = measured(model, inputs)
            loss = trained(model, inputs, num_items_in_batch, **others)
        except BaseException:  # such as out of memory, after which auto_find_batch_size begins anew
            proof.clear()
            raise
        proof.add(loss - besides(), sums)
        if trainer.accelerator.sync_gradients:
            ranks = trainer.accelerator.num_processes // _copies(trainer)
            if proof.finish(lambda sums: _over_ranks(trainer, sums, ranks), ranks):
                trainer.training_step = trained
        return loss

    if not proof.proven:
        trainer.training_step = training_step
    return proof


def _over_ranks(trainer: Any, sums: Tensor, ranks: int) -> Tensor:
    """Return the sums of `Proof` over all ranks. Where each rank divides by its own tokens, their
    means have equal weights.
    """
    device = trainer.args.device
    wide = torch.float32 if device.type == "mps" else torch.float64

    def total(of_rank: Tensor) -> Tensor:
        reduced = trainer.accelerator.reduce(of_rank.to(device, wide), "sum")
        return reduced.cpu().double() / _copies(trainer)

    whole = total(sums.clone())
    if not trainer.args.average_tokens_across_devices and ranks > 1:
        share = whole[3] / ranks / sums[3].clamp(min=1)
        whole[1:3] = total(sums * share)[1:3]
    return whole


def _copies(trainer: Any) -> int:
    """Ranks that see the same tokens (tensor parallelism)."""
    get = getattr(trainer, "get_tp_size", None)
    return max(1, get()) if get is not None else 1


def _sums_of_batch(
    trainer: Any, model: Any, inputs: Mapping[str, Any], proof: Proof, running: Running
) -> tuple[float, float, float]:
    """Return `logits_sums` of a batch, by a forward pass of the model without labels. It comes
    before the one that trains: a head that FSDP has gathered in a forward pass stays so until a
    backward pass, and an update between would be missing in it.
    """
    batch = {name: x.clone() if isinstance(x, Tensor) else x for name, x in inputs.items()}
    split, batch = _split_over_ranks(trainer, model, trainer._prepare_inputs(batch))
    with split():
        shifted, labels = batch.pop("shift_labels", None), batch.pop("labels", None)
        targets = labels if shifted is None else shifted
        if targets is None:
            raise TrainingError(
                f"{proof.engine}: the batch has no labels, so nothing says what is trained."
            )
        arguments = {name: x for name, x in batch.items() if name not in _OF_THE_LOSS}
        device = trainer.args.device
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), trainer.compute_loss_context_manager(), forked:
            outputs = model(**arguments)
    logits = outputs.get("logits") if isinstance(outputs, dict) else outputs[0]
    if not isinstance(logits, Tensor):
        raise TrainingError(
            f"{proof.engine}: the model returns no logits even without labels, so that its loss"
            f" cannot be compared with {proof.objective}. {proof.way_out}"
        )
    now = running.objective_now()
    signals = running.signals(now, targets)
    return logits_sums(now, logits, targets, shift=shifted is None, signals=signals)


def _split_over_ranks(trainer: Any, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Return (the context in which the model reads a batch, the batch for it): with context
    parallelism each rank's part of every row.
    """
    prepare = getattr(trainer, "_prepare_context_parallel_inputs", None)
    return (nullcontext, batch) if prepare is None else prepare(model, batch)


_OF_THE_LOSS = frozenset({"num_items_in_batch", "compute_loss_func", "loss_scale", "channel"})
"""Entries of a batch that are meant for a loss and not for the model."""
