"""The training sets: their rows converted, prepared, written and found again."""

import json
import random

import helpers
import pytest

from probtune.data.rows import read_rows
from probtune.errors import DataError, UsageError
from probtune.paper.corpora import CORPORA, Dropped, Noise, corpus, locate, prepare, resolve
from probtune.paper.corpora import sources as sources_module
from probtune.paper.corpora.base import choose, row_order
from probtune.paper.corpora.figlet import KNOWN_ROWS, KNOWN_SHA256
from probtune.paper.corpora.locating import default_folder
from probtune.paper.corpora.noise import corrupt, read_noise
from probtune.paper.corpora.preparing import request
from probtune.records import read_record
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)


def varied(part, count):
    """Rows in the schema of a part, each with a question of its own."""

    def change(value, number):
        if isinstance(value, str) and value:
            return f"{value} {number}" if len(value) > 1 else value
        if isinstance(value, dict):
            fixed = ("role", "from", "split", "label", "answerKey", "index")
            changed = {k: v if k in fixed else change(v, number) for k, v in value.items()}
            return changed | ({"index": number} if "index" in value else {})
        if isinstance(value, list):
            return [change(item, number) for item in value]
        return value

    return [change(part.example, number) for number in range(count)]


def folder_of(entry, path, count=6):
    """A folder with a file for each part of a corpus."""
    path.mkdir(exist_ok=True)
    for part in entry.parts:
        rows = varied(part, count)
        for number, row in enumerate(rows):
            if "id" in row:
                row["id"] = f"{part.split}-{number}"
        helpers.write_jsonl(path / f"{part.stem}.jsonl", rows)
    return str(path)


def read(manifest):
    return [json.loads(line) for line in manifest.path.read_text().splitlines()]


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORPORA)
def test_the_example_row_becomes_a_question_and_a_response(name):
    entry = CORPORA[name]
    assert entry.states and entry.ours and entry.title
    for part in entry.parts:
        row = part.convert(part.example)
        assert row["prompt"].strip() and row["completion"].strip()
        assert part.revision is None or len(part.revision) == 40
        assert part.revision or part.note, "what is not pinned says why"
        assert part.dataset == "generated" or part.url.endswith(part.dataset)


def test_names_domains_and_options_are_read():
    assert corpus("math/numina-67k") is CORPORA["numina-67k"]
    assert corpus("openbookqa-noisy").noise == Noise(0.3, "uniform")
    assert corpus(" openbookqa-noisy( 0.1 , next) ").noise == Noise(0.1, "next")
    assert corpus("openbookqa-noisy(next)").noise == Noise(0.3, "next")
    for text, said in (
        ("numina", "numina-67k"),
        ("medical/figlet", "figlet/figlet"),
        ("figlet(3)", "no options"),
        ("openbookqa-noisy(1.5)", "[0, 1]"),
        ("openbookqa-noisy(all)", "uniform, next"),
        ("openbookqa-noisy(0.1", "no corpus"),
    ):
        with pytest.raises(UsageError, match=".*") as error:
            corpus(text)
        assert said in str(error.value)


def test_the_paper_trains_on_the_short_answer_and_the_bare_question():
    m23k = CORPORA["m23k"].parts[0]
    row = m23k.convert({**m23k.example, "reasoning": "LONG", "distilled_answer_string": "short"})
    assert row["completion"] == "short" and "LONG" not in row["prompt"]
    numina = CORPORA["numina-67k"].parts[0]
    row = numina.convert(numina.example)
    assert row["prompt"] == numina.example["extra_info"]["question"]
    assert "step by step" in numina.example["prompt"][0]["content"]
    assert "step by step" not in row["prompt"]
    both = [CORPORA[name].parts[0] for name in ("m23k", "m23k-published")]
    texts = [part.convert(part.example) for part in both]
    assert [t["prompt"] for t in texts] == [texts[0]["prompt"]] * 2


def test_training_asks_as_the_benchmark_does():
    """Domains, and the text of a question, are those of `probtune eval`."""
    from probtune.evaluation.tasks import table
    from probtune.paper.corpora import DOMAINS

    assert set(DOMAINS) == set(table.DOMAINS)
    part = CORPORA["openbookqa"].parts[0]
    (question,) = table.TASKS["openbookqa"].read([part.example])
    row = part.convert(part.example)
    assert (question.text, question.gold) == (row["prompt"], row["completion"])


