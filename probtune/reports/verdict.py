"""The result of a tune run in words: which objective leads with greedy and with sampled answers,
what to take where the two disagree, and whether answers still end.

A word is chosen from the interval beside it: ahead or behind where the 95 % interval of the paired
difference excludes 0, and numbers get as many digits as it takes to see that. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import numbers
from ..numbers import lead

__all__ = [
    "METRIC_NAMES",
    "RATE_NAMES",
    "above_zero",
    "against",
    "best_of",
    "headline",
    "main_metric",
    "sampled_metric",
    "verdicts",
]

METRIC_NAMES = {
    "exact_match": "exact match",
    "sampled": "sampled",
    "token_accuracy": "token accuracy",
    "mean_p": "mean p",
    "nll": "NLL",
}
RATE_NAMES = {
    "stops": "stops",
    "cut_off": "cut off",
    "loops": "loops",
    "readable": "readable",
    "end_p": "p(end)",
}

WELL_BELOW = 0.05
"""Fall of the stop rate below NLL's from which the verdict speaks of it."""
FEW_STOP = 0.9
"""Stop rate below which the verdict speaks of it where NLL was not trained."""

_NLL = "nll()"


def headline(record: Mapping[str, Any]) -> str:
    """Return the result of a tune run in one sentence: the trained objective against the other
    models, with greedy answers.
    """
    return _sentence(record, main_metric(record))


def verdicts(record: Mapping[str, Any]) -> list[str]:
    """Return the results of a tune run, a sentence or two each: greedy and sampled answers, what to
    take where they disagree, and arms that do not end their answers.
    """
    lines = [headline(record)]
    if (metric := sampled_metric(record)) == "sampled":
        lines.append(_sentence(record, metric))
    return [*lines, *_advice(record), *_endings(record)]


def main_metric(record: Mapping[str, Any]) -> str:
    """Exact match where any model gets an answer right; else token accuracy, which no objective
    trains directly.
    """
    return "exact_match" if _any_right(record, "exact_match") else "token_accuracy"


def sampled_metric(record: Mapping[str, Any]) -> str:
    """Return the metric of sampled answers: whether they are right, where any model gets one right,
    else mean p.
    """
    return "sampled" if _any_right(record, "sampled") else "mean_p"


def against(
    record: Mapping[str, Any], chosen: str, metric: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return the paired differences chosen - other, for every other model of the run."""
    differences = []
    for row in record["comparisons"]:
        if row["metric"] == metric and row["first"] == chosen:
            differences.append((row["second"], row["difference"]))
        elif row["metric"] == metric and row["second"] == chosen:
            differences.append((row["first"], numbers.negative(row["difference"])))
    return differences


def best_of(record: Mapping[str, Any], metric: str, names: Sequence[str]) -> str:
    """Return the model with the largest value; the first of equals."""
    values = {run["name"]: run["heldout"]["metrics"][metric]["value"] for run in record["runs"]}
    return max(names, key=lambda name: values[name])


def _any_right(record: Mapping[str, Any], metric: str) -> bool:
    estimates = [run["heldout"]["metrics"].get(metric) for run in record["runs"]]
    return all(estimates) and any(numbers.number(e["value"]) != "0.000" for e in estimates)


def _sentence(record: Mapping[str, Any], metric: str) -> str:
    chosen = record["choice"]["objective"]
    clauses = [_clause(name, difference) for name, difference in against(record, chosen, metric)]
    rows = record["data"]["heldout"]["rows"]
    name = METRIC_NAMES[metric] if metric != "sampled" else "sampled answers"
    return f"{name[0].upper()}{name[1:]} on {rows} held-out rows: {chosen} is {'; '.join(clauses)}."


def _clause(name: str, difference: Mapping[str, Any]) -> str:
    """Return a difference of shares in words, and in points."""
    low, high = difference["low"], difference["high"]
    if low is None or (low == high == 0.0):
        return f"level with {name}" if low == 0.0 else f"not compared with {name}"
    word = "not told apart from" if low <= 0 <= high else "behind" if high < 0 else "ahead of"
    return f"{word} {name}: {lead(difference)}"


def _advice(record: Mapping[str, Any]) -> list[str]:
    """Return what to take for greedy and for sampled answers, where several were trained."""
    arms = [run["name"] for run in record["runs"] if run["train"]]
    if len(arms) < 2:
        return []
    greedy_by, sampled_by = main_metric(record), sampled_metric(record)
    greedy, sampled = best_of(record, greedy_by, arms), best_of(record, sampled_by, arms)
    if greedy == sampled:
        leads = [dict(against(record, greedy, metric)) for metric in (greedy_by, sampled_by)]
        close = [
            name
            for name in arms
            if name != greedy and not any(above_zero(each[name]) for each in leads)
        ]
        but = f"; not told apart from {' and '.join(close)} with either" if close else ""
        return [f"Best with greedy and with sampled answers: {greedy}{but}."]
    ahead = dict(against(record, greedy, greedy_by))[sampled]
    other = dict(against(record, sampled, sampled_by))[greedy]
    by = "" if sampled_by == "sampled" else " (by mean p)"
    both = (
        f"Best with greedy answers: {greedy} ({lead(ahead)} over {sampled}); with sampled"
        f" ones{by}: {sampled} ({lead(other)} over {greedy})."
    )
    if above_zero(other) and not above_zero(ahead):
        return [f"{both} Take {sampled}: only its lead is told apart from 0."]
    if above_zero(ahead) and not above_zero(other):
        return [f"{both} Take {greedy}: only its lead is told apart from 0."]
    if above_zero(ahead):
        return [
            f"{both} The two disagree: take {sampled} if answers will be sampled, as most servers"
            f" do by default, and {greedy} if they will be greedy."
        ]
    return [f"{both} Neither lead is told apart from 0."]


def _endings(record: Mapping[str, Any]) -> list[str]:
    """Return a warning for each trained arm whose answers do not end."""
    lines = []
    rates = {
        run["name"]: run["heldout"]["rates"]["stops"]
        for run in record["runs"]
        if run["train"] and "stops" in run["heldout"].get("rates", {})
    }
    for name, stops in rates.items():
        value = f"{name} ends {stops['value']:.0%} of its answers"
        if name != _NLL and _NLL in rates:
            fall = dict(against(record, name, "stops"))[_NLL]
            if fall["value"] <= -WELL_BELOW and fall["high"] is not None and fall["high"] < 0:
                lines.append(
                    f"{value}, nll() {rates[_NLL]['value']:.0%} ({lead(fall)}): it does not"
                    f" learn to stop. {_mended(name)}"
                )
        elif stops["value"] < FEW_STOP:
            lines.append(
                f"{value}; the others reach the limit of new tokens (--max-new-tokens)."
                + (f" {_mended(name)}" if name != _NLL else "")
            )
    return lines


def _mended(name: str) -> str:
    if name.startswith("nll_on_special"):
        return "Train longer, or take NLL."
    return f"nll_on_special({name}) keeps NLL on special tokens."


def above_zero(difference: Mapping[str, Any]) -> bool:
    """True if the interval of a difference lies above 0."""
    return difference["low"] is not None and difference["low"] > 0
