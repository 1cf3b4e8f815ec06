"""The decision of a run: the winner by measurement, never by what was chosen before."""

import pytest

from probtune.commands.tuning import _next_of
from probtune.reports.decision import decide, demo_title

EXACT = "exact_match"
PAIR = {"first": "p()", "second": "nll()"}


def record(
    values, *, half=0.02, chosen="nll()", by="auto", decoding="greedy", metric="exact_match"
):
    """A tune record of these values by model; every difference has this half width."""

    def estimate(value, width):
        return {"value": value, "standard_error": width / 2, "low": value - width,
                "high": value + width, "n": 9}  # fmt: skip

    names = list(values)
    metrics = {"exact_match": 0.0, "token_accuracy": 0.5, "mean_p": 0.5}
    return {
        "settings": {"decoding": decoding, "model": "a model", "data": "rows.jsonl", "chat": True},
        "choice": {"objective": chosen, "asked": by},
        "runs": [
            {
                "name": name,
                "train": None if name == "base" else {"steps": 1},
                "heldout": {
                    "metrics": {m: estimate(v, 0.01) for m, v in metrics.items()}
                    | {metric: estimate(value, 0.01)}
                },
            }
            for name, value in values.items()
        ],
        "comparisons": [
            {
                "first": a,
                "second": b,
                "metric": metric,
                "difference": estimate(values[a] - values[b], half),
            }
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ],
    }


def test_samples_decide_where_greedy_answers_do_not():
    one = record({"base": 0.1, "nll()": 0.95, "p()": 0.94})
    sampled = {"base": 0.01, "nll()": 0.5, "p()": 0.9}
    for run in one["runs"]:
        value = sampled[run["name"]]
        run["heldout"]["metrics"]["sampled"] = {"value": value, "low": value, "high": value}
    assert decide(one).title.startswith("Undecided between nll() and p()")
    assert decide(one).objective == "nll()"
    difference = {"value": 0.4, "low": 0.35, "high": 0.45, "standard_error": 0.02, "n": 9}
    one["comparisons"].append({**PAIR, "metric": "sampled", "difference": difference})
    assert decide(one).title.endswith(
        "; with sampled answers p() is ahead of nll(), +40.0 [35.0, 45.0]"
    )
    assert decide(one).objective == "p()" and not decide(one).decided
    difference["low"] = -0.01
    assert decide(one).objective == "nll()"


CASES = [
    (
        {"base": 0.1, "nll()": 0.696, "p()": 0.936},
        {"half": 0.04},
        "Use p(): 93.6 % against 69.6 % of nll(), +24.0 [20.0, 28.0]; auto had taken nll()",
        "p()",
    ),
    (
        {"base": 0.1, "nll()": 0.696, "p()": 0.936},
        {"half": 0.04, "chosen": "p()"},
        "Use p(): 93.6 % against 69.6 % of nll(), +24.0 [20.0, 28.0]",
        "p()",
    ),
    (
        {"base": 0.1, "nll()": 0.7, "p()": 0.72},
        {"half": 0.04},
        "Undecided between p() and nll(): 72.0 % against 70.0 % of nll(), +2.0 [-2.0, +6.0]",
        "nll()",
    ),
    (
        {"base": 0.1, "nll()": 0.5, "power(0.5)": 0.7, "p()": 0.72},
        {"half": 0.04},
        "Undecided between p() and power(0.5): 72.0 % against 70.0 % of power(0.5),"
        " +2.0 [-2.0, +6.0]; p() is ahead of nll()",
        "p()",
    ),
    (
        {"base": 0.9, "nll()": 0.5},
        {},
        "Keep the base model: 90.0 % against 50.0 % of nll(), -40.0 [-42.0, -38.0] for nll()",
        "base",
    ),
    (
        {"base": 0.5, "nll()": 0.9},
        {"by": "nll"},
        "Use nll(): 90.0 % against 50.0 % of the base model, +40.0 [38.0, 42.0]",
        "nll()",
    ),
    (
        {"base": 0.5, "nll()": 0.51},
        {},
        "Undecided: 51.0 % with nll() against 50.0 % of the base model, +1.0 [-1.0, +3.0]",
        "nll()",
    ),
    (
        {"base": 0.5, "nll()": 0.6, "p()": 0.7},
        {"metric": "token_accuracy"},
        "Use p(): token accuracy 70.0 % against 60.0 % of nll(), +10.0 [8.0, 12.0]; auto had taken"
        " nll()",
        "p()",
    ),
    (
        {"base": 0.5, "nll()": 0.6, "p()": 0.7},
        {"metric": "sampled", "decoding": "sampled"},
        "Use p(): sampled 70.0 % against 60.0 % of nll(), +10.0 [8.0, 12.0]; auto had taken nll()",
        "p()",
    ),
]  # fmt: skip


@pytest.mark.parametrize("values, options, title, taken", CASES)
def test_the_winner_by_measurement_is_named(values, options, title, taken):
    decision = decide(record(values, **options))
    assert (decision.title, decision.objective) == (title, taken)
    assert decision.decided is not title.startswith("Undecided")


def test_the_next_command_measures_the_winner_that_is_named(tmp_path):
    whole = record({"base": 0.1, "nll()": 0.5, "p()": 0.9})
    decision = decide(whole)
    assert decision.model == "p/model"
    line = _next_of(whole, tmp_path, decision.model)
    assert line == (f"probtune forgetting 'a model' {tmp_path}/p/model --data rows.jsonl --chat")


def test_the_demo_says_where_which_objective_is_ahead():
    def cell(level, rate, low, high):
        pair = {"value": (low + high) / 2, "low": low, "high": high}
        return {"level": level, "noise": "slip", "rate": rate,
                "differences": [{**PAIR, "difference": pair}]}  # fmt: skip

    cells = [
        cell("weak", 0.4, -0.5, -0.4),
        cell("strong", 0.4, 0.1, 0.3),
        cell("strong", 0, -0.1, 0.1),
    ]
    assert demo_title({"cells": cells}) == (
        "p() is ahead of nll() on strong, slip 0.4 (+20.0 [10.0, 30.0]); nll() is ahead on weak,"
        " slip 0.4 (-45.0 [-50.0, -40.0]); undecided: strong, clean"
    )
