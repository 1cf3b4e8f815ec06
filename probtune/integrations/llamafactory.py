"""LLaMA-Factory: a launcher, since it has no plug-ins.

    python -m probtune.integrations.llamafactory 'power(0.5)' train.yaml
    torchrun --nproc_per_node=8 -m probtune.integrations.llamafactory 'power(0.5)' train.yaml

Its trainer gets the objective when it is made.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import UsageError
from ..objectives import Objective
from .loss import logits_objective
from .running import OFFERED
from .transformers_trainer import use_objective
from .versions import check_version

__all__ = ["main", "patch", "refuse"]

_OTHER_LOSSES = ("use_dft_loss", "use_eaft_loss", "use_asft_loss")
_OTHER_TRAINERS = ("use_mca", "use_hyper_parallel")


def patch(trainer_class: type[Any], objective: Objective | str) -> None:
    """Let every trainer of a class minimise an objective.

    Args:
        trainer_class: `llamafactory.train.sft.trainer.CustomSeq2SeqTrainer`.
    """
    original = trainer_class.__init__

    def initialise(self: Any, finetuning_args: Any, *arguments: Any, **options: Any) -> None:
        refuse(finetuning_args, objective)
        original(self, finetuning_args, *arguments, **options)
        use_objective(self, objective, engine="LLaMA-Factory")

    setattr(trainer_class, "__init__", initialise)  # noqa: B010


def refuse(arguments: Any, objective: Objective | str) -> None:
    """Refuse a configuration whose loss would be another one.

    Args:
        arguments: an object or mapping with LLaMA-Factory's options.

    Raises:
        UsageError: with the option.
    """
    read = arguments.get if isinstance(arguments, dict) else lambda n: getattr(arguments, n, None)
    for name in _OTHER_LOSSES:
        if read(name):
            raise UsageError(f"{name}: true takes another loss than {objective}; remove it.")
    for name in _OTHER_TRAINERS:
        if read(name) or (name == "use_mca" and os.environ.get("USE_MCA", "0") in ("1", "true")):
            raise UsageError(
                f"{name} trains with a trainer that reads no loss: it would be NLL and not"
                f" {objective}; remove it."
            )


def main(arguments: list[str] | None = None) -> None:
    """Run LLaMA-Factory's training with the objective that the first argument names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) < 2:
        raise UsageError(
            "name objective and configuration: python -m probtune.integrations.llamafactory"
            " 'power(0.5)' train.yaml [KEY=VALUE]"
        )
    objective, *rest = arguments
    f = logits_objective(objective, OFFERED)
    refuse({}, f)
    check_version("llamafactory")
    from llamafactory.train.sft import trainer, workflow  # pyright: ignore[reportMissingImports]
    from llamafactory.train.tuner import run_exp  # pyright: ignore[reportMissingImports]

    assert workflow.CustomSeq2SeqTrainer is trainer.CustomSeq2SeqTrainer
    patch(trainer.CustomSeq2SeqTrainer, f)
    sys.argv = [sys.argv[0], *rest]
    run_exp()


if __name__ == "__main__":
    main()
