"""`ObjectiveModule` in the real package: what Lightning does to a module leaves the objective as it
is, or is stopped with words.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_stubs import REAL
from test_integrations import RATE, ROWS, padded, sure_model, tokens_of
from torch.utils.data import DataLoader, IterableDataset

import probtune
from probtune.errors import TrainingError, UsageError

pytestmark = [
    pytest.mark.skipif(
        "lightning" not in REAL, reason="pytorch-lightning is not installed; make integrations"
    ),
    pytest.mark.filterwarnings("ignore"),
]

TEXT = "power(0.5)"


def kind(**methods):
    """A subclass of `ObjectiveModule` with plain gradient descent and other methods."""
    from probtune.integrations.lightning import ObjectiveModule

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=RATE)

    methods = {"configure_optimizers": configure_optimizers, **methods}
    return type("Descent", (ObjectiveModule,), methods)


def trainer(**options):
    from pytorch_lightning import Trainer

    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    usual = {"max_epochs": 1, "accumulate_grad_batches": 2, "accelerator": "cpu", "devices": 1}
    return Trainer(**{**usual, **dict.fromkeys(quiet, False), **options})


def loader(rows=ROWS, batch=2):
    return DataLoader(rows, batch_size=batch, collate_fn=padded)


def weights(model):
    return {name: x.detach().clone() for name, x in model.named_parameters()}


def by_hand(text=TEXT, steps=(ROWS[:4], ROWS[4:]), clip=None, model=sure_model):
    """Weights after a step of gradient descent on each part, f(p) written out."""
    f = {"nll": lambda logp: -logp, TEXT: lambda logp: 2 * (1 - (logp / 2).exp())}[text]
    model = model().train()
    for rows in steps:
        batch = padded(rows)
        labels = batch.pop("labels")[:, 1:]
        logp = model(**batch).logits[:, :-1].log_softmax(-1)
        logp = logp.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        (f(logp)[labels != -100].sum() / tokens_of(rows)).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        with torch.no_grad():
            for x in model.parameters():
                x -= RATE * x.grad
        model.zero_grad()
    return weights(model)


def has_the_numbers(numbers, model):
    """Check a validation of `ROWS` against the loss and the NLL of all their tokens at once."""
    batch = padded(ROWS)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    for name, text in (("val_loss", TEXT), ("val_nll", "nll")):
        expected = float(probtune.loss(logits, labels, text))
        assert float(numbers[name]) == pytest.approx(expected, rel=1e-4)


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    start = weights(sure_model())
    assert any(not torch.allclose(x, start[name], atol=1e-4) for name, x in actual.items())


@pytest.mark.parametrize("text", ["nll", TEXT])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_steps_equal_those_by_hand(text, clip, batch):
    """However a step is split: micro-batches have other numbers of tokens, one of them none, and
    the last step is short. A gradient is divided before it is clipped.
    """
    model, accumulate = sure_model(), {1: 4, 2: 2, 3: 2}[batch]
    step = batch * accumulate
    steps = [ROWS[i : i + step] for i in range(0, len(ROWS), step)]
    trainer(accumulate_grad_batches=accumulate, gradient_clip_val=clip).fit(
        kind()(model, text), loader(batch=batch)
    )
    same(weights(model), by_hand(text, steps, clip))


def test_a_model_as_from_pretrained_returns_it_is_trained_with_dropout():
    """In evaluation mode, which Lightning leaves, gradients are not checkpointed either."""
    modes = []
    model = sure_model().eval()
    model.model.register_forward_pre_hook(lambda module, arguments: modes.append(module.training))
    trainer().fit(kind()(model, TEXT), loader())
    assert modes and all(modes)


@pytest.mark.parametrize("text", ["nll", TEXT])
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_validation_is_no_part_of_a_step(text, sanity):
    """Also one that calls `training_step`, whose tokens had been counted to the next step."""

    def validation_step(self, batch, batch_idx):
        return self.training_step(batch, batch_idx)

    for methods in ({}, {"validation_step": validation_step}):
        model = sure_model()
        trainer(val_check_interval=2, num_sanity_val_steps=sanity).fit(
            kind(**methods)(model, text), loader(), loader(ROWS[:3], 1)
        )
        same(weights(model), by_hand(text))


def test_a_validation_has_the_numbers_of_its_tokens():
    model, runner = sure_model(), trainer()
    module = kind()(model, "anneal(nll(), power(0.5), 0, 0.5)")  # the latter, once it is trained
    runner.fit(module, loader())
    (numbers,) = runner.validate(module, loader(ROWS, 3))
    has_the_numbers(numbers, model)
    assert {"val_mean_p", "val_mean_token_accuracy", "val_entropy"} <= numbers.keys()


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("training_step",), "trains another loss .*: training_step .* call super()"),
        (("on_before_optimizer_step",), "not divided by its tokens: on_before_optimizer_step"),
        (("training_step", "on_before_optimizer_step"), "neither training_step nor"),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_method_that_is_in_the_way_is_stopped(methods, said, steps):
    """It had trained NLL, or a sum over tokens, without a word."""
    others = {
        "training_step": lambda self, batch, batch_idx: self.model(**batch).loss,
        "on_before_optimizer_step": lambda self, optimizer: None,
    }
    module = kind(**{name: others[name] for name in methods})(sure_model(), TEXT)
    with pytest.raises(TrainingError, match=said):
        trainer(max_steps=steps).fit(module, loader())


def test_methods_that_call_super_pass():
    from probtune.integrations.lightning import ObjectiveModule

    norms = []

    def before(self, optimizer):
        ObjectiveModule.on_before_optimizer_step(self, optimizer)
        norms.append(1)

    model = sure_model()
    trainer().fit(kind(on_before_optimizer_step=before)(model, TEXT), loader())
    assert len(norms) == 2
    same(weights(model), by_hand())


def test_float16_begins_with_the_scale_that_a_mean_has():
    """A sum over tokens had overflowed, and steps were skipped until the scale was as small."""
    from pytorch_lightning.plugins.precision import MixedPrecision

    model, runner = sure_model(), trainer(plugins=[MixedPrecision("16-mixed", "cpu")], max_epochs=3)
    module = kind()(model, TEXT)
    runner.fit(module, loader(ROWS * 8, 16))
    assert runner.precision_plugin.scaler.get_scale() == 65536.0
    assert module.proof.proven


def test_gradients_that_are_kept_back_are_stopped(monkeypatch):
    """DeepSpeed's strategy, which runs on accelerators alone, by its name and by what it does."""
    from pytorch_lightning.strategies import SingleDeviceStrategy

    class DeepSpeedStrategy(SingleDeviceStrategy):
        pass

    class Other(SingleDeviceStrategy):
        def backward(self, *arguments, **options):
            super().backward(*arguments, **options)
            for x in self.model.parameters():
                x.grad = None

    for strategy, error, said in (
        (DeepSpeedStrategy, UsageError, "deepspeed strategy keeps the gradients to itself"),
        (Other, TrainingError, "the Other hands over no gradients"),
    ):
        with pytest.raises(error, match=said):
            trainer(strategy=strategy(device=torch.device("cpu"))).fit(
                kind()(sure_model(), TEXT), loader()
            )


