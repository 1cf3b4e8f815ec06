"""The language of the code: results are named by what they hold, docstrings open with a noun or a
verb. Both rules stand in CONTRIBUTING.md; here are the few exceptions.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NAMES = {"found", "known", "asked", "given", "wanted", "made", "kept", "held"}
NAMES |= {"there", "here", "place"}
"""Names that say how a result came, or nothing."""

OPENINGS = {"What", "Whether", "How", "Where", "Of", "Those", "That", "Which", "Who", "When"}
"""First words of a clause without a subject."""

EXCEPTIONS = {
    # Fields of records on disk and in reports: an estimate that the probe could make or not.
    "probtune/probe/features.py": {"known"},
    "probtune/probe/noise.py": {"known"},
    "tests/test_choice_after_scout.py": {"known"},
    # Tokens that a threshold keeps: `normalizer="kept"`.
    "probtune/kernels/linear.py": {"kept"},
    "probtune/models/head.py": {"kept"},
    "probtune/training/counts.py": {"kept"},
    # A judge's bias for the first place: a column of the record.
    "probtune/evaluation/grading/judge.py": {"place"},
}
"""File -> the words that it may have."""

FILES = sorted(
    path
    for folder in ("probtune", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)


def findings(text):
    """Return (line, word) of every name of `NAMES` that is bound, and of every docstring, of
    attributes as well, that begins with a word of `OPENINGS`.
    """
    words = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            word = node.id
        elif isinstance(node, ast.arg):
            word = node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            word = node.name
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            first = value.split(maxsplit=1)[:1] if isinstance(value, str) else []
            word = first[0].rstrip(",:") if first and first[0].rstrip(",:") in OPENINGS else None
            if word:
                words.append((node.lineno, word))
            continue
        else:
            continue
        if word in NAMES:
            words.append((node.lineno, word))
    return words


def test_names_and_docstrings():
    wrong = []
    for path in FILES:
        name = str(path.relative_to(ROOT))
        allowed = EXCEPTIONS.get(name, set())
        wrong += [
            f"{name}:{line}: {word}"
            for line, word in findings(path.read_text(encoding="utf-8"))
            if word not in allowed
        ]
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_of_a_file():
    assert set(EXCEPTIONS) <= {str(path.relative_to(ROOT)) for path in FILES}


@pytest.mark.parametrize(
    "text, word",
    [
        ("found = 1", "found"),
        ("for place, x in []: pass", "place"),
        ("f = lambda given: given", "given"),
        ("def f(*, kept=1): ...", "kept"),
        ("with open('x') as held: pass", "held"),
        ("def f():\n    'What it is.'", "What"),
        ("x = 1\n'''Whether it is so.'''", "Whether"),
        ("'Of the rows, the first.'", "Of"),
    ],
)
def test_the_scan_sees(text, word):
    assert [seen for _, seen in findings(text)] == [word]


def test_the_scan_leaves_alone():
    assert findings("'Whatever it is.'\nf(found=1)\nx.found = y['place']\n'The place.'") == []
