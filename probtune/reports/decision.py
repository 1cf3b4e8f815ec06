"""The decision of a tune run: the model to use by what was measured, its lead and its folder.

The best trained model is named only where the 95 % interval of its lead, paired by row, excludes 0;
else the decision says "undecided". No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..numbers import lead, negative
from ..texts import slug
from .verdict import METRIC_NAMES, above_zero, against, best_of, main_metric, sampled_metric

__all__ = ["Decision", "decide", "demo_real_title", "demo_title"]

_NLL = "nll()"
_BASE = "base"


@dataclass(frozen=True)
class Decision:
    """A tune run in one line, with its reason."""

    title: str
    """"Use p(): …", "Undecided between …" or "Keep the base model: …"."""
    why: str
    """One plain sentence of measured numbers."""
    objective: str
    """The model to take; `base` for the base model."""
    decided: bool
    """True if its lead over the model it is compared with excludes 0."""

    @property
    def model(self) -> str | None:
        """The folder of the model within the run's folder; None for the base model."""
        return None if self.objective == _BASE else f"{slug(self.objective)}/model"


def decide(record: Mapping[str, Any]) -> Decision:
    """Return the decision of a tune record, by the answers that its settings name: greedy ones, or
    sampled ones.

    The lead is that over the objective that was chosen before training; where that is the best,
    over NLL, else over the best of the others, else over the base model. Where greedy answers leave
    it undecided, and one of the close ones is ahead with sampled answers, that one is taken.
    """
    sampled = record["settings"].get("decoding") == "sampled"
    metric = sampled_metric(record) if sampled else main_metric(record)
    arms = [run["name"] for run in record["runs"] if run["train"]]
    values = {run["name"]: run["heldout"]["metrics"][metric]["value"] for run in record["runs"]}
    if not arms or any(values[name] is None for name in (*arms, _BASE)):
        return Decision("No trained model was measured", "", _BASE, False)
    best = best_of(record, metric, arms)
    leads = dict(against(record, best, metric))
    by = "" if metric == "exact_match" else f"{METRIC_NAMES[metric]} "

    def share(name: str) -> str:
        return f"{100 * values[name]:.1f} %"

    if _BASE in leads and _below(leads[_BASE]):
        title = (
            f"Keep the base model: {by}{share(_BASE)} against {share(best)} of {best},"
            f" {_points(leads[_BASE])} for {best}"
        )
        return Decision(title, _why(record, [best]), _BASE, True)
    close = [name for name in arms if name != best and not above_zero(leads[name])]
    chosen = record["choice"]["objective"]
    if close:
        other = _reference(record, metric, close)
        ahead = [name for name in arms if name not in (best, *close)]
        title = (
            f"Undecided between {_listed([best, *close])}: {by}{share(best)} against"
            f" {share(other)} of {other}, {_points(leads[other])}"
        )
        if ahead:
            title += f"; {best} is ahead of {_listed(ahead)}"
        taken = chosen if chosen in close else best
        by_samples = None if sampled else _ahead_with_samples(record, best, close)
        if by_samples is not None:
            taken, lead_over = by_samples
            title += f"; with sampled answers {taken} is ahead of {best}, {_points(lead_over)}"
        return Decision(title, _why(record, [best, other]), taken, False)
    others = [name for name in arms if name != best]
    other = _reference(record, metric, others) if others else _BASE
    if other == _BASE and not (_BASE in leads and above_zero(leads[_BASE])):
        title = f"Undecided: {by}{share(best)} with {best} against {share(_BASE)} of the base model"
        if _BASE in leads:
            title += f", {_points(leads[_BASE])}"
        return Decision(title, _why(record, [best]), best, False)
    of = "the base model" if other == _BASE else other
    title = f"Use {best}: {by}{share(best)} against {share(other)} of {of}, {_points(leads[other])}"
    if record["choice"].get("asked") == "auto" and chosen != best:
        title += f"; auto had taken {chosen}"
    shown = [best] if other == _BASE else [best, other]
    return Decision(title, _why(record, shown), best, True)


