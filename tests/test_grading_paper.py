"""The reference graders beside the paper's own code: its verdicts in a table, and itself where a
clone of its repository is at hand (`PROBTUNE_PAPER_REPO`, and `PROBTUNE_PAPER_PYTHON` for the
interpreter that has what `benchmarks/paper_oracle.py` names).
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLE = Path(__file__).parent / "paper_verdicts.jsonl"
DOMAINS = ("mathematics", "medicine", "figlet", "openbookqa", "mmlu_prox")


@pytest.fixture(scope="module")
def compared():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import paper_cases
        import paper_graders
    finally:
        sys.path.remove(str(BENCHMARKS))
    return paper_cases, paper_graders


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in TABLE.read_text().splitlines()]


def test_the_table_is_large_and_varied(rows):
    domains = Counter(row["domain"] for row in rows)
    assert len(rows) >= 300 and set(domains) == set(DOMAINS) and min(domains.values()) >= 60
    right = Counter(row["domain"] for row in rows if row["right"])
    assert all(0.02 < right[name] / domains[name] < 0.9 for name in DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_papers_verdicts(compared, rows, domain):
    _, graders = compared
    cases = [row for row in rows if row["domain"] == domain]
    grades = graders.ours(cases, workers=2)
    differences = [
        (case, grade)
        for case, grade in zip(cases, grades, strict=True)
        if graders.differs(case, grade)
    ]
    assert not differences


def test_a_difference_is_seen(compared, rows):
    """The comparison can fail: another rule's grades differ from the table."""
    from probtune.evaluation.grading import choice
    from probtune.evaluation.grading.base import GradingItem

    _, graders = compared
    cases = [row for row in rows if row["domain"] == "medicine"]
    items = [GradingItem(case["text"], case["gold"], case["options"]) for case in cases]
    seen = [graders.differs(*pair) for pair in zip(cases, choice.grade_strict(items), strict=True)]
    assert seen.count("answer") > len(cases) / 2


@pytest.mark.skipif(
    not os.environ.get("PROBTUNE_PAPER_REPO"),
    reason="PROBTUNE_PAPER_REPO names no clone of the paper's repository",
)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_papers_code(compared, domain):
    repository = os.environ["PROBTUNE_PAPER_REPO"]
    generated, graders = compared
    cases = generated.generate(domain, int(os.environ.get("PROBTUNE_PAPER_NUMBER", "20000")), 0)
    python = os.environ.get("PROBTUNE_PAPER_PYTHON", sys.executable)
    expected = graders.of_the_paper(cases, Path(repository), python)
    count = graders.compare(cases, expected)
    assert not count["other answer"] and not count["other verdict"]
    assert count["not decided"] < len(cases) / 200
