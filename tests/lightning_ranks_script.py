"""Lightning's data parallelism on two ranks beside one process; run under torchrun by
tests/test_lightning.py.

Every check is an assertion on each rank; the first rank says that all have passed.
"""

import os
import warnings

import conftest  # noqa: F401  (environment before torch)
import pytest
import torch
from test_integrations import ROWS, sure_model, tokens_of
from test_lightning import TEXT, by_hand, has_the_numbers, kind, loader, trainer, weights

from probtune.errors import TrainingError

warnings.filterwarnings("ignore")
RANK = int(os.environ["RANK"])
OPTIONS = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}


def equals_one_process(clip: float | None) -> None:
    model, mine = sure_model(), ROWS[RANK::2]
    assert tokens_of(ROWS[::2]) != tokens_of(ROWS[1::2])
    runner = trainer(gradient_clip_val=clip, **OPTIONS)
    runner.fit(kind()(model, TEXT), loader(mine, 1), loader(mine, 3))
    steps = [ROWS[:4], ROWS[4:]]
    torch.testing.assert_close(weights(model), by_hand(TEXT, steps, clip), rtol=1e-5, atol=1e-5)
    has_the_numbers(runner.callback_metrics, model)


def stops_a_loss_that_is_doubled() -> None:
    def backward(self, loss, *arguments, **options):
        super(type(self), self).backward(2 * loss, *arguments, **options)

    with pytest.raises(TrainingError, match="times 2"):
        trainer(**OPTIONS).fit(
            kind(backward=backward)(sure_model(), TEXT), loader(ROWS[RANK::2], 1)
        )


if __name__ == "__main__":
    for limit in (None, 0.5):
        equals_one_process(limit)
    stops_a_loss_that_is_doubled()
    if RANK == 0:
        print("passed")
