"""Descent in steps: what of the gradient flow survives real optimizers, labels drawn once, and
parameters that contexts share.

A set of contexts has a truth, a label law and a frequency each. A model gives their logits: a table
(every context has its own logits, as in the flow), a linear softmax model or a small network on
synthetic features. Optimizers are torch's but for two of a line each (`sign`, `normalised`). All
in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import UsageError
from ..objectives import Objective
from ..objectives import objective as read_objective
from .checks import check_law

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Contexts",
    "Measured",
    "Table",
    "descend",
    "draw_contexts",
    "measure",
    "population_crossover",
]

OPTIMIZERS = ("sgd", "momentum", "sign", "normalised", "adam", "adamw", "muon")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Contexts:
    """Contexts with their labels."""

    truth: np.ndarray
    """Right classes, (N,)."""
    law: np.ndarray
    """Label law of each context, (N, K); a row may sum to less than 1 where labels are missing."""
    frequency: np.ndarray
    """Frequency of each context, (N,), mean 1."""

    @classmethod
    def of(cls, truth: ArrayLike, law: ArrayLike, frequency: ArrayLike | None = None) -> Contexts:
        """Return checked contexts, with frequencies scaled to mean 1 (default: all alike).

        Raises:
            UsageError: shapes do not fit, or a law or a frequency is none.
        """
        truth, law = np.asarray(truth), np.asarray(law, dtype=np.float64)
        if law.ndim != 2 or truth.shape != law.shape[:1]:
            raise UsageError(f"truth must be (N,) and law (N, K), got {truth.shape}, {law.shape}.")
        check_law(law)
        seen = np.ones(len(truth)) if frequency is None else np.asarray(frequency, np.float64)
        if seen.shape != truth.shape or not (seen >= 0).all() or not seen.sum() > 0:
            raise UsageError("frequency must be (N,), not negative, and not 0 everywhere.")
        return cls(truth, law, seen / seen.mean())


class Measured(NamedTuple):
    """A model on contexts, against the truth."""

    expected: float
    """Mean probability of the right class: the accuracy of a sampled answer; 1 - clean risk."""
    greedy: float
    """Share of contexts whose right class is the most probable."""
    rarest: float
    """`expected` over the tenth of the contexts that are seen least often."""


class Table(nn.Module):
    """Every context has logits of its own, (N, K): the model of the gradient flow."""

    def __init__(self, logits: ArrayLike):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(np.array(logits, dtype=np.float64)))

    def forward(self, features: Tensor | None) -> Tensor:
        return self.logits


def draw_contexts(
    count: int,
    *,
    classes: int,
    mean_p: float,
    concentration: float = 2.0,
    evenness: float = 1.0,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits, truth) of a population: p of the truth from a Beta law of that mean, the rest
    split unevenly by a Dirichlet law. (N, K) and (N,).
    """
    if not 0.0 < mean_p < 1.0:
        raise UsageError(f"mean_p must lie strictly between 0 and 1, got {mean_p}.")
    p = rng.beta(mean_p * concentration, (1.0 - mean_p) * concentration, count)
    p = np.clip(p, 1e-6, 1.0 - 1e-6)
    rest = rng.dirichlet(np.full(classes - 1, evenness), count)
    q = np.concatenate([p[:, None], (1.0 - p)[:, None] * np.clip(rest, 1e-12, None)], axis=1)
    return np.log(q), np.zeros(count, dtype=np.int64)


def descend(
    model: nn.Module,
    contexts: Contexts,
    objective: Objective | str,
    *,
    optimizer: str = "sgd",
    learning_rate: float,
    steps: int,
    features: ArrayLike | None = None,
    schedule: str = "constant",
    weight_decay: float = 0.0,
    clip: float | None = None,
    scale: float = 1.0,
    epsilon: float = 1e-8,
) -> None:
    """Train the model in place on the contexts' label laws, all of them in every step.

    The gradient with respect to a context's logits is exact, frequency * (p W - q w(p)). For a
    `Table` it is summed over contexts, so that the learning rate is time per step; for a model that
    shares parameters it is averaged.

    Args:
        optimizer: one of `OPTIMIZERS`. `normalised` divides the whole gradient by its root mean
            square, `sign` takes its sign; `muon` needs matrices.
        schedule: of the learning rate: `constant`, `linear` or `cosine` to 0.
        weight_decay: decoupled, times the learning rate.
        clip: largest norm of the gradient.
        scale: factor on the objective, f -> scale f.
        epsilon: of Adam.

    Raises:
        UsageError: an unknown name, a value out of range, or parameters that stop being finite,
            with the step.
    """
    objective = read_objective(objective)
    if optimizer not in OPTIMIZERS or schedule not in SCHEDULES:
        raise UsageError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)} and schedule one of"
            f" {', '.join(SCHEDULES)}, got {optimizer!r} and {schedule!r}."
        )
    if not learning_rate > 0 or steps < 0:
        raise UsageError(
            f"learning_rate must be positive and steps not negative, got {learning_rate}, {steps}."
        )
    law = torch.from_numpy(contexts.law)
    frequency = torch.from_numpy(contexts.frequency)[:, None]
    inputs = None if features is None else torch.from_numpy(np.asarray(features, np.float64))
    share = 1.0 if isinstance(model, Table) else 1.0 / len(contexts.truth)
    parameters = list(model.parameters())
    stepper = _stepper(optimizer, parameters, learning_rate, weight_decay, epsilon)
    for step in range(steps):
        for group in stepper.param_groups:
            group["lr"] = learning_rate * _factor(schedule, step, steps)
        stepper.zero_grad()
        logits = model(inputs)
        logp = torch.log_softmax(logits.detach(), -1)
        pull = law * objective.token_weight(logp)
        gradient = frequency * (logp.exp() * pull.sum(-1, keepdim=True) - pull)
        logits.backward(gradient * (scale * share))
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        stepper.step()
        if not all(bool(torch.isfinite(p).all()) for p in parameters):
            raise UsageError(
                f"the parameters are not finite after step {step + 1} of {objective} with"
                f" {optimizer}; lower the learning rate {learning_rate:g}."
            )


