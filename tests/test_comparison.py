"""Comparisons of evaluations: hand-made folders, closed forms, bad input."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest
import toy_task

from probtune.cli import main
from probtune.data.prompts import PromptSpec
from probtune.errors import DataError, UsageError
from probtune.evaluation.comparison import compare_runs, read_runs
from probtune.evaluation.generate import Generation
from probtune.evaluation.graded import write_graded
from probtune.evaluation.grading.base import VERSION, versions
from probtune.evaluation.reports.parts import MAKERS
from probtune.evaluation.samples import Sample, append_samples, sha256
from probtune.evaluation.tasks.base import Decoding
from probtune.files import hash_file
from probtune.records import make_record, write_record


def make_run(root, scores, *, task="toy", strict_only=False, version=VERSION, clusters=None,
             prompt="plain", grader_versions=None, model=None):  # fmt: skip
    """A graded evaluation's folder: question -> scores of its samples."""
    k = len(next(iter(scores.values())))
    decoding = Decoding(4, temperature=1.0 if k > 1 else 0.0, samples=k)
    spec = PromptSpec(prompt)
    folder = Generation(toy_task.toy(task), [], spec, decoding, ()).folder(root)
    if not (root / "run.json").exists():
        write_record(root / "run.json", "eval-run", {"tasks": [task], "identity": {}})
    protocols = ["strict"] if strict_only else ["strict", "reference"]
    record = {
        "task": task,
        "protocols": protocols,
        "model": model or root.name,
        "prompt": spec.to_dict(),
        "decoding": asdict(decoding),
        "source": asdict(toy_task.toy().source),
        "questions": [
            {"id": q, "prompt_sha256": sha256(q), "cluster": (clusters or {}).get(q),
             "protocols": protocols}
            for q in scores
        ],
    }  # fmt: skip
    write_record(folder / "generation.json", "generation", record)
    append_samples(
        folder / "samples.jsonl",
        [
            Sample(task, q, i, sha256(q), 0, "x", "stop", 1)
            for q, values in scores.items()
            for i in range(len(values))
        ],
    )
    for protocol in protocols:
        lines = [
            {"question": q, "sample": i, "score": float(s), "answer": "x", "extraction": "whole",
             "metrics": {}, "error": None, "truncated": False, "repeats": False, "tokens": 1}
            for q, values in scores.items()
            for i, s in enumerate(values)
        ]  # fmt: skip
        header = {
            "task": task, "protocol": protocol, "grader": version,
            "versions": grader_versions or versions(),
            "samples_sha256": hash_file(folder / "samples.jsonl"),
        }  # fmt: skip
        write_graded(folder / f"graded.{protocol}.jsonl", header, lines)
    return root


@pytest.fixture(autouse=True)
def _toy(monkeypatch, tmp_path):
    toy_task.install(monkeypatch, toy_task.toy(), toy_task.toy("sums"))
    monkeypatch.chdir(tmp_path)


def greedy(text):
    return {f"q{i}": [int(c)] for i, c in enumerate(text)}


def test_greedy_runs_by_mcnemar(tmp_path):
    a = make_run(tmp_path / "a", greedy("11111111001"))
    b = make_run(tmp_path / "b", greedy("11000000000"))
    comparison = compare_runs({"a": [a], "b": [b]})["protocols"]["strict"]
    (row,) = comparison["differences"]
    assert row["test"] == "exact McNemar"
    assert row["p_value"] == pytest.approx(2 * 0.5**7)  # 7 to 0 discordant
    assert row["difference"].value == pytest.approx(7 / 11) and row["difference"].n == 11
    assert row["p_holm"] == row["p_value"] and row["seed_sd"] is None
    assert comparison["scores"][0]["scores"]["a"].value == pytest.approx(9 / 11)


def test_an_interval_says_no_more_than_the_exact_test(tmp_path):
    """The first gets 4 of 7 questions right that the second does not: p = 0.125."""
    a = make_run(tmp_path / "a", greedy("1111000"))
    b = make_run(tmp_path / "b", greedy("0000000"))
    (row,) = compare_runs({"a": [a], "b": [b]})["protocols"]["strict"]["differences"]
    assert row["p_value"] == pytest.approx(0.125)
    assert -1 <= row["difference"].low < 0 < row["difference"].value < row["difference"].high <= 1


