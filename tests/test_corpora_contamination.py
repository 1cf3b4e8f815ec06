"""N-grams that training rows share with benchmarks' questions."""

import importlib
import json
import random
from pathlib import Path

import helpers
import pytest

from probtune.errors import UsageError
from probtune.paper.corpora import CORPORA, contamination, prepare
from probtune.paper.corpora.checking import check_against, questions_of
from probtune.paper.corpora.contamination import overlap, words_of
from probtune.records import read_record
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)
WORDS = [f"word{i}" for i in range(3000)]


def text(count, generator):
    return " ".join(generator.choice(WORDS) for _ in range(count))


def naive(rows, questions, size, common=contamination.COMMON):
    """The definition, without hashes and blocks."""

    def windows(words, length):
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    grams = {}
    for name, texts in questions:
        length = min(size, len(words_of(texts)))
        if length >= min(size, contamination.SHORTEST):
            for gram in windows(words_of(texts), length):
                grams.setdefault(gram, set()).add(name)
    grams = {gram: owners for gram, owners in grams.items() if len(owners) <= common}
    hit, affected = set(), set()
    for name, prompt, completion in rows:
        for part in (prompt, completion):
            words = words_of(part)
            shared = set()
            for length in {len(gram) for gram in grams}:
                shared |= windows(words, length) & grams.keys()
            if shared:
                affected.add(name)
                hit |= set().union(*(grams[gram] for gram in shared))
    return hit, affected


def test_words_are_without_case_and_punctuation():
    assert words_of("The  CAT's x_1=3.5!") == ["the", "cat", "s", "x", "1", "3", "5"]
    assert words_of("Café — ﬁne ①") == ["café", "fine", "1"]
    # Vowel signs belong to their word, which \w would cut.
    assert words_of("मराठी, भाषा।") == ["मराठी", "भाषा"]
    plain = "Let A be 12 (of B)."
    assert words_of(plain) == words_of(plain + " é")[:-1], "both paths agree"


@pytest.mark.parametrize("block", [60, 400_000])
def test_it_equals_the_definition(block, monkeypatch):
    monkeypatch.setattr(contamination, "_BLOCK", block)
    generator = random.Random(0)
    few = WORDS[:6]  # so few words that short n-grams meet by chance
    line = lambda n: " ".join(generator.choice(few) for _ in range(n))  # noqa: E731
    questions = [(f"q{i}", line(generator.randrange(2, 14))) for i in range(60)]
    rows = [(f"r{i}", line(generator.randrange(1, 20)), line(9)) for i in range(80)]
    for common in (1, 3, 100):
        report = overlap(rows, {"bench": questions}, sizes=(8, 6, 5, 2), common=common)
        for entry in report["found"]:
            hit, affected = naive(rows, questions, entry["n"], common)
            assert entry["questions_hit"] == len(hit), entry["n"]
            assert entry["rows_hit"] == len(affected), entry["n"]
    assert report["rows"] == 80
    assert report["words"] == sum(len(words_of(p)) + len(words_of(c)) for _, p, c in rows)


def test_a_planted_question_is_found_and_a_random_one_is_not():
    generator = random.Random(1)
    questions = [(f"q{i}", text(30, generator)) for i in range(50)]
    rows = [[f"r{i}", text(40, generator), text(100, generator)] for i in range(300)]
    rows[7][1] = "Solve this: " + questions[3][1].upper().replace(" ", ",  ") + "."
    middle = questions[9][1].split()[8:21]
    rows[8][2] += " as in " + " ".join(middle) + " we see"
    rows[9][1] = " ".join(questions[4][1].split()[:12])  # one word short of 13
    by_length = {
        entry["n"]: entry for entry in overlap(map(tuple, rows), {"b": questions})["found"]
    }
    entry = by_length[13]
    assert entry["questions_hit"] == entry["rows_hit"] == 2
    assert (entry["in_prompts"], entry["in_completions"]) == (1, 1)
    worst, second = entry["examples"]
    assert (worst["question"], worst["row"], worst["place"]) == ("q3", "r7", "prompt")
    assert worst["share"] == 1.0 and worst["shared"].split() == questions[3][1].split()[:13]
    assert (second["question"], second["row"], second["place"]) == ("q9", "r8", "completion")
    assert second["shared"].split() == middle and second["share"] == round(1 / 18, 4)
    assert by_length[8]["questions_hit"] == 3, "8 words find the question cut at 12"


