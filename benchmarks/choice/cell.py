"""One cell with one seed: fine-tune every objective at every learning rate from the same base, on
the same rows in the same order, and measure.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probtune.probe.features import sequence_weights

from .bases import Setting
from .members import OBJECTIVES, Weights
from .noise import corrupt
from .stacked import AdamW, Parameters, clip, decode, expand, response_logits
from .world import Problems

__all__ = ["BATCH", "BUDGETS", "RACE_SHARES", "RATES", "Budget", "Cell", "run_cell"]

BATCH = 16
WARMUP = 0.05
VALIDATION, TEST, PROBE = 96, 256, 128
RATES = (5e-4, 2e-3, 8e-3)
"""Learning rates of the sweep; a model of width w takes them times sqrt(32 / w)."""
RACE_SHARES = (0.05, 0.1, 0.2)
"""Shares of the steps after which the validation scores at the middle rate are kept."""


@dataclass(frozen=True)
class Budget:
    """Rows of training data and optimizer steps."""

    rows: int
    steps: int

    @property
    def epochs(self) -> float:
        return self.steps * BATCH / self.rows


BUDGETS = {
    "short": Budget(384, 48),
    "fresh": Budget(768, 96),
    "repeated": Budget(128, 96),
    "long": Budget(128, 192),
}


@dataclass(frozen=True)
class Cell:
    """One point of the design."""

    family: str
    level: float
    kind: str
    """`none` with rate 0."""
    rate: float
    budget: str

    @property
    def name(self) -> str:
        return f"{self.family}-{self.level:g}-{self.kind}-{self.rate:g}-{self.budget}"


def run_cell(
    setting: Setting,
    base: Parameters,
    cell: Cell,
    seed: int,
    *,
    objectives: Sequence[str] = OBJECTIVES,
    rates: Sequence[float] = RATES,
    device: str = "cpu",
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measurements of all members, and the probe's token table.

    Returns:
        (record, arrays): the record has `rows`, one per objective and learning rate, and what was
        measured of the base; the arrays are `logp`, `entropy`, `is_top1`, `token`, `example`,
        `position` and `corrupted` of the rows probed.
    """
    started = time.monotonic()
    budget = BUDGETS[cell.budget]
    train, validation, clean, test, overlap = _data(setting, cell, seed, budget)
    probe = _probe(setting, base, train)
    p = np.exp(probe["logp"])
    all_logp = _probe(setting, base, train, rows=len(train.ids))
    weights = Weights(
        objectives,
        len(rates),
        mean_p=float(p.mean()),
        of_sequence=torch.from_numpy(sequence_weights(all_logp["logp"], all_logp["example"])).to(
            device, torch.float32
        ),
    )
    model = expand({k: v.to(device) for k, v in base.items()}, len(objectives) * len(rates))
    optimizer = AdamW(list(model.values()), torch.tensor(list(rates) * len(objectives)).to(device))
    order = _order(budget, np.random.default_rng([seed, _number(cell.name), 5]))
    marks = {max(1, round(share * budget.steps)): share for share in RACE_SHARES}
    middle = range(len(rates) // 2, len(model["head"]), len(rates))
    race: dict[float, dict[str, np.ndarray]] = {}
    ids = torch.from_numpy(train.ids).to(device)
    for step, rows in enumerate(torch.from_numpy(order).to(device), 1):
        train_step(setting, model, optimizer, weights, ids, rows, _schedule(step, budget.steps))
        if step in marks:
            part = {name: value[list(middle)] for name, value in model.items()}
            race[marks[step]] = _teacher_forced(setting, part, validation)
    trained = {name: value.detach() for name, value in model.items()}
    right, answer = _accuracy(setting, trained, test)
    of_test = _teacher_forced(setting, trained, test)
    of_validation = _teacher_forced(setting, trained, validation)
    of_clean = _teacher_forced(setting, trained, clean)
    before = expand({k: v.to(device) for k, v in base.items()}, 1)
    rows = []
    for i, name in enumerate(objectives):
        for j, rate in enumerate(rates):
            m = i * len(rates) + j
            row = {"objective": name, "learning_rate": rate, "accuracy": float(right[m])}
            row |= {"sampled": float(of_test["sampled"][m]), "test_p": float(of_test["p"][m])}
            row |= {f"validation_{k}": float(v[m]) for k, v in of_validation.items()}
            row["clean_exact"] = float(of_clean["exact"][m])
            if j == len(rates) // 2:
                for share, scores in race.items():
                    for score in ("p", "token", "exact"):
                        row[f"race_{share:g}_{score}"] = float(scores[score][i])
            rows.append(row)
    record = {
        **cell.__dict__,
        "seed": seed,
        "rows": rows,
        "accuracy_before": float(_accuracy(setting, before, test)[0][0]),
        "mean_p_clean": float(_teacher_forced(setting, before, test)["p"][0]),
        "train_rows": budget.rows,
        "steps": budget.steps,
        "epochs": budget.epochs,
        "overlap": overlap,
        "width": setting.shape.width,
        "vocabulary": setting.shape.vocabulary,
        "answer_tokens": answer,
        "seconds": time.monotonic() - started,
    }
    return record, probe


def train_step(
    setting: Setting,
    model: Parameters,
    optimizer: AdamW,
    weights: Weights,
    ids: Tensor,
    rows: Tensor,
    factor: float,
) -> None:
    """Train all members for one step on the same rows; the valid tokens normalise, for all."""
    batch = ids[rows]
    targets = batch[:, setting.prompt :]
    valid = targets != setting.world.sign("<pad>")
    logits = response_logits(model, batch, setting.shape, prompt=setting.prompt)
    every = logits.log_softmax(-1)
    logp = every.gather(-1, targets.expand(*every.shape[:-1])[..., None])[..., 0]
    with torch.no_grad():
        entropy = -(every.exp() * every).sum(-1)
        weight = weights(logp.detach(), entropy, valid, rows) * valid
    (-(weight * logp).sum() / valid.sum()).backward()
    clip([p.grad for p in model.values()], 1.0)  # type: ignore[misc]
    optimizer.step(factor)


def _data(
    setting: Setting, cell: Cell, seed: int, budget: Budget
) -> tuple[Problems, Problems, Problems, Problems, float]:
    """Training rows and validation rows with the cell's noise; clean validation and clean test
    rows, whose inputs are not among the training rows unless the task has too few of them.
    """
    rng = np.random.default_rng([seed, _number(cell.name), 4])
    family, world = setting.family, setting.world
    kind = None if cell.kind == "none" else cell.kind
    x = family.draw(rng, budget.rows + VALIDATION)
    responses = corrupt(rng, world, family, x, kind=kind, rate=cell.rate, room=setting.room)
    train = _take(responses, np.arange(budget.rows))
    validation = _take(responses, np.arange(budget.rows, len(x)))
    clean = setting.draw(rng, VALIDATION, new=True)
    drawn = setting.draw(rng, 4 * TEST, new=True)
    seen = {tuple(x) for x in train.x.tolist()}
    new = np.array([tuple(x) not in seen for x in drawn.x.tolist()])
    use = np.flatnonzero(new)[:TEST] if new.sum() >= TEST else np.arange(TEST)
    return train, validation, clean, _take(drawn, use), float((~new[use]).mean())


def _take(of: Problems, rows: np.ndarray) -> Problems:
    return Problems(of.x[rows], of.ids[rows], of.prompt, of.corrupted[rows])


def _order(budget: Budget, rng: np.random.Generator) -> np.ndarray:
    """(steps, BATCH) rows; every epoch a new order."""
    epochs = math.ceil(budget.steps * BATCH / budget.rows)
    rows = np.concatenate([rng.permutation(budget.rows) for _ in range(epochs)])
    return rows[: budget.steps * BATCH].reshape(budget.steps, BATCH)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first 5 %, then a cosine to 0."""
    warm = max(1, round(WARMUP * steps))
    if step <= warm:
        return step / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / (steps - warm + 1)))


@torch.no_grad()
def _logp_and_right(
    setting: Setting, model: Parameters, ids: np.ndarray
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch = torch.from_numpy(ids).to(model["head"].device)
    targets = batch[:, setting.prompt :]
    every = response_logits(model, batch, setting.shape, prompt=setting.prompt).log_softmax(-1)
    logp = every.gather(-1, targets.expand(*every.shape[:-1])[..., None])[..., 0]
    entropy = -(every.exp() * every).sum(-1)
    return logp, entropy, logp >= every.amax(-1), targets != setting.world.sign("<pad>")


def _teacher_forced(setting: Setting, model: Parameters, of: Problems) -> dict[str, np.ndarray]:
    """Per member: mean p and NLL of target tokens, share of tokens and of whole responses that are
    the most likely, and the probability of sampling the whole response.
    """
    logp, _, top, valid = _logp_and_right(setting, model, of.ids)
    n = valid.sum()
    measured = {
        "p": (logp.exp() * valid).sum((1, 2)) / n,
        "nll": -(logp * valid).sum((1, 2)) / n,
        "token": (top & valid).sum((1, 2)) / n,
        "exact": (top | ~valid).all(2).float().mean(1),
        "sampled": (logp * valid).sum(2).exp().mean(1),
    }
    return {name: value.cpu().numpy() for name, value in measured.items()}


def _accuracy(setting: Setting, model: Parameters, test: Problems) -> tuple[np.ndarray, int]:
    """Share of right final answers under greedy decoding, per member; and the longest answer's
    tokens with the end.

    The answer is what follows the last bar, or the whole response where it has none, up to the end
    token; it must be complete and nothing else.
    """
    world = setting.world
    ids = torch.from_numpy(test.ids).to(model["head"].device)
    said = decode(model, ids[:, : setting.prompt], setting.shape, steps=setting.room).cpu().numpy()
    end, bar = world.sign("<eos>"), world.sign("|")
    references = [_answer(row, end, bar) for row in test.ids[:, setting.prompt :].tolist()]
    right = [
        np.mean([_answer(row, end, bar) == w for row, w in zip(rows, references, strict=True)])
        for rows in said.tolist()
    ]
    return np.array(right), max(len(w or ()) for w in references) + 1


def _answer(row: list[int], end: int, bar: int) -> list[int] | None:
    """Return the final answer of a response; None if it never ends."""
    if end not in row:
        return None
    said = row[: row.index(end)]
    return said[len(said) - said[::-1].index(bar) :] if bar in said else said


def _probe(
    setting: Setting, base: Parameters, train: Problems, rows: int = PROBE
) -> dict[str, np.ndarray]:
    """Return the token table of the first training rows under the base."""
    ids = train.ids[:rows]
    logp, entropy, top, valid = _logp_and_right(setting, base, ids)
    keep = valid.cpu().numpy()
    example, position = np.nonzero(keep)
    return {
        "logp": logp[0].cpu().numpy()[keep].astype(np.float64),
        "entropy": entropy[0].cpu().numpy()[keep].astype(np.float64),
        "is_top1": top[0].cpu().numpy()[keep],
        "token": ids[:, setting.prompt :][keep],
        "example": example,
        "position": position,
        "corrupted": train.corrupted[:rows],
    }


def _number(text: str) -> int:
    """Return a number from a name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
