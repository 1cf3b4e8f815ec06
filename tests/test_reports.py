import base64
import copy
import gzip
import hashlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import helpers
import pytest

from probtune import pipeline
from probtune.errors import DataError
from probtune.reports import figures
from probtune.reports.report import headline, render, verdicts
from probtune.settings import TuneSettings
from probtune.terminal import Terminal

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def record(word_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    data = helpers.write_jsonl(folder / "rows.jsonl", helpers.sums(40))
    settings = TuneSettings(
        str(word_model), str(data), objective="nll", compare="p", max_steps=2, out=str(folder / "o")
    )
    return pipeline.tune(settings, Terminal(quiet=True))


def estimate(value, half=0.05):
    low, high = value - half, value + half
    return {"value": value, "standard_error": half / 2, "low": low, "high": high, "n": 5}


@pytest.fixture()
def demo():
    def cell(level, rate, nll, p):
        difference = {"first": "p()", "second": "nll()", "by_seed": [p - nll] * 5}
        return {
            "level": level,
            "noise": "slip",
            "rate": rate,
            "name": level,
            "mean_p": estimate(0.5),
            "verdicts": ["model-weak"] * 4 + ["undecided"],
            "exact_match": {
                "base": {"by_seed": [0.1] * 5, "estimate": estimate(0.1)},
                "nll()": {"by_seed": [nll] * 5, "estimate": estimate(nll)},
                "p()": {"by_seed": [p] * 5, "estimate": estimate(p)},
            },
            "differences": [{**difference, "difference": estimate(p - nll)}],
            "winner": "nll()" if nll > p else "p()",
            "folders": ["a"],
        }

    return {
        "kind": "demo",
        "schema": 1,
        "written": "today",
        "seconds": 10.0,
        "environment": {"processor": "x", "cores": 2},
        "seeds": [0, 1, 2, 3, 4],
        "failed": {"7": "seed 7 did not learn"},
        "recipe": {"epochs": 30.0, "training_rows": 256, "held_out_rows": 500},
        "cells": [cell("weak", 0.4, 0.8, 0.1), cell("strong", 0.0, 0.5, 0.9)],
    }


def without_own_script(html):
    """The page without its script, which its policy names by the hash, and its packed data."""
    policy, data, script = (
        re.search(pattern, html, re.DOTALL)[1]
        for pattern in (
            r"script-src 'sha256-([^']*)'",
            r'<script type="text/plain" id="data">([A-Za-z0-9+/=]*)</script>',
            r"<script>(.*?)</script>",
        )
    )
    digest = hashlib.sha256(script.encode()).digest()
    assert base64.b64decode(policy) == digest
    rest = html.replace(f"<script>{script}</script>", "")
    return rest.replace(f'<script type="text/plain" id="data">{data}</script>', "")


def data_of(html):
    """Return the content that the page's script shows."""
    data = re.search(r'id="data">([A-Za-z0-9+/=]*)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(data)))


def no_outside(html):
    """Nothing is loaded from elsewhere, nothing runs but the page's own script."""
    assert "default-src 'none'" in html
    html = without_own_script(html)
    assert "<script" not in html.lower() and "@import" not in html
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert attribute.startswith("#"), attribute
    assert not re.search(r"url\((?!#)", html)


def test_tune_report_is_whole_and_self_contained(record):
    html = render([record])
    no_outside(html)
    assert html.count("<svg") == 5 + 3 + 6  # differences, probe, curves
    ids = re.findall(r"<h2>(.*?)</h2>", html)
    assert ids[:3] == ["Result", "Probe: what the base model already knew", "Training"]
    assert "What this does not show" in html
    for run in record["runs"]:
        assert f"<td>{run['name']}</td>" in html
    assert all(line in html.replace("&#39;", "'") for line in verdicts(record))
    assert "<th>cut off</th>" in html and "reached the limit" not in html


def test_text_from_data_is_escaped(record):
    evil = copy.deepcopy(record)
    evil["data"]["items"][0]["prompt"] = EVIL
    evil["data"]["source"] = EVIL
    evil["settings"]["model"] = EVIL
    evil["data"]["skipped"] = [{"where": EVIL, "rule": EVIL}]
    for run in evil["runs"]:
        run["heldout"]["items"]["prediction"][0] = EVIL
    html = render([evil, evil])
    shown = without_own_script(html)
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 5
    assert data_of(html)["texts"].count(EVIL) == 1  # the browser shows it as text


def test_texts_of_items_have_no_hidden_characters(record):
    changed = copy.deepcopy(record)
    changed["data"]["items"][0]["prompt"] = "a\x1b[31m\u202eb"
    assert r"a\x1b[31m\u202eb" in data_of(render([changed]))["texts"]


def test_the_browser_holds_every_item_of_every_model(record):
    content = data_of(render([record]))
    (part,) = content["parts"]
    (rows,) = part["items"]
    assert rows["models"] == ["base", "nll()", "p()"]
    items, texts = rows["items"], content["texts"]
    assert len(items) == record["data"]["heldout"]["rows"]
    for i, item in enumerate(items):
        row = record["data"]["items"][i]
        assert (item["w"], texts[item["q"]], texts[item["r"]]) == tuple(
            row[name] for name in ("where", "prompt", "reference")
        )
        for k, run in enumerate(record["runs"]):
            column = run["heldout"]["items"]
            assert item["ok"][k] == column["exact"][i]
            assert item["s"][k] == pytest.approx(-column["nll"][i] / column["tokens"][i], abs=6e-4)
            assert texts[item["a"][k]] == column["prediction"][i]
    (rows, *_) = part["tokens"]
    assert [rows["name"], list(rows["models"])] == ["held-out rows", ["base", "nll()", "p()"]]
    assert rows["rows"][0]["prompt"] == record["data"]["items"][0]["prompt"]


def test_a_probe_has_a_page(record):
    probe = {**record["probe"], "kind": "probe", "model": EVIL, "data": "rows.jsonl"}
    html = render([probe])
    no_outside(html)
    assert "<h2>Tokens</h2>" in html and html.count("<svg") == 3
    assert data_of(html)["parts"][0]["tokens"][0]["name"] == "training rows, base model"


def test_demo_report(demo):
    html = render([demo])
    no_outside(html)
    assert html.count("<svg") == 2
    assert "seed 7 did not learn" in html
    assert "model-weak 4/5, undecided 1/5" in re.sub(r"\s+", " ", html)
    assert "-0.700 [-0.750, -0.650]" in html


def test_several_records_are_listed_and_not_compared(record, demo):
    html = render([record, demo, record])
    assert "<h1>3 runs</h1>" in html and "set side by side here, not compared" in html
    assert {"#run-1", "#run-2", "#run-3"} <= set(re.findall(r'href="(#[^"]*)"', html))


def test_same_record_same_bytes(record):
    assert render([record]) == render([record])


def test_a_record_without_report():
    with pytest.raises(DataError, match="kind 'train' has no report"):
        render([{"kind": "train"}])


def test_headline_says_what_was_found(record):
    def with_difference(metric, value, low, high):
        changed = copy.deepcopy(record)
        for row in changed["comparisons"]:
            row["difference"] = {**row["difference"], "value": value, "low": low, "high": high}
        for run in changed["runs"]:
            run["heldout"]["metrics"]["exact_match"]["value"] = float(metric == "exact_match")
        return headline(changed)

    assert "nll() is" in (ahead := with_difference("exact_match", 0.2, 0.1, 0.3))
    # base and p() stand on different sides of the pair: the sign must follow
    assert "behind base: -20.0 points [-30.0, -10.0]" in ahead
    assert "ahead of p(): +20.0 points [+10.0, +30.0]" in ahead
    assert "not told apart from p(): +1.0 points [-1.0, +3.0]" in with_difference(
        "exact_match", 0.01, -0.01, 0.03
    )
    assert "level with p()" in with_difference("exact_match", 0.0, 0.0, 0.0)
    assert with_difference("none", 0.2, 0.1, 0.3).startswith("Token accuracy on")


def arms(record, *, exact, sampled, stops):
    """The record with these values of (nll(), p()): (first, second, half of the interval of the
    difference)."""
    changed = copy.deepcopy(record)
    values = {"exact_match": exact, "sampled": sampled, "stops": stops}
    for run in changed["runs"]:
        for metric, (nll, p, _) in values.items():
            values_of = run["heldout"]["rates" if metric == "stops" else "metrics"]
            values_of[metric]["value"] = {"base": 0.0, "nll()": nll, "p()": p}[run["name"]]
    for row in changed["comparisons"]:
        if row["metric"] in values and (row["first"], row["second"]) == ("nll()", "p()"):
            nll, p, half = values[row["metric"]]
            row["difference"] = estimate(nll - p, half)
    return changed


ALL_STOP = (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "exact, sampled, advice",
    [
        ((0.5, 0.6, 0.05), (0.3, 0.5, 0.1), "Best with greedy and with sampled answers: p()."),
        ((0.5, 0.6, 0.2), (0.3, 0.5, 0.1), "Best with greedy and with sampled answers: p()."),
        ((0.5, 0.6, 0.2), (0.3, 0.5, 0.3), "answers: p(); not told apart from nll() with either."),
        (
            (0.6, 0.5, 0.05),
            (0.3, 0.5, 0.1),
            "The two disagree: take p() if answers will be sampled, as most servers do by default,"
            " and nll() if they will be greedy.",
        ),
        ((0.6, 0.5, 0.2), (0.3, 0.5, 0.1), "Take p(): only its lead is told apart from 0."),
        ((0.6, 0.5, 0.05), (0.3, 0.5, 0.3), "Take nll(): only its lead is told apart from 0."),
        ((0.6, 0.5, 0.2), (0.3, 0.5, 0.3), "Neither lead is told apart from 0."),
    ],
)
def test_both_ways_of_drawing_answers_are_told(record, exact, sampled, advice):
    changed = arms(record, exact=exact, sampled=sampled, stops=ALL_STOP)
    lines = verdicts(changed)
    assert lines[0] == headline(changed) and lines[1].startswith("Sampled answers on")
    assert lines[2].endswith(advice) and len(lines) == 3


@pytest.mark.parametrize(
    "stops, said",
    [
        ((0.98, 0.60, 0.1), "p() ends 60% of its answers, nll() 98%"),
        ((0.98, 0.95, 0.01), None),  # told apart, and small
        ((0.98, 0.60, 0.5), None),  # large, and not told apart
        ((0.50, 0.52, 0.1), "nll() ends 50% of its answers; the others reach the limit"),
    ],
)
def test_an_arm_that_does_not_stop_is_named(record, stops, said):
    same = (0.5, 0.5, 0.1)
    lines = verdicts(arms(record, exact=same, sampled=same, stops=stops))[3:]
    assert (lines == []) if said is None else (said in lines[0] and len(lines) == 1)


@pytest.mark.parametrize("value", [0.2, 0.0004, 0.00003, -0.0004])
def test_the_word_agrees_with_the_numbers_beside_it(record, value):
    """A lead whose interval excludes 0 is never shown as +0.0 or [+0.0, ...]."""
    half = abs(value) / 2
    changed = arms(record, exact=(0.5 + value, 0.5, half), sampled=ALL_STOP, stops=ALL_STOP)
    word = "ahead of" if value > 0 else "behind"
    (shown,) = re.findall(rf"{word} p\(\): (\S+) points \[(\S+), (\S+)\]", headline(changed))
    assert all(float(number) * value > 0 for number in shown)


def test_report_needs_no_torch(tmp_path):
    script = (
        "import sys\n"
        "import probtune.reports.report, probtune.reports.figures as f\n"
        "f.histogram([1, 2, 3])\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "svg",
    [
        lambda: figures.histogram([0, 5, 10]),
        lambda: figures.histogram([0, 0]),
        lambda: figures.shares(
            [{"name": "<a>", "tokens": 3, "mean_p": estimate(0.5)}], label="kind"
        ),
        lambda: figures.curves({"nll()": [(1, 0.5), (2, 0.4)], "p()": []}, label="NLL"),
        lambda: figures.differences(
            [("a - b", estimate(0.1)), ("c", {"value": 0.1, "low": None, "high": None})], label="d"
        ),
    ],
)
def test_figures_are_well_formed(svg):
    root = ElementTree.fromstring(svg())
    assert root.tag.endswith("svg") and root.attrib["role"] == "img" and root.attrib["aria-label"]


def test_objectives_keep_their_colour():
    names = ["nll()", "p()", "power(2.0)", "power(10.0)"]
    colours = [figures.colour_of(name, names) for name in names]
    assert len(set(colours)) == 4
    assert figures.colour_of("nll()") == colours[0]