def test_sampled_runs_by_sign_flips_and_holm_over_pairs(tmp_path):
    rng = random.Random(0)
    runs = {}
    for label, p in (("a", 0.8), ("b", 0.4), ("c", 0.4)):
        scores = {f"q{i}": [float(rng.random() < p) for _ in range(4)] for i in range(40)}
        runs[label] = [make_run(tmp_path / label, scores)]
    content = compare_runs(runs)
    strict = content["protocols"]["strict"]
    rows = {(row["first"], row["second"]): row for row in strict["differences"]}
    assert set(rows) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert {row["test"] for row in rows.values()} == {"sign flips"}
    assert rows["a", "b"]["p_value"] < 0.001 < 0.05 < rows["b", "c"]["p_value"]
    assert rows["a", "b"]["p_holm"] >= rows["a", "b"]["p_value"]
    assert rows["a", "b"]["difference"].low > 0.2
    assert 0.03 < rows["a", "b"]["detectable"] < 0.4
    (curve,) = strict["pass_at_k"]
    assert curve["curves"]["a"]["1"] < curve["curves"]["a"]["4"]
    (row,) = content["disagreement"]
    assert row["labels"]["a"]["rate"].value == 0.0


def test_seeds_widen_the_interval(tmp_path):
    """Seeds that differ by 20 points: the interval says so, and the seeds' spread is named."""
    runs = {"a": [], "b": []}
    for seed, shift in enumerate((0, 2, 4)):
        for label, base in (("a", 4), ("b", 3)):
            right = base + (shift if label == "a" else 0)
            scores = {f"q{i}": [float(i < right)] for i in range(10)}
            runs[label].append(make_run(tmp_path / f"{label}{seed}", scores))
    (row,) = compare_runs(runs)["protocols"]["strict"]["differences"]
    assert row["difference"].value == pytest.approx(0.3)
    assert row["seed_sd"] == pytest.approx(0.2)
    assert row["difference"].low < 0 < row["over_questions"].low + 0.2
    assert row["bootstrap"].value == pytest.approx(0.3)


def test_domains_are_averaged(tmp_path, monkeypatch):
    from probtune.evaluation.tasks import table

    both = {"math": ("toy", "sums", "aime24")}
    for module in ("analyse", "comparison"):
        monkeypatch.setattr(f"probtune.evaluation.{module}.DOMAINS", both)
    assert table.DOMAINS is not both
    runs = {}
    for label, texts in (("a", ("1110", "1000")), ("b", ("1100", "0000"))):
        make_run(tmp_path / label, greedy(texts[0]))
        runs[label] = [make_run(tmp_path / label, greedy(texts[1]), task="sums")]
    comparison = compare_runs(runs)["protocols"]["strict"]
    assert [row["title"] for row in comparison["scores"]] == [
        "Toy",
        "Sums",
        "mean of math (2 of 3)",
    ]
    assert comparison["scores"][-1]["scores"]["a"].value == pytest.approx(0.5)
    assert comparison["differences"][-1]["difference"].value == pytest.approx(0.25)


def test_questions_of_one_cluster_are_one(tmp_path):
    clusters = {f"q{i}": f"c{i // 5}" for i in range(20)}  # 4 questions, 5 copies of each
    a = make_run(tmp_path / "a", greedy("11111" * 4), clusters=clusters)
    b = make_run(tmp_path / "b", greedy("00000" * 3 + "11111"), clusters=clusters)
    (row,) = compare_runs({"a": [a], "b": [b]})["protocols"]["strict"]["differences"]
    assert row["difference"].n == 4 and row["test"] == "sign flips"
    assert row["p_value"] == pytest.approx(2 * 0.5**3)