def test_a_checkpoint_is_of_its_objective(tmp_path, caplog):
    """Resumed it equals a training in one piece; another objective is refused."""
    whole, first, second = sure_model(), sure_model(), sure_model()
    trainer(max_epochs=2).fit(kind()(whole, TEXT), loader())
    runner = trainer()
    runner.fit(kind()(first, TEXT), loader())
    path = tmp_path / "step.ckpt"
    runner.save_checkpoint(path)
    trainer(max_epochs=2).fit(kind()(second, TEXT), loader(), ckpt_path=str(path))
    torch.testing.assert_close(weights(second), weights(whole), rtol=0, atol=0)
    with pytest.raises(
        UsageError, match=r"is of a training of power\(0.5\), and this one .* p\(\)"
    ):
        trainer(max_epochs=2).fit(kind()(sure_model(), "p"), loader(), ckpt_path=str(path))
    with caplog.at_level(logging.WARNING, "probtune.integrations.lightning"):
        kind().load_from_checkpoint(path, model=sure_model())
    assert "is of a training of power(0.5), and this module has nll()" in caplog.text


def test_what_cannot_be_trained_is_said():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(ROWS)

    with pytest.raises(UsageError, match="must hold labels, got input_ids"):
        batch = {"input_ids": torch.ones(2, 4, dtype=torch.long)}
        trainer().fit(kind()(sure_model(), TEXT), DataLoader([batch], batch_size=None))
    with pytest.raises(UsageError, match="no parameter of the model is trained"):
        model = sure_model().requires_grad_(False)
        trainer().fit(kind()(model, TEXT), loader())
    with pytest.raises(UsageError, match="max_steps, or max_epochs and batches whose number"):
        module = kind()(sure_model(), "anneal(nll(), p(), 0, 0.5)")
        trainer(max_epochs=-1).fit(module, DataLoader(Endless(), collate_fn=padded))


@pytest.mark.slow
@pytest.mark.distributed
def test_two_ranks_equal_one_process():
    """Data parallel, with other numbers of tokens on each rank: weights, and a validation."""
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = f"{folder.parent}:{folder}"
    done = subprocess.run(
        [*command, str(folder / "lightning_ranks_script.py")], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "passed" in done.stdout
