"""Objectives whose token weight looks at another model: the model before training, an earlier state
of it, or a better one. They need one number per token, which is measured once and stored.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ObjectiveError
from .base import SHARE, Objective, parameter, widen
from .compose import Composed
from .signalled import Around, Bound, Changed, Scaled, Signalled, Weighted
from .signals import Signals

__all__ = [
    "Masked",
    "inliers",
    "iw_sft",
    "iw_sft_sequence",
    "minor_sft",
    "on_reference",
    "psft",
    "token_cleaning",
]


@dataclass(frozen=True, repr=False)
class on_reference(Signalled, Composed):
    """-sg(w_f(p_ref)) log p: the weight of `f`, taken from the reference model's probability and
    not from the current one. The weights are then fixed for the whole training, and an objective
    cannot reinforce itself. `on_reference(p())` is PriFT; `on_reference(above(0.2, nll()))` is a
    threshold that no token crosses.

    Reference: PriFT, 2026, https://arxiv.org/abs/2606.09396 (w = p_ref; the reference is the model
    before training).
    """

    f: Objective

    formula = "-sg(w_f(p_ref)) log p"
    weight_formula = "w_f(p_ref)"
    summary = "weights that the model cannot move while it trains"
    source = "PriFT 2026, https://arxiv.org/abs/2606.09396"
    also_known_as = ("prift",)
    example = "on_reference(p())"
    caution = "cannot anneal: what the model learns does not change the weights"

    signals = frozenset({"reference"})

    def __post_init__(self):
        self._check("f")
        self._check_weight_only(self.f)

    @property
    def thresholds(self) -> tuple[float, ...]:
        return ()  # the current p crosses none

    def bound(self, signals: Signals) -> Objective:
        return _OnReference(self, self.f, signals["reference"].detach())


class _OnReference(Around):
    def __init__(self, of: Objective, inner: Objective, reference: Tensor):
        super().__init__(of, inner)
        self._reference = reference

    @property
    def thresholds(self) -> tuple[float, ...]:
        return ()  # the current p crosses none

    def _f(self, logp: Tensor) -> Tensor:
        return -self._w(logp) * logp

    def _w(self, logp: Tensor) -> Tensor:
        return self._inner.token_weight(self._reference.to(logp.dtype)).detach()

    def keeps(self, logp: Tensor) -> Tensor:
        return self._inner.keeps(self._reference.to(logp.dtype))


@dataclass(frozen=True, repr=False)
class inliers(Signalled, Composed):
    """`f` with each sequence weighted by how far it can be trusted, which is fixed before training.

    A wrong demonstration is wrong as a whole: right tokens in it are trained on in vain, and
    unlikely tokens in a good one keep their weight. `probtune tune` lets two scouts judge every row
    (`probtune.probe.weighing`): 0.05 for one that looks wrong, 1 for any other, and 1 for all where
    the model knows too little to tell. Elsewhere the weights are the column `sequence_weight`, or,
    from the model before training, 1 for the usual, falling to 0.05 around two robust standard
    deviations above the median of the sequences' mean -log p
    (`probtune.probe.features.sequence_weights`).

    Reference: ours, measured in docs/choosing-an-objective.md. CADFT, 2026,
    https://arxiv.org/abs/2606.11206, weighs sequences by their NLL in the batch.
    """

    f: Objective

    formula = "c f(p), c of the sequence"
    weight_formula = "c w_f(p), c from 0.05 (looks wrong) to 1"
    summary = "trains less on demonstrations that look wrong before training"
    source = "ours; after CADFT 2026, https://arxiv.org/abs/2606.11206"
    also_known_as = ("outlier", "outliers", "cadft")
    example = "inliers(nll())"
    caution = "bad rows in a form that the model likes better than the right one keep their weight"

    signals = frozenset({"sequence_weight"})

    def __post_init__(self):
        self._check("f")

    def bound(self, signals: Signals) -> Objective:
        return Scaled(self, self.f, signals["sequence_weight"].detach())


@dataclass(frozen=True, repr=False)
class psft(Signalled):
    """-min(r, clip(r, 1 - eps, 1 + eps)), r = p / p_old: proximal supervised fine-tuning. Without
    advantages only the upper bound acts: a token stops pulling once its probability has grown by
    eps. Weight r where r <= 1 + eps, else 0; at r = 1 it is NLL.

    p_old is the model's own probability at the last refresh (`refresh_steps` of `ProbTuneConfig`);
    with a p_old that is never refreshed it can hardly learn.

    Reference: Zhu et al., "Proximal Supervised Fine-Tuning", 2025, https://arxiv.org/abs/2508.17784
    (eps = 0.28 above, 0.2 below; refreshed every 8 steps).
    """

    eps: float = parameter(0.28, low=0.0)

    formula = "-min(r, clip(r, 1 - eps, 1 + eps)), r = p / p_old"
    weight_formula = "r if r <= 1 + eps else 0"
    summary = "bounds how far a few steps may move a token"
    source = "Zhu et al. 2025, https://arxiv.org/abs/2508.17784"
    also_known_as = ("proximal",)
    example = "psft(0.28)"
    caution = "slower than NLL; with a p_old that is never refreshed it does not learn"

    signals = frozenset({"old"})

    def bound(self, signals: Signals) -> Objective:
        return _Psft(self, signals["old"].detach())


class _Ratio(Bound):
    """Base class of objectives that look at the ratio of p to another model's."""

    def __init__(self, of: Objective, other: Tensor):
        super().__init__(of)
        self._other = other

    def _ratio(self, logp: Tensor) -> Tensor:
        return torch.exp(logp - self._other.to(logp.dtype))