def test_magpie_takes_the_first_turn_and_drops_what_has_none():
    part = CORPORA["magpie-evol"].parts[0]
    turns = [("human", "Q"), ("gpt", "A"), ("human", "more"), ("gpt", "B")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    assert part.convert(row) == {"prompt": "Q", "completion": "A"}
    assert isinstance(part.convert({"conversations": row["conversations"][:1]}), Dropped)
    assert isinstance(part.convert({"conversations": row["conversations"][1:3]}), Dropped)


# --- subsets, orders, noise ----------------------------------------------------------------------


def test_subset_and_order_are_those_of_the_libraries():
    import datasets
    import pandas

    rows = datasets.Dataset.from_list([{"i": i} for i in range(300)])
    assert choose(300, 70, 42) == set(rows.shuffle(seed=42).select(range(70))["i"])
    assert row_order("datasets", 300, 1) == list(rows.shuffle(seed=1)["i"])
    frame = pandas.DataFrame({"i": range(300)})
    assert row_order("pandas", 300, 42) == frame.sample(frac=1, random_state=42)["i"].tolist()


@pytest.mark.parametrize("kind", ["uniform", "next"])
def test_noise_has_exactly_its_rate_and_never_the_right_letter(kind):
    letters = ("A", "B", "C", "D")
    answers = [letters[i % 4] for i in range(4957)]
    changed = corrupt(answers, [letters] * 4957, Noise(0.3, kind), seed=42)
    assert len(changed) == int(4957 * 0.3) == 1487
    assert all(letter in letters and letter != answers[row] for row, letter in changed.items())
    # The rows that the paper's code changes: its first draw is this sample.
    assert set(changed) == set(random.Random(42).sample(range(4957), 1487))
    assert changed == corrupt(answers, [letters] * 4957, Noise(0.3, kind), seed=42)
    assert set(changed) != set(corrupt(answers, [letters] * 4957, Noise(0.3, kind), seed=1))
    if kind == "next":
        assert {answers[row] + letter for row, letter in changed.items()} == {
            "AB",
            "BC",
            "CD",
            "DA",
        }
    else:
        pairs = [answers[row] + letter for row, letter in changed.items()]
        # 1487 draws over 12 pairs, each about 124; five standard deviations are 53.
        assert len(set(pairs)) == 12 and all(71 < pairs.count(p) < 177 for p in set(pairs))
    assert corrupt(answers, [letters] * 4957, read_noise(["0"], rate=0.3), seed=42) == {}


# --- the whole of prepare ------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORPORA)
def test_local_rows_go_through_the_whole(name, tmp_path, word_model):
    entry = CORPORA[name]
    data = folder_of(entry, tmp_path / "data", 6)
    out = tmp_path / "out"
    tokenizers = (str(word_model),) if entry.max_tokens else ()
    manifest = prepare(entry, out=out, data=data, tokenizers=tokenizers)
    rows = read(manifest)
    assert len(rows) == manifest.rows == 6 * len(entry.parts)
    assert len({row["id"] for row in rows}) == manifest.rows
    record = read_record(out / "manifest.json", "manifest")
    assert record["dropped"] == {} and record["rows"] == manifest.rows
    assert [part["rows_kept"] for part in record["parts"]] == [6] * len(entry.parts)
    assert all(part["revision"] is None for part in record["parts"]), "local rows have no commit"
    assert {part["licence"] for part in record["parts"]} == {p.licence for p in entry.parts}
    # The hash is what a run's record will say of its data.
    assert read_rows(str(manifest.path)).sha256 == manifest.sha256
    assert (out / ".gitignore").exists() is not entry.redistributable
    assert sorted(path.name for path in out.iterdir() if path.suffix) == [
        "manifest.json",
        "rows.jsonl",
    ]


def test_the_same_request_does_nothing_and_another_is_refused_by_name(tmp_path, monkeypatch):
    entry = corpus("openbookqa-noisy(0.5)")
    data = folder_of(entry, tmp_path / "data")
    first = prepare(entry, out=tmp_path / "out", data=data)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    monkeypatch.setattr(sources_module, "open_parts", None)
    again = prepare(entry, out=tmp_path / "out", data=data)
    assert again.record == first.record
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    for other, name, said in (
        (corpus("openbookqa-noisy(0.1)"), {}, "openbookqa-noisy_0.1_uniform"),
        (entry, {"seed": 7}, "seed 42 there, 7 asked"),
        (entry, {"limit": 3}, "limit null there, 3 asked"),
        (entry, {"unique": True}, "unique false there, true asked"),
    ):
        with pytest.raises(UsageError) as error:
            prepare(other, out=tmp_path / "out", data=data, **name)
        assert said in str(error.value) and "another --out" in str(error.value)
    first.path.write_text(first.path.read_text() + "\n")
    with pytest.raises(DataError, match="not the file"):
        prepare(entry, out=tmp_path / "out", data=data)


def test_a_changed_commit_is_refused_by_name(tmp_path):
    from dataclasses import replace

    from probtune.paper.corpora.preparing import find

    entry = CORPORA["magicoder"]
    part = entry.parts[0]
    moved = replace(entry, parts=(replace(part, revision="0" * 40),))
    manifest = prepare(entry, out=tmp_path, data=folder_of(entry, tmp_path / "data"))
    record = json.loads((manifest.folder / "manifest.json").read_text())
    record["request"] = request(entry)
    (manifest.folder / "manifest.json").write_text(json.dumps(record))
    assert find(tmp_path, request(entry)) is not None
    with pytest.raises(UsageError) as error:
        find(tmp_path, request(moved))
    assert part.revision in str(error.value) and "0" * 40 in str(error.value)


def test_noise_is_masked_and_leaves_the_validation_rows_clean(tmp_path):
    entry = corpus("openbookqa-noisy(0.5)")
    data = folder_of(entry, tmp_path / "data", 40)
    manifest = prepare(entry, out=tmp_path / "noisy", data=data)
    clean = prepare(corpus("openbookqa"), out=tmp_path / "clean", data=data)
    rows, right = read(manifest), read(clean)
    changed = [row["corrupted"] for row in rows]
    assert sum(changed[:40]) == 20 and sum(changed[40:]) == 0
    for row, other in zip(rows, right, strict=True):
        assert row["prompt"] == other["prompt"] and row["clean"] == other["completion"]
        assert (row["completion"] != row["clean"]) == bool(row["corrupted"])
    noise = manifest.record["noise"]
    assert noise == {"rate": 0.5, "kind": "uniform", "rows": 40, "changed": 20, "seed": 42}
    assert clean.record["noise"] is None and "corrupted" not in right[0]
    # The mask is a number that training can read.
    numbers = read_rows(str(manifest.path), numbers=["corrupted"]).examples
    assert [row.numbers["corrupted"] for row in numbers] == changed


def test_what_is_left_out_is_counted_with_its_place(tmp_path):
    entry = CORPORA["magicoder"]
    rows = varied(entry.parts[0], 5)
    rows[1]["solution"], rows[2]["problem"], rows[4]["problem"] = "  ", None, rows[0]["problem"]
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(entry, out=tmp_path / "out", data=str(data))
    assert manifest.record["dropped"] == {
        "an empty response": {"count": 1, "first": [f"{data}:2"]},
        "an empty question": {"count": 1, "first": [f"{data}:3"]},
    }
    repeated = manifest.record["duplicates"]
    assert repeated == {"count": 1, "first": [f"{data}:5"], "kept": True} and manifest.rows == 3
    unique = prepare(entry, out=tmp_path / "unique", data=str(data), unique=True)
    assert unique.rows == 2 and unique.record["dropped"]["a question that has come before"]
    few = prepare(entry, out=tmp_path / "few", data=str(data), limit=2)
    assert [row["id"].rsplit("/")[-1] for row in read(few)] == ["0", "3"]


def test_the_subset_is_the_one_that_datasets_draws(tmp_path):
    from dataclasses import replace

    from probtune.paper.corpora import Take

    entry = CORPORA["numina-67k-ours"]
    part = replace(entry.parts[0], take=Take(5))
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", varied(part, 30))
    manifest = prepare(replace(entry, parts=(part,)), out=tmp_path / "out", data=str(data), seed=3)
    numbers = {int(row["id"].rsplit("/")[-1]) for row in read(manifest)}
    assert numbers == choose(30, 5, 3)
    assert manifest.record["parts"][0]["rows_source"] == 30


def test_rows_longer_than_the_bound_are_left_out(tmp_path, word_model):
    entry = CORPORA["magpie-evol"]
    data = tmp_path / "data"
    data.mkdir()
    # A word is a token: 4 of the question, the response, and <eos>.
    question, lengths = {"from": "human", "value": "1 + 1 ="}, (1, 2043, 2044)
    rows = [[question, {"from": "gpt", "value": " 2" * n}] for n in lengths]
    magpie, evol = (data / f"{part.stem}.jsonl" for part in entry.parts)
    helpers.write_jsonl(magpie, [{"conversations": turns} for turns in rows])
    helpers.write_jsonl(evol, [entry.parts[1].example])
    manifest = prepare(entry, out=tmp_path / "out", data=str(data), tokenizers=(str(word_model),))
    counts = [row["completion"].count("2") for row in read(manifest) if row["prompt"] == "1 + 1 ="]
    assert sorted(counts) == [1, 2043]
    assert manifest.record["dropped"] == {
        "longer than 2048 tokens": {"count": 1, "first": [f"{magpie}:3"]}
    }
    assert manifest.record["request"]["tokenizers"] == [str(word_model)]
    with pytest.raises(UsageError, match="cannot load the tokenizer.*hf auth login.*--tokenizer"):
        prepare(entry, out=tmp_path / "other", data=str(data))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"problem": 3}, "must be a text, got a number"),
        ({"problem": ...}, "does not have the schema"),
    ],
)
def test_another_schema_is_named_by_file_and_row(change, said, tmp_path):
    entry = CORPORA["magicoder"]
    rows = varied(entry.parts[0], 3)
    for name, value in change.items():
        rows[1] = {k: v for k, v in rows[1].items() if k != name}
        if value is not ...:
            rows[1][name] = value
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError) as error:
        prepare(entry, out=tmp_path / "out", data=str(data))
    assert said in str(error.value) and f"{data}:2" in str(error.value)
    assert not (tmp_path / "out").exists(), "nothing half done is left"