def _ahead_with_samples(
    record: Mapping[str, Any], best: str, close: Sequence[str]
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the one of the close models that is best with sampled answers, and its lead over the
    best with greedy ones; None where that lead does not exclude 0.
    """
    if sampled_metric(record) != "sampled":
        return None
    other = best_of(record, "sampled", [best, *close])
    over_best = dict(against(record, other, "sampled")).get(best)
    return (other, over_best) if over_best is not None and above_zero(over_best) else None


def demo_title(record: Mapping[str, Any]) -> str:
    """Return where p() and where NLL is ahead, of the cells of a demo."""
    ahead: dict[str, list[str]] = {"p": [], "nll": [], "undecided": []}
    for cell in record["cells"]:
        name = f"{cell['level']}, {cell['noise']} {cell['rate']:g}" if cell["rate"] else (
            f"{cell['level']}, clean"
        )  # fmt: skip
        for row in cell["differences"]:
            if {row["first"], row["second"]} == {"p()", _NLL}:
                difference = row["difference"]
                if row["first"] == _NLL:
                    difference = negative(difference)
                side = (
                    "p" if above_zero(difference) else "nll" if _below(difference) else "undecided"
                )
                by = "" if side == "undecided" else f" ({_points(difference)})"
                ahead[side].append(name + by)
    clauses = [
        f"{words} {'; '.join(ahead[side])}"
        for side, words in (
            ("p", "p() is ahead of nll() on"),
            ("nll", "nll() is ahead on" if ahead["p"] else "nll() is ahead of p() on"),
            ("undecided", "undecided:"),
        )
        if ahead[side]
    ]
    return "; ".join(clauses) or "No pair of objectives was measured"


def demo_real_title(record: Mapping[str, Any]) -> str:
    """Return how far what `auto` took is from the best objective of each cell of the real demo."""
    cells = record["cells"]
    clauses = []
    for metric, words in (("exact_match", "greedy"), ("sampled", "sampled")):
        regrets = [100 * cell["regret"][metric] for cell in cells]
        best = sum(regret <= 0 for regret in regrets)
        clauses.append(f"{words} answers, best in {best}, at most {max(regrets):.1f} points behind")
    return f"What auto takes, in {len(cells)} cells: {'; '.join(clauses)}"


def _reference(record: Mapping[str, Any], metric: str, names: Sequence[str]) -> str:
    """Return the model that the best one is compared with: the one that was chosen before training,
    else NLL, else the best.
    """
    for name in (record["choice"]["objective"], _NLL):
        if name in names:
            return name
    return best_of(record, metric, names)


def _why(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return what training did to the probability of the right tokens."""
    p = {run["name"]: run["heldout"]["metrics"]["mean_p"]["value"] for run in record["runs"]}
    if _BASE not in p or any(p[name] is None for name in (*names, _BASE)):
        return ""
    after = [f"{p[name]:.2f} with {name}" for name in names]
    return (
        f"Before training the model gave the right tokens of the held-out rows a mean probability"
        f" of {p[_BASE]:.2f}; after it, {' and '.join(after)}."
    )


def _points(difference: Mapping[str, Any]) -> str:
    """Return a difference of shares in points of 100; signs in the interval where they differ.

    >>> _points({"value": 0.24, "low": 0.2, "high": 0.28})
    '+24.0 [20.0, 28.0]'
    >>> _points({"value": 0.01, "low": -0.01, "high": 0.03})
    '+1.0 [-1.0, +3.0]'
    """
    text = lead(difference).replace(" points", "")
    value, bracket, interval = text.partition(" [")
    return value + bracket + (interval if "-" in interval else interval.replace("+", ""))


def _below(difference: Mapping[str, Any]) -> bool:
    return difference["high"] is not None and difference["high"] < 0


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
