"""One training, however its steps are laid out: a table of layouts and kinds of objectives. Loss,
gradient norm and weights over five steps equal those of one process with padded batches of 8 rows.

The second half of the table, several processes, is in tests/test_training_sharded.py.
"""

from functools import cache

import helpers
import pytest
from test_training import StopAt, logs, trainer, weights

from probtune.training import CHECKPOINTING, CheckpointClock

KINDS = {
    "p": "p()",
    "entropy": "eaft(1, 3)",
    "quantile of the step": "step_top(0.5, nll())",
    "reference": "kl_anchor(0.5, dft())",
    "measured reference": "on_reference(p())",
    "old state": "psft(0.05)",
    "schedule": "anneal(nll(), p(), 0, 0.5)",
}
LAYOUTS = {
    "eight by one": dict(per_device_train_batch_size=1, gradient_accumulation_steps=8),
    "two by four": dict(per_device_train_batch_size=4, gradient_accumulation_steps=2),
    "padding-free": dict(padding_free=True, max_length=None),
    "padding-free, two by four": dict(
        padding_free=True, max_length=None, per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
    ),
    "packed": dict(packing=True, max_length=128, dataset_kwargs=None),
    "checkpointing": {CHECKPOINTING: True},
}  # fmt: skip
FAST = ("eight by one", "padding-free")
STEPS = 5


def rows(packed=False):
    """Two steps of 8 rows, some without a target; one step if blocks must hold what a step does."""
    return helpers.encoded_rows(8 if packed else 16, masked=(1, 4, 9))


def trained(out, text, *, packed=False, resume=False, **changes):
    options = {"objective": text, "max_steps": STEPS, "refresh_steps": 2, **changes}
    training = trainer(out, rows=rows(packed), **options)
    training.train(resume_from_checkpoint=resume)
    return [(e["loss"], e["grad_norm"]) for e in logs(training)], weights(training.model)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Returns what the plain layout makes of an objective."""
    return cache(
        lambda text, packed: trained(tmp_path_factory.mktemp("plain"), text, packed=packed)
    )


def alike(result, expected, start):
    for step, of_plain in zip(result[0], expected[0], strict=True):
        assert step == pytest.approx(of_plain, rel=2e-4, abs=1e-6)
    moved = float((expected[1] - start).norm())
    assert float((result[1] - expected[1]).norm()) < 1e-4 * moved


@pytest.fixture(scope="module")
def start():
    return weights(helpers.word_causal_model())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "layout", [pytest.param(x, marks=() if x in FAST else pytest.mark.slow) for x in LAYOUTS]
)
def test_a_layout_trains_the_same(layout, kind, plain, start, tmp_path):
    packed = layout == "packed"
    result = trained(tmp_path, KINDS[kind], packed=packed, **LAYOUTS[layout])
    alike(result, plain(KINDS[kind], packed), start)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_is_the_same(kind, plain, start, tmp_path):
    """Stopped in the middle of an epoch."""
    clock = CheckpointClock(minutes=1e9)
    trained(tmp_path, KINDS[kind], callbacks=[clock, StopAt(clock, 3)])
    result = trained(tmp_path, KINDS[kind], resume=True)
    alike(result, plain(KINDS[kind], False), start)
