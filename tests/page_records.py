"""Records for the tests of pages, without a model: runs of any size, with tokens and answers."""

import random
from functools import cache

from probtune.reports.tokens import code_p, coded, pack

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"


def estimate(value, half=0.02):
    low, high = value - half, value + half
    return {"value": value, "standard_error": half / 2, "low": low, "high": high, "n": 9}


def tune_record(number=60, *, seed=0, viewed=20, models=("base", "nll()", "p()")):
    """A tune record of this many held-out rows. p() mends every third row and breaks every 20th."""
    rng = random.Random(seed)
    questions = [f"What comes after {i}? {'Think about it. ' * 8}" for i in range(number)]
    items = [
        {"where": f"rows.jsonl:{i + 1}", "prompt": questions[i], "reference": str(i + 1)}
        for i in range(number)
    ]
    items[1]["prompt"] = EVIL + " needle"
    right = {
        "base": [i % 3 > 0 for i in range(number)],
        "nll()": [i % 4 > 0 for i in range(number)],
        "p()": [i % 20 > 0 for i in range(number)],
    }
    mean_p = {"base": 0.4, "nll()": 0.6, "p()": 0.9}
    runs = []
    for name in models:
        exact = right[name]
        share = sum(exact) / number
        metrics = {"exact_match": share, "token_accuracy": share, "mean_p": mean_p[name]}
        runs.append(
            {
                "name": name,
                "train": None
                if name == "base"
                else {
                    "objective": name,
                    "steps": 20,
                    "loss": 0.1,
                    "seconds": 9.0,
                    "log": [
                        {"step": s, "nll": 2 / (s + 1), "mean_p": 1 - 1 / (s + 2), "grad_norm": 1.0}
                        for s in range(1, 21, 5)
                    ],
                },
                "heldout": {
                    "metrics": {k: estimate(v) for k, v in metrics.items()} | {"nll": estimate(1)},
                    "rates": {},
                    "answer_rule": "whole",
                    "max_new_tokens": 8,
                    "seconds": 1.0,
                    "items": {
                        "tokens": [4] * number,
                        "nll": [rng.random() * (4 if name == "base" else 2) for _ in range(number)],
                        "p": [2.0] * number,
                        "top1": [3] * number,
                        "exact": exact,
                        "prediction": [
                            f"{i + (1 if ok else 7)} {name} {rng.random()} " + "and so on " * 20
                            for i, ok in enumerate(exact)
                        ],
                    },
                },
            }
        )
    comparisons = [
        {
            "first": a["name"],
            "second": b["name"],
            "metric": metric,
            "difference": estimate(
                a["heldout"]["metrics"][metric]["value"] - b["heldout"]["metrics"][metric]["value"]
            ),
        }
        for k, a in enumerate(runs)
        for b in runs[k + 1 :]
        for metric in ("exact_match", "token_accuracy", "mean_p", "nll")
    ]
    suggestion = {
        "objective": "nll()",
        "verdict": "model-weak",
        "reason": "The model knows little of these rows.",
        "cautions": [],
        "undecided": False,
        "race": [],
        "race_share": 0.0,
    }
    groups = [
        {"name": name, "tokens": 40, "mean_p": estimate(0.4), "below_0_1": estimate(0.3)}
        for name in ("digits", "words")
    ]
    names = ("mean_p", "nll", "token_accuracy", "entropy", "above_0_55", "below_0_1")
    tokens = _tokens(rng, min(viewed, number), models)
    probe = {
        **{name: estimate(0.4) for name in (*names, "below_0_001", "confident_conflict")},
        "examples": 40,
        "of_examples": 400,
        "tokens": 80,
        "percentiles": [i / 100 for i in range(101)],
        "histogram": [i % 7 for i in range(50)],
        "classes": groups,
        "positions": groups,
        "end_token": None,
        "features": {"steps": 20.0, "noise": 0.1, "noise_known": 1.0},
        "suggestion": suggestion,
        "tokens_of_rows": _tokens(rng, min(viewed, number), ("base",)),
    }
    return {
        "kind": "tune",
        "schema": 1,
        "written": "2026-01-01T00:00:00+00:00",
        "settings": {"model": f"models/{EVIL}", "data": "rows.jsonl", "decoding": "greedy",
                     "learning_rate": 1e-4, "seed": seed, "draws": 1},
        "environment": {"versions": {"probtune": "0"}, "cores": 2},
        "data": {
            "source": "rows.jsonl",
            "schema": "prompt/completion",
            "sha256": "0" * 64,
            "skipped": [],
            "dropped": [],
            "train": {"rows": 400, "supervised_tokens": 1600, "tokens": 9000, "truncated": 0,
                      "merged_boundary": 0, "without_end": 0},
            "heldout": {"rows": number},
            "heldout_source": "rows.jsonl",
            "max_length": 64,
            "answer_rule": "whole",
            "items": items,
        },
        "probe": probe,
        "scout": None,
        "choice": {"objective": "nll()", "asked": "auto", "reason": "", "sources": {}},
        "runs": runs,
        "comparisons": comparisons,
        "tokens_of_rows": tokens,
        "weights": None,
        "seconds": 60.0,
    }  # fmt: skip