def measure(model: nn.Module, contexts: Contexts, features: ArrayLike | None = None) -> Measured:
    """Measure the model on the contexts' truth; each counts once, whatever its frequency."""
    with torch.no_grad():
        inputs = None if features is None else torch.from_numpy(np.asarray(features, np.float64))
        p = torch.softmax(model(inputs), -1).numpy()
    of_truth = p[np.arange(len(p)), contexts.truth]
    rare = np.argsort(contexts.frequency, kind="stable")[: max(1, len(p) // 10)]
    return Measured(
        float(of_truth.mean()),
        float((p.argmax(1) == contexts.truth).mean()),
        float(of_truth[rare].mean()),
    )


def population_crossover(
    means: Sequence[float],
    differences: Sequence[float],
    *,
    tie: float = 1e-3,
) -> str:
    """Return the mean probability at which a difference (-p minus NLL, say) turns positive, as
    text: a number by linear interpolation, `"none"` (never ahead), `"always"` (never behind),
    `"tie"` (no difference beyond `tie`), `"tie above x"` where a lag only fades, or `"below x"`
    where the sides are the other way round.
    """
    d = np.asarray(differences, dtype=np.float64)
    m = np.asarray(means, dtype=np.float64)
    clear = np.flatnonzero(np.abs(d) > tie)
    if not clear.size:
        return "tie"
    if (d[clear] > 0).all():
        return "always"
    if (d[clear] < 0).all():
        last = clear[-1]
        return "none" if last == len(d) - 1 else f"tie above {m[last + 1]:.2f}"
    # The last change of sign, and which way it goes.
    i, j = next(
        (i, j)
        for i, j in zip(clear[-2::-1], clear[:0:-1], strict=True)
        if np.sign(d[i]) != np.sign(d[j])
    )
    x = m[i] + (m[j] - m[i]) * d[i] / (d[i] - d[j])
    return f"{x:.2f}" if d[j] > 0 else f"below {x:.2f}"


def _factor(schedule: str, step: int, steps: int) -> float:
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - step / steps
    return 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _stepper(
    name: str, parameters: list[nn.Parameter], rate: float, decay: float, epsilon: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return _Scaled(parameters, rate, decay, lambda g: g)
    if name == "sign":
        return _Scaled(parameters, rate, decay, torch.sign)
    if name == "normalised":
        return _Scaled(parameters, rate, decay, lambda g: g, normalise=True)
    if decay and name in ("momentum", "adam"):
        raise UsageError(
            f"{name} has no decoupled weight decay; use sgd, sign, normalised, adamw or muon."
        )
    if name == "momentum":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    if name == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise UsageError(f"muon needs torch 2.9 or newer, here is {torch.__version__}.")
        if any(p.dim() != 2 for p in parameters):
            raise UsageError("muon trains matrices only; use a model without bias vectors.")
        return torch.optim.Muon(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, eps=epsilon, weight_decay=decay)


class _Scaled(torch.optim.Optimizer):
    """A step along a function of the gradient, over the root mean square of all of it if asked."""

    def __init__(self, parameters, rate, decay, direction, normalise=False):
        super().__init__(parameters, {"lr": rate})
        self._decay, self._direction, self._normalise = decay, direction, normalise

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        parameters = [p for group in self.param_groups for p in group["params"]]
        size = 1.0
        if self._normalise:
            total = sum(float(p.grad.square().sum()) for p in parameters)
            size = math.sqrt(total / sum(p.numel() for p in parameters)) or 1.0
        for p in parameters:
            rate = self.param_groups[0]["lr"]
            p.mul_(1.0 - rate * self._decay)
            p.sub_(self._direction(p.grad) / size, alpha=rate)
