"""verl's SFT trainer, over any of its back ends: they hand log-probabilities to the loss.

    torchrun --nproc_per_node=8 -m probtune.integrations.verl 'power(0.5)' data.train_files=... ...

or in a program of your own, after the trainer is made:

    use_objective(trainer, "power(0.5)")
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..objectives import Objective
from ..objectives import objective as read_objective
from .loss import logprobs_objective, token_loss
from .proof import Ledger, Proof
from .running import OFFERED, Running
from .versions import check_version

__all__ = ["ObjectiveLoss", "main", "use_objective"]

_WAY_OUT = "Call use_objective after the last set_loss_fn, or train with ProbTuneTrainer."


class ObjectiveLoss:
    """A loss with the interface of `verl.workers.utils.losses.sft_loss`.

    The sum over a micro-batch, divided by the tokens of the whole step and multiplied by the ranks,
    whose gradients are averaged. Entropy is at hand where the batch asks for it
    (`calculate_entropy`).

    Args:
        running: tells steps and special tokens; None: objectives that need them are refused.
    """

    def __init__(self, objective: Objective | str, running: Running | None = None):
        f = logprobs_objective(objective, {"entropy"} | (OFFERED if running else set()))
        proof = Proof(f, engine="verl", way_out=_WAY_OUT)
        self.objective, self.ledger = proof.objective, Ledger(proof)
        self.running = running

    def __call__(
        self, config: Any, model_output: Any, data: Any, dp_group: Any = None
    ) -> tuple[Tensor, dict[str, Any]]:
        logprobs, mask = _flat(model_output["log_probs"]), _flat_mask(data)
        f, signals = self.objective, {}
        if self.running is not None:
            f = self.running.objective_now()
            if "special" in f.needs:
                signals = self.running.signals(f, _flat_targets(data))
        if "entropy" in f.needs and model_output.get("entropy") is not None:
            signals["entropy"] = _flat(model_output["entropy"])
        self.ledger.add(logprobs, mask, signals, f)
        loss = token_loss(f, logprobs, mask, data["batch_num_tokens"], signals)
        return loss * data["dp_size"], {}


def _flat(x: Tensor) -> Tensor:
    return x.values() if x.is_nested else x


def _flat_mask(data: Any) -> Tensor:
    """Return the mask of the targets: that of the input is one token later."""
    mask = data["loss_mask"] if "loss_mask" in data else None
    if mask is not None and mask.is_nested:
        return torch.roll(mask.values(), shifts=-1, dims=0)
    return data["response_mask"]


def _flat_targets(data: Any) -> Tensor:
    """Return the targets in the order of the log-probabilities."""
    if data["input_ids"].is_nested:
        return torch.roll(data["input_ids"].values(), shifts=-1, dims=0)
    return data["responses"]


class _Steps:
    """The optimizer steps of verl's trainer, each of which is one batch of its engine."""

    def __init__(self, trainer: Any):
        self.trainer, self.since_resumed = trainer, 0

    def progress(self) -> float:
        done = getattr(self.trainer, "resume_global_step", 0) + self.since_resumed
        return done / max(self.trainer.total_training_steps, 1)


def use_objective(trainer: Any, objective: Objective | str) -> ObjectiveLoss:
    """Let verl's SFT trainer minimise an objective, and prove it on the first step.

    Args:
        trainer: `verl.trainer.sft_trainer.SFTTrainer`.

    Raises:
        ObjectiveError: the objective needs more than log p, the entropy, the share of the steps
            that is done and which tokens are special.
    """
    check_version("verl")
    steps = _Steps(trainer)
    running = Running(
        read_objective(objective),
        progress=steps.progress,
        tokenizer=lambda: trainer.model_config.tokenizer,
    )
    loss = ObjectiveLoss(objective, running)
    trainer.loss_fn = partial(loss, config=None)
    trainer.training_client.set_loss_fn(loss_fn=trainer.loss_fn)
    _prove(trainer.training_client.engine, loss, steps)
    return loss


def _prove(engine: Any, loss: ObjectiveLoss, steps: _Steps) -> None:
    trained = engine.train_batch

    def train_batch(data: Any, loss_function: Any) -> Any:
        output = trained(data, loss_function)
        steps.since_resumed += 1
        if engine.is_mp_src_rank_with_outputs():
            losses = output["loss"]
            returned = sum(losses) if isinstance(losses, list | tuple) else float(losses)
            group = engine.get_data_parallel_group()

            def reduce(sums: Tensor) -> Tensor:
                if group is not None and torch.distributed.get_world_size(group) > 1:
                    torch.distributed.all_reduce(sums, group=group)
                return sums

            loss.ledger.check(returned, reduce, engine.get_data_parallel_size())
        return output

    engine.train_batch = train_batch


def main(arguments: list[str] | None = None) -> None:
    """Run verl's SFT trainer with the objective that the first argument names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or "=" in arguments[0]:
        raise UsageError(
            "name the objective first: python -m probtune.integrations.verl 'power(0.5)' KEY=VALUE"
        )
    objective, *rest = arguments
    logprobs_objective(objective, OFFERED | {"entropy"})  # before verl loads anything
    from verl.trainer import sft_trainer  # pyright: ignore[reportMissingImports]

    built = sft_trainer.SFTTrainer._build_engine

    def build(self: Any) -> None:
        built(self)
        use_objective(self, objective)

    sft_trainer.SFTTrainer._build_engine = build
    sys.argv = [sys.argv[0], *rest]
    sft_trainer.main()


if __name__ == "__main__":
    main()