class _Psft(_Ratio):
    _of: psft

    def _f(self, logp: Tensor) -> Tensor:
        return -self._ratio(logp).clamp(max=1.0 + self._of.eps)

    def _w(self, logp: Tensor) -> Tensor:
        return torch.where(self.keeps(logp), self._ratio(logp), 0.0)

    def keeps(self, logp: Tensor) -> Tensor:
        return self._ratio(widen(logp)) <= 1.0 + self._of.eps


@dataclass(frozen=True, repr=False)
class iw_sft(Signalled):
    """-sg(clip(p / p_ref, low, high)) log p: importance-weighted fine-tuning, token by token.

    Reference: Qin and Springenberg, "Supervised Fine-Tuning on Curated Data is Reinforcement
    Learning", 2025, https://arxiv.org/abs/2507.12856 (low = 0.2, high = 1.8 in its code).
    """

    low: float = parameter(0.2, low=0.0)
    high: float = parameter(1.8, low=0.0)

    formula = "-sg(clip(p / p_ref, low, high)) log p"
    weight_formula = "clip(p / p_ref, low, high)"
    summary = "follows what training has already made more likely"
    source = "Qin and Springenberg 2025, https://arxiv.org/abs/2507.12856"
    example = "iw_sft(0.2, 1.8)"

    signals = frozenset({"reference"})

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 <= self.low <= self.high or self.high == 0.0:
            raise ObjectiveError(
                f"iw_sft: low must not lie above high, nor high be 0, got {self.low:g} and"
                f" {self.high:g}."
            )

    def bound(self, signals: Signals) -> Objective:
        return _ImportanceWeighted(self, signals["reference"].detach())


class _ImportanceWeighted(_Ratio):
    _of: iw_sft

    def _f(self, logp: Tensor) -> Tensor:
        return -self._w(logp).detach() * logp

    def _w(self, logp: Tensor) -> Tensor:
        return self._ratio(logp).clamp(self._of.low, self._of.high)


@dataclass(frozen=True, repr=False)
class iw_sft_sequence(Signalled):
    """-sg(min(exp(tau g), high)) log p, g the mean of log p - log p_ref over the token's sequence:
    importance-weighted fine-tuning with one weight per sequence, its authors' default.

    g is measured at the start of the optimizer step, by a forward pass over its rows.

    Reference: as `iw_sft` (tau = 1, high = 16 in its code).
    """

    tau: float = parameter(1.0, low=0.0)
    high: float = parameter(16.0)

    formula = "-sg(min(exp(tau g), high)) log p"
    weight_formula = "min(exp(tau g), high)"
    summary = "iw_sft with one weight per sequence"
    source = "Qin and Springenberg 2025, https://arxiv.org/abs/2507.12856"
    example = "iw_sft_sequence(1.0, 16.0)"

    signals = frozenset({"sequence_gain"})

    def __post_init__(self):
        super().__post_init__()
        if not self.high > 0.0:
            raise ObjectiveError(f"iw_sft_sequence: high must be positive, got {self.high:g}.")

    def bound(self, signals: Signals) -> Objective:
        gain = signals["sequence_gain"].detach()
        return Weighted(self, torch.exp(self.tau * gain).clamp(max=self.high))


