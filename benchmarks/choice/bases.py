"""Base models: one pre-training run per family and seed, saved at five levels of capability.

The run first learns the familiar form until held-out problems are solved (a gate: a base that has
not learnt its task would say nothing about objectives). That is the weakest level, confidently
wrong in the new form. Then half of each batch is the new form, and the model is saved when its mean
target probability there has gone a share of the way from its start to 1. Levels are set by the
probe and not by the step, because learning comes suddenly and at a time that differs by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from .noise import ROOM
from .stacked import AdamW, Parameters, Shape, clip, expand, initial, response_logits
from .world import Family, Problems, World, problems, respond

__all__ = ["LEVELS", "Bases", "Setting", "pretrain"]

LEVELS = (0.0, 0.3, 0.6, 0.85, 0.97)
"""Share of the way from the mean p at the start of the new form to 1."""

_BATCH = 64
_RATE = 5e-3
_WARMUP = 40
_LEARNED = 0.95
_CHECK_EVERY, _AT_LEAST, _AT_MOST = 50, 300, 3000
_NEW_RATE = 2e-3
_PROBE_EVERY, _NEW_AT_MOST = 4, 2000


@dataclass(frozen=True)
class Setting:
    """A family in one world, with the sizes that follow."""

    world: World
    family: Family
    room: int
    """Width of the response with its end and room for irrelevant tokens."""
    prompt: int
    shape: Shape

    @staticmethod
    def of(
        function: Callable[[World], Family], seed: int, *, width: int = 32, letters: int = 12
    ) -> Setting:
        world = World(seed, letters)
        family = function(world)
        x = family.draw(np.random.default_rng(0), 2)
        forms = (respond(world, family, x, new=new).shape[1] for new in (False, True))
        room = max(forms) + ROOM
        prompt = family.show(x).shape[1] + 2
        heads = max(2, width // 16)
        shape = Shape(world.size, prompt + room, width, 2, heads, 2 * width)
        return Setting(world, family, room, prompt, shape)

    def draw(self, rng: np.random.Generator, n: int, *, new: bool) -> Problems:
        """Clean problems."""
        x = self.family.draw(rng, n)
        response = respond(self.world, self.family, x, new=new)
        return problems(self.world, self.family, x, response, new=new, room=self.room)


@dataclass(frozen=True)
class Bases:
    """Models of one family and seed, a stack of one per level."""

    levels: dict[float, Parameters]
    mean_p: dict[float, float]
    """Mean target probability on clean rows of the new form, measured when saved."""
    steps: int
    steps_new: int
    failure: str = field(default="")
    """Why levels are missing; empty if none is."""


def pretrain(setting: Setting, seed: int, *, device: str = "cpu") -> Bases:
    """Train one base and save its levels. What cannot be reached is said in `failure`."""
    rng = np.random.default_rng([seed, 1])
    familiar = setting.draw(np.random.default_rng([seed, 2]), 200, new=False)
    unfamiliar = setting.draw(np.random.default_rng([seed, 3]), 200, new=True)
    start = {name: value.to(device) for name, value in initial(setting.shape, seed).items()}
    model = expand(start, 1)
    optimizer = AdamW(list(model.values()), torch.tensor([_RATE], device=device))
    steps = 0
    while steps < _AT_LEAST or _probe(setting, model, familiar)[1] < _LEARNED:
        if steps >= _AT_MOST:
            return Bases({}, {}, steps, 0, f"the familiar form was not learnt in {steps} steps")
        for _ in range(_CHECK_EVERY):
            steps += 1
            batch = setting.draw(rng, _BATCH, new=False).ids
            _step(setting, model, optimizer, batch, min(1.0, steps / _WARMUP))
    decay = max(100, steps // 4)
    for step in range(decay):
        batch = setting.draw(rng, _BATCH, new=False).ids
        _step(setting, model, optimizer, batch, 1.0 - 0.9 * (step + 1) / decay)

    begin = _probe(setting, model, unfamiliar)[0]
    levels, mean_p = {LEVELS[0]: _copy(model)}, {LEVELS[0]: begin}
    optimizer = AdamW(list(model.values()), torch.tensor([_NEW_RATE], device=device))
    for step in range(1, _NEW_AT_MOST + 1):
        half = [setting.draw(rng, _BATCH // 2, new=new).ids for new in (False, True)]
        _step(setting, model, optimizer, np.concatenate(half), min(1.0, step / _WARMUP))
        if step % _PROBE_EVERY:
            continue
        now = _probe(setting, model, unfamiliar)[0]
        for level in LEVELS:
            if level not in levels and now >= begin + level * (1.0 - begin):
                levels[level], mean_p[level] = _copy(model), now
        if len(levels) == len(LEVELS):
            return Bases(levels, mean_p, steps + decay, step)
    failure = f"reached mean p {now:.3f} in {_NEW_AT_MOST} steps of the new form"
    return Bases(levels, mean_p, steps + decay, _NEW_AT_MOST, failure)


def _copy(model: Parameters) -> Parameters:
    return {name: value.detach().clone() for name, value in model.items()}


def _step(
    setting: Setting, model: Parameters, optimizer: AdamW, ids: np.ndarray, factor: float
) -> None:
    rows = torch.from_numpy(ids).to(model["head"].device)
    logp, valid, _ = _target_logp(setting, model, rows)
    (-(logp * valid).sum() / valid.sum()).backward()
    clip([p.grad for p in model.values()], 1.0)  # type: ignore[misc]
    optimizer.step(factor)


def _target_logp(setting: Setting, model: Parameters, rows: torch.Tensor):
    targets = rows[:, setting.prompt :]
    logits = response_logits(model, rows, setting.shape, prompt=setting.prompt)[0]
    logp = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return logp, targets != setting.world.sign("<pad>"), logits.argmax(-1) == targets


@torch.no_grad()
def _probe(setting: Setting, model: Parameters, sample: Problems) -> tuple[float, float]:
    """(mean target probability, share of responses right token by token)."""
    rows = torch.from_numpy(sample.ids).to(model["head"].device)
    logp, valid, right = _target_logp(setting, model, rows)
    return float(logp.exp()[valid].mean()), float((right | ~valid).all(1).double().mean())