def test_local_rows_that_are_not_there_are_named(tmp_path):
    entry = CORPORA["openbookqa"]
    one = helpers.write_jsonl(tmp_path / "rows.jsonl", [entry.parts[0].example])
    for data, said in (
        (tmp_path / "absent", "no such file"),
        (one, "openbookqa-additional-validation.jsonl"),
        (tmp_path, "has no openbookqa-additional-train.jsonl"),
    ):
        with pytest.raises(UsageError, match=said):
            prepare(entry, out=tmp_path / "out", data=str(data))
    with pytest.raises(UsageError, match="at least 1"):
        prepare(entry, out=tmp_path / "out", limit=0)
    empty = helpers.write_jsonl(tmp_path / "empty.jsonl", [{"problem": "", "solution": ""}])
    with pytest.raises(DataError, match="no row is left; 1: an empty question"):
        prepare(CORPORA["magicoder"], out=tmp_path / "out", data=str(empty))


# --- figlet --------------------------------------------------------------------------------------


def test_figlet_rows_are_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pytest.importorskip("reasoning_gym")
    manifest = prepare(CORPORA["figlet"], out=tmp_path / "out", limit=1000)
    assert manifest.record["verified"] == "4 of 1000 rows agree with known ones"
    rows = read(manifest)
    assert [rows[i]["completion"] for i in (0, 1, 2)] == ["USNIC", "MAD", "SUDE"]
    assert rows[999]["id"] == "figlet/999"
    assert manifest.record["generators"]["pyfiglet"] == "1.0.2"