@dataclass(frozen=True, repr=False)
class minor_sft(Signalled):
    """-sg(2 sigmoid(-beta g)) log p, g the mean of log p - log p_ref over the token's sequence:
    MinorSFT. Its gradient is that of -2 / beta log sigmoid(beta g): the weight is 1 at the start
    and falls as a sequence has gained, so that none is driven far from the model before training.
    As beta goes to 0 it is NLL. It is the mirror of `iw_sft_sequence`, whose weight grows.

    g is measured at the start of the optimizer step, by a forward pass over its rows.

    Reference: Xie et al., "Minor SFT loss for LLM fine-tune to increase performance and reduce
    model deviation", 2024, https://arxiv.org/abs/2408.10642. There g is the sum over the sequence;
    TorchRL's SFTLoss (loss_function="minor_sft", beta = 0.1) takes the mean, as here, and a weight
    that is beta / 2 times this one.
    """

    beta: float = parameter(0.1, low=0.0)

    formula = "-sg(2 sigmoid(-beta g)) log p"
    weight_formula = "2 sigmoid(-beta g)"
    summary = "trains less on sequences that have gained already"
    source = "Xie et al. 2024, https://arxiv.org/abs/2408.10642"
    also_known_as = ("minorsft",)
    example = "minor_sft(0.1)"
    caution = "the paper's g is a sum: for rows of n tokens its beta is this one divided by n"

    signals = frozenset({"sequence_gain"})

    def __post_init__(self):
        super().__post_init__()
        if not self.beta > 0.0:
            raise ObjectiveError(f"minor_sft: beta must be positive, got {self.beta:g}.")

    def bound(self, signals: Signals) -> Objective:
        gain = signals["sequence_gain"].detach()
        return Weighted(self, 2.0 * torch.sigmoid(-self.beta * gain))


@dataclass(frozen=True, repr=False)
class token_cleaning(Signalled, Composed):
    """`f` on the share of the training tokens on which a better model has gained most,
    log p_better - log p_ref, and 0 elsewhere: tokens that carry the task are kept, noise and what
    is known already are left out.

    The better model is one trained on data that is trusted (`--better`); p_ref is that of the
    model before training. The cut-off is taken over all training tokens, before training.

    Reference: Pang et al., "Token Cleaning", 2025, https://arxiv.org/abs/2502.01968.
    """

    share: float = field(metadata=SHARE)
    f: Objective

    formula = "f(p) if log p_better - log p_ref >= Q else 0"
    weight_formula = "w_f(p) if log p_better - log p_ref >= Q else 0"
    summary = "trains on the tokens that a better model gained on"
    source = "Pang et al. 2025, https://arxiv.org/abs/2502.01968"
    also_known_as = ("tokencleaning", "cleaning")
    example = "token_cleaning(0.6, nll())"
    caution = "needs a better model, trained on clean data"

    def __post_init__(self):
        super().__post_init__()
        self._check("f")

    @property
    def own_needs(self) -> Set[str]:
        return {"better", "reference", f"excess_cut:{self.share:g}"}

    def bound(self, signals: Signals) -> Objective:
        cut = signals[f"excess_cut:{self.share:g}"]
        return Masked(self, self.f, signals["better"], signals["reference"], cut)


class Masked(Changed):
    """An objective on the tokens whose excess log p_better - other reaches a cut-off, 0 elsewhere.
    `other` is a stored log-probability, or the current one if None.
    """

    def __init__(self, of: Objective, f: Objective, better: Tensor, other: Tensor | None, cut: Any):
        super().__init__(of, f)
        self._better, self._other, self._cut = better, other, cut

    def _change(self, logp: Tensor, x: Tensor) -> Tensor:
        other = logp.detach() if self._other is None else self._other
        return torch.where(self._better - other >= self._cut, x, torch.zeros_like(x))

    def keeps(self, logp: Tensor) -> Tensor:
        return self._change(logp, self._inner.keeps(logp))
