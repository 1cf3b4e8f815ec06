"""Contexts that share parameters: a linear softmax model and a small network on synthetic features.

In a table every context learns for itself, so nothing is generalised and a wrong label harms its
own context only. Here a base model is pre-trained, first on wrong classes and then on the right
ones until it knows them to a chosen degree, and fine-tuned on contexts with one label each. The
flow's prediction from the base model's probabilities is compared with the result of training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import ProbtuneError, UsageError
from ..objectives import Objective
from .descent import Contexts, descend, measure
from .flow import rate
from .laws import drawn, uniform

__all__ = [
    "MODELS",
    "Prediction",
    "Task",
    "linear_model",
    "mean_prediction",
    "network",
    "predict_and_train",
]


@dataclass(frozen=True)
class Task:
    """K Gaussian classes in D dimensions, `separation` apart on average."""

    classes: int = 10
    dimensions: int = 20
    separation: float = 6.0

    def draw(
        self, count: int, means: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (features, right classes), (N, D) and (N,)."""
        truth = rng.integers(self.classes, size=count)
        return means[truth] + rng.normal(size=(count, self.dimensions)), truth

    def means(self, rng: np.random.Generator) -> np.ndarray:
        """Return class means, (K, D)."""
        spread = self.separation / np.sqrt(2.0 * self.dimensions)
        return spread * rng.normal(size=(self.classes, self.dimensions))


def linear_model(task: Task) -> nn.Module:
    """Return a model whose logits are linear in the features, starting at 0."""
    model = nn.Linear(task.dimensions, task.classes, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    return model


def network(task: Task, width: int = 64) -> nn.Module:
    """Return a network of one hidden layer with ReLU."""
    return nn.Sequential(
        nn.Linear(task.dimensions, width, dtype=torch.float64),
        nn.ReLU(),
        nn.Linear(width, task.classes, dtype=torch.float64),
    )


MODELS: dict[str, Callable[[Task], nn.Module]] = {"linear": linear_model, "network": network}


class Prediction(NamedTuple):
    """Comparison of two objectives on one base model: by the table's flow, and by training."""

    mean_p: float
    """Mean probability of the right classes under the base model, on new contexts."""
    noise: float
    predicted: float
    """Difference of the risk reduction rates (first minus second) at the base model's own
    probabilities, averaged over new contexts.
    """
    expected: float
    """Difference of the mean probability of the right class after training, on new contexts."""
    greedy: float
    """Difference of the greedy accuracy after training, on new contexts."""

    @property
    def agrees(self) -> bool:
        """True if prediction and measured expected probability have the same sign."""
        return self.predicted * self.expected > 0


def predict_and_train(
    kind: str,
    first: Objective | str,
    second: Objective | str,
    *,
    capability: float,
    noise: float,
    seed: int,
    task: Task | None = None,
    contexts: int = 200,
    steps: int = 200,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
) -> Prediction:
    """Pre-train to a mean probability of `capability`, fine-tune with both objectives, compare.

    Both objectives start from the same weights and see the same contexts, labels and steps.

    Args:
        kind: `"linear"` or `"network"`.
        capability: mean probability of the right class at which pre-training stops.
        noise: share of wrong labels, uniform.
        contexts: for fine-tuning, one label each; 2000 new ones measure.

    Raises:
        UsageError: an unknown kind.
        ProbtuneError: the capability is not reached in 4000 steps.
    """
    if kind not in MODELS:
        raise UsageError(f"kind must be one of {', '.join(MODELS)}, got {kind!r}.")
    task = task or Task()
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 11])
    means = task.means(rng)
    x_base, y_base = task.draw(2000, means, rng)
    x_new, y_new = task.draw(2000, means, rng)
    x, y = task.draw(contexts, means, rng)
    model = MODELS[kind](task)
    clean = np.eye(task.classes)
    new = Contexts.of(y_new, clean[y_new])

    # First the wrong classes, as a model that is sure of another notation; then the right ones.
    wrong = Contexts.of(y_base, clean[(y_base + 1) % task.classes])
    descend(model, wrong, "nll()", learning_rate=0.5, steps=100, features=x_base)
    right = Contexts.of(y_base, clean[y_base])
    for _ in range(2000):
        if measure(model, new, x_new).expected >= capability:
            break
        descend(model, right, "nll()", learning_rate=0.25, steps=2, features=x_base)
    reached = measure(model, new, x_new).expected
    if reached < capability:
        raise ProbtuneError(
            f"a {kind} model does not reach a mean probability of {capability} on this task (seed"
            f" {seed}: {reached:.3f}); lower it, or take a larger separation."
        )

    with torch.no_grad():
        p = torch.softmax(model(torch.from_numpy(x_new)), -1).numpy()
    of_truth = np.clip(p[np.arange(len(p)), y_new], 1e-12, 1.0 - 1e-12)
    rates = [
        np.mean(rate(of_truth, objective=f, noise=noise, classes=task.classes))
        for f in (first, second)
    ]
    labels = drawn(uniform(noise=noise, classes=task.classes)[y], copies=1, rng=rng)
    noisy = Contexts.of(y, labels)
    after = []
    for objective in (first, second):
        tuned = copy.deepcopy(model)
        descend(
            tuned,
            noisy,
            objective,
            learning_rate=learning_rate,
            steps=steps,
            features=x,
            optimizer=optimizer,
        )
        after.append(measure(tuned, new, x_new))
    return Prediction(
        reached,
        noise,
        float(rates[0] - rates[1]),
        after[0].expected - after[1].expected,
        after[0].greedy - after[1].greedy,
    )


def mean_prediction(predictions: Sequence[Prediction]) -> Prediction:
    """Return the mean over seeds, field by field."""
    return Prediction(*(float(np.mean(column)) for column in zip(*predictions, strict=True)))
