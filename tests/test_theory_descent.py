"""Steps of real optimizers: limits that are the flow, and invariances."""

import numpy as np
import pytest
import torch

from probtune import theory
from probtune.errors import UsageError
from probtune.objectives import nll, p, power
from probtune.theory.descent import OPTIMIZERS, population_crossover


def population(seed=0, count=40, classes=6, noise=0.2, mean_p=0.5):
    rng = np.random.default_rng(seed)
    logits, truth = theory.draw_contexts(count, classes=classes, mean_p=mean_p, rng=rng)
    return logits, theory.Contexts.of(truth, theory.uniform(noise=noise, classes=classes)[truth])


def tuned(logits, contexts, objective, **options):
    model = theory.Table(logits)
    theory.descend(model, contexts, objective, **options)
    return model


def test_small_steps_are_the_flow():
    logits, contexts = population(count=3)
    model = tuned(logits, contexts, p(), learning_rate=0.002, steps=1000)
    for row in range(3):
        flow = theory.integrate(logits[row], contexts.law[row], p(), 2.0)
        np.testing.assert_allclose(model.logits[row].detach(), flow.logits[-1], atol=2e-3)


def test_frequency_is_time():
    logits, contexts = population(count=2)
    often = theory.Contexts.of(contexts.truth, contexts.law, [3.0, 1.0])
    model = tuned(logits, often, nll(), learning_rate=0.001, steps=1000)
    for row, time in ((0, 1.5), (1, 0.5)):
        flow = theory.integrate(logits[row], contexts.law[row], nll(), time)
        np.testing.assert_allclose(model.logits[row].detach(), flow.logits[-1], atol=2e-3)


def test_a_scaled_objective_is_a_larger_step_for_gradient_descent_only():
    logits, contexts = population()
    plain = tuned(logits, contexts, p(), learning_rate=0.1, steps=20)
    scaled = tuned(logits, contexts, p(), learning_rate=0.01, steps=20, scale=10.0)
    torch.testing.assert_close(plain.logits, scaled.logits)
    for optimizer in ("adam", "adamw", "sign", "normalised"):
        options = {"optimizer": optimizer, "learning_rate": 0.05, "steps": 20, "epsilon": 1e-30}
        one = tuned(logits, contexts, p(), **options)
        ten = tuned(logits, contexts, p(), scale=10.0, **options)
        torch.testing.assert_close(one.logits, ten.logits, atol=1e-9, rtol=0)


def test_sign_steps_on_clean_labels_are_the_same_for_every_objective():
    q, truth, _ = theory.diffuse_model([0.05, 0.4, 0.9], classes=6)
    clean = theory.Contexts.of(truth, np.eye(6)[truth])
    ends = [
        tuned(np.log(q), clean, f, optimizer="sign", learning_rate=0.01, steps=30).logits
        for f in (nll(), p(), power(0.3))
    ]
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_clean_labels(optimizer):
    logits, contexts = population(noise=0.0, mean_p=0.5)
    before = theory.measure(theory.Table(logits), contexts)
    after = theory.measure(
        tuned(logits, contexts, nll(), optimizer=optimizer, learning_rate=0.05, steps=100), contexts
    )
    assert after.expected > before.expected + 0.05 and after.greedy >= before.greedy


def test_schedules_decay_and_clipping():
    logits, contexts = population()
    ends = {
        s: tuned(logits, contexts, nll(), learning_rate=0.1, steps=50, schedule=s).logits
        for s in ("constant", "linear", "cosine")
    }
    moved = {s: float((z.detach() - torch.tensor(logits)).norm()) for s, z in ends.items()}
    assert moved["linear"] < moved["constant"] and moved["cosine"] < moved["constant"]
    clipped = tuned(logits, contexts, nll(), learning_rate=0.1, steps=10, clip=0.01)
    assert float((clipped.logits.detach() - torch.tensor(logits)).norm()) <= 10 * 0.1 * 0.01 + 1e-12
    shrunk = tuned(logits, contexts, nll(), learning_rate=0.1, steps=200, weight_decay=1.0)
    assert shrunk.logits.abs().max() < 2.0


def test_rare_contexts_are_measured_apart():
    logits, contexts = population(count=100, noise=0.0)
    seen = theory.Contexts.of(contexts.truth, contexts.law, np.linspace(1.0, 0.01, 100))
    model = tuned(logits, seen, nll(), learning_rate=0.2, steps=50)
    measured = theory.measure(model, seen)
    assert measured.rarest < measured.expected
    even = theory.measure(model, contexts)
    assert even.expected == measured.expected


def test_the_population_follows_its_parameters():
    rng = np.random.default_rng(0)
    logits, truth = theory.draw_contexts(20_000, classes=8, mean_p=0.3, rng=rng)
    q = np.exp(logits)
    np.testing.assert_allclose(q.sum(1), 1.0)
    assert q[:, 0].mean() == pytest.approx(0.3, abs=0.01) and (truth == 0).all()


def test_crossover_of_a_population_as_text():
    means = [0.1, 0.3, 0.5]
    assert population_crossover(means, [-0.2, 0.2, 0.3]) == "0.20"
    assert population_crossover(means, [-0.2, -0.1, -0.05]) == "none"
    assert population_crossover(means, [0.2, 0.1, 0.05]) == "always"
    assert population_crossover(means, [0.0, 0.1, 0.05]) == "always"
    assert population_crossover(means, [0.2, -0.2, -0.3]) == "below 0.20"
    assert population_crossover(means, [0.0, -1e-4, 1e-4]) == "tie"
    assert population_crossover(means, [-0.2, -0.0001, 0.0]) == "tie above 0.30"


@pytest.mark.parametrize(
    "options, words",
    [
        ({"optimizer": "lion"}, "one of sgd"),
        ({"schedule": "step"}, "one of constant"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "decoupled"),
        ({"optimizer": "momentum", "weight_decay": 0.1}, "decoupled"),
        ({"learning_rate": 1e300, "steps": 50, "weight_decay": 1.0}, "not finite after step"),
    ],
)
def test_bad_options_are_named(options, words):
    logits, contexts = population(count=2)
    with pytest.raises(UsageError, match=words):
        tuned(logits, contexts, nll(), **{"learning_rate": 0.1, "steps": 2, **options})


def test_muon_refuses_vectors():
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    contexts = theory.Contexts.of([0], [[1.0, 0.0]])
    with pytest.raises(UsageError, match="matrices only"):
        theory.descend(
            model,
            contexts,
            nll(),
            optimizer="muon",
            learning_rate=0.1,
            steps=1,
            features=np.ones((1, 3)),
        )


def test_contexts_are_checked():
    for arguments, words in (
        (([0, 1], [[1.0, 0.0]]), "must be"),
        (([0], [[0.7, 0.7]]), "sums to 1.4"),
        (([0], [[1.0, 0.0]], [-1.0]), "frequency"),
    ):
        with pytest.raises(UsageError, match=words):
            theory.Contexts.of(*arguments)
    with pytest.raises(UsageError, match="strictly between"):
        theory.draw_contexts(3, classes=3, mean_p=1.0, rng=np.random.default_rng(0))