def test_the_command(tmp_path, capsys):
    make_run(tmp_path / "eval-a", greedy("1110111"))
    make_run(tmp_path / "b", greedy("1100000"))
    assert main(["compare", "eval-a", "minus p=b", "--out", "both"]) == 0
    out = capsys.readouterr().out
    for said in ("strict: scores", "reference: first - second", "a - minus p", "Holm p"):
        assert said in out
    record = json.loads(Path("both/record.json").read_text())
    assert record["kind"] == "comparison"
    page = Path("both/report.html").read_text()
    assert "Comparison: a, minus p" in page and page.count("<svg") == 4
    assert main(["report", "both", "--out", "again.html"]) == 0
    (questions,) = record["items"]
    assert [column["name"] for column in questions["columns"]] == ["a", "minus p"]
    scores = [column["scores"] for column in questions["columns"]]
    assert scores == [[1, 1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]]
    assert questions["columns"][0]["texts"] == ["x"] * 7 == questions["columns"][0]["answers"]
    assert "<title>Undecided on " in page  # +57 [.., ..], and an exact p of 0.125


def test_a_lead_is_named_by_the_label_that_has_it(tmp_path):
    make_run(tmp_path / "a", greedy("0" * 30))
    make_run(tmp_path / "b", greedy("1" * 20 + "0" * 10))
    make_run(tmp_path / "c", greedy("1" * 20 + "0" * 10))

    def title(*labels):
        return MAKERS["comparison"].make(
            make_record("comparison", compare_runs(read_runs(labels)))
        )["title"]

    assert title("a=a", "b=b").startswith("b is ahead of a on ")
    assert title("b=b", "c=c").startswith("Undecided on ")
    three = title("a=a", "b=b", "c=c")
    assert "b is ahead in 1, c is ahead in 1, 1 undecided" in three


def test_names_are_escaped_in_the_report(tmp_path):
    make_run(tmp_path / "a", {"q<i>": [1, 0], "q1": [1, 1]}, model="<script>alert(1)</script>")
    make_run(tmp_path / "b", {"q<i>": [0, 0], "q1": [0, 1]})
    assert main(["compare", "<b>x=a", "y=b", "--out", "both"]) == 0
    page = Path("both/report.html").read_text()
    assert "<b>x" not in page and page.count("<script") == 2 and "&lt;b&gt;x" in page


@pytest.mark.parametrize(
    "texts, said",
    [
        (["a"], "needs two labels, got a"),
        (["a", "none"], "none holds no evaluation"),
        (["x=a", "y=./a"], "named twice"),
        (["x=a", "x=b", "y=c"], "x has 2, y has 1; give as many for each"),
    ],
)
def test_wrong_requests(texts, said, tmp_path):
    for name in "abc":
        make_run(tmp_path / name, greedy("10"))
    with pytest.raises(UsageError, match=said):
        read_runs(texts)


def test_what_cannot_be_compared_is_refused_and_what_needs_care_is_said(tmp_path):
    a = make_run(tmp_path / "a", greedy("10"))
    with pytest.raises(DataError, match="question 'q2' is in one of .* only"):
        compare_runs({"a": [a], "b": [make_run(tmp_path / "b", greedy("101"))]})
    with pytest.raises(DataError, match="no benchmark in common under strict or reference"):
        compare_runs({"a": [a], "b": [make_run(tmp_path / "c", greedy("10"), task="sums")]})
    other = {**versions(), "math-verify": "0.1"}
    mixed = make_run(tmp_path / "d", greedy("10"), grader_versions=other)
    with pytest.raises(DataError, match="graded with another math-verify .* grade both again"):
        compare_runs({"a": [a], "b": [mixed]})
    with pytest.raises(DataError, match="graded by version 0"):
        compare_runs({"a": [a], "b": [make_run(tmp_path / "e", greedy("10"), version="0")]})
    chat = make_run(tmp_path / "f", {"q0": [1, 0], "q1": [0, 0]}, prompt="chatml", strict_only=True)
    cautions = compare_runs({"a": [a], "b": [chat]})["cautions"]
    for said in (
        "left out, because not every evaluation has it: toy (reference).",
        "toy (strict): the models were not asked in the same form of prompt.",
        "toy (strict): samples is not the same (1 and 2).",
        "toy (strict): temperature is not the same (0.0 and 1.0).",
    ):
        assert said in cautions