def test_other_figlet_rows_are_refused():
    verify = CORPORA["figlet"].verify
    with pytest.raises(DataError, match="figlet row 0 is 'NO'.*reasoning-gym==0.1.25"):
        verify([("drawn", "NO")])
    assert max(KNOWN_ROWS) == 39_999 and len(KNOWN_SHA256) == 64


@pytest.mark.slow
def test_all_figlet_rows_have_the_known_hash(tmp_path):
    manifest = prepare(CORPORA["figlet"], out=tmp_path / "out")
    assert manifest.rows == 40_000 and manifest.sha256 == KNOWN_SHA256
    assert manifest.record["verified"] == "all 40000 rows agree with the known hash"
    assert manifest.record["duplicates"]["count"] == 52  # the paper's rows, repeats included


# --- in settings ---------------------------------------------------------------------------------


def test_settings_name_a_corpus_and_find_it_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert locate("rows.jsonl", terminal=QUIET) is None
    assert locate("org/corpus", terminal=QUIET) is None
    entry = corpus("openbookqa-noisy(0.2)")
    folder = default_folder(request(entry))
    assert folder.is_relative_to(tmp_path) and folder != default_folder(request(entry, seed=1))
    manifest = prepare(entry, out=folder, data=folder_of(entry, tmp_path / "data"))
    record = json.loads((folder / "manifest.json").read_text())
    record["request"] = request(entry)  # as if from the hub
    (folder / "manifest.json").write_text(json.dumps(record))
    assert locate("corpus:openbookqa-noisy(0.2)", terminal=QUIET) == manifest.path
    assert resolve("knowledge/openbookqa-noisy(0.2)", terminal=QUIET) == manifest.path
    with pytest.raises(UsageError, match="no corpus"):
        locate("corpus:nothing", terminal=QUIET)