def test_short_questions_count_as_a_whole_and_the_shortest_not_at_all():
    questions = [("six", "what is two plus two now"), ("four", "what is two plus")]
    rows = [("r", "Tell me: what is two plus two now?", "4")]
    (entry,) = overlap(rows, {"b": questions}, sizes=(8,))["found"]
    assert (entry["questions"], entry["too_short"], entry["questions_hit"]) == (2, 1, 1)
    (entry,) = overlap([("r", "what is two plus two", "now")], {"b": questions}, sizes=(8,))[
        "found"
    ]
    assert entry["questions_hit"] == 0, "question and response are two texts"


def test_a_template_is_not_content():
    head = "please complete the following multiple choice question now"
    generator = random.Random(2)
    questions = [(f"q{i}", f"{head} {text(20, generator)}") for i in range(11)]
    rows = [(f"r{i}", f"{head} {text(20, generator)}", "A") for i in range(5)]
    (entry,) = overlap(rows, {"b": questions}, sizes=(8,))["found"]
    assert entry["questions_hit"] == 0 and entry["templates"] == 1
    (entry,) = overlap(rows, {"b": questions}, sizes=(8,), common=11)["found"]
    assert entry["questions_hit"] == 11 and entry["rows_hit"] == 5
    # A copy has all n-grams that are content.
    (entry,) = overlap([("r", questions[0][1], "A")], {"b": questions}, sizes=(8,))["found"]
    assert entry["examples"][0]["share"] == 1.0


def test_benchmarks_are_reported_apart():
    generator = random.Random(3)
    shared = text(20, generator)
    benchmarks = {"one": [("a", shared), ("b", text(20, generator))], "two": [("c", shared)]}
    report = overlap([("r", shared, "x")], benchmarks, sizes=(13,))
    assert [(e["benchmark"], e["questions_hit"]) for e in report["found"]] == [
        ("one", 1),
        ("two", 1),
    ]
    for bad in ({}, {"one": benchmarks["one"]}):
        with pytest.raises(UsageError, match="at least 2 words"):
            overlap([], bad, sizes=(1,) if bad else (13,))


def test_the_manifest_keeps_what_was_measured(tmp_path):
    entry = CORPORA["magicoder"]
    generator = random.Random(4)
    rows = [
        {**entry.parts[0].example, "problem": text(30, generator), "index": i} for i in range(5)
    ]
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(entry, out=tmp_path / "out", data=str(data))
    first = check_against(manifest, {"one": [("q", rows[2]["problem"])]})
    second = check_against(first, {"two": [("q", text(30, generator))]}, sizes=(13,))
    record = read_record(second.folder / "manifest.json", "manifest")
    assert record == second.record
    hits = {(e["benchmark"], e["n"]): e["questions_hit"] for e in record["contamination"]["found"]}
    assert hits == {("two", 13): 0, ("one", 13): 1, ("one", 8): 1}
    assert record["sha256"] == manifest.sha256
    again = prepare(entry, out=tmp_path / "out", data=str(data))
    assert again.record["contamination"] == record["contamination"]


def test_gsm8k_training_rows_against_its_test_and_the_math_benchmarks(shared_data, tmp_path):
    rows = []
    with (shared_data / "gsm8k" / "train.jsonl").open() as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            rows.append((f"train/{number}", row["question"], row["answer"]))
    benchmarks = questions_of("gsm8k,math500,olympiadbench", data=str(shared_data), terminal=QUIET)
    assert [len(questions) for questions in benchmarks.values()] == [1319, 500, 675]
    report = overlap(rows, benchmarks)
    by_benchmark = {(e["benchmark"], e["n"]): e for e in report["found"]}
    assert report["rows"] == 7473
    hits = {key: (e["questions_hit"], e["rows_hit"]) for key, e in by_benchmark.items()}
    assert hits["gsm8k", 13] == (3, 4) and hits["gsm8k", 8] == (82, 97)
    assert hits["math500", 13] == hits["math500", 8] == hits["olympiadbench", 13] == (0, 0)
    worst = by_benchmark["gsm8k", 13]["examples"][0]
    index = int(worst["row"].split("/")[1])
    assert worst["shared"] in " ".join(words_of(" ".join(rows[index][1:])))


@pytest.mark.slow
def test_67_thousand_rows_take_less_than_a_minute(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    measured = importlib.import_module("contamination").measure()
    assert measured["rows"] == 67_000 and measured["seconds"] < 60
    assert measured["found"][0] == {"n": 13, "questions_hit": 50, "rows_hit": 50}
