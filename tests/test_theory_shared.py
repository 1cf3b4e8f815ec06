"""Shared parameters: what the table's flow predicts at the start, and where it stops holding."""

import numpy as np
import pytest
import torch

from probtune import theory
from probtune.errors import ProbtuneError, UsageError
from probtune.objectives import p
from probtune.theory.shared import MODELS, mean_prediction


def test_the_linear_models_first_step_moves_logits_by_the_kernel():
    """dz(x') = rate/N * sum over x of <x, x'> times the table's velocity at x."""
    task, rng = theory.Task(classes=4, dimensions=5), np.random.default_rng(0)
    means = task.means(rng)
    x, truth = task.draw(30, means, rng)
    model = MODELS["linear"](task)
    torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    law = theory.uniform(noise=0.2, classes=4)[truth]
    before = model(torch.from_numpy(x)).detach().numpy()
    theory.descend(
        model, theory.Contexts.of(truth, law), p(), learning_rate=0.1, steps=1, features=x
    )
    after = model(torch.from_numpy(x)).detach().numpy()
    expected = 0.1 / 30 * (x @ x.T) @ theory.logit_velocity(before, law, p())
    np.testing.assert_allclose(after - before, expected, atol=1e-12)


def test_after_a_few_steps_the_prediction_holds_and_after_many_the_crossover_has_moved():
    """At noise 0.4 and a weak base NLL leads early and -p late, as the budget's crossover says."""
    options = {"capability": 0.2, "noise": 0.4}
    early, late = (
        mean_prediction(
            [
                theory.predict_and_train("linear", "p", "nll", seed=s, steps=n, **options)
                for s in (0, 1)
            ]
        )
        for n in (4, 200)
    )
    assert early.predicted == late.predicted < 0
    assert early.agrees and early.expected < -0.01
    assert not late.agrees and late.expected > 0.1


def test_a_strong_network_under_noise_gains_from_minus_p_and_without_noise_does_not():
    noisy, clean = (
        theory.predict_and_train("network", "p", "nll", capability=0.8, noise=n, seed=0, steps=100)
        for n in (0.4, 0.0)
    )
    assert noisy.mean_p >= 0.8 and noisy.agrees and noisy.expected > 0.1 and noisy.greedy > 0.05
    assert clean.agrees and -0.02 < clean.expected < 0


@pytest.mark.slow
def test_what_cannot_be_done_is_said():
    with pytest.raises(UsageError, match="one of linear, network"):
        theory.predict_and_train("tree", "p", "nll", capability=0.5, noise=0.1, seed=0)
    with pytest.raises(ProbtuneError, match="does not reach"):
        theory.predict_and_train(
            "linear",
            "p",
            "nll",
            capability=0.99,
            noise=0.1,
            seed=0,
            task=theory.Task(separation=1.0),
        )