def _tokens(rng, number, models):
    """Packed tokens: four a row; in every second row base is sure of another token."""
    rows = [{"i": i, "where": f"rows.jsonl:{i + 1}", "excess": 0.1 * i} for i in range(number)]
    texts = ["The", " answer", " is", EVIL]

    def look(i, name):
        conflict = i % 2 == 0 and name == "base"
        logs = [-0.1, -0.5, -5.0 if conflict else -0.2, -rng.random()]
        return {
            "token": [0, 1, 2, 3],
            "p": coded(map(code_p, logs)),
            "h": coded([10, 10, 2, 30]),
            "r": coded([0, 0, 16, 0]),
            "top": {"2": [[3, 2, 1, 0, 0], coded(map(code_p, [-0.1, -5, -6, -7, -8]))]},
        }

    looks = {name: [look(i, name) for i in range(number)] for name in models}
    return pack(rows, looks, lambda token: texts[token])


def long_record(number=1000, *, seed=0):
    """A tune record with as much text as real ones have: questions, references and answers of 300
    characters each, other answers of the trained models for every seed, and a scout; three sets of
    200 rows with 60 tokens each.
    """
    record = tune_record(number, seed=seed, viewed=1)
    questions, rng = random.Random(-1), random.Random(seed)
    for item in record["data"]["items"]:
        item["prompt"], item["reference"] = _prose(questions), _prose(questions)
    for run in record["runs"]:
        items, of_run = run["heldout"]["items"], questions if run["name"] == "base" else rng
        items["prediction"] = [_prose(of_run) for _ in range(number)]
    names = tuple(run["name"] for run in record["runs"])
    record["tokens_of_rows"] = _long_tokens(names, number)
    record["probe"]["tokens_of_rows"] = _long_tokens(("base",), number)
    record["scout"] = {
        "scout": {"steps": 8, "rows": 128, "looks": []},
        "noise": {"share": estimate(0.1), "known": True, "writes": 0.5, "power": 0.8, "rows": 256,
                  "worst": [{"where": "rows.jsonl:3", "excess": 9.0}]},
        "probe": {**record["probe"], "tokens_of_rows": None},
        "tokens_of_rows": _long_tokens(("after the scout",), number),
        "seconds": 1.0,
    }  # fmt: skip
    return record


@cache
def _words():
    from pydoc_data import topics

    return " ".join(topics.topics.values()).split()


def _prose(rng):
    """300 characters of Python's documentation."""
    start = rng.randrange(len(_words()) - 100)
    return " ".join(_words()[start : start + 100])[:300].strip()


@cache
def _long_tokens(models, number):
    """Rows of 60 words; two in three are expected, and alternatives are words of the same text."""
    rng, length = random.Random(0), 60
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(_words()))}
    texts = list(vocabulary)
    rows = [
        {"i": i, "where": f"rows.jsonl:{i + 1}", "prompt": _prose(rng), "excess": round(i / 7, 2)}
        for i in range(min(200, number))
    ]

    def begin():
        start = rng.randrange(len(_words()) - length)
        return [vocabulary[word] for word in _words()[start : start + length]]

    tokens = [begin() for _ in rows]

    def look(of_row):
        logs = [-rng.expovariate(30 if rng.random() < 0.66 else 0.6) for _ in of_row]
        return {
            "token": of_row,
            "p": coded(map(code_p, logs)),
            "h": coded(min(80, int(-9 * logp) + rng.randrange(4)) for logp in logs),
            "r": coded(0 if logp > -0.7 else int(-9 * logp) + rng.randrange(9) for logp in logs),
            "top": {
                str(t): [
                    [rng.choice(of_row) for _ in range(5)],
                    coded(map(code_p, sorted(-rng.expovariate(0.4) for _ in range(5)))),
                ]
                for t in range(length)
            },
        }

    looks = {name: [look(of_row) for of_row in tokens] for name in models}
    return pack(rows, looks, lambda token: f" {texts[token]}")
